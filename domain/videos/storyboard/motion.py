"""Movement, as functions of the time: how far a backdrop has panned, an element has entered, a crossfade has gone."""

from math import ceil

PAN = 30
"""Pixels a second, of a picture that is 1080 wide: one in each frame, since uneven steps are seen as a stutter."""
FARTHEST = 420
"""Pixels that a backdrop pans before it turns back."""
CROSSFADE = 0.4
ENTRANCE = 0.45
RISE = 72
"""Pixels that an element rises while it enters."""


def pan_range(seconds: float) -> int:
    """Return how many pixels a backdrop moves while a slide of so many seconds is shown and fades: an even number."""
    return min(FARTHEST, 2 * ceil(PAN * (seconds + CROSSFADE) / 2))


def panned(at: float) -> float:
    """Return how many pixels a backdrop has moved from its beginning, `at` seconds after the slide's start."""
    way = PAN * max(0.0, at) % (2 * FARTHEST)
    return min(way, 2 * FARTHEST - way)


def entered(at: float) -> float:
    """Return how far an element is, from 0 to 1, `at` seconds after it began to enter; it slows down as it arrives."""
    left = 1 - min(1.0, max(0.0, at / ENTRANCE))
    return 1 - left**3


def crossfade(before: float, after: float) -> float:
    """Return the seconds of the crossfade between two slides that last so long."""
    return min(CROSSFADE, before / 2, after / 2)

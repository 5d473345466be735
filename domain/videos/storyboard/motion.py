"""Movement, as functions of the time: how far a backdrop has panned, an element has entered, a crossfade has gone."""

from math import ceil, cos, pi

PAN = 26.0
"""Pixels a second at most on average, of a picture that is 1080 wide: slow enough to read over, fast enough to see."""
FARTHEST = 320
"""Pixels that a backdrop pans before it turns back."""
CROSSFADE = 0.4
ENTRANCE = 0.45
RISE = 72
"""Pixels that an element rises while it enters."""


def pan_range(seconds: float) -> int:
    """Return how many pixels a backdrop moves in a slide of so many seconds: an even number."""
    return 2 * round(min(FARTHEST, max(24.0, PAN * seconds)) / 2)


def panned(at: float, seconds: float) -> float:
    """Return where from 0 to 1 a backdrop is: it starts and turns gently."""
    ways = max(1, ceil(seconds * PAN / FARTHEST))
    return (1 - cos(pi * ways * min(1.0, max(0.0, at / seconds)))) / 2


def entered(at: float) -> float:
    """Return how far an element is, from 0 to 1, `at` seconds after it began to enter; it slows down as it arrives."""
    left = 1 - min(1.0, max(0.0, at / ENTRANCE))
    return 1 - left**3


def crossfade(before: float, after: float) -> float:
    """Return the seconds of the crossfade between two slides that last so long."""
    return min(CROSSFADE, before / 2, after / 2)

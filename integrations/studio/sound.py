"""A quiet bed of sound: four chords and a plucked note on each beat, the same for the same category and length."""

from array import array
from functools import lru_cache
from math import exp, pi, sin
from pathlib import Path
from sys import byteorder

RATE = 48000
LOUDNESS = 0.085
"""The highest point of the wave, of full scale: to be heard, and not to be in the way."""
CHORD_SECONDS = 2
BEAT = RATE // 2
_BRIGHT = ((131, 165, 196), (98, 147, 247), (110, 165, 262), (87, 131, 220))
_CALM = ((110, 131, 165), (87, 110, 131), (131, 165, 196), (98, 123, 147))
_BRIGHT_ONES = frozenset({"absurd", "cartoon", "fitness", "food", "gaming", "music"})
_TRANSPOSED = {"finance": 2, "fitness": 3, "food": 4, "gaming": -2, "luxury": -3, "news": 1, "tech": 5, "emotional": -1}
"""Semitones, so that categories do not sound the same."""


def write_bed(path: Path, category: str, seconds: float) -> None:
    """Write so many seconds as raw samples: 16 bit, little-endian, one channel, 48,000 a second."""
    loop = _loop(category in _BRIGHT_ONES, _TRANSPOSED.get(category, 0))
    left = round(seconds * RATE) * 2
    with path.open("wb") as file:
        while left > 0:
            left -= file.write(loop[:left])


@lru_cache(32)
def _loop(bright: bool, semitones: int) -> bytes:
    """Return the four chords, whose end fits their beginning."""
    # Every video pays for this, in the process that draws it: what chords and beats share is worked out once.
    circle = [sin(2 * pi * n / RATE) for n in range(RATE)]
    tone = [0.22 * circle[n] + 0.07 * circle[2 * n % RATE] + 0.025 * circle[3 * n % RATE] for n in range(RATE)]
    fading = [0.2 * exp(-n / 5200) * min(1.0, n / 240) for n in range(BEAT)]
    samples = array("h")
    for chord in _BRIGHT if bright else _CALM:
        # Whole periods a second, so that a second can be repeated.
        low, middle, high = notes = [round(note * 2 ** (semitones / 12)) for note in chord]
        second = [tone[n * low % RATE] + tone[n * middle % RATE] + tone[n * high % RATE] for n in range(RATE)]
        plucked = [[fading[n] * circle[n * 4 * note % RATE] for n in range(BEAT)] for note in notes]
        for beat in range(CHORD_SECONDS * RATE // BEAT):
            start = beat * BEAT % RATE
            both = zip(second[start : start + BEAT], plucked[beat % 3], strict=True)
            samples.extend(round(32767 * LOUDNESS * (held + pluck)) for held, pluck in both)
        _soften(samples, len(samples) - CHORD_SECONDS * RATE)
    if byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _soften(samples: "array[int]", start: int) -> None:
    """Let the chord from `start` to the end begin and end gently, since a jump in the wave clicks."""
    steps = RATE // 12
    for n in range(steps):
        for at in (start + n, len(samples) - 1 - n):
            samples[at] = round(samples[at] * n / steps)

"""How the numbers of a simulated post grow with its age.

`numbers_at` is a pure function of a post's id and its age, in integers only, so whoever has both computes what the
simulator must have answered. The age counts in whole minutes, rounded down: 3,659 s and 3,600 s are one age.

    numbers_at("7400000000000000003", 3600)
"""

from dataclasses import dataclass
from hashlib import sha256

STEP_SECONDS = 60
"""The numbers change only when the age passes a multiple of this. Whoever compares an age that another clock measured
puts it in the middle of a step."""


@dataclass(frozen=True, slots=True)
class Grown:
    """How often a post was looked at, liked, commented on, passed on and saved."""

    views: int
    likes: int
    comments: int
    shares: int
    saves: int


def numbers_at(seed: str, age_s: float) -> Grown:
    """Return the numbers of the post of this id at this age in seconds; all 0 before its first minute is over.

    Views are `most · m / (m + half)`, rounded down, for an age of `m` minutes: half of the most after 2 to 34
    hours, and never all. The most is 100 to 50,000, by the post; the rest are thousandths of the views. So no number
    ever falls, and no age is too great.
    """
    traits = _Traits(sha256(seed.encode()).digest())
    minutes = max(int(age_s // STEP_SECONDS), 0)
    most = 100 * 2 ** traits.between(0, 8) + traits.between(0, 24_400)
    half = traits.between(120, 2_040)
    views = most * minutes // (minutes + half)
    likes, comments, shares, saves = (
        views * traits.between(*thousandths) // 1000 for thousandths in ((10, 80), (1, 10), (1, 20), (1, 40))
    )
    return Grown(views, likes, comments, shares, saves)


class _Traits:
    """Numbers that a post's digest stands for, one after another."""

    def __init__(self, digest: bytes) -> None:
        self._left = int.from_bytes(digest)

    def between(self, least: int, most: int) -> int:
        self._left, found = divmod(self._left, most - least + 1)
        return least + found

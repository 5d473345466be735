"""What happens in the demo from now on: a sign-up, a payment, a video, a failure, somebody who mends it, every few
seconds. It only says what is to happen next; whoever performs it finds somebody to whom it can.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What can happen. The words behind a dash are for whoever watches."""

    SIGN_UP = "sign_up"
    BUY = "buy"
    DECLINE = "decline"
    SETTLE = "settle"
    CANCEL = "cancel"
    GENERATE = "generate"
    RENDER = "render"
    POST = "post"
    GROW_OLDER = "grow_older"
    LEARN = "learn"
    PROVIDER_FAILS = "provider_fails"
    REVOKE = "revoke"
    RECONNECT = "reconnect"
    POISON = "poison"
    RETRY = "retry"
    STRANGER = "stranger"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True)
class Act:
    """`after` is how many seconds it comes after the one before."""

    kind: Kind
    after: float


OPENING = (
    *(Kind.GENERATE, Kind.SIGN_UP, Kind.RENDER, Kind.PROVIDER_FAILS, Kind.BUY, Kind.GROW_OLDER, Kind.POST),
    *(Kind.RESUME, Kind.DECLINE, Kind.POISON, Kind.LEARN, Kind.RECONNECT),
)
"""So it begins, so that whoever watches for a minute has seen the whole loop."""

WEIGHTS: Mapping[Kind, int] = {
    **{Kind.SIGN_UP: 4, Kind.BUY: 3, Kind.DECLINE: 2, Kind.CANCEL: 1, Kind.GENERATE: 9, Kind.RENDER: 2, Kind.POST: 3},
    **{Kind.GROW_OLDER: 4, Kind.LEARN: 2, Kind.PROVIDER_FAILS: 1, Kind.REVOKE: 1, Kind.POISON: 1, Kind.STRANGER: 1},
    **{Kind.PAUSE: 1, Kind.RETRY: 2},
}
MENDED: Mapping[Kind, tuple[Kind, int]] = {
    Kind.DECLINE: (Kind.SETTLE, 4),
    Kind.REVOKE: (Kind.RECONNECT, 6),
    Kind.PAUSE: (Kind.RESUME, 5),
    Kind.POISON: (Kind.RETRY, 3),
}
"""What mends what, and so many acts later."""
RESTS: Mapping[Kind, int] = {Kind.RENDER: 14, Kind.PAUSE: 25, Kind.REVOKE: 20, Kind.POISON: 20, Kind.STRANGER: 40}
"""So many acts at least lie between two of these: a video takes the machine some seconds, and not all may fail."""
LONGEST = 80
"""After so many acts without it, each kind has its turn."""
LEAST, MOST = 2.0, 6.0
"""Seconds between two acts."""


def acts(seed: int) -> Iterator[Act]:
    """Yield what happens, without an end: the same for the same seed."""
    rng = Random(f"{seed}:director")  # noqa: S311 - a play
    coming: dict[int, Kind] = {}
    last: dict[Kind, int] = {}
    number = 0
    while True:
        kind = (
            OPENING[number]
            if number < len(OPENING)
            else coming.pop(number)
            if number in coming
            else _drawn(rng, last, number)
        )
        last[kind] = number
        if kind in MENDED:
            mending, later = MENDED[kind]
            at = max(number + later, len(OPENING))
            while at in coming:
                at += 1
            coming[at] = mending
        yield Act(kind, round(rng.uniform(LEAST, MOST), 2))
        number += 1


def _drawn(rng: Random, last: Mapping[Kind, int], number: int) -> Kind:
    longest = min(WEIGHTS, key=lambda kind: last.get(kind, 0))
    if number - last.get(longest, 0) > LONGEST:
        return longest
    fresh = [kind for kind in WEIGHTS if number - last.get(kind, -1000) > RESTS.get(kind, 0)]
    return rng.choices(fresh, [WEIGHTS[kind] for kind in fresh])[0]

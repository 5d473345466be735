"""What becomes of posts that were measured, or could not be: snapshots, missed horizons, and the next look at each.

Whoever applies an outcome has the posts' rows locked since it read them (`db/learning/snapshots.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from domain.learning.horizons import (
    GONE_AGAIN,
    GONE_ONCE,
    NOT_ASKED,
    NOT_IN_ANSWER,
    REMOVED,
    Plan,
    plan,
    try_again_at,
    why_missed,
)
from domain.learning.numbers import Horizon, Measured, Numbers


@dataclass(frozen=True, slots=True)
class MeasuredPost:
    """A published post of which numbers are wanted. `measure_note` says why they could not be asked for the last time,
    `gone_at` when the platform first said that it has it no longer, with no numbers since. `settled_names` are the
    horizons that are met, or missed."""

    id: UUID
    external_id: str | None
    published_at: datetime
    measure_at: datetime
    measure_note: str | None = None
    gone_at: datetime | None = None
    settled_names: Sequence[str] = ()

    @property
    def settled(self) -> frozenset[Horizon]:
        return frozenset(Horizon(each) for each in self.settled_names)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a platform said of a post of this `age`; `horizon` None: it was too late for one. `next_at` is when the post
    is measured next (None: never)."""

    post_id: UUID
    captured_at: datetime
    age: timedelta
    horizon: Horizon | None
    numbers: Numbers
    source: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A horizon of a post at which nobody could measure it, and why."""

    post_id: UUID
    horizon: Horizon
    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """A post without numbers: when it is tried again (None: never), why (`note`), and since when it seems gone."""

    post_id: UUID
    next_at: datetime | None
    note: str | None = None
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Why an account cannot be asked now (None: it can). `halted`: from which moment on the last restore lost what was
    measured, and until when posting was paused after it; None: there was none."""

    account: str | None = None
    halted: tuple[datetime, datetime | None] | None = None


@dataclass(slots=True)
class Outcome:
    """What is written down of some posts in one commit. `removed` are those that their platform has no longer."""

    snapshots: list[Snapshot] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    removed: list[MeasuredPost] = field(default_factory=list)


def doubted(posts: Iterable[MeasuredPost], measured: Measured, at: datetime) -> list[MeasuredPost]:
    """Return of which posts the platform is asked whether they are gone, since that costs calls of its own: those that
    its answer is without for the first time at a horizon, and those of which it has said so once."""
    found: list[MeasuredPost] = []
    for post in posts:
        if post.external_id in measured.missing and (post.gone_at is None or at >= post.gone_at + GONE_AGAIN):
            now = plan(post.published_at, at, post.settled)
            # What stands there may be of a horizon before this one.
            if post.measure_note != NOT_IN_ANSWER or (now.meets is not None and now.missed):
                found.append(post)
    return found


def answered(
    posts: Iterable[MeasuredPost], measured: Measured, captured_at: datetime, circumstances: Circumstances
) -> Outcome:
    """Return what becomes of posts that the platform was asked about at that moment; of those that are `missing` it was
    not asked whether they are gone. Numbers meet the horizon that was
    open then; those that come too late for one say how old the post was, and fill none."""
    outcome = Outcome()
    for post in posts:
        found = plan(post.published_at, captured_at, post.settled)
        outcome.misses += _missed(post, found, circumstances)
        numbers = measured.numbers.get(post.external_id or "")
        if numbers is not None and (found.meets or found.missed):
            age = captured_at - post.published_at
            outcome.snapshots.append(
                Snapshot(post.id, captured_at, age, found.meets, numbers, measured.source, found.next_at)
            )
        elif numbers is not None:
            outcome.postponed.append(Postponed(post.id, found.next_at))
        elif post.external_id in measured.gone and (
            post.gone_at is not None and captured_at >= post.gone_at + GONE_AGAIN
        ):
            outcome.removed.append(post)
            left = [each for each in Horizon if each not in post.settled and each not in found.missed]
            outcome.misses += [Miss(post.id, each, REMOVED) for each in left]
        elif post.external_id in measured.gone or (
            post.gone_at is not None and captured_at < post.gone_at + GONE_AGAIN
        ):
            gone_at = post.gone_at or captured_at
            outcome.postponed.append(Postponed(post.id, gone_at + GONE_AGAIN, GONE_ONCE, gone_at))
        else:
            was_asked = post.external_id not in measured.missing or post.measure_note == NOT_IN_ANSWER
            why = measured.withheld or (NOT_IN_ANSWER if was_asked else NOT_ASKED)
            outcome.postponed.append(_again(post, found, captured_at, why))
    return outcome


def unanswered(
    posts: Iterable[MeasuredPost],
    why: str,
    now: datetime,
    circumstances: Circumstances,
    *,
    not_before: datetime | None = None,
) -> Outcome:
    """Return what becomes of posts that could not be asked about, and why not."""
    outcome = Outcome()
    for post in posts:
        found = plan(post.published_at, now, post.settled)
        outcome.misses += _missed(post, found, circumstances)
        outcome.postponed.append(_again(post, found, now, why, not_before))
    return outcome


def _again(post: MeasuredPost, found: Plan, now: datetime, why: str, not_before: datetime | None = None) -> Postponed:
    next_at = try_again_at(post.published_at, now, found)
    if next_at is not None and not_before is not None:
        next_at = max(next_at, not_before)
    return Postponed(post.id, next_at, why if found.meets is not None else None, post.gone_at)


def _missed(post: MeasuredPost, found: Plan, circumstances: Circumstances) -> list[Miss]:
    """Return what is missed of a post; of the first, which was tried in vain, the last try says why."""
    return [
        Miss(
            post.id,
            horizon,
            (post.measure_note if place == 0 else None)
            or why_missed(
                *(horizon, post.published_at),
                account=circumstances.account,
                named=post.external_id is not None,
                halted=circumstances.halted,
            ),
        )
        for place, horizon in enumerate(found.missed)
    ]

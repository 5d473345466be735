"""Failures by what they failed of, and which release made them rise.

All figures are of a window, which says so itself: the newest `MOST` attempts that failed, of jobs that are not archived
yet.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

from db.queue.failures import LOOKED_AT, FailedRow
from db.transaction import SYSTEM, Tx
from domain.errors import Rejected
from domain.queue.error_groups import error_group, title
from workers.app import App
from workers.ops.changes import Change, rail

MOST: Final = 5_000
"""Failed attempts of a window."""
SHOWN: Final = 200
"""Groups, and attempts of one, that are shown."""

LATELY: Final = timedelta(days=7)
"""A deploy is named beside failures for so long."""
BESIDE: Final = timedelta(hours=1)
"""So long before and after a deploy failures are compared."""
AT_LEAST: Final = 5
"""Failures after a deploy that can be a rise."""
RISE: Final = 2.0
"""How many times as many failures a minute are a rise."""


class UnknownGroup(Rejected):
    """No failure of the window belongs to the group."""


@dataclass(frozen=True, slots=True)
class Group:
    """Failures of one cause. `waiting` jobs have given up and wait for a person; of attempts before migration 0035 a
    job is counted once for each text. `sample` is a text from outside. `rose_with` names the release
    whose deploy they rose with, or began with."""

    name: str
    title: str
    attempts: int
    jobs: int
    waiting: int
    tenants: int
    paying: int
    job_types: list[str]
    first_at: datetime
    last_at: datetime
    first_release: str | None
    sample: str
    rose_with: str | None = None


@dataclass(frozen=True, slots=True)
class Rise:
    """What followed a deploy. Rates are failures a minute, in the hour before and after it (or up to the deploys beside
    it, or the end of the window); None: the window does not say. `groups` are those that rose or began, most first."""

    deploy: Change
    before: float | None
    after: float | None
    failures_after: int
    rose: bool
    says: str
    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Window:
    """What was looked at: `since` then (None: all that there is). `says` has it in words."""

    at: datetime
    since: datetime | None
    attempts: int
    whole: bool
    says: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Groups with paying tenants first, then by count; `left_out` further ones are not shown. Deploys newest first."""

    window: Window
    groups: list[Group]
    left_out: int
    rises: list[Rise]


@dataclass(frozen=True, slots=True)
class GroupStory:
    """One group: its newest attempts, its failures by release (newest first seen first), and by the minute around each
    deploy."""

    window: Window
    group: Group
    by_release: list[dict[str, Any]]
    rises: list[Rise]
    attempts: list[FailedRow]


def overview(tx: Tx, since: datetime | None = None) -> Overview:
    """Return what failed, and what followed each deploy."""
    groups = _groups(tx, since)
    window = _window(tx, groups, since)
    minutes = _minutes(tx.failures.by_minute(MOST, since))
    deploys = _deploys(tx, window)
    rises = [_rise(deploys, place, minutes, window) for place in range(len(deploys))][::-1]
    blamed = {name: rise.deploy.release for rise in rises[::-1] for name in rise.groups}
    shown = [replace(each, rose_with=blamed.get(each.name)) for each in groups[:SHOWN]]
    return Overview(window, shown, len(groups) - len(shown), rises)


def group(tx: Tx, name: str, since: datetime | None = None) -> GroupStory:
    """Tell of one group.

    Raises:
        UnknownGroup: nothing of the window belongs to it.
    """
    found = {each.name: each for each in _groups(tx, since)}
    if name not in found:
        raise _unknown(name)
    window = _window(tx, list(found.values()), since)
    rows = [row for row in tx.failures.of_group(name, MOST, since) if _group_of(row) == name]
    minutes = {name: Minutes(Counter(row.ended_at.replace(second=0, microsecond=0) for row in rows))}
    deploys = _deploys(tx, window)
    rises = [_rise(deploys, place, minutes, window) for place in range(len(deploys))][::-1]
    rose = next((rise.deploy.release for rise in rises if rise.rose), None)
    return GroupStory(window, replace(found[name], rose_with=rose), _by_release(rows), rises, rows[:SHOWN])


def given_up(tx: Tx, name: str, since: datetime | None = None) -> list[UUID]:
    """Return the jobs of a group that have given up and wait for a person, in the order in which they were enqueued.

    Raises:
        UnknownGroup: nothing of the window belongs to it.
    """
    rows = [row for row in tx.failures.of_group(name, MOST, since) if _group_of(row) == name]
    if not rows:
        raise _unknown(name)
    return sorted({row.job_id for row in rows if row.status == "failed"})


def waiting_in(app: App, name: str, since: datetime | None = None) -> list[UUID]:
    """`given_up`, in a transaction of its own."""
    with app.db.transaction(SYSTEM) as tx:
        return given_up(tx, name, since)


def _unknown(name: str) -> UnknownGroup:
    return UnknownGroup(
        f"no failure of the group {name[:100]} is among the newest {MOST:,} attempts that failed: it is over, its "
        "jobs are archived, or the name is another one"
    )


def _groups(tx: Tx, since: datetime | None) -> list[Group]:
    rows = tx.failures.groups(MOST, since)
    tenants, paying = defaultdict[str, set[UUID]](set), defaultdict[str, set[UUID]](set)
    samples = tx.failures.samples([row["sample_id"] for row in rows if row["error_group"] is not None])
    found: dict[str, Group] = {}
    for row in rows:
        error_class, message = samples.get(row["sample_id"], (row["error_class"], row["error_message"]))
        name = row["error_group"] or error_group(error_class, message)
        tenants[name].update(row["tenants"])
        paying[name].update(row["paying"])
        this = Group(
            *(name, title(error_class, message), row["attempts"], row["jobs"], row["given_up"], 0, 0),
            *(sorted(row["job_types"]), row["first_at"], row["last_at"], row["first_release"]),
            sample=message or "",
        )
        this = _together(found[name], this) if name in found else this
        found[name] = replace(this, tenants=len(tenants[name]), paying=len(paying[name]))
    return sorted(found.values(), key=lambda each: (-each.paying, -each.attempts, each.name))


def _together(one: Group, other: Group) -> Group:
    first, last = sorted((one, other), key=lambda each: each.first_at), max(one, other, key=lambda each: each.last_at)
    return replace(
        last,
        attempts=one.attempts + other.attempts,
        jobs=one.jobs + other.jobs,
        waiting=one.waiting + other.waiting,
        job_types=sorted({*one.job_types, *other.job_types}),
        first_at=first[0].first_at,
        first_release=first[0].first_release,
    )


def _group_of(row: FailedRow) -> str:
    return row.error_group or error_group(row.error_class, row.error_message)


def _window(tx: Tx, groups: Sequence[Group], since: datetime | None) -> Window:
    attempts = sum(each.attempts for each in groups)
    whole = attempts < MOST
    oldest = min((each.first_at for each in groups), default=None)
    of = f"all {attempts:,} attempts that failed" if whole else f"the newest {MOST:,} attempts that failed"
    when = f", the oldest at {oldest:%Y-%m-%d %H:%M} UTC" if oldest else ""
    if since is not None:
        when = f", since {since:%Y-%m-%d %H:%M} UTC"
    says = f"Of {of}{when}; among the newest {LOOKED_AT:,} attempts, of jobs that are not archived yet."
    return Window(tx.now(), since if whole else oldest, attempts, whole, says)


class Minutes:
    """Failures by the minute, summed up once: of each deploy the minutes around it are asked for."""

    def __init__(self, counts: Mapping[datetime, int]) -> None:
        self._minutes = sorted(counts)
        self._sums = [0, *accumulate(counts[minute] for minute in self._minutes)]

    def between(self, begin: datetime, end: datetime) -> int:
        """Count the failures of the minutes that begin in [begin, end), by the minute that each of them is in."""
        first, last = (moment.replace(second=0, microsecond=0) for moment in (begin, end))
        if last < first:
            return 0
        until = bisect_right(self._minutes, last) if last == first else bisect_left(self._minutes, last)
        return self._sums[until] - self._sums[bisect_left(self._minutes, first)]


def _minutes(rows: Sequence[tuple[str | None, datetime, int]]) -> dict[str, Minutes]:
    found = defaultdict[str, Counter[datetime]](Counter)
    for name, minute, count in rows:
        found[name or ""][minute] += count
    return {name: Minutes(counts) for name, counts in found.items()}


# --- which release made failures rise -------------------------------------------------------------------------------


def _deploys(tx: Tx, window: Window) -> list[Change]:
    """Return the deploys of workers in the window, oldest first: they run the jobs."""
    since = window.at - LATELY if window.since is None else window.since
    found = rail(tx, since, window.at + timedelta(seconds=1), kind="deploy")
    return [each for each in found if each.subject == "worker"]


def _rise(deploys: Sequence[Change], place: int, minutes: Mapping[str, Minutes], window: Window) -> Rise:
    deploy = deploys[place]
    begin = max([deploy.at - BESIDE, *(each.at for each in deploys[:place])])
    end = min([deploy.at + BESIDE, window.at, *(each.at for each in deploys[place + 1 :])])
    # Where the window begins, it does not tell how many came before.
    if window.since is not None:
        begin = max(begin, window.since)
    is_covered = begin < deploy.at
    all_before = all_after = 0
    rose = Counter[str]()
    for name, counts in minutes.items():
        before, after = counts.between(begin, deploy.at), counts.between(deploy.at, end)
        all_before, all_after = all_before + before, all_after + after
        if name and _is_rise(before, deploy.at - begin, after, end - deploy.at):
            rose[name] = after
    is_rise = _is_rise(all_before, deploy.at - begin, all_after, end - deploy.at) or bool(rose)
    rate_before = _rate(all_before, deploy.at - begin) if is_covered else None
    rate_after = _rate(all_after, end - deploy.at)
    return Rise(
        *(deploy, rate_before, rate_after, all_after, is_rise),
        _in_words(deploy, rate_before, rate_after, all_after, len(rose), rises=is_rise),
        [name for name, _ in rose.most_common(20)],
    )


def _is_rise(before: int, time_before: timedelta, after: int, time_after: timedelta) -> bool:
    """Whether there were more than twice as many a minute, and more than chance makes of it."""
    if after < AT_LEAST or time_after <= timedelta(0) or time_before <= timedelta(0):
        return False
    expected = before * (time_after / time_before)
    return after > RISE * expected and after - expected > 3 * (expected + 1) ** 0.5


def _rate(count: int, time: timedelta) -> float | None:
    minutes = time / timedelta(minutes=1)
    return round(count / minutes, 2) if minutes > 0 else None


def _in_words(
    deploy: Change, before: float | None, after: float | None, count: int, groups: int, *, rises: bool
) -> str:
    release = deploy.release or "an unknown release"
    was = "an unknown number" if before is None else f"{before:g}"
    if not rises:
        return f"{release} made no failures rise: {was} a minute before, {after or 0:g} after"
    made = f"{groups} group{'' if groups == 1 else 's'}" if groups else "no group alone"
    return f"failures rose with {release}: from {was} to {after or 0:g} a minute ({count} in all; {made})"


def _by_release(rows: Sequence[FailedRow]) -> list[dict[str, Any]]:
    found: dict[str | None, list[FailedRow]] = {}
    for row in rows:
        found.setdefault(row.release, []).append(row)
    return [
        {"release": release, "attempts": len(each), "first_at": each[-1].ended_at, "last_at": each[0].ended_at}
        for release, each in sorted(found.items(), key=lambda item: item[1][-1].ended_at, reverse=True)
    ]

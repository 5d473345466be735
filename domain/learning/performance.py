"""How posts did: one post at each of its horizons, and many posts side by side, as group by group they compare.

What nobody could say is unknown and is counted as such: a sum over 3 of 10 posts says so. Numbers of different things
are never put together: views are by their definition (YouTube counted otherwise until 24 August 2026, and no two
platforms count alike), and so is what is divided by them; likes, comments and shares are each platform's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.learning.horizons import REMOVED, why_missed
from domain.learning.numbers import Horizon, Numbers
from domain.posting.posts import PostStatus

LONGEST_PERIOD = timedelta(days=366)
USUAL_PERIOD = timedelta(days=90)
MOST_CELLS = 300
"""A year's weeks of five platforms, and some."""
WEEK = timedelta(days=7)


class HorizonState(StrEnum):
    MET = "met"
    MISSED = "missed"
    TO_COME = "to_come"


class By(StrEnum):
    """What posts are grouped by."""

    PLATFORM = "platform"
    CATEGORY = "category"
    ACCOUNT = "account"
    WEEK = "week"


# --- one post -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """What a platform said of a post at one moment. `horizon` is None if it met none."""

    captured_at: datetime
    age: timedelta | None
    numbers: Numbers
    source: str | None = None
    horizon: Horizon | None = None


@dataclass(frozen=True, slots=True)
class AtHorizon:
    """A post at one of its horizons: the look that met it, or why it is missed, or from when on it can be met
    (`due_at`, None while the post is not published)."""

    horizon: Horizon
    state: HorizonState
    due_at: datetime | None
    look: Look | None = None
    reason: str | None = None


def at_horizons(
    status: PostStatus,
    published_at: datetime | None,
    looks: Iterable[Look],
    missed: Mapping[Horizon, str],
    now: datetime,
    *,
    note: str | None = None,
    account: str | None = None,
    named: bool = True,
) -> list[AtHorizon]:
    """Return a post at all of its horizons, youngest first. One that is over without a look is missed, whether or not
    anybody has written that down: the reason is the one that will be. `note` is why the last try was in vain; the rest
    is as `why_missed` has it."""
    met = {look.horizon: look for look in looks if look.horizon is not None}
    found = []
    for horizon in Horizon:
        due_at = None if published_at is None else published_at + horizon.age
        if horizon in met:
            found.append(AtHorizon(horizon, HorizonState.MET, due_at, look=met[horizon]))
        elif horizon in missed:
            found.append(AtHorizon(horizon, HorizonState.MISSED, due_at, reason=missed[horizon]))
        elif status == PostStatus.REMOVED:
            found.append(AtHorizon(horizon, HorizonState.MISSED, due_at, reason=REMOVED))
        elif published_at is not None and now > published_at + horizon.closes:
            why = note or why_missed(horizon, published_at, account=account, named=named, halted=None)
            found.append(AtHorizon(horizon, HorizonState.MISSED, due_at, reason=why))
            note = None  # it is of the first of them
        else:
            found.append(AtHorizon(horizon, HorizonState.TO_COME, due_at))
    return found


def latest(looks: Iterable[Look]) -> Look | None:
    return max(looks, key=lambda look: look.captured_at, default=None)


def engagement(numbers: Numbers) -> float | None:
    """Return likes, comments and shares together for each view. None unless all four are known and there are views: a
    part of them would look like fewer."""
    parts = (numbers.likes, numbers.comments, numbers.shares)
    if not numbers.views or any(part is None for part in parts):
        return None
    return sum(part for part in parts if part is not None) / numbers.views


def in_words(look: Look) -> str:
    """Return a look as a sentence; what is unknown is said."""
    nouns = {"views": "view", "likes": "like", "comments": "comment", "shares": "share"}
    values = {name: getattr(look.numbers, name) for name in nouns}
    parts = [counted(value, nouns[name]) for name, value in values.items() if value is not None]
    unknown = [name for name, value in values.items() if value is None]
    if unknown:
        parts.append(f"{' and '.join(unknown)} unknown" if len(unknown) < len(nouns) else "all unknown")
    return ", ".join(parts)


# --- many posts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """One number of those posts that have it: how many these are, and how it is spread. Quartiles are interpolated
    linearly between the two nearest posts. All None but `count` where no post has it; ratios have no `total`."""

    count: int = 0
    total: int | None = None
    least: float | None = None
    lower_quartile: float | None = None
    median: float | None = None
    upper_quartile: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """The posts of one group, on one platform, at one horizon: `posts` = `measured` + `missed` + `to_come`. `views` and
    `engagement` are by the definition of their views. `key` is None for posts without a category."""

    key: str | None
    label: str
    platform: str
    posts: int
    measured: int
    to_come: int
    views: Mapping[str, Figures] = field(default_factory=dict)
    engagement: Mapping[str, Figures] = field(default_factory=dict)
    likes: Figures = Figures()
    comments: Figures = Figures()
    shares: Figures = Figures()

    @property
    def missed(self) -> int:
        return self.posts - self.measured - self.to_come

    def unknown(self, metric: str) -> int:
        """Return of how many measured posts the number is unknown."""
        return self.measured - sum(each.count for _, each in self.figures(metric))

    def figures(self, metric: str) -> list[tuple[str, Figures]]:
        """Return a metric's figures by the definition of views, "" where that is no matter."""
        found = getattr(self, metric)
        return [("", found)] if isinstance(found, Figures) else list(found.items())


METRICS = ("views", "likes", "comments", "shares", "engagement")


@dataclass(frozen=True, slots=True)
class Performance:
    """How the posts that were published from `since` to before `until` did at one horizon. `more` groups were left out:
    those with the fewest posts."""

    by: By
    horizon: Horizon
    since: datetime
    until: datetime
    time_zone: str
    cells: Sequence[Cell]
    more: bool


def period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the period that is meant: up to now and the `USUAL_PERIOD` before its end, if nothing else is said.

    Raises:
        Rejected: it ends before it begins, or is longer than `LONGEST_PERIOD`.
    """
    ends = until or now
    try:
        begins = since or ends - USUAL_PERIOD
    except OverflowError:
        begins = ends
    if begins >= ends:
        raise Rejected("until: it is not after since")
    if ends - begins > LONGEST_PERIOD:
        raise Rejected(f"since: at most {LONGEST_PERIOD.days} days before until")
    return begins, ends


@dataclass(frozen=True, slots=True)
class Week:
    """A week from Monday to Sunday, and the moment when it begins on the clock of a zone."""

    monday: date
    begins: datetime


def weeks(since: datetime, until: datetime, zone: ZoneInfo) -> list[Week]:
    """Return the weeks that a period touches, in order."""
    day = since.astimezone(zone).date()
    monday = day - timedelta(days=day.weekday())
    found: list[Week] = []
    while not found or found[-1].begins < until:
        found.append(Week(monday, datetime(monday.year, monday.month, monday.day, tzinfo=zone)))
        monday += WEEK
    return found[:-1] if len(found) > 1 else found


def week_label(monday: date) -> str:
    """Return a week's ISO 8601 name: 2026-W48."""
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02}"


# --- as tables of a spreadsheet -------------------------------------------------------------------------------------

HORIZON_COLUMNS = (
    *("post_id", "platform", "horizon", "state", "reason", "due_at", "captured_at", "age_seconds"),
    *("views", "likes", "comments", "shares", "engagement", "details", "definition", "source", "predicted_score"),
)
CELL_COUNTS = ("key", "label", "platform", "posts", "measured", "missed", "to_come")
CELL_COLUMNS = (
    *("by", "key", "label", "platform", "horizon", "metric", "definition", "posts", "measured", "missed", "to_come"),
    *("count", "unknown", "total", "least", "lower_quartile", "median", "upper_quartile", "most"),
)


def look_values(look: Look | None) -> dict[str, Any]:
    """Return a look by the names of its values; all None without one. The age is in seconds."""
    numbers = Numbers() if look is None else look.numbers
    return {
        "captured_at": look and look.captured_at,
        "age_seconds": None if look is None or look.age is None else round(look.age.total_seconds()),
        "views": numbers.views,
        "likes": numbers.likes,
        "comments": numbers.comments,
        "shares": numbers.shares,
        "engagement": engagement(numbers),
        "details": dict(numbers.details) if look is not None else None,
        "definition": numbers.definition or None,
        "source": look and look.source,
    }


def figure_values(figures: Figures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in Figures.__slots__}


def cell_rows(report: Performance) -> list[dict[str, Any]]:
    """Return a report as rows of `CELL_COLUMNS`: one for each group, metric and definition of views."""
    rows = []
    for cell in report.cells:
        counts = {name: getattr(cell, name) for name in CELL_COUNTS}
        for metric in METRICS:
            for definition, figures in cell.figures(metric) or [("", Figures())]:
                about = {"by": report.by, "horizon": report.horizon, "metric": metric, "definition": definition or None}
                rows.append(about | counts | figure_values(figures) | {"unknown": cell.unknown(metric)})
    return rows

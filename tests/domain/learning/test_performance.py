"""A post's horizons and its engagement; periods and weeks of reports; a report as rows."""

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Rejected
from domain.learning.horizons import NOT_IN_TIME, REMOVED
from domain.learning.numbers import Horizon, Numbers
from domain.learning.performance import (
    CELL_COLUMNS,
    LONGEST_PERIOD,
    METRICS,
    By,
    Cell,
    Figures,
    HorizonState,
    Look,
    Performance,
    at_horizons,
    cell_rows,
    engagement,
    in_words,
    latest,
    period,
    week_label,
    weeks,
)
from domain.posting.posts import PostStatus

PUBLISHED = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
MET, MISSED, TO_COME = HorizonState.MET, HorizonState.MISSED, HorizonState.TO_COME
MOMENTS = st.integers(0, 4 * 366 * 86_400).map(lambda second: FIRST + timedelta(seconds=second))
ZONES = st.sampled_from(
    [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/Havana", "Asia/Beirut", "Pacific/Apia")]
)
COUNTS = st.none() | st.integers(0, 10**12)


def states(age: timedelta, *, status: PostStatus = PostStatus.PUBLISHED, met: str = "") -> str:
    """A post's horizons at this age, as a letter each: met, missed or to come."""
    looks = [Look(PUBLISHED + each.age, each.age, Numbers(), "x", each) for each in Horizon if each in met.split()]
    found = at_horizons(status, PUBLISHED, looks, {Horizon.H6: "away"}, PUBLISHED + age)
    return "".join({MET: "M", MISSED: "-", TO_COME: "."}[each.state] for each in found)


def test_a_horizon_is_met_missed_or_to_come() -> None:
    minute = timedelta(minutes=1)
    assert states(timedelta(0)) == ".-..."
    assert states(Horizon.H1.closes) == ".-..."
    assert states(Horizon.H1.closes + minute) == "--..."
    assert states(timedelta(days=30), met="24h 7d") == "--M-M"
    assert states(timedelta(hours=30), status=PostStatus.REMOVED, met="1h") == "M----"


def test_why_a_horizon_is_missed_is_said() -> None:
    now = PUBLISHED + timedelta(hours=30)
    one, six, day, later, last = at_horizons(PostStatus.PUBLISHED, PUBLISHED, [], {Horizon.H6: "away"}, now)
    assert (one.reason, six.reason, day.reason) == (NOT_IN_TIME, "away", NOT_IN_TIME)
    assert (later.reason, later.due_at, last.due_at) == (
        None,
        PUBLISHED + timedelta(hours=72),
        PUBLISHED + timedelta(days=7),
    )
    unwritten = at_horizons(PostStatus.PUBLISHED, PUBLISHED, [], {}, now, note="no answer", account="it is gone")
    assert [each.reason for each in unwritten] == ["no answer", "it is gone", "it is gone", None, None]
    assert at_horizons(PostStatus.REMOVED, PUBLISHED, [], {}, now)[0].reason == REMOVED
    waiting = at_horizons(PostStatus.SCHEDULED, None, [], {}, now)
    assert {(each.state, each.due_at) for each in waiting} == {(TO_COME, None)}


def test_the_latest_look_may_meet_no_horizon() -> None:
    looks = [Look(PUBLISHED + timedelta(hours=hours), None, Numbers(views=hours)) for hours in (3, 9, 6)]
    assert latest(looks) == looks[1]
    assert latest([]) is None


def test_a_look_in_words_says_what_is_unknown() -> None:
    assert in_words(Look(PUBLISHED, None, Numbers(1, 0, 1200, 3))) == "1 view, 0 likes, 1,200 comments, 3 shares"
    assert (
        in_words(Look(PUBLISHED, None, Numbers(likes=2, comments=1))) == "2 likes, 1 comment, views and shares unknown"
    )
    assert in_words(Look(PUBLISHED, None, Numbers())) == "all unknown"


@given(views=COUNTS, likes=COUNTS, comments=COUNTS, shares=COUNTS)
def test_engagement_is_of_what_is_wholly_there(
    views: int | None, likes: int | None, comments: int | None, shares: int | None
) -> None:
    found = engagement(Numbers(views, likes, comments, shares))
    if views and likes is not None and comments is not None and shares is not None:
        assert found == (likes + comments + shares) / views
    else:
        assert found is None


@given(since=MOMENTS, days=st.integers(1, 366), zone=ZONES, at=st.floats(0, 1, exclude_max=True))
def test_every_moment_of_a_period_is_in_the_week_of_its_day(
    since: datetime, days: int, zone: ZoneInfo, at: float
) -> None:
    length = timedelta(days=days)
    moment, found = since + at * length, weeks(since, since + length, zone)
    week = found[bisect_right([each.begins for each in found], moment) - 1]
    day = moment.astimezone(zone).date()
    assert week.monday == day - timedelta(days=day.weekday())
    assert found[0].begins <= since
    assert found[-1].begins < since + length
    assert {b.monday - a.monday for a, b in pairwise(found)} <= {timedelta(days=7)}


def test_a_week_has_its_iso_name() -> None:
    assert week_label(date(2026, 11, 23)) == "2026-W48"
    assert week_label(date(2024, 12, 30)) == "2025-W01"


def test_a_period_ends_now_and_is_bounded() -> None:
    assert period(None, None, PUBLISHED) == (PUBLISHED - timedelta(days=90), PUBLISHED)
    begins = PUBLISHED - LONGEST_PERIOD
    assert period(begins, None, PUBLISHED) == (begins, PUBLISHED)
    with pytest.raises(Rejected, match="at most 366 days before until"):
        period(begins - timedelta(seconds=1), None, PUBLISHED)
    for since, until in ((PUBLISHED, PUBLISHED), (PUBLISHED, begins), (None, datetime(1, 1, 2, tzinfo=UTC))):
        with pytest.raises(Rejected, match="not after since"):
            period(since, until, PUBLISHED)


def test_a_report_is_a_row_for_each_number_and_definition() -> None:
    cell = Cell(
        "youtube-shorts",
        "YouTube Shorts",
        "youtube-shorts",
        posts=10,
        measured=7,
        to_come=1,
        views={"old": Figures(2, 30, 10, 12.5, 15, 17.5, 20), "new": Figures(4, 8, 2, 2, 2, 2, 2)},
        likes=Figures(7, 0, 0, 0, 0, 0, 0),
    )
    report = Performance(By.PLATFORM, Horizon.H24, PUBLISHED, PUBLISHED, "UTC", [cell], more=False)
    rows = cell_rows(report)
    assert all(set(row) == set(CELL_COLUMNS) for row in rows)
    assert {(row["posts"], row["measured"], row["missed"], row["to_come"]) for row in rows} == {(10, 7, 2, 1)}
    shown = [(row["metric"], row["definition"], row["count"], row["unknown"], row["total"]) for row in rows]
    assert shown == [
        ("views", "old", 2, 1, 30),
        ("views", "new", 4, 1, 8),
        ("likes", None, 7, 0, 0),
        ("comments", None, 0, 7, None),
        ("shares", None, 0, 7, None),
        ("engagement", None, 0, 7, None),
    ]
    assert {row["metric"] for row in rows} == set(METRICS)

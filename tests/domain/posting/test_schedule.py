"""Suggested times, lateness, and how both are said."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.posting.schedule import (
    AHEAD,
    LEAD,
    SPACING,
    in_words,
    is_free,
    is_late,
    suggested,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
BERLIN, NEW_YORK, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Pacific/Apia")
HOUR = timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_concepts_time_is_taken_if_the_account_is_free() -> None:
    at = utc("2026-11-28T18:00")
    found = suggested(at, BERLIN, [], NOW)
    assert found is not None
    assert found.at == at
    assert found.reason == "Saturday 19:00 in Europe/Berlin: the concept's posting time"


def test_a_time_that_is_taken_moves_to_the_next_usual_hour() -> None:
    at = utc("2026-11-30T11:00")  # a Monday, noon in Berlin
    found = suggested(at, BERLIN, [at + timedelta(minutes=59)], NOW)
    assert found is not None
    assert found.at == utc("2026-11-30T16:00")
    assert "usual hour" in found.reason


def test_a_time_that_has_passed_is_that_time_of_day_by_the_zones_clock() -> None:
    before_winter = utc("2026-10-24T16:00")  # 18:00 in Berlin, in summer
    found = suggested(before_winter, BERLIN, [], utc("2026-10-24T16:30"))
    assert found is not None
    assert found.at == utc("2026-10-25T17:00")  # 18:00 in Berlin, in winter
    assert found.reason == "Sunday 18:00 in Europe/Berlin: the concept's time of day"


def test_a_time_of_day_that_is_skipped_is_the_moment_after_it() -> None:
    found = suggested(utc("2026-03-07T07:30"), NEW_YORK, [], utc("2026-03-07T08:00"))  # 02:30, skipped on the 8th
    assert found is not None
    assert found.at == utc("2026-03-08T07:30")  # the clock shows 03:30


def test_without_a_concept_the_next_usual_hour_is_taken() -> None:
    found = suggested(None, BERLIN, [], NOW)
    assert found is not None
    assert found.at == utc("2026-11-27T15:00")  # Friday 16:00


def test_a_days_places_are_kept_in_any_24_hours() -> None:
    at = utc("2026-11-30T11:00")
    taken = [at - 12 * HOUR, at + 11 * HOUR]
    assert is_free(at, taken, a_day=3)
    assert not is_free(at, taken, a_day=2)
    assert is_free(at, [at - 13 * HOUR, at + 13 * HOUR], a_day=2)
    assert not is_free(at, [], a_day=0)


def test_an_account_that_is_never_free_has_no_suggestion() -> None:
    assert suggested(None, BERLIN, [], NOW, a_day=0) is None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([BERLIN, NEW_YORK, APIA, ZoneInfo("UTC")]),
    st.integers(-60 * 24, 60 * 24 * 30),
    st.lists(st.integers(0, 60 * 24 * 7), max_size=20),
    st.integers(1, 4),
)
def test_a_suggestion_is_ahead_and_keeps_every_distance(
    zone: ZoneInfo, minutes: int, others: list[int], a_day: int
) -> None:
    taken = [NOW + timedelta(minutes=each) for each in others]
    found = suggested(NOW + timedelta(minutes=minutes), zone, taken, NOW, a_day=a_day)
    assert found is not None
    assert NOW + LEAD <= found.at <= NOW + AHEAD
    assert all(abs(found.at - each) >= SPACING for each in taken)
    around = [each for each in taken if abs(each - found.at) < 24 * HOUR]
    assert sum(found.at - 24 * HOUR < each <= found.at for each in around) < a_day


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4))
def test_suggestions_one_after_another_never_crowd_a_day(count: int, a_day: int) -> None:
    taken = list[datetime]()
    for _ in range(count):
        found = suggested(NOW + HOUR, BERLIN, taken, NOW, a_day=a_day)
        assert found is not None
        taken.append(found.at)
    for begin in taken:
        assert sum(begin <= each < begin + 24 * HOUR for each in taken) <= a_day
    assert all(after - before >= SPACING for before, after in pairwise(sorted(taken)))


@pytest.mark.parametrize(
    ("late", "verdict"),
    [(timedelta(minutes=-1), False), (timedelta(0), False), (2 * HOUR, False), (2 * HOUR + timedelta(seconds=1), True)],
    ids=["early", "at-once", "just-in-time", "late"],
)
def test_two_hours_late_is_missed(late: timedelta, verdict: bool) -> None:
    assert is_late(NOW - late, NOW) is verdict


def test_a_tenant_says_itself_what_late_is() -> None:
    assert is_late(NOW - timedelta(minutes=11), NOW, timedelta(minutes=10))


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(10, "10 minutes"), (60, "1 hour"), (90, "90 minutes"), (120, "2 hours")],
)
def test_a_length_is_said_in_words(minutes: int, words: str) -> None:
    assert in_words(timedelta(minutes=minutes)) == words


@given(
    st.lists(st.builds(time, st.integers(0, 23), st.integers(0, 59)), min_size=1, max_size=4, unique=True),
    st.sampled_from(("UTC", "Europe/Berlin", "America/New_York")),
    st.integers(0, 366 * 24),
)
@settings(max_examples=40)
def test_chosen_times_are_kept_and_none_is_taken_twice(times, zone, hours):
    now = NOW + hours * HOUR
    taken: list[datetime] = []
    for _ in range(6):
        found = suggested(None, ZoneInfo(zone), taken, now, times=times)
        assert found is not None
        assert all(abs(found.at - each) >= SPACING for each in taken)
        shown = found.at.astimezone(ZoneInfo(zone)).time()
        # A time that a change to summer time skips is shown an hour later.
        assert shown in times or shown.replace(hour=(shown.hour - 1) % 24) in times
        taken.append(found.at)

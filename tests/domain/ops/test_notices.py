"""When people are notified: once per cause, again if it grew, still stands or came back, and once that it is over."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ops.notices import (
    ENDS_AFTER,
    MOST_TEXT,
    WAITS,
    Entry,
    Notice,
    QuietHours,
    Seen,
    Why,
    look,
    message,
    next_try,
    parse_quiet_hours,
)

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Operator:
    """Looks whenever it is asked to, and remembers what it was told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def hears(self, at: datetime, *seen: tuple[str, int], quiet: bool = False) -> list[tuple[str, Why]]:
        found = [Seen(cause, (f"{number} of {cause}.",), "jobs", "viral status", number) for cause, number in seen]
        unsettled = [each for each in self.notices if each.over_sent_at is None]
        after, entries = look(unsettled, found, at, quiet=quiet, new_id=uuid4)
        ids = {each.id for each in after}
        self.notices = [*(each for each in self.notices if each.id not in ids), *after]
        return [(entry.notice.cause, entry.why) for entry in entries]


def test_a_cause_is_told_once_and_once_that_it_is_over() -> None:
    hears = Operator().hears
    assert hears(NOON, ("failed_jobs", 1)) == [("failed_jobs", Why.NEW)]
    assert [hears(NOON + n * MINUTE, ("failed_jobs", n)) for n in range(1, 9)] == [[]] * 8
    assert hears(NOON + 9 * MINUTE) == []
    assert hears(NOON + 8 * MINUTE + ENDS_AFTER) == [("failed_jobs", Why.OVER)]
    assert hears(NOON + 60 * MINUTE) == []
    assert hears(NOON + 61 * MINUTE, ("failed_jobs", 1)) == [("failed_jobs", Why.NEW)]


def test_many_causes_are_one_message_what_is_urgent_first() -> None:
    causes = [("failed_jobs", 1), ("unconfirmed_posts", 2), ("needs_reconnect", 3)]
    assert [cause for cause, _ in Operator().hears(NOON, *causes)] == [
        *("unconfirmed_posts", "failed_jobs", "needs_reconnect"),
    ]


def test_ten_times_as_many_are_told_again_and_so_is_what_stands_for_a_day() -> None:
    hears = Operator().hears
    hears(NOON, ("failed_jobs", 3))
    assert hears(NOON + MINUTE, ("failed_jobs", 29)) == []
    assert hears(NOON + 2 * MINUTE, ("failed_jobs", 30)) == [("failed_jobs", Why.GREW)]
    assert hears(NOON + timedelta(hours=24), ("failed_jobs", 30)) == []
    assert hears(NOON + timedelta(hours=25), ("failed_jobs", 30)) == [("failed_jobs", Why.STILL)]


def test_what_goes_away_by_itself_is_not_repeated_each_day() -> None:
    hears = Operator().hears
    hears(NOON, ("failed_posts", 3))
    assert hears(NOON + timedelta(hours=25), ("failed_posts", 3)) == []
    assert hears(NOON + timedelta(hours=26), ("failed_posts", 4)) == [("failed_posts", Why.STILL)]


def test_more_money_is_told_again_within_the_hour() -> None:
    hears = Operator().hears
    hears(NOON, ("unconfirmed_clips", 1))
    assert hears(NOON + 59 * MINUTE, ("unconfirmed_clips", 2)) == []
    assert hears(NOON + 60 * MINUTE, ("unconfirmed_clips", 2)) == [("unconfirmed_clips", Why.GREW)]


def test_what_often_mends_itself_is_told_when_it_stood_for_a_while() -> None:
    hears = Operator().hears
    assert hears(NOON, ("queue_late:llm", 1)) == []
    assert hears(NOON + 6 * MINUTE, ("queue_late:llm", 1)) == [("queue_late:llm", Why.NEW)]
    assert hears(NOON, ("queue_late:media", 1)) == []
    assert hears(NOON + ENDS_AFTER) == []
    assert hears(NOON + 40 * MINUTE) == [("queue_late:llm", Why.OVER)]


def test_quiet_hours_hold_back_what_can_wait_and_nothing_else() -> None:
    hears = Operator().hears
    seen = ("failed_jobs", 1), ("unconfirmed_posts", 1), ("no_scheduler", 1)
    assert [cause for cause, _ in hears(NOON, *seen, quiet=True)] == ["no_scheduler", "unconfirmed_posts"]
    assert hears(NOON + MINUTE, *seen[:1], quiet=True) == []
    assert hears(NOON + 20 * MINUTE, *seen[:1], quiet=True) == []
    assert hears(NOON + 30 * MINUTE, *seen[:1]) == [
        *(("failed_jobs", Why.NEW), ("no_scheduler", Why.OVER), ("unconfirmed_posts", Why.OVER)),
    ]


def test_what_came_and_went_in_quiet_hours_is_not_told_at_all() -> None:
    hears = Operator().hears
    hears(NOON, ("failed_jobs", 1), quiet=True)
    assert hears(NOON + ENDS_AFTER) == hears(NOON + 2 * ENDS_AFTER) == []


def test_what_is_there_again_after_quiet_hours_is_not_said_to_be_over() -> None:
    hears = Operator().hears
    hears(NOON, ("failed_jobs", 1))
    assert hears(NOON + ENDS_AFTER, quiet=True) == []
    assert hears(NOON + 2 * ENDS_AFTER, ("failed_jobs", 1)) == [("failed_jobs", Why.NEW)]
    assert hears(NOON + 3 * ENDS_AFTER - MINUTE) == []


CAUSES = st.sampled_from(["failed_jobs", "unconfirmed_posts", "queue_late:llm"])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.frozensets(CAUSES), st.booleans()), max_size=25))
def test_nothing_is_over_that_was_not_told_and_no_cause_stands_twice(looks: list[tuple[set[str], bool]]) -> None:
    operator, standing = Operator(), set[str]()
    for number, (causes, quiet) in enumerate(looks):
        for cause, why in operator.hears(NOON + 4 * number * MINUTE, *((cause, 1) for cause in causes), quiet=quiet):
            assert cause in standing or why is Why.NEW
            assert (why is Why.OVER) <= (cause not in causes)
            standing = standing - {cause} if why is Why.OVER else standing | {cause}
        open_causes = [each.cause for each in operator.notices if each.ended_at is None]
        assert len(open_causes) == len(set(open_causes))


@pytest.mark.parametrize(
    ("hour", "quiet"), [(21, False), (22, True), (3, True), (6, False)], ids=["evening", "begins", "night", "ends"]
)
def test_quiet_hours_are_of_their_time_zone_and_go_over_midnight(hour: int, quiet: bool) -> None:
    hours = QuietHours(*(parse_quiet_hours("23:00-07:00") or (time(), time())), "Europe/Berlin")
    assert hours.at(NOON.replace(hour=hour)) is quiet


# The nights in which clocks change; in Havana and Beirut at midnight, on Lord Howe Island by half an hour.
CHANGES = [
    ("Europe/Berlin", "2026-10-24T12:00Z"),
    ("Europe/Berlin", "2026-03-28T12:00Z"),
    ("America/Havana", "2026-10-31T16:00Z"),
    ("America/Havana", "2026-03-07T17:00Z"),
    ("Asia/Beirut", "2026-10-24T09:00Z"),
    ("Asia/Beirut", "2026-03-28T10:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T01:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T01:30Z"),
]
HALF_HOURS = [time(n // 2, n % 2 * 30) for n in (44, 45, 46, 47, *range(10))]


@pytest.mark.parametrize(("zone", "noon"), CHANGES)
def test_when_the_clock_changes_a_night_has_one_stretch_of_quiet_hours(zone: str, noon: str) -> None:
    moments = [datetime.fromisoformat(noon) + n * timedelta(minutes=10) for n in range(24 * 6)]
    pairs = [(start, end) for start in HALF_HOURS for end in HALF_HOURS if start != end]
    for start, end in pairs:
        if HALF_HOURS.index(start) < HALF_HOURS.index(end):
            quiet = [QuietHours(start, end, zone).at(moment) for moment in moments]
            begins = sum(now and not before for before, now in pairwise(quiet))
            assert begins <= 1, f"{start}-{end}"
            at_clock = [
                (start <= end and start <= here < end) or (start > end and (here >= start or here < end))
                for here in (moment.astimezone(ZoneInfo(zone)).time() for moment in moments)
            ]
            assert all(now for now, clock in zip(quiet, at_clock, strict=True) if clock)
            assert begins or not any(at_clock)


def test_an_hour_that_comes_twice_is_quiet_until_its_second_end() -> None:
    second_two = datetime(2026, 10, 25, 1, tzinfo=UTC)
    hours = QuietHours(time(22), time(2, 30), "Europe/Berlin")
    around = [second_two + n * timedelta(minutes=10) for n in (-6, -2, 0, 2, 3)]
    assert [hours.at(moment) for moment in around] == [True, True, True, True, False]


@pytest.mark.parametrize("text", ["22:00", "22-7", "25:00-07:00", "22:00-22:00", "a-b"])
def test_what_are_no_quiet_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_quiet_hours(text)


def entries(number: int, says: str = "Ada's shop has 3 failed jobs.") -> Sequence[Entry]:
    notice = Notice(uuid4(), "failed_jobs", (says,), "failures", "viral failures list", 3, NOON, NOON)
    return [Entry(Why.NEW, notice)] * number


def test_a_message_says_what_since_when_where_and_what_to_type() -> None:
    assert message(entries(1), base="https://viral.example/ops") == (
        "New: Jobs have failed",
        "New: Jobs have failed, since 2026-11-28 12:00 UTC\n- Ada's shop has 3 failed jobs.\n"
        "    https://viral.example/ops/failures\n    viral failures list",
    )


def test_a_message_has_a_bound_and_no_name_in_it_calls_anybody() -> None:
    written = message(entries(60, "<!channel> @everyone `x` " + "name " * 100), base="https://viral.example/ops")
    assert len(written.text) < MOST_TEXT + 100
    assert "more: https://viral.example/ops/notices" in written.text
    assert not set("<>@`") & set(written.text + written.title)


def test_a_channel_that_fails_is_tried_for_some_hours_and_then_given_up() -> None:
    waits = [next_try(attempt) for attempt in range(1, len(WAITS) + 2)]
    assert waits == [*WAITS, None]
    assert timedelta(hours=6) < sum(WAITS, timedelta()) < timedelta(hours=12)

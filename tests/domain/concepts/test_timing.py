"""Posting times and daily hours go by the account's own clock, also on the days when it changes."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import pairwise, product
from uuid import uuid4
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.concepts.timing import HOURS, LATE, LEAD, SPREAD, due_day, is_zone, post_times, spread, zone_of

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
moments = st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sampled_from(ZONES), moments, st.integers(1, 20))
def test_slots_come_one_after_another_on_the_accounts_clock(zone: str, now: datetime, count: int) -> None:
    times = post_times(ZoneInfo(zone), now, count)
    assert len(times) == count
    assert times[0].at >= now + LEAD
    assert all(a.at < b.at for a, b in pairwise(times))
    for each in times:
        local = each.at.astimezone(ZoneInfo(zone))
        usual = {hour.hour for hour in HOURS[local.weekday()]}
        assert local.hour in usual or local.hour - 1 in usual  # an hour that the clock skips

    assert times[-1].at - now < timedelta(days=7)


def test_one_wall_clock_two_instants() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert post_times(ZoneInfo("Europe/Berlin"), now, 1)[0].at == datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
    assert post_times(ZoneInfo("America/New_York"), now, 1)[0].at == datetime(2026, 11, 22, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", [None, "", "Mars/Olympus", "../../etc/passwd", "\x00", "x" * 1000, "Europe/Berlin\n", "Europe"]
)
def test_a_zone_that_nobody_knows_is_utc_and_known_as_such(name: str | None) -> None:
    assert zone_of(name).key == "UTC"
    assert not is_zone(name or "")


def test_every_zone_is_known_by_its_own_name_alone() -> None:
    assert all(map(is_zone, ZONES))
    assert not any(is_zone(f"{name}\n") for name in ZONES)


def begins(zone: ZoneInfo, day: date, hour: int) -> datetime:
    """The first moment at which the clock there has reached the hour of the day, found by looking at the clock."""
    at = datetime.combine(day, time(hour), UTC) - timedelta(hours=15)
    while at.astimezone(zone).replace(tzinfo=None) < datetime.combine(day, time(hour)):
        at += timedelta(minutes=15)  # of which every offset is a multiple
    return at


def served_by(zone: ZoneInfo, hour: int, runs: Iterable[datetime]) -> list[date]:
    """The days that these fires serve, in their order."""
    served: list[date] = []
    for now in runs:
        day = due_day(zone, hour, served[-1] if served else None, now)
        if day is not None:
            served.append(day)
    return served


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The days on which the clock is changed; and one on which it is not."""
    noons = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    changed = [
        noon for a, noon in pairwise(noons) if a.astimezone(zone).utcoffset() != noon.astimezone(zone).utcoffset()
    ]
    return [noons[10], *changed]


@pytest.mark.proof
def test_an_hourly_look_serves_every_day_once_in_every_zone_at_every_hour() -> None:
    """Also the day whose hour the clock skips, and the one that has it twice."""
    looked_at = set()
    for name in ZONES:
        zone = ZoneInfo(name)
        days = changes(zone, 2027)
        clock = tuple((day, day.astimezone(zone).utcoffset()) for day in days)
        if clock in looked_at:
            continue
        looked_at.add(clock)
        for noon, hour in product(days, range(24)):
            first = noon.astimezone(zone).date() - timedelta(days=2)
            since = begins(zone, first, hour) + timedelta(minutes=1)
            served = served_by(zone, hour, (since + timedelta(hours=n) for n in range(4 * 24)))
            assert served == [first + timedelta(days=n) for n in range(len(served))], (name, hour)
            assert len(served) in (4, 5), (name, hour)


@given(
    st.sampled_from(ZONES),
    moments,
    st.integers(0, 23),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 15 * 60)), max_size=6),
)
def test_a_day_is_served_once_if_an_outage_ends_in_time_and_never_if_it_does_not(
    name: str, start: datetime, hour: int, outages: list[tuple[int, int]]
) -> None:
    """An outage follows after so many hours, and takes so many minutes; whoever is back fires at once."""
    zone, now = ZoneInfo(name), start.replace(minute=1)
    runs = [now]
    for hours, minutes in [*outages, (48, 0)]:
        runs += [now + timedelta(hours=n) for n in range(1, hours + 1)]
        now = runs[-1] + timedelta(minutes=minutes)
        runs.append(now)
    served = served_by(zone, hour, runs)
    assert len(set(served)) == len(served)
    day = runs[0].astimezone(zone).date() + timedelta(days=1)
    while (begun := begins(zone, day, hour)) + LATE <= runs[-1]:
        first_run = min(run for run in runs if run >= begun)
        assert (day in served) == (first_run < begun + LATE), (day, first_run)
        day += timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "skipped"), [("Pacific/Apia", date(2011, 12, 30)), ("Pacific/Kwajalein", date(1993, 8, 21))]
)
def test_a_day_that_a_zone_does_not_have_is_not_served(zone: str, skipped: date) -> None:
    since = datetime.combine(skipped - timedelta(days=3), time(0, 1), UTC)
    for hour in range(24):
        served = served_by(ZoneInfo(zone), hour, (since + timedelta(hours=n) for n in range(6 * 24)))
        assert skipped not in served
        assert {skipped - timedelta(days=1), skipped + timedelta(days=1)} <= set(served)
        assert len(set(served)) == len(served)


def test_a_run_that_comes_much_too_late_is_left_out() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 3, 29, tzinfo=UTC)) is None  # 08:59 there
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 3, 31, tzinfo=UTC)) == date(2026, 11, 22)
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 6, 31, tzinfo=UTC)) is None  # 12:01


def test_lateness_may_cross_midnight() -> None:
    """The day that is served is the one whose hour it was."""
    the_30th, the_1st = date(2026, 11, 30), date(2026, 12, 1)
    at = partial(datetime, 2026, 12, 2, tzinfo=UTC)
    assert due_day(ZoneInfo("UTC"), 23, the_30th, at(0, 5)) == the_1st
    assert due_day(ZoneInfo("UTC"), 22, the_30th, at(0, 1)) == the_1st
    assert due_day(ZoneInfo("UTC"), 23, the_30th, at(1, 59)) == the_1st
    assert due_day(ZoneInfo("UTC"), 23, the_30th, at(2)) is None
    assert due_day(ZoneInfo("UTC"), 23, the_1st, at(0, 5)) is None
    # The hour that Nuuk's clock skips is the last one of a day.
    assert due_day(ZoneInfo("America/Nuuk"), 23, None, datetime(2027, 3, 28, 1, 1, tzinfo=UTC)) == date(2027, 3, 27)


def test_a_move_to_the_west_serves_no_day_again_and_a_mark_from_the_future_stops_nothing() -> None:
    at = datetime(2026, 12, 1, 19, 1, tzinfo=UTC)  # 09:01 of the 2nd in Kiritimati, and of the 1st in Honolulu
    assert due_day(ZoneInfo("Pacific/Kiritimati"), 9, None, at) == date(2026, 12, 2)
    assert due_day(ZoneInfo("Pacific/Honolulu"), 9, date(2026, 12, 2), at) is None
    assert due_day(ZoneInfo("Pacific/Honolulu"), 9, date(2027, 12, 2), at) == date(2026, 12, 1)


def test_tenants_are_spread_over_the_hour_each_at_its_own_moment() -> None:
    tenants = [uuid4() for _ in range(1000)]
    delays = sorted(spread(tenant, SPREAD) for tenant in tenants)
    assert delays == sorted(spread(tenant, SPREAD) for tenant in tenants)
    assert timedelta(0) <= delays[0] <= delays[-1] < SPREAD
    assert max(b - a for a, b in pairwise(delays)) < timedelta(minutes=2)

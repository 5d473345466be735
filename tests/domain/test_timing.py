"""Posting times and daily hours go by the account's own clock, also on the days when it changes."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.timing import HOURS, LEAD, SPREAD, due_day, post_times, spread, zone_of

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


@pytest.mark.parametrize("name", [None, "", "Mars/Olympus", "../../etc/passwd", "\x00", "x" * 1000])
def test_a_zone_that_nobody_knows_is_utc(name: str | None) -> None:
    assert zone_of(name).key == "UTC"


@given(st.sampled_from(ZONES), moments, st.integers(0, 23))
def test_an_hourly_look_serves_every_day_once(zone: str, start: datetime, hour: int) -> None:
    """Also the day whose hour the clock skips, and the one that has it twice."""
    served: list[date] = []
    for n in range(24 * 4):
        now = start + timedelta(hours=n)
        day = due_day(zone_of(zone), hour, served[-1] if served else None, now)
        if day is not None:
            served.append(day)
    assert len(set(served)) == len(served)
    assert all((b - a).days == 1 for a, b in pairwise(served))
    assert len(served) >= 3


def test_a_fire_that_comes_much_too_late_is_left_out() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 3, 29, tzinfo=UTC)) is None  # 08:59 there
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 3, 31, tzinfo=UTC)) == date(2026, 11, 22)
    assert due_day(zone, 9, None, datetime(2026, 11, 22, 6, 31, tzinfo=UTC)) is None  # 12:01


def test_tenants_are_spread_over_the_hour_each_at_its_own_moment() -> None:
    tenants = [uuid4() for _ in range(1000)]
    delays = sorted(spread(tenant, SPREAD) for tenant in tenants)
    assert delays == sorted(spread(tenant, SPREAD) for tenant in tenants)
    assert timedelta(0) <= delays[0] <= delays[-1] < SPREAD
    assert max(b - a for a, b in pairwise(delays)) < timedelta(minutes=2)

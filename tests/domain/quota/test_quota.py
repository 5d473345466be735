from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import QuotaExceeded, Rejected
from domain.quota.quota import (
    Hold,
    Quota,
    add_months,
    first_period,
    grant,
    lasting,
    next_reset,
    release,
    reserve,
    reset,
    restart,
    settle,
    take,
)

JAN_31 = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

moments = st.integers(0, 100 * 365 * 86_400).map(
    lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
limits = st.integers(0, 600)


def at(month: int, day: int, year: int = 2026) -> datetime:
    return datetime(year, month, day, 9, 30, tzinfo=UTC)


def a_quota(limit: int = 10, used: int = 0, paid_until: datetime | None = None) -> Quota:
    return replace(first_period(limit, JAN_31), used=used, paid_until=paid_until)


def is_anniversary(day: datetime, anchor: datetime) -> bool:
    """Independent of the code: looks at one day, adds no months."""
    last_of_month = (day + timedelta(days=1)).day == 1
    return day.day == anchor.day or (last_of_month and day.day < anchor.day)


# --- months


def test_the_anchor_keeps_its_day_through_a_short_month() -> None:
    assert [add_months(JAN_31, n) for n in (-2, 0, 1, 2, 3)] == [
        at(11, 30, 2025),
        JAN_31,
        at(2, 28),
        at(3, 31),
        at(4, 30),
    ]


def test_a_leap_day_comes_back_in_a_leap_year() -> None:
    assert add_months(at(2, 29, 2024), 12) == at(2, 28, 2025)
    assert add_months(at(2, 29, 2024), 48) == at(2, 29, 2028)


def test_months_are_counted_in_utc_whatever_zone_the_anchor_is_told_in() -> None:
    new_year_in_tokyo = datetime(2026, 1, 1, 0, 0, tzinfo=timezone(timedelta(hours=9)))
    assert add_months(new_year_in_tokyo, 2) == datetime(2026, 2, 28, 15, 0, tzinfo=UTC)


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        next_reset(datetime(2026, 1, 1), JAN_31)  # noqa: DTZ001


def test_a_boundary_belongs_to_the_period_that_it_begins() -> None:
    assert next_reset(JAN_31, at(2, 28)) == at(3, 31)
    assert next_reset(JAN_31, at(2, 28) - timedelta(microseconds=1)) == at(2, 28)


def test_an_anchor_in_the_future_has_boundaries_before_it() -> None:
    assert next_reset(at(12, 31), at(2, 1)) == at(2, 28)


@given(moments, moments)
def test_the_next_reset_is_the_first_anniversary_by_the_calendar(anchor: datetime, after: datetime) -> None:
    day = datetime.combine(after.date(), anchor.timetz())
    while not (day > after and is_anniversary(day, anchor)):
        day += timedelta(days=1)
    assert next_reset(anchor, after) == day


@given(moments, st.integers(-600, 600))
def test_each_boundary_leads_to_the_next(anchor: datetime, n: int) -> None:
    assert next_reset(anchor, add_months(anchor, n)) == add_months(anchor, n + 1)


# --- reset


def test_nothing_happens_before_the_boundary() -> None:
    quota = a_quota(used=7)
    assert reset(quota, at(2, 28) - timedelta(seconds=1)) is quota


def test_at_the_boundary_a_new_period_begins() -> None:
    quota = reset(a_quota(used=7), at(2, 28))
    assert (quota.used, quota.period_start, quota.resets_at) == (0, at(2, 28), at(3, 31))


def test_three_months_of_outage_are_one_reset_to_the_right_dates() -> None:
    quota = reset(a_quota(used=7), at(5, 2))
    assert (quota.used, quota.period_start, quota.resets_at) == (0, at(4, 30), at(5, 31))


def test_a_paid_month_waits_for_the_next_invoice() -> None:
    quota = a_quota(used=7, paid_until=at(2, 28))
    assert reset(quota, at(7, 1)) is quota


def test_an_annual_plan_walks_the_anchors_months_and_stops_at_what_is_paid() -> None:
    quota = a_quota(used=7, paid_until=at(1, 31, 2027))
    within, long_after = reset(quota, at(6, 15)), reset(quota, at(6, 15, 2028))
    assert (within.used, within.period_start, within.resets_at) == (0, at(5, 31), at(6, 30))
    assert (long_after.period_start, long_after.resets_at) == (at(12, 31), at(1, 31, 2027))


def test_a_reset_date_that_is_no_boundary_begins_a_short_period() -> None:
    quota = replace(a_quota(used=7), resets_at=at(2, 10))
    begun = reset(quota, at(2, 20))
    assert (begun.period_start, begun.resets_at, begun.used) == (at(2, 10), at(2, 28), 0)


@given(moments, moments, st.none() | moments, st.integers(0, 9))
def test_a_reset_is_idempotent_contains_now_and_stays_within_what_is_paid(
    anchor: datetime, now: datetime, paid_until: datetime | None, used: int
) -> None:
    quota = replace(first_period(10, anchor), used=used, paid_until=paid_until)
    once = reset(quota, now)
    assert reset(once, now) == once
    assert once.resets_at == next_reset(anchor, once.period_start)
    assert (once.period_start == quota.period_start) == (once == quota)
    if once != quota:
        assert once.used == 0
        assert once.period_start <= now
        assert paid_until is None or once.period_start < paid_until
    if paid_until is None or now < paid_until:
        assert now < once.resets_at


@given(moments, st.lists(moments, max_size=8))
def test_one_late_reset_equals_many_punctual_ones(anchor: datetime, times: list[datetime]) -> None:
    stepwise = first_period(10, anchor)
    for now in sorted(times):
        stepwise = reset(stepwise, now)
    assert stepwise == reset(first_period(10, anchor), max(times, default=anchor))


# --- reserve, settle, release


def test_the_last_concept_of_the_month_can_be_reserved() -> None:
    quota, hold = reserve(a_quota(used=9), 1, at(2, 1))
    assert (quota.used, quota.remaining) == (10, 0)
    assert hold == Hold(1, at(2, 1))


def test_a_refusal_says_the_figures_and_when_there_is_more() -> None:
    with pytest.raises(QuotaExceeded, match=r"5 concepts asked for, 1 of 10 left .* more on 2026-02-28 09:30 UTC"):
        reserve(a_quota(used=9), 5, at(2, 1))


def test_a_refusal_of_an_unpaid_month_says_that_it_waits_for_the_invoice() -> None:
    with pytest.raises(QuotaExceeded, match="when the next invoice is paid"):
        reserve(a_quota(used=10, paid_until=at(2, 28)), 1, at(3, 5))


def test_a_reservation_begins_the_period_that_is_due() -> None:
    quota, hold = reserve(a_quota(used=10), 3, at(3, 1))
    assert quota.used == 3
    assert (hold.taken_at, quota.period_start) == (at(3, 1), at(2, 28))


def test_what_was_not_made_is_given_back() -> None:
    quota, hold = reserve(a_quota(used=2), 5, at(2, 1))
    assert settle(quota, hold, 3).used == 5
    assert release(quota, hold).used == 2


def test_a_hold_of_the_last_period_gives_nothing_back_to_this_one() -> None:
    quota, hold = reserve(a_quota(), 5, at(2, 1))
    later, _ = reserve(quota, 4, at(3, 1))
    assert release(later, hold) == later == settle(later, hold, 0)


def test_a_restart_counts_anew_and_keeps_the_dates() -> None:
    quota, hold = reserve(a_quota(used=2), 5, at(2, 1))
    fresh = restart(quota, at(2, 1))
    assert (fresh.used, fresh.period_start, fresh.resets_at) == (0, quota.period_start, quota.resets_at)
    assert release(fresh, hold) == fresh, "what was held before is given back before"
    assert reserve(fresh, 1, at(2, 1))[1].taken_at == fresh.counts_from


def test_a_period_that_began_before_a_restart_goes_on_counting_from_it() -> None:
    fresh, _ = reserve(restart(a_quota(used=7), at(3, 5)), 2, at(2, 1))
    begun = reset(fresh, at(3, 6))
    assert (begun.used, begun.period_start, begun.counts_from) == (2, at(2, 28), fresh.counts_from)


def test_a_limit_below_what_was_used_leaves_nothing_and_never_less() -> None:
    quota = replace(a_quota(used=40), limit=10)
    assert quota.remaining == 0
    with pytest.raises(QuotaExceeded, match="0 of 10 left"):
        reserve(quota, 1, at(2, 1))


@pytest.mark.parametrize("count", [0, -1])
def test_reserving_nothing_is_a_bug(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        reserve(a_quota(), count, JAN_31)


@pytest.mark.parametrize("actual", [-1, 6])
def test_settling_more_than_was_held_is_a_bug(actual: int) -> None:
    quota, hold = reserve(a_quota(), 5, JAN_31)
    with pytest.raises(ValueError, match="between 0 and the 5 held"):
        settle(quota, hold, actual)


acts = st.one_of(
    st.tuples(st.just("reserve"), st.integers(1, 20)),
    st.tuples(st.just("settle"), st.integers(0, 20)),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.integers(0, 70)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("limit"), limits),
    st.tuples(st.just("grant"), st.integers(1, 20)),
    st.tuples(st.just("take"), st.integers(1, 20)),
    st.tuples(st.just("over"), st.integers(0, 40)),
)


@given(limits, st.none() | moments, st.lists(acts, max_size=40))
def test_the_counter_equals_what_is_held_and_made_in_its_period(
    limit: int, paid_until: datetime | None, script: list[tuple[str, int]]
) -> None:
    quota, now = replace(first_period(limit, JAN_31), paid_until=paid_until), JAN_31
    held: list[Hold] = []
    made: list[Hold] = []
    lowered = False
    for act, number in script:
        if act == "reserve":
            try:
                quota, hold = reserve(quota, number, now)
                held.append(hold)
            except QuotaExceeded:
                assert number > reset(quota, now).available(now)
        elif act == "settle" and held:
            hold = held.pop(number % len(held))
            actual = number % (hold.count + 1)
            quota = settle(quota, hold, actual)
            made.append(replace(hold, count=actual))
        elif act == "release" and held:
            quota = release(quota, held.pop(number % len(held)))
        elif act == "wait":
            now += timedelta(days=number)
            quota = reset(quota, now)
        elif act == "restart":
            with suppress(Rejected):
                quota = restart(quota, now)
        elif act in ("grant", "take"):
            before = quota.available(now)
            try:
                quota = (grant if act == "grant" else take)(quota, number, now)
            except Rejected:
                assert quota.is_over(now) or (number > before if act == "take" else before == 0)
            else:
                # What is granted can be used, if not all of it; what is taken was left.
                gained = quota.available(now) - before
                assert 0 < gained <= number if act == "grant" else gained == -number
        elif act == "over":
            quota = replace(quota, drawn_until=now + timedelta(days=number) if number % 2 else None)
        elif act == "limit":
            lowered = lowered or number < quota.limit
            quota = replace(quota, limit=number)
        # Exactly: so nothing is lost, nothing is given back twice or into another period, and it is never below 0.
        assert quota.used == sum(h.count for h in held + made if h.taken_at >= quota.counts_from)
        assert quota.remaining >= 0
        assert quota.used <= quota.allowance or lowered


# --- what support does


def test_what_nobody_could_use_is_not_granted() -> None:
    over = replace(a_quota(limit=50, used=40, paid_until=at(2, 28)), drawn_until=at(2, 28))
    for refused in (
        lambda: grant(over, 5, at(3, 1)),
        lambda: take(over, 5, at(3, 1)),
        lambda: restart(over, at(3, 1)),
    ):
        with pytest.raises(Rejected, match=r"nothing can be drawn since 2026-02-28 09:30 UTC.* next invoice is paid"):
            refused()
    shrunk = a_quota(limit=10, used=40)
    with pytest.raises(Rejected, match="leave none to use: 40 of 10 are used; grant at least 31"):
        grant(shrunk, 30, at(2, 1))
    assert grant(shrunk, 31, at(2, 1)).available(at(2, 1)) == 1
    taken = replace(a_quota(limit=10), granted=-40)
    with pytest.raises(Rejected, match="0 of 0 are used, and 40 were taken; grant at least 31"):
        grant(taken, 5, at(2, 1))
    assert grant(taken, 31, at(2, 1)).available(at(2, 1)) == 1


def test_what_is_granted_lasts_as_long_as_the_period_can_be_drawn_from() -> None:
    free, paid = a_quota(), a_quota(paid_until=at(2, 28))
    year, paused = a_quota(paid_until=at(1, 31, 2027)), replace(paid, drawn_until=at(2, 28))
    net = replace(paid, drawn_until=at(3, 14))
    cases = [
        (free, at(2, 1), at(2, 28), "until 2026-02-28 09:30 UTC, when the period ends"),
        (year, at(2, 1), at(2, 28), "until 2026-02-28 09:30 UTC, when the period ends"),
        (paid, at(2, 1), at(2, 28), "until the invoice that is due on 2026-02-28 09:30 UTC is paid"),
        (paid, at(3, 5), None, "until the invoice that was due on 2026-02-28 09:30 UTC is paid"),
        (paused, at(2, 1), at(2, 28), "until 2026-02-28 09:30 UTC, when what is paid for ends"),
        (net, at(3, 5), at(3, 14), "until 2026-03-14 09:30 UTC, when what is paid for ends"),
    ]
    assert [(each.lasts_until(now), lasting(each, now)) for each, now, *_ in cases] == [
        (until, says) for *_, until, says in cases
    ]


def test_a_fresh_count_is_later_than_what_a_clock_ahead_has_taken() -> None:
    ahead = at(2, 1) + timedelta(seconds=3)
    quota, hold = reserve(a_quota(), 4, ahead)
    fresh = restart(quota, at(2, 1), last_taken=hold.taken_at)
    assert fresh.counts_from > hold.taken_at
    assert release(fresh, hold).used == 0

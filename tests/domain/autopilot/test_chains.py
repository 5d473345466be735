"""Days are begun once each, whatever the zone's clock does; and a chain may do no more than both modes say."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from domain.autopilot.chains import DAY, EXPLAINED_DAYS, Mode, due_days, hour_of, lesser

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 2 * 366 * 24 * 60).map(lambda minutes: BEGINNING + timedelta(minutes=minutes))


def test_the_day_is_the_latest_whose_hour_has_come():
    before, after = datetime(2026, 11, 28, 7, 59, tzinfo=UTC), datetime(2026, 11, 28, 8, tzinfo=UTC)
    yesterday, today = date(2026, 11, 27), date(2026, 11, 28)

    assert due_days(BERLIN, 9, None, before) is None, "who was just switched on waits for the first hour"
    assert due_days(BERLIN, 9, None, after).day == today
    assert due_days(BERLIN, 9, yesterday - DAY, before).day == yesterday
    assert due_days(BERLIN, 9, yesterday, before) is None
    assert due_days(BERLIN, 9, yesterday, after).day == today
    assert due_days(BERLIN, 9, yesterday, after).began_at == after
    assert due_days(BERLIN, 9, today, after) is None


def test_skipped_days_are_named_but_not_for_ever():
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)

    assert due_days(BERLIN, 9, date(2026, 11, 25), now).skipped == (date(2026, 11, 26), date(2026, 11, 27))
    assert len(due_days(BERLIN, 9, date(2025, 1, 1), now).skipped) == EXPLAINED_DAYS
    assert due_days(BERLIN, 9, None, now).skipped == ()


@given(st.sampled_from(ZONES), st.integers(0, 23), MOMENTS, st.lists(st.integers(1, 60 * 60), max_size=40))
def test_whenever_it_is_looked_each_day_is_begun_or_skipped_once_in_order(zone, hour, now, minutes):
    seen, last_on = [], None
    for step in minutes:
        now += timedelta(minutes=step)
        due = due_days(ZoneInfo(zone), hour, last_on, now)
        if due is None:
            continue
        assert due.began_at <= now < hour_of(ZoneInfo(zone), due.day + DAY, hour)
        seen += [*due.skipped, due.day]
        last_on = due.day

    assert seen == [seen[0] + number * DAY for number in range(len(seen))]


@given(st.sampled_from(ZONES), st.sampled_from(ZONES), st.integers(0, 23), MOMENTS)
def test_after_a_move_no_day_is_begun_again(before, after, hour, now):
    first = due_days(ZoneInfo(before), hour, None, now)
    assume(first is not None)

    due = due_days(ZoneInfo(after), hour, first.day, now)

    assert due is None or due.day > first.day


@given(st.sampled_from(list(Mode)), st.sampled_from(list(Mode)))
def test_a_chain_may_do_the_lesser_of_both_modes(began, now):
    assert lesser(began, now) == lesser(now, began)
    assert Mode.OFF not in (began, now) or lesser(began, now) is Mode.OFF
    assert lesser(began, now) is not Mode.AUTO or began is now is Mode.AUTO

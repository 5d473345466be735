"""A bucket never lets more through than its rate, whoever comes when; and whoever was promised a moment gets it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.queue.rate import Bucket, Draw, Rate, draw, draw_all, fresh, hold_off

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RATES = st.builds(Rate, st.integers(1, 20).map(lambda n: n * SECOND), st.integers(1, 5))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@given(RATES, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3), st.booleans()), max_size=60))
def test_no_stretch_of_time_sees_more_than_burst_and_rate(rate: Rate, comings: list[tuple[int, int, bool]]) -> None:
    bucket, now, taken = fresh(NOON), NOON, []
    for pause, cost, promised in comings:
        now += pause * SECOND
        bucket, come_back = draw(bucket, rate, now, cost=cost, promised=promised)
        if come_back is None:
            taken.append((now, cost))
        else:
            assert come_back > now
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            total = sum(cost for _, cost in taken[first : last + 1])
            # One draw that is dearer than the burst is let through from a full bucket, and made up for afterwards.
            most = max(rate.burst, *(cost for _, cost in taken[first : last + 1]))
            assert total * rate.every <= (taken[last][0] - taken[first][0]) + (most + 2) * rate.every


@given(RATES, st.integers(1, 40))
def test_a_crowd_comes_back_one_by_one_and_everyone_is_served_at_once_then(rate: Rate, crowd: int) -> None:
    bucket, promises = fresh(NOON), []
    for _ in range(crowd):
        bucket, come_back = draw(bucket, rate, NOON)
        if come_back is not None:
            promises.append(come_back)
    assert len(promises) == max(0, crowd - rate.burst)
    assert promises == [NOON + rate.every * (n + 1) for n in range(len(promises))]
    for moment in promises:
        bucket, come_back = draw(bucket, rate, moment, promised=True)
        assert come_back is None


def test_newcomers_wait_behind_those_who_were_promised() -> None:
    rate = Rate(SECOND)
    bucket, _ = draw(fresh(NOON), rate, NOON)
    bucket, promise = draw(bucket, rate, at(0.1))
    assert promise == at(1)
    bucket, newcomer = draw(bucket, rate, at(1))
    assert newcomer is None or newcomer > at(1)
    _, kept = draw(Bucket(at(1), at(2)), rate, at(1.5))
    assert kept == at(3)


def test_a_closed_bucket_lets_nobody_through_before_it_opens() -> None:
    rate = Rate(SECOND, burst=5)
    bucket = hold_off(fresh(NOON), at(60))
    bucket, come_back = draw(bucket, rate, at(1))
    assert come_back == at(60)
    bucket, second = draw(bucket, rate, at(1))
    assert second == at(61)
    assert hold_off(bucket, at(30)).closed_until == at(60)
    _, now_open = draw(bucket, rate, at(60), promised=True)
    assert now_open is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=30))
def test_of_several_buckets_all_are_drawn_from_or_none(comings: list[tuple[int, int, int, bool]]) -> None:
    rates = {"account": Rate(SECOND, burst=3), "app": Rate(2 * SECOND, burst=4)}
    buckets, now = dict.fromkeys(rates, fresh(NOON)), NOON
    for pause, one, other, promised in comings:
        now += pause * SECOND
        draws = [Draw("account", rates["account"], one), Draw("app", rates["app"], other)]
        alone = {
            each.bucket: draw(buckets[each.bucket], each.rate, now, cost=each.cost, promised=promised) for each in draws
        }
        changed, come_back = draw_all(buckets, draws, now, promised=promised)
        refused = {name: bucket for name, (bucket, moment) in alone.items() if moment is not None}
        assert changed == (refused or {name: bucket for name, (bucket, _) in alone.items()})
        assert come_back == max((moment for _, moment in alone.values() if moment is not None), default=None)
        buckets |= changed


def test_whoever_holds_a_bucket_off_comes_back_first_and_the_others_one_by_one() -> None:
    rate = Rate(20 * SECOND, burst=1000)
    bucket = hold_off(fresh(NOON), at(60), returns=True)
    bucket, second = draw(bucket, rate, at(1))
    bucket, third = draw(bucket, rate, at(2), promised=True)
    assert (second, third) == (at(80), at(100))
    bucket, newcomer = draw(bucket, rate, at(61))
    assert newcomer == at(120)
    _, first = draw(bucket, rate, at(60), promised=True)
    assert first is None


@pytest.mark.parametrize("bad", [{"every": timedelta(0)}, {"every": SECOND, "burst": 0}])
def test_a_rate_that_means_nothing_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="positive interval"):
        Rate(**bad)  # type: ignore[arg-type]


@given(RATES, st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40), st.integers(1, 4))
def test_who_leaves_a_spare_takes_nothing_of_it_and_lets_nobody_wait(
    rate: Rate, comings: list[tuple[int, bool]], spare: int
) -> None:
    bucket, now = fresh(NOON), NOON
    for pause, spares in comings:
        now += pause * SECOND
        before = bucket
        bucket, come_back = draw(bucket, rate, now, spare=spare if spares else 0)
        if spares and come_back is not None:
            assert bucket == before
            assert come_back > now
        elif spares and rate.burst > spare:
            assert draw(bucket, rate, now, cost=spare)[1] is None

"""Series: what was counted by the minute and the hour; where nobody looked is a gap."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from db.transaction import SYSTEM
from domain.ops.metrics import METRICS, Kind, percentile
from workers.app import App
from workers.ops.series import HOUR, MINUTE, Step, WrongSpan, series, series_by

SENT, WAIT, AGE = "viral_webhooks_total", "viral_job_wait_seconds", "viral_queue_oldest_due_age_seconds"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def put(
    app: App,
    name: str,
    at: datetime,
    value: float,
    *,
    step: str = "minute",
    buckets: list[int] | None = None,
    **labels: str,
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO system_metrics (name, labels, value, buckets, step, at)"
            " VALUES (%s, %s::jsonb, %s, %s, %s, %s)",
            (
                name,
                "{" + ", ".join(f'"{k}": "{v}"' for k, v in labels.items()) + "}",
                Decimal(str(value)),
                buckets,
                step,
                at,
            ),
        )


def test_a_minute_in_which_nobody_looked_is_a_gap_and_one_without_cases_a_zero(app: App) -> None:
    for minute in (0, 1, 2, 5):
        put(app, "sampled", NOON + minute * MINUTE, 60)
    put(app, SENT, NOON + MINUTE, 3, source="stripe", outcome="accepted")
    put(app, SENT, NOON + MINUTE, 2, source="clerk", outcome="accepted")
    put(app, SENT, NOON + 4 * MINUTE, 7, source="stripe", outcome="accepted")
    with app.db.transaction(SYSTEM) as tx:
        both = series(tx, SENT, since=NOON + timedelta(seconds=20), until=NOON + 6 * MINUTE)
        stripe = series(tx, SENT, {"source": "stripe"}, since=NOON, until=NOON + 2 * MINUTE)
        split = series_by(tx, SENT, "source", since=NOON, until=NOON + 2 * MINUTE)
    assert both.values == [0, 5, 0, None, 7, 0]
    assert stripe.values == [0, 3]
    assert {name: each.values for name, each in split.items()} == {"clerk": [0, 2], "stripe": [0, 3]}
    assert (both.total, both.rates()[1]) == (12, 5 / 60)


def test_a_sample_holds_for_as_long_as_it_says(app: App) -> None:
    """While nothing changes a scheduler samples seldom: what it saw is still so."""
    put(app, "sampled", NOON, 300)
    put(app, AGE, NOON, 40, queue="default")
    put(app, AGE, NOON, 9, queue="events")
    put(app, "sampled", NOON + 7 * MINUTE, 60)
    with app.db.transaction(SYSTEM) as tx:
        found = series(tx, AGE, since=NOON - MINUTE, until=NOON + 9 * MINUTE)
    assert found.values == [None, 40, 40, 40, 40, 40, None, None, 0, None]


def test_percentiles_are_read_from_buckets(app: App) -> None:
    bounds = METRICS[WAIT].buckets
    buckets = [0] * (len(bounds) + 1)
    buckets[3] = 90  # 0.1 to 0.25 s
    buckets[-1] = 10
    put(app, "sampled", NOON, 60)
    put(app, WAIT, NOON, 100, buckets=buckets, queue="default")
    with app.db.transaction(SYSTEM) as tx:
        found = series(tx, WAIT, since=NOON, until=NOON + 2 * MINUTE)
    assert found.points[0].cases == 100
    assert found.percentiles(0.45) == [pytest.approx(0.175), None]
    assert found.percentile(0.99) == bounds[-1]
    assert percentile([0, 4], [1.0], 0.5) == 1.0
    assert percentile([], [1.0], 0.5) is None


def test_hours_are_the_sum_of_their_minutes_and_the_hour_that_runs_is_there_too(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        hour = tx.now().replace(minute=0, second=0, microsecond=0)
    buckets = [1] + [0] * len(METRICS[WAIT].buckets)
    for minute in (-61, -60, -1, 0):
        at = hour + minute * MINUTE
        put(app, "sampled", at, 60)
        put(app, SENT, at, 2, source="stripe", outcome="accepted")
        put(app, WAIT, at, 0.5, buckets=buckets, queue="default")
        put(app, AGE, at, 10 + minute, queue="default")
    names = [name for name, each in METRICS.items() if each.kind is not Kind.GAUGE or each.sampled]
    gauges = [name for name, each in METRICS.items() if each.kind is Kind.GAUGE]
    found = []
    for rolled in (False, True, True):
        with app.db.transaction(SYSTEM) as tx:
            if rolled:
                tx.series.roll_up(names, gauges, hour - 48 * HOUR)
            hours = {
                name: series(tx, name, since=hour - 3 * HOUR, until=hour + HOUR, step=Step.HOUR)
                for name in (SENT, AGE, WAIT)
            }
        found.append(({name: each.values for name, each in hours.items()}, [each.cases for each in hours[WAIT].points]))
    assert found[0] == found[1] == found[2]
    assert found[0] == ({SENT: [None, 2, 4, 2], AGE: [None, -51, 9, 10], WAIT: [None, 0.5, 1.0, 0.5]}, [0, 1, 2, 1])


def test_what_cannot_be_asked_is_refused(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        for name, labels in (("nothing", {}), (SENT, {"tenant": "x"})):
            with pytest.raises(KeyError):
                series(tx, name, labels, since=NOON, until=NOON + MINUTE)
        for until in (NOON, NOON - HOUR, NOON + timedelta(days=3000)):
            with pytest.raises(WrongSpan):
                series(tx, SENT, since=NOON, until=until)

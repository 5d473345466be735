"""A new period begins for whom one is due, once, on the right date, however late anybody asks."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.quota.quota import add_months, first_period, reserve
from tests.builders import NOV_22, a_tenant, job_row, tenant
from tests.drain import drain
from workers.app import App
from workers.jobs.quota import TENANTS_PER_TRANSACTION, reset_due

JAN_31 = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def month(n: int) -> datetime:
    return add_months(NOV_22, n)


def at(app: App, now: datetime) -> App:
    return replace(app, clock=lambda: now)


def run(app: App, now: datetime) -> UUID:
    """The hourly fire's job, at this moment. Returns its id."""
    with app.db.transaction(SYSTEM) as tx:
        job_id = reset_due.enqueue(tx)
    assert drain(at(app, now)) == 1
    assert job_row(app, job_id)["status"] == "completed"
    return job_id


def period(app: App, tenant_id: UUID) -> tuple[int, datetime, datetime]:
    row = tenant(app, tenant_id)
    return row["used_quota"], row["quota_period_start"], row["quota_reset_at"]


def resets(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        return [entry for entry in tx.quota.ledger(tenant_id) if entry["kind"] == "reset"]


def test_a_period_that_is_due_begins_with_nothing_used(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=9)
    job_id = run(app, month(1))
    assert period(app, tenant_id) == (0, month(1), month(2))
    assert job_row(app, job_id)["result"] == {"reset": 1}
    [entry] = resets(app, tenant_id)
    columns = [entry[name] for name in ("kind", "amount", "used_after", "quota_after", "period_start", "cause")]
    assert columns == ["reset", -9, 0, 10, month(1), f"job:{job_id}"]


def test_a_period_that_is_not_due_is_left_alone(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=9)
    job_id = run(app, month(1) - SECOND)
    assert period(app, tenant_id) == (9, month(0), month(1))
    assert job_row(app, job_id)["result"] == {"reset": 0}
    assert resets(app, tenant_id) == []


def test_asked_again_nothing_changes(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=9)
    run(app, month(1))
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, UUID(int=1), 3, month(1))
    run(app, month(1))
    run(app, month(2) - SECOND)
    assert period(app, tenant_id) == (3, month(1), month(2))
    assert len(resets(app, tenant_id)) == 1


def test_after_three_months_outage_one_reset_lands_on_the_right_date(app: App) -> None:
    tenant_id = a_tenant(app, created_at=JAN_31, used_quota=9)
    run(app, datetime(2026, 5, 15, tzinfo=UTC))
    april, may = datetime(2026, 4, 30, 9, 30, tzinfo=UTC), datetime(2026, 5, 31, 9, 30, tzinfo=UTC)
    assert period(app, tenant_id) == (0, april, may)
    assert len(resets(app, tenant_id)) == 1


def test_a_paid_month_waits_for_its_invoice(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=9, quota_paid_until=month(1), subscription_tier="PRO", monthly_quota=50)
    for late in (month(1), month(1) + timedelta(days=20), month(4)):
        run(app, late)
    assert period(app, tenant_id) == (9, month(0), month(1))
    with app.db.transaction(SYSTEM) as tx:
        quota = tx.quota.lock(tenant_id)
        tx.quota.write(tenant_id, quota, replace(quota, paid_until=month(2)), "grant", "person:test")
    run(app, month(1) + timedelta(days=20))
    assert period(app, tenant_id) == (0, month(1), month(2))


def test_an_annual_plan_walks_by_months_to_the_end_of_what_is_paid(app: App) -> None:
    tenant_id = a_tenant(app, quota_paid_until=month(12))
    starts = []
    for n in range(1, 15):
        run(app, month(n) + timedelta(hours=1))
        starts.append(period(app, tenant_id)[1])
    assert starts == [month(n) for n in range(1, 12)] + [month(11)] * 3
    assert period(app, tenant_id)[2] == month(12)


def test_an_outage_over_the_end_of_what_is_paid_begins_the_last_paid_month_only(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=9, quota_paid_until=month(3))
    run(app, month(6))
    assert period(app, tenant_id) == (0, month(2), month(3))


# --- many ---------------------------------------------------------------------------------------------------


def a_crowd(app: App, count: int) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO tenants (name, used_quota, quota_anchor, quota_period_start, quota_reset_at) "
            "SELECT n::text, 5, %(start)s, %(start)s, %(end)s FROM generate_series(1, %(count)s) AS n",
            {"start": month(0), "end": month(1), "count": count},
        )


def crowd(app: App) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute(
            """
            SELECT (SELECT count(*) FROM tenants WHERE used_quota = 0 AND quota_period_start = %s),
                   (SELECT count(*) FROM tenants),
                   (SELECT count(*) FROM quota_ledger WHERE kind = 'reset'),
                   (SELECT count(DISTINCT tenant_id) FROM quota_ledger WHERE kind = 'reset'),
                   (SELECT array_agg(n ORDER BY n) FROM (SELECT count(*) AS n FROM tenants GROUP BY updated_at) AS c)
            """,
            (month(1),),
        ).fetchone()
    assert row is not None
    return dict(zip(("reset", "tenants", "ledger", "in_ledger", "chunks"), row, strict=True))


@pytest.mark.proof
def test_many_are_reset_in_chunks_each_a_commit_of_its_own(app: App) -> None:
    a_crowd(app, 2400)
    job_id = run(app, month(1))
    assert job_row(app, job_id)["result"] == {"reset": 2400}
    assert TENANTS_PER_TRANSACTION == 1000
    assert crowd(app) == {
        "reset": 2400,
        "tenants": 2400,
        "ledger": 2400,
        "in_ledger": 2400,
        "chunks": [400, 1000, 1000],
    }


def test_jobs_that_run_at_once_reset_everybody_once(app: App) -> None:
    a_crowd(app, 2400)
    with app.db.transaction(SYSTEM) as tx:
        ids = [reset_due.enqueue(tx) for _ in range(2)]
    start = threading.Barrier(2)

    def work(job_id: UUID) -> None:
        runner = at(app, month(1)).runner()
        start.wait()
        runner.run_one(job_id)

    threads = [threading.Thread(target=work, args=(job_id,)) for job_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [job_row(app, job_id) for job_id in ids]
    assert [row["status"] for row in rows] == ["completed", "completed"]
    assert sum(row["result"]["reset"] for row in rows) == 2400
    found = crowd(app)
    assert (found["reset"], found["ledger"], found["in_ledger"]) == (2400, 2400, 2400)


def test_a_tenant_in_use_is_not_waited_for_and_has_their_turn_the_next_time(app: App) -> None:
    busy, idle = a_tenant(app, used_quota=4), a_tenant(app, used_quota=4)
    with app.db.separate().transaction(busy) as tx:
        tx.quota.lock(busy)
        run(app, month(1))
    assert [period(app, busy)[0], period(app, idle)[0]] == [4, 0]
    run(app, month(1) + timedelta(hours=1))
    assert period(app, busy) == (0, month(1), month(2))


def test_a_crash_after_the_first_chunk_loses_none_and_resets_none_twice(app: App) -> None:
    """The clock breaks after the first chunk; the retry does the rest."""
    a_crowd(app, 1400)
    answers = [month(1)]
    with app.db.transaction(SYSTEM) as tx:
        job_id = reset_due.enqueue(tx)
    replace(app, clock=answers.pop).runner().run_one(job_id)
    assert crowd(app)["reset"] == 1000
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now()")
    at(app, month(1)).runner().run_one(job_id)
    assert job_row(app, job_id)["status"] == "completed"
    found = crowd(app)
    assert (found["reset"], found["ledger"], found["in_ledger"]) == (1400, 1400, 1400)


@pytest.mark.parametrize("now", [month(1), month(1) + timedelta(days=3)])
def test_what_the_job_does_is_what_a_consumer_would_have_done(app: App, now: datetime) -> None:
    tenant_id = a_tenant(app, used_quota=9)
    by_consumer, _ = reserve(replace(first_period(10, month(0)), used=9), 1, now)
    run(app, now)
    with app.db.transaction(tenant_id) as tx:
        assert tx.quota.lock(tenant_id) == replace(by_consumer, used=0)

"""The quota ledger: what is used is what its entries say, whoever writes and in whatever order."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.errors import QuotaExceeded
from domain.quota import quota
from domain.quota.quota import Quota
from tests.builders import NOV_22, a_tenant, tenant
from workers.app import App

HOUR = timedelta(hours=1)
DEC_22 = datetime(2026, 12, 22, 12, tzinfo=UTC)


def entries(app: App, tenant_id: UUID) -> list[tuple[str, int, int]]:
    """Kind, amount and what was used after it, oldest first."""
    with app.db.transaction(tenant_id) as tx:
        return [(row["kind"], row["amount"], row["used_after"]) for row in reversed(tx.quota.ledger(tenant_id, 100))]


def disagreeing(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return tx.health.violations("what a tenant has used is what the ledger says")


def used(app: App, tenant_id: UUID) -> int:
    return int(tenant(app, tenant_id)["used_quota"])


# --- holds --------------------------------------------------------------------------------------------------


def test_a_hold_is_taken_once_and_closed_once(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    for _ in range(2):
        with app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, job_id, 5, NOV_22)
    assert used(app, tenant_id) == 5
    for close in ("settle", "release"):
        with app.db.transaction(tenant_id) as tx:
            getattr(tx.quota, close)(tenant_id, job_id, *([3] if close == "settle" else []))
    assert entries(app, tenant_id) == [("hold", 5, 5), ("settle", -2, 3)]
    assert (used(app, tenant_id), disagreeing(app)) == (3, 0)


def test_a_job_that_fails_gives_all_of_it_back(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, NOV_22)
        tx.quota.release(tenant_id, job_id)
        tx.quota.release(tenant_id, uuid4())
    assert entries(app, tenant_id) == [("hold", 5, 5), ("release", -5, 0)]


def test_a_job_that_failed_and_is_run_again_pays_again(app: App) -> None:
    """`viral jobs retry` runs the same job."""
    tenant_id, job_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, NOV_22)
        tx.quota.release(tenant_id, job_id)
    for _ in range(2):
        with app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, job_id, 4, NOV_22 + HOUR)
    with app.db.transaction(tenant_id) as tx:
        tx.quota.settle(tenant_id, job_id, 4)
    assert entries(app, tenant_id) == [("hold", 5, 5), ("release", -5, 0), ("hold", 4, 4), ("settle", 0, 4)]
    assert (used(app, tenant_id), disagreeing(app)) == (4, 0)


def test_a_job_that_holds_nothing_cannot_settle(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    with pytest.raises(LookupError, match=f"job {job_id} holds no concepts"), app.db.transaction(tenant_id) as tx:
        tx.quota.settle(tenant_id, job_id, 1)


def test_what_is_not_there_cannot_be_held(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=8)
    with pytest.raises(QuotaExceeded, match="3 concepts asked for, 2 of 10 left"), app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, uuid4(), 3, NOV_22)
    assert entries(app, tenant_id) == [("adjust", 8, 8)]


def test_however_many_hold_at_once_no_more_is_given_than_there_is(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=3, monthly_quota=10)
    granted: list[UUID] = []

    def consume() -> None:
        for _ in range(5):
            try:
                with app.db.transaction(tenant_id) as tx:
                    tx.quota.hold(tenant_id, uuid4(), 1, NOV_22)
                granted.append(tenant_id)
            except QuotaExceeded:
                pass

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(granted), used(app, tenant_id), disagreeing(app)) == (7, 10, 0)


def test_a_hold_of_the_month_before_is_given_back_to_that_month(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, DEC_22 - HOUR)
        tx.quota.hold(tenant_id, uuid4(), 2, DEC_22)
        tx.quota.release(tenant_id, job_id)
    assert entries(app, tenant_id) == [("hold", 5, 5), ("reset", -5, 0), ("hold", 2, 2), ("release", -5, 2)]
    assert (used(app, tenant_id), disagreeing(app)) == (2, 0)


def test_a_fresh_count_survives_the_month_that_is_due_and_what_is_told_of_it(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, tx.now())
    with app.db.transaction(tenant_id) as tx:
        before, after = tx.quota.restart(tenant_id, "person:ada")
    assert (before.used, after.used, after.resets_at) == (5, 0, before.resets_at)
    with app.db.transaction(tenant_id) as tx:
        tx.quota.release(tenant_id, job_id)
        tx.quota.hold(tenant_id, uuid4(), 2, tx.now())
    assert (used(app, tenant_id), disagreeing(app)) == (2, 0)
    assert reset_due(app, after.resets_at) == 1
    assert (used(app, tenant_id), disagreeing(app)) == (0, 0)


def test_many_are_held_for_at_once_and_what_has_to_be_decided_is_left(app: App) -> None:
    plain, spent, due, again = (a_tenant(app, **columns) for columns in ({}, {"used_quota": 9}, {}, {}))
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET quota_reset_at = %s WHERE id = %s", (NOV_22, due))
    jobs = {tenant_id: (uuid4(), 2) for tenant_id in (plain, spent, due, again)}
    with app.db.transaction(again) as tx:
        tx.quota.hold(again, jobs[again][0], 3, NOV_22)
    for held in (1, 0):
        with app.db.transaction(SYSTEM) as tx:
            assert tx.quota.hold_many(jobs, NOV_22) == held
    assert [used(app, each) for each in (plain, spent, due, again)] == [2, 9, 0, 3]
    with app.db.transaction(plain) as tx:
        tx.quota.hold(plain, jobs[plain][0], 2, NOV_22)
        tx.quota.settle(plain, jobs[plain][0], 1)
    assert entries(app, plain) == [("hold", 2, 2), ("settle", -1, 1)]
    assert disagreeing(app) == 0


def test_holds_of_many_and_of_one_at_once_take_no_more_than_there_is(app: App) -> None:
    crowd = [a_tenant(app, monthly_quota=7) for _ in range(3)]

    def take(n: int) -> int:
        if n % 2:
            with app.db.transaction(SYSTEM) as tx:
                return tx.quota.hold_many({each: (uuid4(), 1) for each in crowd}, NOV_22)
        granted = 0
        for each in crowd:
            with suppress(QuotaExceeded), app.db.transaction(each, pipelined=True) as tx:
                tx.quota.hold(each, uuid4(), 1, NOV_22)
                granted += 1
        return granted

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(take, range(16))) == 21
    assert ([used(app, each) for each in crowd], disagreeing(app)) == ([7, 7, 7], 0)


# --- the ledger ---------------------------------------------------------------------------------------------


def test_nobody_changes_what_is_written(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=1)
    for statement in ("UPDATE quota_ledger SET amount = 0", "DELETE FROM quota_ledger", "TRUNCATE quota_ledger"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.db.transaction(tenant_id) as tx:
            tx.driver.execute(statement)  # type: ignore[call-overload]


def test_what_another_program_writes_by_plain_sql_is_entered(app: App, owner_url: str) -> None:
    tenant_id = a_tenant(app, used_quota=4)
    with psycopg.connect(owner_url) as dashboard:
        dashboard.execute("UPDATE tenants SET used_quota = used_quota + 1")
        dashboard.execute("UPDATE tenants SET used_quota = used_quota + 1, name = 'Ada'")
        who = dashboard.info.user
    assert entries(app, tenant_id) == [("adjust", 4, 4), ("adjust", 2, 6)]
    with app.db.transaction(tenant_id) as tx:
        assert tx.quota.ledger(tenant_id)[0]["cause"] == f"sql:{who}"
    assert disagreeing(app) == 0


def test_a_disagreement_is_found(app: App, owner_url: str) -> None:
    tenant_id = a_tenant(app, used_quota=4)
    with psycopg.connect(owner_url) as owner:
        owner.execute("UPDATE quota_ledger SET amount = 3 WHERE tenant_id = %s", (tenant_id,))
    assert disagreeing(app) == 1


# --- many resets --------------------------------------------------------------------------------------------


def reset_due(app: App, now: datetime, limit: int = 100) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return tx.quota.reset_due(now, limit, "job:test")


def test_the_longest_overdue_are_reset_first(app: App) -> None:
    yesterday = a_tenant(app, quota_reset_at=DEC_22 - 24 * HOUR, used_quota=1)
    today = a_tenant(app, quota_reset_at=DEC_22, used_quota=1)
    tomorrow = a_tenant(app, quota_reset_at=DEC_22 + timedelta(microseconds=1), used_quota=1)
    assert reset_due(app, DEC_22, limit=1) == 1
    assert [used(app, each) for each in (yesterday, today, tomorrow)] == [0, 1, 1]
    assert (reset_due(app, DEC_22), reset_due(app, DEC_22)) == (1, 0)
    assert [used(app, each) for each in (yesterday, today, tomorrow)] == [0, 0, 1]


YEAR = 365 * 24 * 3600
MOMENTS = st.integers(0, 6 * YEAR).map(lambda seconds: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
# Month ends, leap days, and moments a microsecond beside a boundary, which free choice would hardly ever hit.
ANCHORS = MOMENTS | st.sampled_from([datetime(2024, month, day, 9, 30, tzinfo=UTC)
                                     for month, day in ((1, 31), (2, 29), (3, 30), (12, 31))])  # fmt: skip


@st.composite
def overdue(draw: st.DrawFn) -> tuple[Quota, datetime]:
    anchor = draw(ANCHORS)
    start = quota.add_months(anchor, draw(st.integers(-3, 30)))
    resets_at = (
        quota.next_reset(anchor, start) if draw(st.booleans()) else start + draw(st.timedeltas(HOUR, 40 * 24 * HOUR))
    )
    beside = st.sampled_from([timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)])
    boundary = st.integers(-1, 14).map(lambda n: quota.add_months(resets_at, n))
    now = draw(st.builds(lambda at, by: at + by, boundary, beside) | MOMENTS)
    paid_until = draw(st.none() | st.builds(lambda at, by: at + by, boundary, beside) | MOMENTS)
    restarted_at = draw(st.none() | st.builds(lambda at, by: at + by, boundary, beside) | MOMENTS)
    return Quota(10, 7, anchor, start, resets_at, paid_until, restarted_at, granted=draw(st.integers(-5, 5))), now


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(overdue(), min_size=1, max_size=20))
def test_the_reset_in_sql_is_the_rule(app: App, cases: list[tuple[Quota, datetime]]) -> None:
    for before, now in cases:
        with app.db.transaction(SYSTEM) as tx:
            tenant_id = uuid4()
            tx.tenants.create(tenant_id, "Ada", before)
            tx.quota.reset_due(now, 1000, "job:test")
            found = tx.quota.lock(tenant_id)
            tx.driver.rollback()
        # What another program wrote into `used_quota`, as here, is entered only at the commit.
        assert replace(found, used=0) == replace(quota.reset(before, now), used=0), (before, now)


# --- the triggers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 2])
def test_less_used_by_plain_sql_is_a_fresh_count_into_which_nothing_old_is_given_back(
    app: App, owner_url: str, left: int
) -> None:
    tenant_id, job_id = a_tenant(app, created_at=datetime.now(UTC)), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, tx.now())
    with psycopg.connect(owner_url) as connection:
        connection.execute("UPDATE tenants SET used_quota = %s", (left,))
    with app.db.transaction(tenant_id) as tx:
        tx.quota.release(tenant_id, job_id)
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, uuid4(), 3, tx.now())
    assert (used(app, tenant_id), disagreeing(app)) == (left + 3, 0)


def test_the_ledger_is_told_whatever_scope_the_transaction_ends_in(app: App) -> None:
    """Jobs may share a commit (docs/decisions/0007): the last one's scope is that of the triggers."""
    tenant_id, other = a_tenant(app), a_tenant(app)
    with app.db.transaction(tenant_id) as tx:
        tx.driver.execute("UPDATE tenants SET used_quota = 2 WHERE id = %s", (tenant_id,))
        tx.work_as(other)
    assert entries(app, tenant_id) == [("adjust", 2, 2)]


def test_an_entry_that_does_not_agree_with_the_count_is_refused(app: App, owner_url: str) -> None:
    a_tenant(app)
    with psycopg.connect(owner_url, autocommit=True) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause) "
            "SELECT id, 'adjust', 4, 4, 10, now(), 'person:x' FROM tenants"
        )


def test_a_long_ledger_makes_no_hold_slower(app: App, owner_url: str) -> None:
    """Of a tenant's entries the triggers read the last; Postgres, which expects few of them, would sort them all."""
    tenant_id = a_tenant(app, monthly_quota=1000)
    with psycopg.connect(owner_url) as owner:
        owner.execute(
            "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause) "
            "SELECT id, 'grant', 0, 0, 1000, now(), 'person:x' FROM tenants, generate_series(1, 500)"
        )
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, uuid4(), 1, NOV_22)
        tx.driver.execute("SET CONSTRAINTS ALL IMMEDIATE")
        [(read,)] = tx.driver.execute(
            "SELECT pg_stat_get_xact_tuples_returned('quota_ledger'::regclass)"
            " + pg_stat_get_xact_tuples_fetched('quota_ledger'::regclass)"
        ).fetchall()
    assert read < 50

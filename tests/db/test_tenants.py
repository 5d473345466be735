"""Tenants as rows: what is locked, what is written only if nobody was faster, and what is found."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.transaction import SYSTEM
from domain import quota
from domain.billing import TenantBilling, Tier
from domain.errors import QuotaExceeded, UnknownTenant
from domain.quota import Quota
from tests.builders import NOV_22, a_tenant, tenant
from workers.app import App

HOUR = timedelta(hours=1)
DEC_22 = datetime(2026, 12, 22, 12, tzinfo=UTC)

# --- who ----------------------------------------------------------------------------------------------------


def test_a_new_tenant_has_the_quota_that_it_was_given(app: App) -> None:
    tenant_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.create(tenant_id, "Ada", quota.begin(10, NOV_22))
        assert tx.tenants.lock_quota(tenant_id) == quota.begin(10, NOV_22)
    row = tenant(app, tenant_id)
    assert (row["name"], row["subscription_tier"], row["created_at"]) == ("Ada", "FREE", NOV_22)


def test_a_tenant_that_does_not_exist_is_named(app: App) -> None:
    nobody = uuid4()
    for look in ("get", "lock_quota", "lock_plan"):
        with pytest.raises(UnknownTenant, match=str(nobody)), app.db.transaction(SYSTEM) as tx:
            getattr(tx.tenants, look)(nobody)


def test_lists_are_newest_first_and_filtered(app: App) -> None:
    for n, (name, tier) in enumerate([("Ada", "FREE"), ("Bob_1", "PRO"), ("Bobx1", "PRO"), ("100 %", "STARTER")]):
        a_tenant(app, name=name, subscription_tier=tier, created_at=NOV_22 + n * HOUR)

    def names(**wanted: Any) -> list[str]:
        with app.db.transaction(SYSTEM) as tx:
            return [row["name"] for row in tx.tenants.recent(**wanted)]

    assert names() == ["100 %", "Bobx1", "Bob_1", "Ada"]
    assert names(limit=1) == ["100 %"]
    assert names(tier="PRO") == ["Bobx1", "Bob_1"]
    assert names(search="bOB") == ["Bobx1", "Bob_1"]
    assert names(search="b_1") == ["Bob_1"]
    assert names(search="%") == ["100 %"]
    assert names(search="bob", tier="FREE") == []


def test_a_name_that_somebody_chose_is_not_changed(app: App) -> None:
    tenant_id, other = a_tenant(app, name="old@example.com"), a_tenant(app, name="old@example.com")
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.rename(tenant_id, was="old@example.com", name="new@example.com")
        tx.tenants.rename(tenant_id, was="old@example.com", name="never@example.com")
    assert tenant(app, tenant_id)["name"] == "new@example.com"
    assert tenant(app, other)["name"] == "old@example.com"


# --- quota --------------------------------------------------------------------------------------------------


def test_a_quota_is_read_as_it_was_written(app: App) -> None:
    tenant_id = a_tenant(app)
    changed = Quota(50, 7, NOV_22, NOV_22 + HOUR, DEC_22, paid_until=DEC_22 + HOUR)
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.save_quota(tenant_id, changed)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.tenants.lock_quota(tenant_id) == changed


def test_however_many_reserve_at_once_no_more_is_given_than_there_is(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=3, monthly_quota=10)
    given: list[UUID] = []

    def consume() -> None:
        for _ in range(5):
            try:
                with app.db.transaction(tenant_id) as tx:
                    held, _ = quota.reserve(tx.tenants.lock_quota(tenant_id), 1, NOV_22)
                    tx.tenants.save_quota(tenant_id, held)
                given.append(tenant_id)
            except QuotaExceeded:
                pass

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 7
    assert tenant(app, tenant_id)["used_quota"] == 10


def due(app: App, now: datetime, limit: int = 10) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        return [tenant_id for tenant_id, _ in tx.tenants.lock_due(now, limit)]


def test_due_are_those_whose_next_period_may_begin_the_longest_overdue_first(app: App) -> None:
    yesterday = a_tenant(app, quota_reset_at=DEC_22 - 24 * HOUR)
    today = a_tenant(app, quota_reset_at=DEC_22)
    a_tenant(app, quota_reset_at=DEC_22 + timedelta(microseconds=1))
    assert due(app, DEC_22) == [yesterday, today]
    assert due(app, DEC_22, limit=1) == [yesterday]


@pytest.mark.parametrize(
    ("resets_at", "paid_until"),
    [
        (DEC_22, None),
        (DEC_22, DEC_22),
        (DEC_22, DEC_22 - HOUR),
        (DEC_22, DEC_22 + timedelta(microseconds=1)),
        (DEC_22 + HOUR, None),
        (DEC_22 + HOUR, DEC_22 + 2 * HOUR),
        (DEC_22 - HOUR, DEC_22),
    ],
)
def test_the_sieve_in_sql_and_the_rule_agree(app: App, resets_at: datetime, paid_until: datetime | None) -> None:
    tenant_id = a_tenant(app, quota_reset_at=resets_at, quota_paid_until=paid_until)
    with app.db.transaction(SYSTEM) as tx:
        is_due = quota.is_due(tx.tenants.lock_quota(tenant_id), DEC_22)
    assert due(app, DEC_22) == ([tenant_id] if is_due else [])


def test_a_reset_is_written_only_over_what_it_was_decided_from(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=4)
    with app.db.transaction(SYSTEM) as tx:
        before = tx.tenants.lock_quota(tenant_id)
        after = quota.reset(before, DEC_22)
        assert tx.tenants.save_resets([(tenant_id, before, after)]) == 1
        assert tx.tenants.save_resets([(tenant_id, before, replace(after, used=9))]) == 0
        assert tx.tenants.save_resets([]) == 0
        assert tx.tenants.lock_quota(tenant_id) == after


def test_the_ledger_keeps_what_changed_and_why(app: App) -> None:
    tenant_id, other = a_tenant(app, used_quota=4), a_tenant(app)
    before = quota.begin(10, NOV_22)
    used = replace(before, used=4)
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.record("hold", "job:1", [(tenant_id, before, used)])
        tx.tenants.record("reset", "job:2", [(tenant_id, used, quota.reset(used, DEC_22)), (other, before, before)])
        tx.tenants.record("reset", "job:3", [])
        entries = tx.tenants.ledger(tenant_id)
        assert len(tx.tenants.ledger(tenant_id, limit=1)) == 1
    told = [(e["kind"], e["amount"], e["used_after"], e["quota_after"], e["period_start"], e["cause"]) for e in entries]
    assert told == [("reset", -4, 0, 10, DEC_22, "job:2"), ("hold", 4, 4, 10, NOV_22, "job:1")]


# --- plan ---------------------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(app: App) -> None:
    tenant_id = a_tenant(app, stripe_customer_id="cus_1")
    paid = Quota(500, 3, NOV_22, NOV_22, DEC_22, paid_until=DEC_22)
    with app.db.transaction(SYSTEM) as tx:
        before = tx.tenants.lock_plan(tenant_id)
        after = replace(before, tier=Tier.AGENCY, status="active", subscription_id="sub_1", quota=paid)
        tx.tenants.save_plan(tenant_id, after)
    assert before == TenantBilling(Tier.FREE, "none", "cus_1", None, quota.begin(10, NOV_22), NOV_22)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.tenants.lock_plan(tenant_id) == after


@pytest.mark.parametrize("lock", ["lock_quota", "lock_plan"])
def test_a_lock_keeps_others_out_until_the_end(app: App, lock: str) -> None:
    tenant_id, other = a_tenant(app), a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        getattr(tx.tenants, lock)(tenant_id)
        with pytest.raises(psycopg.errors.LockNotAvailable), app.db.transaction(tenant_id) as second:
            second.driver.execute("SELECT FROM tenants WHERE id = %s FOR UPDATE NOWAIT", (tenant_id,))
        with app.db.transaction(other) as second:
            second.driver.execute("SELECT FROM tenants WHERE id = %s FOR UPDATE NOWAIT", (other,))


def test_a_customer_is_linked_once_and_to_one_tenant(app: App) -> None:
    tenant_id, other = a_tenant(app), a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.tenants.of_customer("cus_1") is None
        assert tx.tenants.link_customer(tenant_id, "cus_1")
        assert not tx.tenants.link_customer(tenant_id, "cus_2")
        assert not tx.tenants.link_customer(uuid4(), "cus_2")
        assert tx.tenants.of_customer("cus_1") == tenant_id
        assert tx.tenants.of_customer("cus_2") is None
    with pytest.raises(Exception, match="tenants_stripe_customer_id_key"), app.db.transaction(SYSTEM) as tx:
        tx.tenants.link_customer(other, "cus_1")

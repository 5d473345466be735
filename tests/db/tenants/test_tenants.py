"""Tenants as rows: what is locked, what is written only if nobody was faster, and what is found."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import uuid4

import pytest

from db.transaction import SYSTEM, Contended
from domain.billing.plan import TenantBilling
from domain.billing.tiers import Tier
from domain.errors import Conflict, UnknownTenant
from domain.quota import quota
from domain.quota.quota import Quota
from tests.builders import NOV_22, a_tenant, tenant
from workers.app import App

HOUR = timedelta(hours=1)
DEC_22 = datetime(2026, 12, 22, 12, tzinfo=UTC)

# --- who ----------------------------------------------------------------------------------------------------


def test_a_new_tenant_has_the_quota_that_it_was_given(app: App) -> None:
    tenant_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.create(tenant_id, "Ada", quota.first_period(10, NOV_22))
        assert tx.quota.lock(tenant_id) == quota.first_period(10, NOV_22)
    row = tenant(app, tenant_id)
    assert (row["name"], row["subscription_tier"], row["created_at"]) == ("Ada", "FREE", NOV_22)


def test_a_tenant_that_does_not_exist_is_named(app: App) -> None:
    nobody = uuid4()
    for look in ("tenants.get", "plans.lock_one", "quota.lock"):
        with pytest.raises(UnknownTenant, match=str(nobody)), app.db.transaction(SYSTEM) as tx:
            attrgetter(look)(tx)(nobody)


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


# --- plan ---------------------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(app: App) -> None:
    tenant_id = a_tenant(app, stripe_customer_id="cus_1")
    paid = Quota(500, 3, NOV_22, NOV_22, DEC_22, paid_until=DEC_22)
    with app.db.transaction(SYSTEM) as tx:
        before = tx.plans.lock_one(tenant_id)
        after = replace(before, tier=Tier.AGENCY, status="active", subscription_id="sub_1", quota=paid)
        tx.plans.save({tenant_id: after})
    assert before == TenantBilling(Tier.FREE, "none", "cus_1", None, quota.first_period(10, NOV_22), NOV_22)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.plans.lock_one(tenant_id) == after


@pytest.mark.parametrize("lock", ["quota.lock", "plans.lock_one"])
def test_a_lock_keeps_others_out_until_the_end(app: App, lock: str) -> None:
    tenant_id, other = a_tenant(app), a_tenant(app)
    others = app.db.separate()
    with app.db.transaction(SYSTEM) as tx:
        attrgetter(lock)(tx)(tenant_id)
        with pytest.raises(Contended), others.transaction(tenant_id) as second:
            second.driver.execute("SELECT FROM tenants WHERE id = %s FOR NO KEY UPDATE NOWAIT", (tenant_id,))
        with others.transaction(tenant_id) as second:
            second.driver.execute("SELECT FROM tenants WHERE id = %s FOR KEY SHARE NOWAIT", (tenant_id,))
        with others.transaction(other) as second:
            second.driver.execute("SELECT FROM tenants WHERE id = %s FOR UPDATE NOWAIT", (other,))


def test_a_customer_is_linked_once_and_to_one_tenant(app: App) -> None:
    tenant_id, other = a_tenant(app), a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.plans.lock(customers=["cus_1"]) == {}
        assert tx.tenants.link_customer(tenant_id, "cus_1")
        assert not tx.tenants.link_customer(tenant_id, "cus_2")
        assert not tx.tenants.link_customer(uuid4(), "cus_2")
        assert list(tx.plans.lock(customers=["cus_1", "cus_2"])) == [tenant_id]
    with (
        pytest.raises(Conflict, match="pays as the Stripe customer cus_1"),
        app.db.transaction(SYSTEM) as tx,
    ):
        tx.tenants.link_customer(other, "cus_1")

"""Settings and consents as rows: what is not there is off, and what is withdrawn is not there."""

from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from domain.autopilot.chains import Mode
from domain.autopilot.settings import Settings
from domain.errors import UnknownAccount, UnknownTenant
from tests.builders import NOV_22, a_tenant


@pytest.fixture
def tenant(app):
    return a_tenant(app)


def an_account(app, tenant_id, platform="tiktok"):
    account_id = uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.driver.execute(
            "INSERT INTO social_accounts (id, tenant_id, platform, external_id) VALUES (%s, %s, %s, %s)",
            (account_id, tenant_id, platform, str(account_id)),
        )
    return account_id


def test_without_a_row_it_is_off_and_saved_settings_come_back(app, tenant):
    wanted = Settings(Mode.AUTO, 70, 2, 6, ("18:30", "09:00"), "runway", Decimal("12.50"), "a person", NOV_22)
    with app.db.transaction(tenant) as tx:
        assert tx.autopilot.settings(tenant) == tx.autopilot.lock(tenant) == Settings()
        tx.autopilot.save(tenant, wanted, NOV_22)
        tx.autopilot.save(tenant, replace(wanted, least_score=71), NOV_22)

    with app.db.transaction(tenant) as tx:
        assert tx.autopilot.settings(tenant) == tx.autopilot.lock(tenant) == replace(wanted, least_score=71)


def test_consent_is_by_account_and_can_be_withdrawn(app, tenant):
    first, second = an_account(app, tenant), an_account(app, tenant, "bluesky")
    with app.db.transaction(tenant) as tx:
        assert tx.autopilot.consent(tenant, first, "a person", NOV_22)
        assert not tx.autopilot.consent(tenant, first, "another", NOV_22)
        assert tx.autopilot.consent(tenant, second, None, NOV_22)
        assert tx.autopilot.withdraw(tenant, second, NOV_22) == []
        assert tx.autopilot.withdraw(tenant, second, NOV_22) is None
        [row] = tx.autopilot.accounts(tenant)

    assert (row["account_id"], row["platform"], row["consented_by"]) == (first, "tiktok", "a person")


def test_nobody_consents_for_an_account_of_another_tenant(app, tenant):
    account = an_account(app, a_tenant(app))
    with app.db.transaction(tenant) as tx, pytest.raises(UnknownAccount):
        tx.autopilot.consent(tenant, account, None, NOV_22)


def test_a_tenant_that_is_not_there_has_no_settings_to_save(app):
    nobody = uuid4()
    with app.db.transaction(nobody) as tx, pytest.raises(UnknownTenant):
        tx.autopilot.save(nobody, Settings(), NOV_22)

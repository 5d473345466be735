"""Stored events of organizations and their members, applied: who works where, what waits, and what is forgotten."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from os import urandom
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.transaction import SYSTEM
from domain.identity.access import KEY_BYTES, new_key
from simulators.clerk.events import (
    clerk_deleted_organization,
    clerk_event,
    clerk_membership,
    clerk_organization,
    clerk_session,
)
from simulators.personas import Body, Persona
from tests.builders import NOV_22, a_clerk_event, a_tenant, event_row, job_row, tenant
from tests.drain import drain
from tests.wait import until
from tests.workers.jobs.test_identity import (
    ADA,
    HOUR,
    apply,
    created,
    deleted,
    names_of_tenants,
    the_user,
    updated,
    users,
)
from workers.app import App
from workers.jobs.identity import apply_clerk_event


def organization(what: str = "created", at: datetime = NOV_22, **fields: Any) -> Body:
    return clerk_event(f"organization.{what}", clerk_organization(ADA, created_at=at, **fields), at=at)


def joined(who: Persona = ADA, role: str = "org:member") -> Body:
    row = clerk_membership(who, created_at=NOV_22, role=role)
    return clerk_event("organizationMembership.created", row, at=NOV_22)


def caller(app: App, organization_id: str | None = None) -> tuple[UUID, str] | None:
    with app.db.transaction(SYSTEM) as tx:
        found = tx.identity.signed_in("user_ada", organization_id)
    return None if found is None else (found.tenant_id, found.role)


def of_organization(app: App) -> UUID | None:
    with app.db.transaction(SYSTEM) as tx:
        query = """
            SELECT home_id FROM account_tenants JOIN organizations USING (clerk_id)
            WHERE clerk_id = %s AND deleted_at IS NULL
        """
        row = tx.driver.execute(query, (ADA.organization_id,)).fetchone()
    return None if row is None else row[0]


def test_who_joins_an_organization_works_in_its_tenant(app: App) -> None:
    assert apply(app, created(), organization(), joined()) == ["applied"] * 3
    acme = of_organization(app)
    assert acme is not None
    assert tenant(app, acme)["name"] == "Acme"
    assert (the_user(app)["tenant_id"], the_user(app)["role"]) == (acme, "MEMBER")
    assert caller(app) == caller(app, ADA.organization_id) == (acme, "MEMBER")


@pytest.mark.parametrize("use", ["customer", "content", "shared"])
def test_a_personal_account_that_is_in_use_is_kept_and_the_membership_recorded(app: App, use: str) -> None:
    apply(app, created(), organization())
    own_tenant = the_user(app)["tenant_id"]
    with app.db.transaction(SYSTEM) as tx:
        if use == "customer":
            assert tx.tenants.link_customer(own_tenant, "cus_1")
        elif use == "content":
            tx.driver.execute("INSERT INTO generations (tenant_id) VALUES (%s)", (own_tenant,))
        else:
            tx.driver.execute("INSERT INTO users (tenant_id) VALUES (%s)", (own_tenant,))
    assert apply(app, joined(role="org:admin")) == ["applied"]
    assert caller(app) == (own_tenant, "ADMIN")
    assert caller(app, ADA.organization_id) == (of_organization(app), "ADMIN")
    assert apply(app, updated()) == ["applied"]
    assert caller(app) == (own_tenant, "ADMIN")


def test_what_is_about_somebody_unknown_waits_and_is_released_in_one_commit(app: App) -> None:
    session = clerk_event("session.created", clerk_session(ADA, created_at=NOV_22 + HOUR), at=NOV_22 + HOUR)
    waiting = [a_clerk_event(app, joined(), "msg_joined"), a_clerk_event(app, session, "msg_session")]
    drain(app)
    assert [event_row(app, job)["status"] for job in waiting] == ["parked:unknown_user"] * 2
    assert apply(app, created()) == ["applied"]
    assert [event_row(app, job)["status"] for job in waiting] == ["parked:unknown_organization", "applied"]
    assert the_user(app)["last_login_at"] == NOV_22 + HOUR
    assert apply(app, organization()) == ["applied"]
    assert event_row(app, waiting[0])["status"] == "applied"
    assert caller(app) == (of_organization(app), "MEMBER")


def test_a_row_that_another_program_made_releases_what_has_waited(app: App) -> None:
    apply(app, organization(), joined())
    theirs = a_tenant(app, name="A team")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id) VALUES ('user_ada', %s)", (theirs,))
    apply(app, created())
    assert caller(app) == (of_organization(app), "MEMBER")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.events.recent(status="parked") == []
        assert tx.identity.own_tenant("user_ada") == theirs


def test_a_person_whom_another_program_adds_meanwhile_has_one_tenant(app: App, owner_url: str) -> None:
    """The dashboard's first request and Clerk's webhook come at the same moment, and it knows no lock of ours."""
    theirs = a_tenant(app, name="Ada's")
    job_id = a_clerk_event(app, created(), "msg_1")
    with psycopg.connect(owner_url) as dashboard:
        dashboard.execute("SET LOCAL app.tenant_id = '*'")
        dashboard.execute("INSERT INTO users (clerk_id, tenant_id) VALUES ('user_ada', %s)", (theirs,))
        worker = threading.Thread(target=drain, args=(app,))
        worker.start()
        until(lambda: waits_for_a_lock(app), "the worker to meet the other's row")
    worker.join()
    assert job_row(app, job_id)["status"] == "pending"
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now()")
    drain(app)
    assert event_row(app, job_id)["status"] == "applied"
    assert (the_user(app)["tenant_id"], the_user(app)["email"]) == (theirs, "ada@example.com")
    assert names_of_tenants(app) == ["Ada's"]


def waits_for_a_lock(app: App) -> bool:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is not None


def test_a_deleted_organization_is_anonymous_keeps_its_tenant_and_has_no_members(app: App) -> None:
    apply(app, created(), organization(), joined())
    acme = of_organization(app)
    assert acme is not None
    with app.db.transaction(SYSTEM) as tx:
        assert tx.tenants.link_customer(acme, "cus_1")
    gone = clerk_event("organization.deleted", clerk_deleted_organization(ADA), at=NOV_22 + HOUR)
    assert apply(app, gone, organization("updated", NOV_22 + 2 * HOUR)) == ["applied", "stale"]
    assert (tenant(app, acme)["name"], tenant(app, acme)["stripe_customer_id"]) == (ADA.organization_id, "cus_1")
    assert of_organization(app) is None
    assert caller(app, ADA.organization_id) is None
    assert tenant(app, the_user(app)["tenant_id"])["name"] == "ada@example.com"


def test_a_deleted_person_is_nobody_and_what_was_told_of_them_is_forgotten(app: App) -> None:
    apply(app, created(), organization(), joined(), deleted())
    assert caller(app) is None
    assert caller(app, ADA.organization_id) is None
    assert apply(app, updated(), joined()) == ["stale", "stale"]
    with app.db.transaction(SYSTEM) as tx:
        kept = tx.driver.execute("SELECT payload::text || body::text FROM webhook_events WHERE subject = 'user_ada'")
        assert [text for (text,) in kept.fetchall() if text] == []
        seen = tx.driver.execute("SELECT payload::text FROM webhook_events").fetchall()
    assert [text for (text,) in seen if "ada@" in text or "Lovelace" in text] == []
    with app.db.transaction(SYSTEM) as tx:
        events = [row["id"] for row in tx.events.recent()]
        for event_id in events:
            apply_clerk_event.enqueue(tx, event_id=event_id)
    before = users(app)
    drain(app)
    assert users(app) == before, "what is left of the events can be applied again"


def test_after_a_deletion_no_key_opens_the_accounts_tenant_and_nothing_is_made_in_it(app: App) -> None:
    apply(app, created(), organization(), joined())
    acme, own_tenant = of_organization(app), own_tenant_of(app, "user_ada")
    assert acme is not None
    for tenant_id in (acme, own_tenant):
        a_key(app, tenant_id)
        with app.db.transaction(tenant_id) as tx:
            tx.driver.execute("UPDATE tenants SET daily_enabled = true WHERE id = %s", (tenant_id,))
    apply(app, deleted())
    assert [is_closed(app, each) for each in (own_tenant, acme)] == [True, False]
    apply(app, clerk_event("organization.deleted", clerk_deleted_organization(ADA), at=NOV_22 + HOUR))
    assert is_closed(app, acme)


def test_a_tenant_that_somebody_else_works_in_stays_open(app: App) -> None:
    apply(app, created())
    own_tenant = own_tenant_of(app, "user_ada")
    a_key(app, own_tenant)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id) VALUES ('user_bob', %s)", (own_tenant,))
        tx.driver.execute("UPDATE tenants SET daily_enabled = true WHERE id = %s", (own_tenant,))
    apply(app, deleted())
    assert not is_closed(app, own_tenant)


def a_key(app: App, tenant_id: UUID) -> None:
    now = datetime.now(UTC)
    key = new_key(urandom(KEY_BYTES), name="x", scopes=["account:read"], expires_at=None, now=now, others=0)
    with app.db.transaction(tenant_id) as tx:
        tx.access.add_key(tx.new_id(), tenant_id, key)


def own_tenant_of(app: App, clerk_id: str) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        own_tenant = tx.identity.own_tenant(clerk_id)
    assert own_tenant is not None
    return own_tenant


def is_closed(app: App, tenant_id: UUID) -> bool:
    """Neither a key nor a daily preference is left; or both are."""
    with app.db.transaction(tenant_id) as tx:
        [key] = tx.access.keys(tenant_id)
        daily = tx.tenants.get(tenant_id)["daily_enabled"]
    assert daily is (key["revoked_at"] is None)
    return not daily


@pytest.mark.parametrize("deleted_first", [True, False])
def test_what_nothing_follows_from_is_forgotten_with_the_person_or_organization(app: App, deleted_first: bool) -> None:
    payer = {"user_id": "user_ada", "first_name": "Ada", "email": "ada@example.com"}
    team = {"organization_id": ADA.organization_id, "organization_name": "Lovelace & Co", "email": "ada@example.com"}
    seen = [
        clerk_event("session.removed", {"id": "sess_1", "user_id": "user_ada"}, at=NOV_22 + HOUR),
        clerk_event("subscription.created", {"id": "csub_1", "payer": payer}, at=NOV_22 + HOUR),
        clerk_event("subscription.created", {"id": "csub_2", "payer": team}, at=NOV_22 + HOUR),
    ]
    gone = [deleted(), clerk_event("organization.deleted", clerk_deleted_organization(ADA), at=NOV_22 + HOUR)]
    apply(app, *(gone + seen if deleted_first else seen + gone))
    with app.db.transaction(SYSTEM) as tx:
        kept = tx.driver.execute("SELECT payload::text || coalesce(convert_from(body, 'UTF8'), '') FROM webhook_events")
        texts = [text for (text,) in kept]
    assert len(texts) == 5
    assert [text for text in texts if any(word in text for word in ("ada@", "Lovelace", "203.0.113.7"))] == []


def test_an_id_of_two_kinds_of_account_is_refused_once_and_changes_nothing(app: App) -> None:
    apply(app, created())
    before = names_of_tenants(app)
    row = clerk_organization(replace(ADA, organization_id="user_ada"), created_at=NOV_22)
    job_id = a_clerk_event(app, clerk_event("organization.created", row, at=NOV_22), "msg_1")
    drain(app)
    job = job_row(app, job_id)
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert job["error_message"] == "user_ada is the id of another account"
    assert names_of_tenants(app) == before


def test_what_is_not_ours_changes_nothing(app: App) -> None:
    elsewhere = replace(app, ports=replace(app.ports, clerk_instance="ins_other"))
    assert apply(elsewhere, created()) == ["ignored:other_instance"]
    row = {"id": "sub_1", "customer": "cus_1", "status": "active", "items": {"data": [{"price": "price_pro"}]}}
    bought = clerk_event("subscription.created", row, at=NOV_22)
    assert apply(app, bought) == ["ignored:type"]
    with app.db.transaction(SYSTEM) as tx:
        assert tx.billing.subscription("sub_1") is None
    acting = clerk_session(ADA, created_at=NOV_22) | {"actor": {"sub": "user_support"}}
    assert apply(app, created(), clerk_event("session.created", acting, at=NOV_22)) == [
        "applied",
        "ignored:actor",
    ]
    assert the_user(app)["last_login_at"] is None


def deserted(app: App) -> set[str]:
    """Names of tenants that nobody answers for; the doctor counts those that pay, and all of these do."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET subscription_tier = 'PRO'")
        rows = tx.tenants.recent()
        found = {row["name"] for row in rows if row["deserted"]}
        assert {row["name"] for row in tx.tenants.recent(deserted=True)} == found
        assert {row["name"] for row in rows if tx.tenants.is_deserted(row["id"])} == found
        assert tx.health.violations("a paying tenant has a person") == len(found)
    return found


def test_a_paying_tenant_without_any_person_is_told(app: App) -> None:
    left = clerk_event("organizationMembership.deleted", clerk_membership(ADA, created_at=NOV_22), at=NOV_22 + HOUR)
    seen = []
    for body in (organization(), created(), joined(), left, deleted()):
        apply(app, body)
        seen.append(deserted(app))
    nobody_yet, own_tenant = {"Acme"}, "user_ada"
    assert seen == [nobody_yet, nobody_yet, set(), nobody_yet, {"Acme", own_tenant}]


def test_a_member_answers_for_the_organization_and_for_the_tenant_of_their_own_that_they_left(app: App) -> None:
    apply(app, created(), organization(), joined())
    assert the_user(app)["tenant_id"] == of_organization(app)
    assert deserted(app) == set()
    apply(app, organization("deleted", NOV_22 + HOUR))
    assert deserted(app) == {ADA.organization_id}


def test_a_tenant_of_banned_people_alone_is_listed_with_those_that_nobody_answers_for(app: App) -> None:
    apply(app, created(), updated(banned=True))
    with app.db.transaction(SYSTEM) as tx:
        assert [row["deserted"] for row in tx.tenants.recent()] == [True]
    apply(app, updated(at=NOV_22 + 2 * HOUR, banned=False))
    assert deserted(app) == set()

"""A person's data, come in by every way that there is and repeated by every failure; and then the person is forgotten.

Looked for in every column of every table, in Redis, and in all that was logged, Postgres's own log included.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from pydantic import BaseModel
from sqlalchemy import Integer, bindparam, select, text

from db.schema.identity import users
from db.schema.tables import metadata
from db.transaction import SYSTEM
from domain.errors import Rejected, Unavailable
from simulators.clerk.events import (
    clerk_deleted_user,
    clerk_event,
    clerk_membership,
    clerk_organization,
    clerk_session,
    clerk_user,
)
from simulators.personas import Body, Persona
from simulators.stripe.events import checkout_session, customer, stripe_event
from tests.builders import NOV_22, a_clerk_event, a_stripe_event, a_tenant, job_row, tenant
from tests.conftest import Servers
from tests.drain import drain
from tests.web.api.test_api import Api, a_key
from workers.app import App
from workers.engine.context import Context
from workers.engine.job import job
from workers.jobs.identity import forget
from workers.jobs.upkeep import prune
from workers.runtime import logs
from workers.settings import Settings

EMAIL, NAME, PHONE = "zyxwada@quill.example", "Zyxwada Quillfeather", "+4917012345678"
PICTURE, ADDRESS = "https://img.clerk.com/zyxwada.png", "203.0.113.77"
MARKS = ("zyxw", "quill", "17012345678", ADDRESS)
SHE = Persona(uuid4(), "cus_she", "sub_she", "user_she", EMAIL)
HOUR = timedelta(hours=1)


class Model(BaseModel):
    phone: int
    person: dict[str, int]


def unique(ctx: Context) -> None:
    with ctx.begin() as tx:
        for _ in range(2):
            tx.driver.execute("INSERT INTO users (clerk_id, email, deleted_at) VALUES (%s, %s, now())", (EMAIL, EMAIL))


def check(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, email, name) VALUES ('user_x', %s, %s)", (EMAIL, NAME))


def by_sqlalchemy(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.sql.execute(select(users.c.id).where(users.c.id == EMAIL))


def by_alchemy_itself(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.sql.execute(text("SELECT :n").bindparams(bindparam("n", {NAME: EMAIL}, Integer)))


def of_no_kind(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.driver.execute("SELECT %s::jsonb", (f'{{"name": {NAME}}}',))


def validated(ctx: Context) -> None:
    Model.model_validate({"phone": EMAIL, "person": {NAME: float(PHONE) + 0.5}})


def chained(ctx: Context) -> None:
    try:
        {}[NAME]
    except KeyError as error:
        try:
            EMAIL.encode("ascii") + f"{NAME} İ".encode("ascii")
        except UnicodeError as second:
            raise ExceptionGroup("two", [error, ValueError(f"no address: {EMAIL!r}")]) from second


def quoted(ctx: Context) -> None:
    raise RuntimeError(f"the person {NAME!r} <{EMAIL}> of {PHONE} at {ADDRESS} has no picture {PICTURE}")


def recorded(ctx: Context) -> None:
    raise Rejected(f"there is no account of {EMAIL}")


def put_off(ctx: Context) -> None:
    raise Unavailable(f"the mail server refuses {EMAIL}") from ValueError(f"550 {NAME!r}")


FAILURES: tuple[Callable[[Context], None], ...] = (
    *(unique, check, by_sqlalchemy, by_alchemy_itself, of_no_kind, validated, chained, quoted, recorded, put_off),
)


def reported(ctx: Context, **arguments: Any) -> None:
    ctx.step("mail", lambda key: {"to": EMAIL, "picture": PICTURE})
    ctx.report(sent_to=[EMAIL.upper()], name=arguments.get("name"), nested={EMAIL: 'a "quoted" ' + EMAIL})
    with ctx.finish():
        pass


def failing(act: Callable[[Context], None]) -> Any:
    return job(f"testing.{act.__name__}", system=True, max_attempts=1)(lambda ctx: act(ctx))


@job("testing.reported", max_attempts=1)
def reported_by_tenant(ctx: Context, tenant_id: UUID, name: str) -> None:
    reported(ctx, name=name)


@job("testing.reported_by_system", system=True, max_attempts=1)
def reported_by_system(ctx: Context, person: str) -> None:
    reported(ctx)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Trends are of no interest here, and would be asked for."""
    return Settings.model_validate(settings.model_dump() | {"trend_sources": ("none",)})


@pytest.fixture
def log(app: App) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure("json", "DEBUG", stream)
    yield stream
    logs.configure("console", "WARNING")


@pytest.fixture
def crowd(app: App) -> App:
    """With the job types of this file too."""
    types = {each.name: each for each in (reported_by_tenant, reported_by_system, *map(failing, FAILURES))}
    return replace(app, job_types={**app.job_types, **types})


def found(app: App, marks: tuple[str, ...] = MARKS) -> set[str]:
    """`table.column` of everything that holds a mark, as text, as JSON or as bytes."""
    sought = [*marks, *(mark.encode().hex() for mark in marks)]
    places = set()
    with psycopg.connect(app.settings.owner_url) as owner:
        columns = owner.execute(
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
        assert {table for table, _ in columns} >= metadata.tables.keys()
        for table, column in columns:
            query = f'SELECT count(*) FROM "{table}" WHERE lower("{column}"::text) LIKE ANY(%s)'
            [(count,)] = owner.execute(query.encode(), ([f"%{mark}%" for mark in sought],)).fetchall()
            if count:
                places.add(f"{table}.{column}")
    with redis.Redis.from_url(app.settings.redis_url) as client:
        for key in client.scan_iter():
            kept = client.dump(key) or b""
            if any(mark.encode() in (key + kept).lower() for mark in marks):
                places.add(f"redis {key!r}")
    return {place for place in places if not place.startswith("job_archive_")}


def in_errors(app: App) -> set[str]:
    return {place for place in found(app) if place.partition(".")[2] in ("error_message", "traceback")}


def clerk(app: App, kind: str, data: Body, at: timedelta) -> UUID:
    body = clerk_event(kind, data, at=NOV_22 + at)
    body["event_attributes"]["http_request"]["client_ip"] = ADDRESS
    return a_clerk_event(app, body, f"msg_{uuid4().hex}")


def signed_up(app: App) -> UUID:
    """She comes through Clerk, with some events that cannot be read; returns her tenant."""
    person = clerk_user(SHE, created_at=NOV_22, first_name="Zyxwada", last_name="Quillfeather")
    person |= {"image_url": PICTURE, "phone_numbers": [{"id": "idn_1", "phone_number": PHONE}], "username": "zyxwada"}
    clerk(app, "user.created", person, timedelta(0))
    session = clerk_session(SHE, created_at=NOV_22) | {"latest_activity": {"ip_address": ADDRESS, "city": "Quillton"}}
    clerk(app, "session.created", session, HOUR)
    clerk(app, "session.ended", session, HOUR)
    clerk(app, "waitlistEntry.created", {"id": "wait_1", "email_address": EMAIL}, HOUR)
    clerk(app, "user.updated", person | {"updated_at": EMAIL}, HOUR)
    clerk(app, "user.updated", person | {"email_addresses": NAME, "updated_at": {PHONE: NAME}}, HOUR)
    drain(app)
    with app.db.transaction(SYSTEM) as tx:
        active_membership = tx.identity.active_membership("user_she")
    assert active_membership.tenant_id is not None
    return active_membership.tenant_id


def bought(app: App, tenant_id: UUID) -> None:
    she = replace(SHE, tenant_id=tenant_id)
    session = checkout_session(she, at=NOV_22)
    session |= {"customer_details": {"email": EMAIL, "name": NAME, "phone": PHONE, "address": {"line1": "Quill 1"}}}
    a_stripe_event(app, stripe_event("checkout.session.completed", session, at=NOV_22))
    about = customer(she, created_at=NOV_22) | {"email": EMAIL, "name": NAME, "phone": PHONE, "metadata": {"m": EMAIL}}
    previous = {"email": f"old.{EMAIL}"}
    a_stripe_event(app, stripe_event("customer.updated", about, at=NOV_22, previous=previous))
    a_stripe_event(app, stripe_event("customer.subscription.created", about | {"status": {NAME: EMAIL}}, at=NOV_22))


def asked(app: App, tenant_id: UUID) -> None:
    api = Api(app)
    scopes = ("generations:write", "generations:read", "accounts:write", "posts:read")
    key = a_key(app, tenant_id, *scopes, name=f"{NAME}'s laptop")
    steered = api("PUT", "/autopilot", key, json={"mode": "approve"})
    assert NAME in steered.json()["changed_by"]
    request = {"count": 1, "generator": "local-grammar/v1"}
    assert api("POST", "/generate", key, json=request, headers={"Idempotency-Key": EMAIL}).status_code == 202
    for body in ({"count": EMAIL}, {"count": 1, "generator": EMAIL}, {NAME: PHONE}, [EMAIL]):
        assert api("POST", "/generate", key, json=body).status_code == 422
    assert api("GET", f"/generations/{EMAIL}", key).status_code == 422
    assert api("GET", f"/generations/{EMAIL}", f"viral_{NAME}".replace(" ", "")).status_code == 401
    assert api("GET", f"/generations/{EMAIL}", a_key(app, tenant_id, "account:read")).status_code == 403
    assert api("GET", "/history", key, params={"search": NAME, "cursor": EMAIL}).status_code == 422


def by_plain_sql(app: App, tenant_id: UUID) -> None:
    with psycopg.connect(app.settings.owner_url) as other:
        columns = "tenant_id, job_type, payload, ordering_key, max_attempts"
        add = f"INSERT INTO job_queue ({columns}) VALUES (%s, %s, %s, %s, 1)".encode()
        person = json.dumps({"name": NAME, "email": EMAIL, "phone": PHONE})
        for job_type in ("testing.reported", "identity.apply_clerk_event", "nobody.knows"):
            other.execute(add, (tenant_id, job_type, person, EMAIL))
        other.execute(add, (None, "identity.apply_clerk_event", json.dumps({"event_id": EMAIL}), None))
        row = (tenant_id, EMAIL, NAME, PICTURE)
        other.execute("INSERT INTO users (tenant_id, email, name, image_url) VALUES (%s, %s, %s, %s)", row)
        other.execute("UPDATE tenants SET name = %s WHERE id = %s", (f"Zyxwada ({EMAIL})", tenant_id))


def test_nothing_of_a_forgotten_person_is_left_and_no_failure_ever_told_of_them(
    crowd: App, log: io.StringIO, servers: Servers, servers_home: Path
) -> None:
    others = a_tenant(crowd)
    tenant_id = signed_up(crowd)
    bought(crowd, tenant_id)
    asked(crowd, tenant_id)
    by_plain_sql(crowd, tenant_id)
    with crowd.db.transaction(SYSTEM) as tx:
        for act in FAILURES:
            crowd.job_types[f"testing.{act.__name__}"].enqueue(tx)
        mine = reported_by_tenant.enqueue(tx, tenant_id=tenant_id, name=NAME)
        theirs = reported_by_tenant.enqueue(tx, tenant_id=others, name="Grace")
        reported_by_system.enqueue(tx, person=EMAIL)
    drain(crowd)
    assert in_errors(crowd) == set()
    assert found(crowd) >= {"users.email", "webhook_events.payload", "job_queue.result", "job_steps.result"}
    with crowd.db.transaction(SYSTEM) as tx:
        prune.enqueue(tx, older_than=timedelta(0))
    drain(crowd)
    assert in_errors(crowd) == set()
    assert found(crowd) >= {"job_archive.result", "job_archive.payload", "job_archive.steps", "api_keys.name"}
    with crowd.db.transaction(SYSTEM) as tx:
        again = reported_by_tenant.enqueue(tx, tenant_id=tenant_id, name=NAME)
    drain(crowd)
    assert NAME in str(job_row(crowd, again))

    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    with psycopg.connect(crowd.settings.owner_url) as other:  # what nobody can run waits for a person, as ever
        other.execute("UPDATE job_queue SET status = 'cancelled', completed_at = now() WHERE job_type = 'nobody.knows'")
        other.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE job_type = 'identity.forget'")
    drain(crowd)
    assert found(crowd) == set()
    for job_id in (mine, again):
        with crowd.db.transaction(SYSTEM) as tx:
            row = tx.jobs.get(job_id) or tx.archive.get(job_id)
        assert row is not None
        assert (row["payload"], row["result"]) == ({}, None)
    with crowd.db.transaction(SYSTEM) as tx:
        kept = tx.archive.get(theirs)
    assert kept is not None
    assert (kept["payload"]["name"], kept["result"]["name"]) == ("Grace", "Grace"), (
        "another's job lost the identifier only"
    )
    assert kept["result"]["sent_to"] == ["…"]

    written = log.getvalue().lower()
    assert "job.failed" in written
    assert [mark for mark in MARKS if mark in written] == []
    assert [mark for mark in MARKS if mark in (servers_home / "postgres.log").read_text().lower()] == []


def test_where_others_work_a_person_is_forgotten_and_nothing_else(crowd: App) -> None:
    """In the tenant of an organization: Bob works there, and Ada did."""
    she = replace(SHE, organization_id="org_1")
    bob = replace(she, user_id="user_bob", email="bob@other.example")
    signed_up(crowd)
    clerk(crowd, "user.created", clerk_user(bob, created_at=NOV_22), HOUR)
    clerk(crowd, "organization.created", clerk_organization(she, created_at=NOV_22), HOUR)
    for who in (she, bob):
        clerk(crowd, "organizationMembership.created", clerk_membership(who, created_at=NOV_22), HOUR)
    drain(crowd)
    with crowd.db.transaction(SYSTEM) as tx:
        shared = tx.identity.own_tenant("org_1")
        assert tx.identity.active_membership("user_bob").tenant_id == shared
    assert shared is not None
    team = replace(she, tenant_id=shared, customer_id="cus_team", email="team@other.example")
    a_stripe_event(crowd, stripe_event("checkout.session.completed", checkout_session(team, at=NOV_22), at=NOV_22))
    mentions = customer(team, created_at=NOV_22) | {"email": EMAIL, "metadata": {"note": "team"}}
    a_stripe_event(crowd, stripe_event("customer.updated", mentions, at=NOV_22, previous={"email": None}))
    key = a_key(crowd, shared, "account:read", name="team key")
    with crowd.db.transaction(SYSTEM) as tx:
        job_id = reported_by_tenant.enqueue(tx, tenant_id=shared, name="bob@other.example")
    drain(crowd)
    before = job_row(crowd, job_id)

    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    assert found(crowd, (EMAIL,)) == set()
    after = job_row(crowd, job_id)
    recorded = {"name": "bob@other.example", "sent_to": ["…"], "nested": {"…": 'a "quoted" …'}}
    assert after == before | {"result": recorded}
    assert Api(crowd)("GET", "/user", key).status_code == 200
    with psycopg.connect(crowd.settings.owner_url) as owner:
        assert owner.execute("SELECT email FROM users WHERE clerk_id = 'user_bob'").fetchone() == ("bob@other.example",)
        assert owner.execute("SELECT name FROM api_keys WHERE tenant_id = %s", (shared,)).fetchall() == [("team key",)]
        bodies = owner.execute(
            "SELECT type, body IS NOT NULL FROM webhook_events WHERE subject = 'cus_team' ORDER BY type"
        ).fetchall()
    assert bodies == [("checkout.session.completed", True), ("customer.updated", False)]


def test_forgetting_twice_and_somebody_of_whom_nothing_is_known_changes_nothing(crowd: App) -> None:
    signed_up(crowd)
    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    assert found(crowd) == set()
    with crowd.db.transaction(SYSTEM) as tx:
        jobs = [forget.enqueue(tx, clerk_id=each) for each in ("user_she", "user_nobody")]
    drain(crowd)
    assert [(job_row(crowd, each)["status"], job_row(crowd, each)["error_message"]) for each in jobs] == [
        ("completed", None),
        ("completed", None),
    ]


def test_two_accounts_of_one_address_do_not_wait_for_each_other(crowd: App) -> None:
    again = replace(SHE, user_id="user_she_again")
    signed_up(crowd)
    clerk(crowd, "user.created", clerk_user(again, created_at=NOV_22), HOUR)
    drain(crowd)
    for who in (SHE, again):
        clerk(crowd, "user.deleted", clerk_deleted_user(who), 2 * HOUR)
    drain(crowd)
    assert found(crowd) == set()


def test_forgetting_beside_the_work_of_the_tenant_locks_nobody_out(crowd: App) -> None:
    """Members of one organization are forgotten while its jobs run, end and are archived."""
    she = replace(SHE, organization_id="org_1")
    people = [replace(she, user_id=f"user_{n}", email=f"zyxw{n}@quill.example") for n in range(6)]
    clerk(crowd, "organization.created", clerk_organization(she, created_at=NOV_22), HOUR)
    for who in people:
        clerk(crowd, "user.created", clerk_user(who, created_at=NOV_22), HOUR)
        clerk(crowd, "organizationMembership.created", clerk_membership(who, created_at=NOV_22), HOUR)
    drain(crowd)
    with crowd.db.transaction(SYSTEM) as tx:
        shared = tx.identity.own_tenant("org_1")
    assert shared is not None
    for who in people:
        clerk(crowd, "user.deleted", clerk_deleted_user(who), 2 * HOUR)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for n in range(6):
                with crowd.db.transaction(SYSTEM) as tx:
                    reported_by_tenant.enqueue(tx, tenant_id=shared, name=people[n].email)
                    prune.enqueue(tx, older_than=timedelta(0))
                drain(crowd)
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    with psycopg.connect(crowd.settings.owner_url) as owner:
        owner.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")
    drain(crowd)
    with psycopg.connect(crowd.settings.owner_url) as owner:
        ended = owner.execute(
            "SELECT status, count(*) FROM (SELECT status FROM job_queue UNION ALL SELECT status FROM job_archive) AS j"
            " GROUP BY status"
        ).fetchall()
        lost = owner.execute("SELECT outcome, error_class FROM job_attempts WHERE outcome <> 'snoozed'").fetchall()
    assert [status for status, _ in ended] == ["completed"], lost


def test_names_in_places_where_others_work_are_masked_inside(crowd: App) -> None:
    """An organization that is named after her, and its keys; what Clerk told of it, too."""
    she = replace(SHE, organization_id="org_1")
    bob = replace(she, user_id="user_bob", email="bob@other.example")
    own_tenant = signed_up(crowd)
    clerk(crowd, "user.created", clerk_user(bob, created_at=NOV_22), HOUR)
    team = clerk_organization(she, created_at=NOV_22, name=f"{EMAIL}'s team")
    clerk(crowd, "organization.created", team, HOUR)
    for who in (she, bob):
        member = clerk_membership(who, created_at=NOV_22, role="org:admin") | {"organization": team}
        clerk(crowd, "organizationMembership.created", member, HOUR)
    drain(crowd)
    with crowd.db.transaction(SYSTEM) as tx:
        shared, bobs = tx.identity.own_tenant("org_1"), tx.identity.own_tenant("user_bob")
    assert shared is not None
    assert bobs is not None
    for tenant_id, name in ((shared, f"{EMAIL.upper()} laptop"), (shared, f"key for {EMAIL}"), (bobs, f"for {EMAIL}")):
        a_key(crowd, tenant_id, "account:read", name=name)

    clerk(crowd, "user.deleted", clerk_deleted_user(she), 2 * HOUR)
    drain(crowd)
    assert found(crowd, (EMAIL,)) == set()
    assert tenant(crowd, shared)["name"] == "…'s team"
    assert tenant(crowd, own_tenant)["name"] == "user_she"
    with psycopg.connect(crowd.settings.owner_url) as owner:
        keys = owner.execute("SELECT name FROM api_keys ORDER BY name").fetchall()
        recorded = owner.execute(
            "SELECT payload #>> '{data,name}', payload #>> '{data,id}', body FROM webhook_events"
            " WHERE type = 'organization.created'"
        ).fetchall()
        assert owner.execute("SELECT name FROM organizations").fetchall() == [("…'s team",)]
    assert [name for (name,) in keys] == ["for …", "key for …", "… laptop"]
    assert recorded == [("…'s team", "org_1", None)]

    clerk(crowd, "organization.updated", team | {"name": "Bob's", "updated_at": team["updated_at"] + 1}, 3 * HOUR)
    drain(crowd)
    assert tenant(crowd, shared)["name"] == "Bob's", "the tenant is still called after its organization"


def test_an_event_of_another_customer_that_names_her_tenant_is_the_others(crowd: App) -> None:
    """Metadata are free text: it loses her identifiers, if any, and stays what it was otherwise."""
    others = a_tenant(crowd)
    own_tenant = signed_up(crowd)
    team = replace(SHE, tenant_id=others, customer_id="cus_team", email="team@other.example")
    a_stripe_event(crowd, stripe_event("checkout.session.completed", checkout_session(team, at=NOV_22), at=NOV_22))
    drain(crowd)
    about = customer(replace(team, tenant_id=own_tenant), created_at=NOV_22)
    a_stripe_event(crowd, stripe_event("customer.updated", about, at=NOV_22, previous={"email": None}))
    drain(crowd)
    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    with psycopg.connect(crowd.settings.owner_url) as owner:
        query = "SELECT body IS NOT NULL, payload #>> '{data,object,email}' FROM webhook_events WHERE type = %s"
        assert owner.execute(query, ("customer.updated",)).fetchall() == [(True, "team@other.example")]


def test_the_tenant_of_another_account_of_the_address_keeps_its_name(crowd: App) -> None:
    again = replace(SHE, user_id="user_she_again")
    signed_up(crowd)
    clerk(crowd, "user.created", clerk_user(again, created_at=NOV_22), HOUR)
    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    with crowd.db.transaction(SYSTEM) as tx:
        own_tenant = tx.identity.own_tenant("user_she_again")
        person = tx.identity.person("user_she_again")
    assert own_tenant is not None
    assert tenant(crowd, own_tenant)["name"] == EMAIL
    assert person is not None
    assert person.email == EMAIL


def test_stripe_events_of_no_known_customer_are_found_by_what_they_say(
    crowd: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.jobs.identity.EVENTS_AT_ONCE", 2)
    monkeypatch.setattr("workers.jobs.identity.EVENTS_FOUND_AT_ONCE", 1)
    own_tenant = signed_up(crowd)
    she = replace(SHE, tenant_id=own_tenant)
    nobody = replace(she, tenant_id=uuid4(), customer_id="cus_visitor")
    expired = checkout_session(she, at=NOV_22) | {"customer": None, "metadata": {}, "status": "expired"}
    expired["customer_details"] |= {"email": "another@quill.example", "name": NAME}
    visitor = customer(nobody, created_at=NOV_22) | {"metadata": {}}
    other = customer(replace(nobody, customer_id="cus_other", email="bob@other.example"), created_at=NOV_22)
    with_link = other | {"metadata": {"from": f"https://x.example/?to={EMAIL.replace('@', '%40')}"}}
    recorded = {
        "checkout.session.expired": expired,
        "customer.created": visitor,
        "customer.updated": other | {"metadata": {}},
        "customer.source.created": with_link,
    }
    for kind, about in recorded.items():
        a_stripe_event(crowd, stripe_event(kind, about, at=NOV_22))
    drain(crowd)
    assert "webhook_events.payload" in found(crowd)

    clerk(crowd, "user.deleted", clerk_deleted_user(SHE), 2 * HOUR)
    drain(crowd)
    assert found(crowd) == set()
    with psycopg.connect(crowd.settings.owner_url) as owner:
        rows = owner.execute(
            "SELECT type, payload #>> '{data,object,email}', body IS NOT NULL,"
            " payload #>> '{data,object,client_reference_id}' FROM webhook_events WHERE source = 'stripe' ORDER BY type"
        ).fetchall()
    assert rows == [
        ("checkout.session.expired", None, False, str(own_tenant)),
        ("customer.created", None, False, None),
        ("customer.source.created", None, False, None),
        ("customer.updated", "bob@other.example", True, None),
    ]


@pytest.mark.parametrize("at", ["%40", "@"])
@pytest.mark.parametrize("plus", ["%2B", "%2b", "+"])
def test_an_address_as_it_stands_in_links_is_masked_too(crowd: App, at: str, plus: str) -> None:
    others = a_tenant(crowd)
    she = replace(SHE, email="zyxwada+news@quill.example")
    clerk(crowd, "user.created", clerk_user(she, created_at=NOV_22), timedelta(0))
    with crowd.db.transaction(SYSTEM) as tx:
        link = f"https://x.example/?to=Zyxwada{plus}news{at}quill.example&n=1"
        job_id = reported_by_tenant.enqueue(tx, tenant_id=others, name=link)
    drain(crowd)
    clerk(crowd, "user.deleted", clerk_deleted_user(she), 2 * HOUR)
    drain(crowd)
    assert job_row(crowd, job_id)["payload"]["name"] == "https://x.example/?to=…&n=1"

"""A stored Clerk event, applied: a person's row, and the tenant of their personal account."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from simulators.clerk.events import (
    clerk_deleted_user,
    clerk_event,
    clerk_user,
)
from simulators.personas import Body, Persona
from tests.builders import NOV_22, a_clerk_event, a_tenant, beside, event_row, job_row, tenant
from tests.drain import drain
from workers.app import App

ADA = Persona(uuid4(), "cus_1", "sub_1", "user_ada", "ada@example.com")
HOUR = timedelta(hours=1)


def created(who: Persona = ADA, at: datetime = NOV_22, **person: Any) -> Body:
    return clerk_event("user.created", clerk_user(who, created_at=at, **person), at=at)


def updated(who: Persona = ADA, at: datetime = NOV_22 + HOUR, **person: Any) -> Body:
    return clerk_event("user.updated", clerk_user(who, created_at=NOV_22, updated_at=at, **person), at=at)


def deleted(who: Persona = ADA, at: datetime = NOV_22 + 2 * HOUR) -> Body:
    return clerk_event("user.deleted", clerk_deleted_user(who), at=at)


def apply(app: App, *bodies: Body) -> list[str]:
    """Deliver the events one after the other. Returns what is said of each at the end."""
    jobs = []
    for body in bodies:
        jobs.append(a_clerk_event(app, body, f"msg_{uuid4().hex}"))
        drain(app)
    rows = [job_row(app, job_id) for job_id in jobs]
    assert [(row["status"], row["attempts"]) for row in rows] == [("completed", 1)] * len(jobs)
    return [event_row(app, job_id)["status"] for job_id in jobs]


def users(app: App) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        cursor = tx.driver.execute("SELECT * FROM users ORDER BY clerk_id")
        assert cursor.description is not None
        return [dict(zip((column.name for column in cursor.description), row, strict=True)) for row in cursor]


def the_user(app: App) -> dict[str, Any]:
    [row] = users(app)
    return row


def names_of_tenants(app: App) -> list[str]:
    with app.db.transaction(SYSTEM) as tx:
        return sorted(row["name"] for row in tx.tenants.recent())


def test_a_person_who_signs_up_gets_a_tenant_of_their_own(app: App) -> None:
    login = NOV_22 + timedelta(minutes=5)
    noon = replace(app, clock=lambda: NOV_22)
    assert apply(noon, created(last_sign_in_at=login)) == ["applied"]
    user = the_user(app)
    columns = [user[name] for name in ("clerk_id", "email", "name", "role", "last_login_at", "source_updated_at")]
    assert columns == ["user_ada", "ada@example.com", "Ada Lovelace", "ADMIN", login, NOV_22]
    account = tenant(app, user["tenant_id"])
    assert (account["name"], account["subscription_tier"], account["monthly_quota"]) == ("ada@example.com", "FREE", 10)
    assert (account["quota_anchor"], account["quota_reset_at"]) == (NOV_22, datetime(2026, 12, 22, 12, tzinfo=UTC))


def test_a_person_is_signed_up_once(app: App) -> None:
    assert apply(app, created(), created()) == ["applied", "stale"]
    assert len(users(app)) == 1
    assert names_of_tenants(app) == ["ada@example.com"]


def test_people_without_a_mail_address_are_people_too(app: App) -> None:
    for number in range(2):
        body = created(replace(ADA, user_id=f"user_{number}"), first_name=None, last_name=None)
        body["data"]["email_addresses"] = []
        apply(app, body)
    assert [(user["email"], user["name"]) for user in users(app)] == [(None, None)] * 2
    assert names_of_tenants(app) == ["user_0", "user_1"]


def test_an_update_that_comes_first_makes_the_person_and_the_creation_is_stale(app: App) -> None:
    assert apply(app, updated(first_name="Augusta"), created()) == ["applied", "stale"]
    assert the_user(app)["name"] == "Augusta Lovelace"
    assert len(names_of_tenants(app)) == 1


def test_an_older_update_changes_nothing(app: App) -> None:
    new, old = replace(ADA, email="new@example.com"), replace(ADA, email="old@example.com")
    apply(app, created(), updated(new, NOV_22 + 2 * HOUR))
    assert apply(app, updated(old, NOV_22 + HOUR)) == ["stale"]
    assert the_user(app)["email"] == "new@example.com"


def test_the_personal_account_follows_its_owners_address_until_somebody_names_it(app: App) -> None:
    second, third = replace(ADA, email="second@example.com"), replace(ADA, email="third@example.com")
    apply(app, created(), updated(second))
    assert names_of_tenants(app) == ["second@example.com"]
    own_tenant = the_user(app)["tenant_id"]
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.rename(own_tenant, was="second@example.com", name="Ada's shop")
    apply(app, updated(third, NOV_22 + 2 * HOUR))
    assert names_of_tenants(app) == ["Ada's shop"]


def test_a_row_that_the_dashboard_made_is_adopted_with_its_tenant(app: App) -> None:
    theirs = a_tenant(app, name="A team")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id) VALUES ('user_ada', %s)", (theirs,))
    assert apply(app, created()) == ["applied"]
    user = the_user(app)
    assert (user["tenant_id"], user["role"], user["email"]) == (theirs, "MEMBER", "ada@example.com")
    assert names_of_tenants(app) == ["A team"]


def test_of_a_deleted_person_nothing_is_left_but_the_id_and_the_time(app: App) -> None:
    apply(app, created(last_sign_in_at=NOV_22))
    owner = the_user(app)["tenant_id"]
    assert apply(app, deleted(), deleted()) == ["applied", "stale"]
    user = the_user(app)
    personal = ("email", "name", "image_url", "last_login_at", "source_updated_at")
    assert [user[name] for name in personal] == [None] * 5
    assert (user["clerk_id"], user["deleted_at"]) == ("user_ada", NOV_22 + 2 * HOUR)
    assert user["tenant_id"] == owner
    assert names_of_tenants(app) == ["user_ada"]


def test_the_tenant_of_a_deleted_person_keeps_the_name_that_somebody_gave_it(app: App) -> None:
    apply(app, created())
    own_tenant = the_user(app)["tenant_id"]
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.rename(own_tenant, was="ada@example.com", name="Ada's shop")
    apply(app, deleted())
    assert names_of_tenants(app) == ["Ada's shop"]


# --- names that tell of who is gone


def by_sql(app: App, called: str, *people: tuple[str, str | None, str | None]) -> UUID:
    """A tenant and people (Clerk's id, address, name), inserted by the contract's columns alone; and two keys."""
    tenant_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO tenants (id, name) VALUES (%s, %s)", (tenant_id, called))
        for clerk_id, email, name in people:
            row = (clerk_id, email, name, tenant_id)
            tx.driver.execute("INSERT INTO users (clerk_id, email, name, tenant_id) VALUES (%s, %s, %s, %s)", row)
        for name in ("ada@example.com, laptop", "laptop"):
            key = (tenant_id, name, uuid4().bytes)
            tx.driver.execute(
                "INSERT INTO api_keys (tenant_id, name, prefix, key_hash) VALUES (%s, %s, 'vk_1', %s)", key
            )
    return tenant_id


def texts_about_ada(app: App) -> list[str]:
    """Texts of tenants, people and keys that tell of her."""
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute(
            "SELECT to_jsonb(t)::text FROM tenants t UNION ALL SELECT to_jsonb(u)::text FROM users u "
            "UNION ALL SELECT to_jsonb(k) ->> 'name' FROM api_keys k"
        ).fetchall()
    return [text for (text,) in rows if any(word in text.casefold() for word in ("ada@", "lovelace", "augusta"))]


NAMES = [
    "ada@example.com",
    "ADA@Example.com",
    "ada@example.com's team",
    "Ada Lovelace",
    "Ada Lovelace's",
    "ada@old.example",
]
HISTORIES = {
    "none": [],
    "told": [created()],
    "another_address": [updated(replace(ADA, email="ada@new.example"), first_name="Augusta")],
}


@pytest.mark.proof(
    but=[
        "ada@example.com-ada@example.com's team-none",
        "ada@example.com-Ada Lovelace's-told",
        "None-ADA@Example.com-told",
        "None-ada@example.com-another_address",
        "None-ada@old.example-none",
        "ada@example.com-ada@old.example-another_address",
    ]
)
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("called", NAMES)
@pytest.mark.parametrize("email", ["ada@example.com", None])
def test_a_person_of_plain_sql_who_is_deleted_leaves_no_name_behind(
    app: App, called: str, history: str, email: str | None
) -> None:
    by_sql(app, called, ("user_ada", email, "Ada Lovelace"))
    apply(app, *HISTORIES[history], deleted())
    assert texts_about_ada(app) == []
    assert names_of_tenants(app) == ["user_ada"]


def test_a_row_that_plain_sql_has_deleted_before_leaves_no_name_behind(app: App) -> None:
    by_sql(app, "ada@example.com", ("user_ada", "ada@example.com", None))
    apply(app, created())
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM users")
    apply(app, deleted())
    assert texts_about_ada(app) == []


@pytest.mark.parametrize(
    ("called", "then"),
    [
        ("ada@example.com", "…"),
        ("A team of Ada@Example.com", "A team of …"),
        ("Ada Lovelace & sons", "Ada Lovelace & sons"),
        ("info@team.example", "info@team.example"),
    ],
)
def test_a_tenant_that_others_work_in_keeps_a_name_that_is_not_hers(app: App, called: str, then: str) -> None:
    by_sql(app, called, ("user_ada", "ada@example.com", "Ada Lovelace"), ("user_bob", "bob@example.com", "Bob"))
    apply(app, deleted())
    assert names_of_tenants(app) == [then]
    with app.db.transaction(SYSTEM) as tx:
        assert sorted(name for (name,) in tx.driver.execute("SELECT name FROM api_keys")) == ["laptop", "…, laptop"]
    apply(app, deleted(replace(ADA, user_id="user_bob")))
    assert "@" not in names_of_tenants(app)[0]


def test_of_all_who_leave_at_once_the_last_takes_the_names_along(app: App) -> None:
    people = [f"user_{n}" for n in range(6)]
    by_sql(app, "somebody@old.example", *((name, f"{name}@example.com", None) for name in people))
    jobs = [a_clerk_event(app, deleted(replace(ADA, user_id=name)), f"msg_{name}") for name in people]

    def leave(job_id: UUID) -> bool:
        own = beside(app)
        try:
            return own.runner().run_one(job_id)
        finally:
            own.db.close()

    with ThreadPoolExecutor(len(jobs)) as threads:
        assert all(threads.map(leave, jobs))
    assert {job_row(app, job_id)["status"] for job_id in jobs} == {"completed"}
    assert names_of_tenants(app)[0] in people


def test_the_tenant_of_plain_sql_follows_the_address_as_any_other(app: App) -> None:
    by_sql(app, "ada@example.com", ("user_ada", "ada@example.com", None))
    apply(app, updated(replace(ADA, email="ada@new.example")))
    assert names_of_tenants(app) == ["ada@new.example"]


def test_a_late_creation_does_not_bring_a_deleted_person_back(app: App) -> None:
    assert apply(app, deleted(), created(), updated()) == ["applied", "stale", "stale"]
    user = the_user(app)
    assert (user["email"], user["tenant_id"], user["deleted_at"]) == (None, None, NOV_22 + 2 * HOUR)
    assert names_of_tenants(app) == []


def test_an_address_can_be_used_again_after_its_owner_was_deleted(app: App) -> None:
    again = replace(ADA, user_id="user_ada_again")
    apply(app, created(), deleted(), created(again))
    assert [(user["clerk_id"], user["email"]) for user in users(app)] == [
        ("user_ada", None),
        ("user_ada_again", "ada@example.com"),
    ]


def test_what_is_not_about_a_person_is_kept_and_says_so(app: App) -> None:
    body = clerk_event("session.ended", {"id": "sess_1", "user_id": "user_ada"}, at=NOV_22)
    assert apply(app, body) == ["ignored:type"]
    assert users(app) == []


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("id", None, "data.id: missing"),
        ("updated_at", "yesterday", "data.updated_at: expected a whole number, found str"),
        ("email_addresses", "a@example.com", "data.email_addresses: expected a list, found str"),
    ],
)
def test_a_body_that_clerks_format_does_not_allow_is_a_dead_letter_that_names_the_field(
    app: App, field: str, value: object, error: str
) -> None:
    body = created()
    body["data"][field] = value
    job_id: UUID = a_clerk_event(app, body, "msg_1")
    drain(app)
    row = job_row(app, job_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("failed", 1, error)
    assert users(app) == []

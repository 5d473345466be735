"""What Clerk's own books say reaches people, organizations and memberships, although a webhook never came."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from db.transaction import SYSTEM
from simulators.clerk.api import ClerkApiSimulator
from simulators.clerk.events import clerk_event, clerk_membership, clerk_organization, clerk_user
from simulators.clerk.scenarios import scenarios
from simulators.loopback import Loopback, Reply, Request
from simulators.personas import Body, Persona
from tests.builders import NOV_22, a_clerk_event, event_row, job_row
from tests.converge.clerk_runs import state
from tests.drain import drain
from tests.workers.jobs.test_identity import ADA, HOUR, apply, created, the_user, users
from workers.app import App, build
from workers.jobs.reconcile import reconcile_identity
from workers.runtime import logs
from workers.settings import Settings

BOB = replace(ADA, user_id="user_bob", email="bob@example.com")


@pytest.fixture
def clerk() -> ClerkApiSimulator:
    """An instance that knows one person, whom we know too."""
    found = ClerkApiSimulator()
    found.users = [clerk_user(ADA, created_at=NOV_22)]
    return found


@pytest.fixture
def served(clerk: ClerkApiSimulator) -> Iterator[Loopback]:
    with clerk.serving() as server:
        yield server


@pytest.fixture
def asking(settings: Settings, clerk: ClerkApiSimulator, served: Loopback) -> Iterator[App]:
    """An application with the key of `clerk`."""
    logs.configure("console", "ERROR")
    app = build(settings_of(settings, clerk, served), name="tests", clock=lambda: NOV_22 + 9 * HOUR)
    apply(app, created())
    yield app
    app.close()


def settings_of(settings: Settings, clerk: ClerkApiSimulator, served: Loopback, **more: Any) -> Settings:
    defaults = {"clerk_secret_key": clerk.key, "clerk_api_base": served.url}
    return Settings.model_validate(settings.model_dump() | defaults | more)


def attempt(app: App) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        job_id = reconcile_identity.enqueue(tx)
    drain(app)
    return job_row(app, job_id)


def run(app: App) -> tuple[int, int, int]:
    """Reconcile, and apply what that led to: how many were compared, different, repaired."""
    row = attempt(app)
    assert row["status"] == "completed", row["error_message"]
    result = row["result"]
    return result["compared"], result["different"], result["repaired"]


def agrees(app: App) -> bool:
    return run(app)[1:] == (0, 0)


def test_where_all_webhooks_came_nothing_is_told_again(asking: App) -> None:
    assert run(asking) == (1, 0, 0)
    with asking.db.transaction(SYSTEM) as tx:
        assert len(tx.events.recent()) == 1


def test_whoever_never_came_comes_with_their_organization(asking: App, clerk: ClerkApiSimulator) -> None:
    clerk.users.append(clerk_user(BOB, created_at=NOV_22))
    clerk.organizations.append(clerk_organization(BOB, created_at=NOV_22))
    clerk.memberships.append(clerk_membership(BOB, created_at=NOV_22, role="org:admin"))
    assert run(asking) == (4, 3, 3)
    assert [(row["clerk_id"], row["role"], row["email"]) for row in users(asking)] == [
        ("user_ada", "ADMIN", "ada@example.com"),
        ("user_bob", "ADMIN", "bob@example.com"),
    ]
    with asking.db.transaction(SYSTEM) as tx:
        found = tx.identity.signed_in("user_bob", BOB.organization_id)
        events = tx.events.recent()
    assert found is not None
    assert {row["status"] for row in events} == {"applied"}
    assert all(row["job_id"] for row in events)
    assert agrees(asking)


def test_a_ban_and_its_end_that_were_never_told_are_found(asking: App, clerk: ClerkApiSimulator) -> None:
    clerk.users = [clerk_user(ADA, created_at=NOV_22, updated_at=NOV_22 + HOUR, banned=True)]
    assert run(asking) == (1, 1, 1)
    assert the_user(asking)["banned"]
    clerk.users = [clerk_user(ADA, created_at=NOV_22, updated_at=NOV_22 + 2 * HOUR)]
    assert run(asking) == (1, 1, 1)
    assert not the_user(asking)["banned"]
    assert agrees(asking)


def test_what_clerk_does_not_have_any_more_ends(asking: App, clerk: ClerkApiSimulator) -> None:
    clerk.users.append(clerk_user(BOB, created_at=NOV_22))
    clerk.organizations.append(clerk_organization(BOB, created_at=NOV_22))
    clerk.memberships = [clerk_membership(who, created_at=NOV_22) for who in (ADA, BOB)]
    assert run(asking)[1] == 4
    clerk.memberships.pop(0)
    assert run(asking)[1:] == (1, 1)
    with asking.db.transaction(SYSTEM) as tx:
        assert tx.identity.signed_in("user_ada", ADA.organization_id) is None
        assert tx.identity.signed_in("user_bob", BOB.organization_id) is not None
    clerk.users.pop()
    clerk.organizations.clear()
    clerk.memberships.clear()
    assert run(asking)[1:] == (3, 3)
    assert [(row["clerk_id"], row["deleted_at"] is not None) for row in users(asking)] == [
        ("user_ada", False),
        ("user_bob", True),
    ]
    with asking.db.transaction(SYSTEM) as tx:
        texts = [str(text) for (text,) in tx.driver.execute("SELECT payload::text FROM webhook_events")]
    assert [text for text in texts if "bob@" in text] == [], "what was told of them from the books is forgotten too"
    assert agrees(asking)


def test_all_pages_are_read_and_nobody_is_gone_because_somebody_is_deleted_meanwhile(
    asking: App, clerk: ClerkApiSimulator, served: Loopback
) -> None:
    many = [replace(ADA, user_id=f"user_{n:03}", email=f"p{n}@example.com") for n in range(250)]
    clerk.users += [clerk_user(who, created_at=NOV_22 + timedelta(seconds=n)) for n, who in enumerate(many)]
    assert run(asking) == (251, 250, 250)
    lists = [request for request in served.requests if request.path == "/v1/users"]
    assert [request.params["offset"] for request in lists] == ["0", "100", "200"]
    assert len(users(asking)) == 251

    def deleted(request: Request) -> None:
        if request.path == "/v1/users" and request.params["offset"] == "0":
            clerk.users.pop(1)  # all that come after move up, past the next page's beginning

    clerk.meanwhile = deleted
    assert run(asking)[1:] == (0, 0)
    clerk.meanwhile = lambda request: None
    assert run(asking)[1:] == (1, 1)
    assert [row["clerk_id"] for row in users(asking) if row["deleted_at"]] == ["user_000"]
    assert agrees(asking)


def test_too_many_requests_are_waited_for(asking: App, served: Loopback) -> None:
    served.fail(Reply(b"{}", 429, {"Retry-After": "0"}), times=2, path="/v1/users")
    assert run(asking) == (1, 0, 0)


def test_a_failure_in_the_middle_is_tried_again(asking: App, clerk: ClerkApiSimulator, served: Loopback) -> None:
    clerk.users.append(clerk_user(BOB, created_at=NOV_22))
    served.fail(Reply(b"{}", 500), times=9, path="/v1/organization")
    row = attempt(asking)
    assert (row["status"], len(users(asking))) == ("pending", 2), "what was found before is repaired"


def test_an_instance_without_organizations_has_none(asking: App, clerk: ClerkApiSimulator) -> None:
    clerk.organizations_enabled = False
    apply(asking, clerk_event("organization.created", clerk_organization(ADA, created_at=NOV_22), at=NOV_22))
    assert run(asking) == (1, 0, 0), "nobody counts as gone of whom Clerk does not say it"


def test_an_odd_object_is_named_and_costs_only_itself(asking: App, clerk: ClerkApiSimulator) -> None:
    clerk.users += [{"id": "user_odd", "created_at": 7}, clerk_user(BOB, created_at=NOV_22)]
    clerk.users[1]["updated_at"] = "yesterday"
    assert run(asking) == (3, 2, 1)
    assert [row["clerk_id"] for row in users(asking)] == ["user_ada", "user_bob"]


def test_a_person_whose_deletion_is_known_does_not_come_back(asking: App, clerk: ClerkApiSimulator) -> None:
    gone = clerk_event("user.deleted", {"id": "user_ada", "object": "user", "deleted": True}, at=NOV_22)
    with asking.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id) SELECT 'user_eve', id FROM tenants")
    job_id = a_clerk_event(asking, gone, "msg_gone")
    drain(asking)
    assert event_row(asking, job_id)["status"] == "applied"
    assert run(asking) == (1, 1, 0), "that is for a person to look at; and whom Clerk never told of is not gone"
    assert {row["clerk_id"]: row["deleted_at"] is None for row in users(asking)} == {
        "user_ada": False,
        "user_eve": True,
    }


@pytest.mark.parametrize("named", [True, False])
def test_another_instances_key_changes_nothing(
    asking: App, settings: Settings, clerk: ClerkApiSimulator, served: Loopback, named: bool
) -> None:
    clerk.users = [clerk_user(BOB, created_at=NOV_22)]
    more = {"clerk_instance_id": "ins_ours"} if named else {}
    other = build(settings_of(settings, clerk, served, **more), name="tests")
    row = attempt(other)
    other.close()
    reason = "CLERK_INSTANCE_ID says ins_ours" if named else "Clerk knows none of the 1 newest people here"
    assert row["status"] == "failed"
    assert reason in row["error_message"]
    assert [each["clerk_id"] for each in users(asking)] == ["user_ada"]
    assert the_user(asking)["deleted_at"] is None


def test_a_wrong_key_and_none_say_so(app: App, settings: Settings, clerk: ClerkApiSimulator, served: Loopback) -> None:
    assert attempt(app)["result"] == {"skipped": "CLERK_SECRET_KEY is not set, so Clerk cannot be asked"}
    wrong = build(settings_of(settings, clerk, served, clerk_secret_key="sk_test_other"), name="tests")
    row = attempt(wrong)
    wrong.close()
    assert (row["status"], row["error_message"]) == ("failed", "Clerk does not accept CLERK_SECRET_KEY")


# --- whatever was lost -------------------------------------------------------------------------------------------

WHO = Persona(ADA.tenant_id, "cus_1", "sub_1", "user_life", "life@example.com", organization_id="org_life")
SCENARIOS = scenarios(WHO, NOV_22)


def books(clerk: ClerkApiSimulator, events: list[Body]) -> None:
    """What Clerk has at the end of a life."""
    people, organizations, members = {}, {}, {}
    for event in events:
        kind, _, what = event["type"].partition(".")
        book = {"user": people, "organization": organizations, "organizationMembership": members}.get(kind)
        if book is not None:
            book[event["data"]["id"]] = None if what == "deleted" else event["data"]
    clerk.users = [clerk.users[0], *filter(None, people.values())]
    clerk.organizations = [each for each in organizations.values() if each]
    there = {each["id"] for each in (*clerk.users, *clerk.organizations)}
    clerk.memberships = [
        each
        for each in members.values()
        if each and {each["organization"]["id"], each["public_user_data"]["user_id"]} <= there
    ]


@pytest.mark.proof(but=["a_person_alone", "a_banned_member", "an_address_used_again"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_events_were_lost_the_mirror_is_what_the_books_say(
    asking: App, clerk: ClerkApiSimulator, name: str
) -> None:
    events = SCENARIOS[name]
    books(clerk, events)
    rng = Random(name)
    apply(asking, *rng.sample(events, len(events) // 2))
    run(asking)
    assert agrees(asking)
    found = state(asking)
    people = {row["clerk_id"]: row for row in found["users"]}
    for theirs in clerk.users:
        assert people[theirs["id"]]["banned"] is theirs["banned"]
        assert people[theirs["id"]]["deleted_at"] is None
    live = {row["clerk_id"] for row in found["memberships"] if row["deleted_at"] is None}
    assert live == {each["id"] for each in clerk.memberships}
    assert sum(row["deleted_at"] is None for row in found["users"]) == len(clerk.users)

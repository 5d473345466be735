"""`viral identity reconcile` and `viral users`, as an operator types them."""

from collections.abc import Iterator

import pytest

from simulators.clerk.api import ClerkApiSimulator
from simulators.clerk.events import clerk_membership, clerk_organization, clerk_user
from tests.builders import NOV_22, a_tenant
from tests.cli.shell import Shell
from tests.drain import drain
from tests.workers.jobs.test_identity import ADA, HOUR, apply, created, the_user, updated
from workers.app import App


@pytest.fixture
def clerk(app: App, viral: Shell) -> Iterator[ClerkApiSimulator]:
    """An instance in which somebody whom we know was banned; the shell has its key."""
    apply(app, created())
    found = ClerkApiSimulator()
    found.users = [clerk_user(ADA, created_at=NOV_22, updated_at=NOV_22 + HOUR, banned=True)]
    found.organizations = [clerk_organization(ADA, created_at=NOV_22)]
    found.memberships = [clerk_membership(ADA, created_at=NOV_22)]
    with found.serving() as server:
        viral.environment |= {"CLERK_SECRET_KEY": found.key, "CLERK_API_BASE": server.url}
        yield found


def test_it_reports_and_changes_nothing_until_it_is_told_to(app: App, viral: Shell, clerk: ClerkApiSimulator) -> None:
    result = viral.done("identity", "reconcile")
    assert [line.split()[:5] for line in result.lines[1:4]] == [
        ["person", "user_ada", "banned", "no", "yes"],
        ["organization", ADA.organization_id, "at", "Clerk", "-"],
        ["membership", clerk.memberships[0]["id"], "at", "Clerk", "-"],
    ]
    assert result.lines[-1] == "Nothing was changed: --repair repairs the mirror."
    drain(app)
    assert not the_user(app)["banned"]

    repaired = viral.json("identity", "reconcile", "--repair")
    assert (repaired["compared"], repaired["repaired"], len(repaired["differences"])) == (3, 3, 3)
    assert repaired["differences"][0]["changes"] == {"banned": {"ours": False, "clerk": True}}
    drain(app)
    assert the_user(app)["banned"]
    assert viral.done("identity", "reconcile").lines == ["The mirror is what Clerk's books say (3 compared)."]


def test_what_cannot_be_asked_is_refused(viral: Shell, clerk: ClerkApiSimulator) -> None:
    assert "CLERK_SECRET_KEY is not set" in viral.refused("identity", "reconcile", CLERK_SECRET_KEY="")
    assert "CLERK_SECRET_KEY" in viral.refused("identity", "reconcile", CLERK_SECRET_KEY="pk_test_x")
    assert "does not accept" in viral.refused("identity", "reconcile", CLERK_SECRET_KEY="sk_test_x")
    assert "CLERK_INSTANCE_ID says ins_x" in viral.refused("identity", "reconcile", CLERK_INSTANCE_ID="ins_x")


def test_who_is_banned_is_shown(app: App, viral: Shell) -> None:
    apply(app, created())
    assert viral.done("users", "list", "--banned").lines == ["Nobody."]
    tenant_id = the_user(app)["tenant_id"]
    assert not viral.json("tenants", "show", tenant_id)["only_banned_people_answer"]
    apply(app, updated(banned=True))
    [listed] = viral.json("users", "list", "--banned")
    assert (listed["clerk_id"], listed["banned"]) == ("user_ada", True)
    for name in ("user_ada", "ada@example.com", the_user(app)["id"]):
        [shown] = viral.json("users", "show", name)
        assert (shown["banned"], shown["own_tenant_id"], shown["memberships"]) == (True, str(tenant_id), [])
    assert "No memberships." in viral.done("users", "show", "user_ada").out
    assert viral.json("tenants", "show", tenant_id)["only_banned_people_answer"]
    result = viral.done("tenants", "show", tenant_id)
    assert (
        "Whoever answers for this tenant is banned in Clerk: its keys are refused, daily concepts rest." in result.lines
    )
    assert "there is nobody with the id or address 'bob'" in viral.refused("users", "show", "bob")


def test_the_doctor_counts_who_pays_and_is_shut_out(app: App, viral: Shell) -> None:
    name = "somebody who is not banned answers for every tenant that pays"

    def finding() -> str:
        found = viral.json("doctor")
        return next(str(each["state"]) for each in found if each["check"] == name)

    a_tenant(app, subscription_tier="PRO")
    apply(app, created(), updated(banned=True))
    assert finding() == "ok"
    with app.db.transaction(tenant_id := the_user(app)["tenant_id"]) as tx:
        tx.driver.execute("UPDATE tenants SET subscription_tier = 'PRO' WHERE id = %s", (tenant_id,))
    assert finding() == "warn"


def test_a_key_says_who_made_it(app: App, viral: Shell) -> None:
    tenant_id = a_tenant(app)
    viral.done("keys", "create", "--tenant", tenant_id, "--name", "x", "--scope", "account:read")
    [listed] = viral.json("keys", "list", "--tenant", tenant_id)
    assert listed["created_by"] == "operator"
    assert listed["operator"]

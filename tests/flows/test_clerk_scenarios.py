"""However Clerk tells a life, the database ends the same: permuted, told twice, halved, and by two workers at once.

A slice of `make converge`.
"""

import pytest

from tests.converge.clerk_runs import SCENARIOS, deliver, run
from tests.converge.runs import ORDERS
from tests.seeds import seeded
from workers.app import App


@pytest.mark.proof(but=["a_person_alone", "a_member_before_anything_else", "banned_and_deleted", "two_organizations"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_ends_the_same_in_any_order(app: App, scenario: str) -> None:
    rng, expected = seeded(scenario), {}
    for order in ORDERS:
        run(app, scenario, order, rng, expected)


def ends(app: App, scenario: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Who works where and as what, and what the tenants are called."""
    found = deliver(app, SCENARIOS[scenario], range(len(SCENARIOS[scenario])))
    people = {user["clerk_id"]: (user["works for"], user["role"]) for user in found["users"]}
    return people, {tenant["of"]: tenant["name"] for tenant in found["tenants"]}


def test_the_ends_of_these_scenarios(app: App) -> None:
    """So that the comparison above is not one of empty tables."""
    homes = {"user_ada": "ada@example.com"}
    assert ends(app, "a_career") == ({"user_ada": (None, "MEMBER")}, {"org_acme": "Acme"})
    assert ends(app, "an_organization") == (
        {"user_ada": ("user_ada", "ADMIN"), "user_adaFriend": ("user_adaFriend", "ADMIN")},
        homes | {"user_adaFriend": "friend.ada@example.com"},
    )
    assert ends(app, "a_member_before_anything_else") == (
        {"user_ada": ("org_acme", "ADMIN")},
        homes | {"org_acme": "Acme"},
    )
    assert ends(app, "an_address_used_again") == (
        {"user_ada": (None, "MEMBER"), "user_adaFriend": ("user_adaFriend", "ADMIN")},
        {"user_adaFriend": "ada@example.com"},
    )
    assert ends(app, "two_organizations") == (
        {"user_ada": ("org_acmeElsewhere", "ADMIN")},
        homes | {"org_acme": "Acme", "org_acmeElsewhere": "Elsewhere"},
    )
    for scenario, banned in (
        ("banned", ["user_ada"]),
        ("banned_and_unbanned", []),
        ("a_banned_member", ["user_adaFriend"]),
    ):
        found = deliver(app, SCENARIOS[scenario], range(len(SCENARIOS[scenario])))
        assert [user["clerk_id"] for user in found["users"] if user["banned"]] == banned
    assert ends(app, "leaves_and_joins_again") == (
        {"user_ada": ("org_acme", "MEMBER")},
        homes | {"org_acme": "Acme"},
    )

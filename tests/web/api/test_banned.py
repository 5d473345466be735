"""Whoever is banned in Clerk is banned here: their tokens, the keys that they answer for, and daily concepts."""

from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from simulators.personas import Body
from tests.builders import NOV_22, a_tenant
from tests.cases.load import clerk_case
from tests.web.api.test_api import Api, a_key, a_session, a_user, refused
from tests.web.api.test_makers import IN_ACME, codes, made, member
from tests.workers.jobs.test_generation import fire
from tests.workers.jobs.test_identity import ADA, HOUR, apply, created, deleted, the_user, updated
from tests.workers.jobs.test_organizations import of_organization, organization
from workers.app import App

BOB = replace(ADA, user_id="user_bob", email="bob@example.com")


@pytest.fixture
def api(app: App) -> Api:
    return Api(app)


def banned(who: Any = ADA, hour: int = 1) -> Body:
    return updated(who, NOV_22 + hour * HOUR, banned=True)


def token(api: Api, **claims: Any) -> str:
    answer = api("GET", "/user", a_session(**claims))
    return "200" if answer.status_code == 200 else refused(answer)[1]


def served_today(app: App, tenant_id: UUID) -> int:
    """How many tenants get daily concepts, of which this is one that wants them."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "UPDATE tenants SET daily_enabled = true, daily_hour = 12, daily_last_on = NULL WHERE id = %s", (tenant_id,)
        )
    return int(fire(app, NOV_22)["result"]["enqueued"])


def test_the_case(app: App, api: Api) -> None:
    signed_up, ban = clerk_case("11")
    apply(app, signed_up)
    who = signed_up["data"]["id"]
    tenant_id = the_user(app)["tenant_id"]
    keys = [a_key(app, tenant_id, "account:read", "keys:write"), made(api, a_session(sub=who))["key"]]
    assert (token(api, sub=who), codes(api, *keys), served_today(app, tenant_id)) == ("200", ["200"] * 2, 1)

    assert apply(app, ban) == ["applied"]
    assert (token(api, sub=who), codes(api, *keys)) == ("ACCOUNT_BANNED", ["ACCOUNT_BANNED"] * 2)
    for path, body in (("/generate", {"count": 1}), ("/keys", {"name": "x", "scopes": ["account:read"]})):
        for credential in (a_session(sub=who), *keys):
            assert refused(api("POST", path, credential, json=body)) == (403, "ACCOUNT_BANNED")
    assert served_today(app, tenant_id) == 0

    assert apply(app, signed_up) == ["stale"]
    assert token(api, sub=who) == "ACCOUNT_BANNED"
    at = ban["data"]["updated_at"] + 1
    lifted = ban | {"data": ban["data"] | {"banned": False, "locked": True, "updated_at": at}}
    assert apply(app, lifted) == ["applied"]
    assert (token(api, sub=who), codes(api, *keys), served_today(app, tenant_id)) == ("200", ["200"] * 2, 1)


SCENARIOS = {
    "banned": ([created(), organization(), member(), banned()], "ACCOUNT_BANNED"),
    "unbanned": ([created(), organization(), member(), banned(), updated(at=NOV_22 + 2 * HOUR)], "200"),
    "banned again": ([created(), organization(), member(), banned(hour=3), updated(at=NOV_22 + 2 * HOUR)], None),
    "deleted": ([created(), organization(), member(), banned(), deleted()], "ACCOUNT_DELETED"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_order_of_delivery_decides_nothing(app: App, name: str) -> None:
    events, answer = SCENARIOS[name]
    rng = Random(name)
    for number in range(3):
        who = f"user_{number}"
        texts = [_of(each, who, f"org_{number}") for each in rng.sample(events * 2, 2 * len(events))]
        apply(app, *texts)
        claims = {"sub": who, "o": {"id": f"org_{number}", "rol": "admin"}}
        assert {token(Api(app), sub=who), token(Api(app), **claims)} == {answer or "ACCOUNT_BANNED"}


def _of(body: Body, user_id: str, organization_id: str) -> Body:
    """The event as if it had happened to others."""
    data = dict(body["data"])
    kind = body["type"].partition(".")[0]
    if kind == "organizationMembership":
        data |= {
            "id": f"orgmem_{user_id}",
            "organization": data["organization"] | {"id": organization_id},
            "public_user_data": data["public_user_data"] | {"user_id": user_id},
        }
    else:
        data["id"] = user_id if kind == "user" else organization_id
    return body | {"data": data}


def test_where_others_answer_too_only_the_banned_persons_own_keys_are_refused(app: App, api: Api) -> None:
    apply(app, created(), created(BOB), organization(), member())
    acme = of_organization(app)
    assert acme is not None
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE users SET tenant_id = %s, role = 'ADMIN' WHERE clerk_id = 'user_bob'", (acme,))
    hers, his = made(api, a_session(**IN_ACME))["key"], made(api, a_session(sub="user_bob"))["key"]
    nobodys = a_key(app, acme, "account:read")
    apply(app, banned())
    assert codes(api, hers, his, nobodys) == ["ACCOUNT_BANNED", "200", "200"]
    assert served_today(app, acme) == 1
    apply(app, banned(BOB))
    assert codes(api, hers, his, nobodys) == ["ACCOUNT_BANNED"] * 3
    assert served_today(app, acme) == 0
    apply(app, deleted(BOB))
    assert codes(api, nobodys) == ["ACCOUNT_BANNED"], "she alone is left to answer for it"
    apply(app, updated(at=NOV_22 + 3 * HOUR))
    assert codes(api, hers, his, nobodys) == ["200", "KEY_REVOKED", "200"]


def test_a_member_without_a_active_membership_answers_too(app: App, api: Api) -> None:
    """Whoever stays at home, where they keep content, is a member all the same."""
    apply(app, created(), organization())
    with app.db.transaction(SYSTEM) as tx:
        own_tenant = tx.identity.own_tenant("user_ada")
        tx.driver.execute("INSERT INTO generations (tenant_id) VALUES (%s)", (own_tenant,))
    apply(app, member())
    acme = of_organization(app)
    assert acme is not None
    keys = [a_key(app, each, "account:read") for each in (own_tenant, acme) if each]
    apply(app, banned())
    assert codes(api, *keys) == ["ACCOUNT_BANNED"] * 2


def test_where_nobody_answers_nobody_is_banned(app: App, api: Api) -> None:
    tenant_id = a_tenant(app, id=uuid4())
    assert codes(api, a_key(app, tenant_id, "account:read")) == ["200"]
    a_user(app, "user_gone", deleted_at=NOV_22, banned=True)
    assert served_today(app, tenant_id) == 1

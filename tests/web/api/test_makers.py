"""Keys know who made them, and outlive neither the key that made them nor the person; also when many come at once."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest

from db.transaction import SYSTEM
from domain.identity.access import MAX_KEYS
from simulators.clerk.events import clerk_deleted_organization, clerk_event, clerk_membership
from simulators.personas import Body
from tests.builders import NOV_22, a_tenant
from tests.wait import until
from tests.web.api.test_api import Api, a_key, a_session, a_user, refused
from tests.workers.jobs.test_identity import ADA, HOUR, apply, created, deleted
from tests.workers.jobs.test_organizations import of_organization, organization
from workers.app import App, build
from workers.runtime import logs
from workers.settings import Settings

THREADS = 8
IN_ACME = {"o": {"id": ADA.organization_id, "rol": "admin"}}
KEEPER = ("account:read", "keys:write")


@pytest.fixture
def many(settings: Settings) -> Iterator[App]:
    """For as many threads as there are connections."""
    logs.configure("console", "ERROR")
    app = build(settings, name="tests", pool_size=THREADS)
    yield app
    app.close()


@pytest.fixture
def api(app: App) -> Api:
    return Api(app)


def member(what: str = "created", *, number: int = 1, role: str = "org:admin", joined: int = 0, hours: int = 0) -> Body:
    """In hours after NOV_22. Keys are made by the real clock, which may be any: hence the thousands of hours below."""
    row = clerk_membership(ADA, created_at=NOV_22 + joined * HOUR, role=role, number=number)
    return clerk_event(f"organizationMembership.{what}", row, at=NOV_22 + hours * HOUR)


def make(api: Api, credential: str, **options: Any) -> httpx.Response:
    return api("POST", "/keys", credential, json={"name": "made", "scopes": list(KEEPER)} | options)


def made(api: Api, credential: str, **options: Any) -> dict[str, Any]:
    answer = make(api, credential, **options)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def revoke(api: Api, key_id: str) -> None:
    """However busy the tenant is."""
    until(lambda: api("DELETE", f"/keys/{key_id}", a_session()).status_code == 204, "the key to be revoked")


def codes(api: Api, *keys: str) -> list[str]:
    """How each key is answered: "200", or the code of the refusal."""
    answers = [api("GET", "/user", key) for key in keys]
    return ["200" if each.status_code == 200 else refused(each)[1] for each in answers]


def test_a_key_says_who_made_it(app: App, api: Api) -> None:
    a_user(app)
    by_ada = made(api, a_session())
    by_key = made(api, by_ada["key"])
    user_id = api("GET", "/user", a_session()).json()["user_id"]
    assert (by_ada["created_by"], by_key["created_by"]) == (f"user:{user_id}", f"key:{by_ada['id']}")
    listed = api("GET", "/keys", a_session()).json()
    assert [each["created_by"] for each in listed] == [by_key["created_by"], by_ada["created_by"]]


def test_a_key_from_before_makers_were_kept_is_of_unknown_making_and_goes_on_working(app: App, api: Api) -> None:
    a_key(app, tenant_id := a_tenant(app), *KEEPER)
    old = a_key(app, tenant_id, *KEEPER)
    assert {each["created_by"] for each in api("GET", "/keys", old).json()} == {"unknown"}
    assert codes(api, made(api, old)["key"]) == ["200"]


def test_a_key_goes_with_the_key_that_made_it_and_all_after_it_too(app: App, api: Api) -> None:
    a_user(app)
    first = made(api, a_session())
    line = [first]
    for _ in range(4):
        line.append(made(api, line[-1]["key"]))
    other = made(api, a_session())
    assert api("DELETE", f"/keys/{line[2]['id']}", a_session()).status_code == 204
    assert codes(api, *(each["key"] for each in line)) == ["200", "200", *["KEY_REVOKED"] * 3]
    assert api("DELETE", f"/keys/{first['id']}", first["key"]).status_code == 204
    assert codes(api, line[1]["key"], other["key"]) == ["KEY_REVOKED", "200"]


def test_a_key_ends_with_the_key_that_made_it_at_the_latest(app: App, api: Api) -> None:
    a_user(app)
    with app.db.transaction(SYSTEM) as tx:
        end, later = tx.now() + timedelta(days=7), tx.now() + timedelta(days=8)
    parent = made(api, a_session(), expires_at=end.isoformat())
    child = made(api, parent["key"])
    assert child["expires_at"] == parent["expires_at"]
    answer = make(api, child["key"], expires_at=later.isoformat())
    assert refused(answer) == (422, "INVALID")
    assert "the key that makes it ends at" in answer.json()["error"]


@pytest.mark.parametrize("by", ["leaving", "the organization's end", "deletion"])
def test_keys_go_with_their_makers_and_others_stay(app: App, api: Api, by: str) -> None:
    apply(app, created(), organization(), member())
    acme = of_organization(app)
    assert acme is not None
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id, role) VALUES ('user_bob', %s, 'ADMIN')", (acme,))
    hers = made(api, a_session(**IN_ACME))
    keys = [hers["key"], made(api, hers["key"])["key"]]
    others = [made(api, a_session(sub="user_bob"))["key"], a_key(app, acme, *KEEPER)]
    end = {
        "leaving": member("deleted", hours=2),
        "the organization's end": clerk_event("organization.deleted", clerk_deleted_organization(ADA), at=NOV_22),
        "deletion": deleted(),
    }[by]
    apply(app, end)
    assert codes(api, *keys, *others) == ["KEY_REVOKED", "KEY_REVOKED", "200", "200"]
    assert refused(make(api, a_session(**IN_ACME)))[0] == 403


def test_whoever_comes_back_makes_new_keys_in_whatever_order_that_is_told(app: App, api: Api) -> None:
    apply(app, created(), organization(), member(joined=-10_000))
    key = made(api, a_session(**IN_ACME))["key"]
    # By our clock the key was made before she joined again.
    again, left = member(number=2, joined=1_000_000, hours=1_000_000), member("deleted", joined=-10_000, hours=1)
    for events in itertools.permutations([again, left]):
        apply(app, *events)
        assert codes(api, key) == ["KEY_REVOKED"]
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE api_keys SET revoked_at = NULL")
            tx.driver.execute("DELETE FROM organization_memberships WHERE clerk_id = %s", (again["data"]["id"],))
            tx.driver.execute("UPDATE organization_memberships SET deleted_at = NULL")


def test_a_key_loses_what_its_maker_may_not_do_any_more(app: App, api: Api) -> None:
    apply(app, created(), organization(), member())
    key = made(api, a_session(**IN_ACME))["key"]
    row = clerk_membership(ADA, created_at=NOV_22, updated_at=NOV_22 + HOUR, role="org:member")
    apply(app, clerk_event("organizationMembership.updated", row, at=NOV_22 + HOUR))
    assert api("GET", "/user", key).json()["scopes"] == ["account:read"]
    assert refused(make(api, key)) == (403, "SCOPE_MISSING")


def test_a_key_whose_maker_another_program_deleted_lets_nobody_in(app: App, api: Api) -> None:
    a_user(app)
    key = made(api, a_session())["key"]
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM users")
    assert codes(api, key) == ["KEY_REVOKED"]


# --- many at once ------------------------------------------------------------------------------------------------


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [done.result() for done in [pool.submit(act) for act in acts]]


def usable(app: App, tenant_id: UUID) -> list[Any]:
    with app.db.transaction(tenant_id) as tx:
        return [row for row in tx.access.keys(tenant_id) if row["revoked_at"] is None]


def test_a_key_that_is_being_revoked_leaves_no_key_behind(many: App) -> None:
    api = Api(many)
    tenant_id = a_user(many)
    for _ in range(4):
        parent = made(api, a_session())
        child = made(api, parent["key"])
        acts = [partial(make, api, each["key"], name="orphan") for each in (parent, child)] * 6
        answers = at_once(*acts[:5], partial(revoke, api, parent["id"]), *acts[5:])
        assert {each.status_code for each in answers if isinstance(each, httpx.Response)} <= {201, 401, 503}
        assert usable(many, tenant_id) == []


@pytest.mark.parametrize("by", ["leaving", "deletion"])
def test_who_is_leaving_leaves_no_key_behind(many: App, by: str) -> None:
    api = Api(many)
    apply(many, created(), organization(), member())
    acme = of_organization(many)
    assert acme is not None
    key = made(api, a_session(**IN_ACME))["key"]
    acts = [partial(make, api, each, name="orphan") for each in (key, a_session(**IN_ACME))] * 6
    end = partial(apply, many, deleted() if by == "deletion" else member("deleted", hours=2))
    answers = at_once(*acts[:4], end, *acts[4:])
    assert {each.status_code for each in answers if isinstance(each, httpx.Response)} <= {201, 401, 403, 503}
    assert usable(many, acme) == []


def test_a_hundred_keys_are_a_hundred(many: App) -> None:
    api = Api(many)
    tenant_id = a_user(many)
    for _ in range(MAX_KEYS - 3):
        a_key(many, tenant_id, "account:read")
    parent = made(api, a_session())
    answers = at_once(*[partial(make, api, parent["key"])] * THREADS)
    assert sorted(each.status_code for each in answers) == [201] * 2 + [422] * (THREADS - 2)
    assert len(usable(many, tenant_id)) == MAX_KEYS


def test_a_member_seen_from_elsewhere_has_no_say(app: App, api: Api) -> None:
    """The person of another tenant makes keys there, and none here."""
    apply(app, created(), organization(), member(), created(replace(ADA, user_id="user_bob", email="bob@example.com")))
    theirs = made(api, a_session(sub="user_bob"))
    assert api("DELETE", f"/keys/{theirs['id']}", a_session()).status_code == 404
    assert codes(api, theirs["key"]) == ["200"]

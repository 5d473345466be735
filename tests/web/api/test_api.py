"""The JSON API, from outside: who comes in, what they are told, and what refusals look like."""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from secrets import token_bytes
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import insert, select
from starlette.applications import Starlette
from starlette.routing import Mount

from db.schema.identity import api_keys, users
from db.transaction import SYSTEM
from domain.errors import TenantContextNotSet, Unavailable
from domain.identity.access import KEY_BYTES, NOTE_USE_EVERY, new_key
from integrations.clerk.sessions import JwksKeys, PemKeys, Verifier
from simulators.clerk.events import clerk_deleted_organization, clerk_event, clerk_membership, clerk_organization
from simulators.clerk.sessions import ClerkSessionSimulator
from simulators.personas import Persona
from tests.builders import a_clerk_event, a_tenant
from tests.drain import drain
from web.api.app import create_api
from web.server.body import MAX_BODY
from workers.app import App

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PAGE = "https://app.example.com"

INSTANCE = ClerkSessionSimulator()


class Api:
    """The API mounted as in the web process, asked without a socket. Its clock stands."""

    def __init__(self, app: App, **options: Any) -> None:
        sessions = Verifier(PemKeys(INSTANCE.pem()), issuer=INSTANCE.issuer, parties=(PAGE,))
        defaults: dict[str, Any] = {"sessions": sessions, "clock": NOW.timestamp, "origins": (PAGE,)}
        self._web = Starlette(routes=[Mount("/api", create_api(app, **(defaults | options)))])

    def __call__(self, method: str, path: str, credential: str | None = None, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {credential}"} if credential else {})

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._web, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
                return await client.request(method, f"/api{path}", headers=headers, **options)

        return asyncio.run(ask())


@pytest.fixture
def api(app: App) -> Api:
    return Api(app)


def a_user(app: App, clerk_id: str = "user_ada", role: str = "ADMIN", **columns: Any) -> UUID:
    """A person with a tenant of their own. Returns the tenant's id."""
    tenant_id = a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        row = {"clerk_id": clerk_id, "tenant_id": tenant_id, "role": role} | columns
        tx.sql.execute(insert(users).values(row))
    return tenant_id


def a_key(app: App, tenant_id: UUID, *scopes: str, **columns: Any) -> str:
    key = new_key(token_bytes(KEY_BYTES), name="a key", scopes=["account:read"], expires_at=None, now=NOW, others=0)
    row = {"tenant_id": tenant_id, "name": "a key", "prefix": key.prefix, "key_hash": key.hash, "scopes": list(scopes)}
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(api_keys).values(row | columns))
    return key.text


def a_session(**claims: Any) -> str:
    return INSTANCE.token(NOW.timestamp(), **claims)


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose shape is checked on the way."""
    body = answer.json()
    assert body.keys() == {"error", "code", "details"}
    assert body["error"]
    return answer.status_code, body["code"]


# --- who comes in ---------------------------------------------------------------------------------------------


def test_a_signed_in_person_comes_to_their_tenant(app: App, api: Api) -> None:
    tenant_id = a_user(app)
    a_user(app, "user_bob")
    answer = api("GET", "/user", a_session())
    assert answer.status_code == 200
    body = answer.json()
    assert (body["tenant"]["id"], body["tenant"]["tier"], body["role"]) == (str(tenant_id), "FREE", "ADMIN")
    assert body["usage"] == api("GET", "/user/usage", a_session()).json()
    assert (body["usage"]["quota"], body["usage"]["remaining"]) == (10, 10)


def test_a_key_comes_to_its_tenant_with_its_scopes(app: App, api: Api) -> None:
    tenant_id = a_tenant(app)
    key = a_key(app, tenant_id, "account:read", "of a later release")
    body = api("GET", "/user", key).json()
    assert (body["tenant"]["id"], body["user_id"], body["role"]) == (str(tenant_id), None, None)
    assert body["scopes"] == ["account:read"]


def test_a_persons_role_decides_what_they_may_do(app: App, api: Api) -> None:
    a_user(app, role="MEMBER")
    assert api("GET", "/user", a_session()).json()["scopes"] == [
        "account:read",
        "generations:read",
        "generations:write",
        "posts:read",
        "posts:write",
        "videos:read",
        "videos:write",
        "webhooks:read",
    ]
    assert refused(api("GET", "/keys", a_session())) == (403, "SCOPE_MISSING")


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (None, "CREDENTIAL_MISSING"),
        ("x", "TOKEN_MALFORMED"),
        ("viral_" + "0" * 64, "KEY_UNKNOWN"),
        ("viral_" + "0" * 63, "KEY_UNKNOWN"),
        ("viral_" + "Ü" * 64, "KEY_UNKNOWN"),
    ],
)
def test_who_is_nobody_is_told_so(api: Api, credential: str | None, code: str) -> None:
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}".encode()}
    answer = api("GET", "/user", headers=headers)
    assert refused(answer) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_token_that_is_refused_names_the_reason(app: App, api: Api) -> None:
    a_user(app)
    assert refused(api("GET", "/user", a_session(exp=int(NOW.timestamp()) - 6))) == (401, "TOKEN_EXPIRED")
    assert refused(api("GET", "/user", a_session(azp="https://evil.example.com"))) == (401, "TOKEN_PARTY")
    assert refused(api("GET", "/user", headers={"Authorization": "Basic YTpi"})) == (401, "CREDENTIAL_MISSING")


def test_a_person_whose_webhook_is_not_here_yet_may_try_again(api: Api) -> None:
    answer = api("GET", "/user", a_session(sub="user_new"))
    assert refused(answer) == (403, "ACCOUNT_PENDING")
    assert (answer.json()["details"], answer.headers["retry-after"]) == ({"retry_after": 2}, "2")


@pytest.mark.parametrize("version", [1, 2])
def test_a_session_in_an_organization_comes_to_the_organizations_tenant(app: App, api: Api, version: int) -> None:
    own = a_user(app)
    a_user(app, "user_bob")
    ada = Persona(own, "cus_1", "sub_1", "user_ada", "ada@example.com", organization_id="org_1")
    claims = {"o": {"id": "org_1", "rol": "admin"}} if version == 2 else {"org_id": "org_1", "org_role": "org:admin"}
    answer = api("GET", "/user", a_session(**claims))
    assert refused(answer) == (403, "ACCOUNT_PENDING")
    assert "organization" in answer.json()["error"]

    a_clerk_event(app, clerk_event("organization.created", clerk_organization(ada, created_at=NOW), at=NOW), "msg_1")
    member = clerk_membership(ada, created_at=NOW)
    a_clerk_event(app, clerk_event("organizationMembership.created", member, at=NOW), "msg_2")
    drain(app)
    body = api("GET", "/user", a_session(**claims)).json()
    assert body["tenant"]["name"] == "Acme"
    # The token's role is a claim about Clerk's roles; ours says what they may do here.
    assert (body["tenant"]["id"] != str(own), body["role"]) == (True, "MEMBER")
    assert refused(api("GET", "/user", a_session(sub="user_bob", **claims))) == (403, "ACCOUNT_PENDING")

    gone = clerk_event("organization.deleted", clerk_deleted_organization(ada), at=NOW)
    a_clerk_event(app, gone, "msg_3")
    drain(app)
    assert refused(api("GET", "/user", a_session(**claims))) == (403, "ORGANIZATION_DELETED")


def test_a_deleted_person_is_told_so(app: App, api: Api) -> None:
    a_user(app, deleted_at=NOW)
    assert refused(api("GET", "/user", a_session())) == (403, "ACCOUNT_DELETED")


def test_without_sign_in_only_keys_are_good(app: App) -> None:
    api = Api(app, sessions=None)
    assert refused(api("GET", "/user", a_session())) == (401, "SIGN_IN_NOT_SET_UP")
    assert api("GET", "/user", a_key(app, a_tenant(app), "account:read")).status_code == 200


def test_while_clerk_does_not_answer_nobody_is_signed_out(app: App) -> None:
    def away() -> bytes:
        raise Unavailable("away")

    api = Api(app, sessions=Verifier(JwksKeys(away), issuer=None, parties=()))
    answer = api("GET", "/user", a_session())
    assert refused(answer) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "5"


# --- keys -----------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_is_good_until_it_is_revoked(app: App, api: Api) -> None:
    tenant_id = a_user(app)
    answer = api("POST", "/keys", a_session(), json={"name": "export", "scopes": ["account:read"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    key = made.pop("key")
    assert key.startswith(made["prefix"])
    assert api("GET", "/keys", a_session()).json() == [made]
    assert api("GET", "/user", key).json()["tenant"]["id"] == str(tenant_id)
    with app.db.transaction(SYSTEM) as tx:
        [row] = tx.sql.execute(select(api_keys)).mappings()
    assert key not in str(dict(row))
    assert row["key_hash"] == sha256(key.encode()).digest()

    assert api("DELETE", f"/keys/{made['id']}", a_session()).status_code == 204
    assert refused(api("GET", "/user", key)) == (401, "KEY_REVOKED")
    [listed] = api("GET", "/keys", a_session()).json()
    assert listed["revoked_at"] is not None
    assert api("DELETE", f"/keys/{made['id']}", a_session()).status_code == 204
    assert api("GET", "/keys", a_session()).json() == [listed]


def test_a_key_may_make_keys_but_none_that_may_more(app: App, api: Api) -> None:
    keeper = a_key(app, a_tenant(app), "keys:write")
    more = {"name": "more", "scopes": ["account:read"]}
    assert refused(api("POST", "/keys", keeper, json=more)) == (403, "SCOPE_MISSING")
    assert api("POST", "/keys", keeper, json=more | {"scopes": ["keys:write"]}).status_code == 201
    assert refused(api("GET", "/user", keeper)) == (403, "SCOPE_MISSING")


def test_nobody_lists_or_revokes_anothers_keys(app: App, api: Api) -> None:
    a_user(app)
    theirs = a_key(app, a_tenant(app), "account:read")
    with app.db.transaction(SYSTEM) as tx:
        key_id = tx.sql.execute(select(api_keys.c.id)).scalar_one()
    assert api("GET", "/keys", a_session()).json() == []
    assert refused(api("DELETE", f"/keys/{key_id}", a_session())) == (404, "NOT_FOUND")
    assert api("GET", "/user", theirs).status_code == 200


def test_a_key_expires(app: App, api: Api) -> None:
    tenant_id = a_tenant(app)
    assert api("GET", "/user", a_key(app, tenant_id, "account:read", expires_at=NOW + SECOND)).status_code == 200
    over = a_key(app, tenant_id, "account:read", expires_at=NOW)
    assert refused(api("GET", "/user", over)) == (401, "KEY_EXPIRED")


def test_when_a_key_was_used_is_written_now_and_then(app: App) -> None:
    key = a_key(app, a_tenant(app), "account:read")

    def used(at: datetime) -> datetime | None:
        assert Api(app, clock=at.timestamp)("GET", "/user", key).status_code == 200
        with app.db.transaction(SYSTEM) as tx:
            moment: datetime | None = tx.sql.execute(select(api_keys.c.last_used_at)).scalar_one()
        return moment

    assert [used(NOW), used(NOW + NOTE_USE_EVERY - SECOND), used(NOW + NOTE_USE_EVERY)] == [
        NOW,
        NOW,
        NOW + NOTE_USE_EVERY,
    ]


@pytest.mark.parametrize(
    ("request_body", "where"),
    [
        ({"scopes": ["account:read"]}, "name"),
        ({"name": "", "scopes": ["account:read"]}, "name"),
        ({"name": "a\u0000b", "scopes": ["account:read"]}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["all"]}, "scopes"),
        ({"name": "x", "scopes": ["account:read"], "expires_at": "2026-12-01T00:00:00"}, "expires_at"),
        ({"name": "x", "scopes": ["account:read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "scopes": ["account:read"], "expires_at": "9999-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(app: App, api: Api, request_body: dict[str, Any], where: str) -> None:
    a_user(app)
    answer = api("POST", "/keys", a_session(), json=request_body)
    assert refused(answer) == (422, "INVALID")
    assert where in answer.json()["error"]
    assert api("GET", "/keys", a_session()).json() == []


# --- refusals, and pages ----------------------------------------------------------------------------------------


def test_every_refusal_looks_alike(app: App, api: Api) -> None:
    a_user(app)
    assert refused(api("GET", "/nothing")) == (404, "NOT_FOUND")
    assert refused(api("PUT", "/user")) == (405, "METHOD_NOT_ALLOWED")
    assert refused(api("DELETE", "/keys/7", a_session())) == (422, "INVALID")
    assert refused(api("POST", "/keys", a_session(), content=b"{")) == (415, "NOT_JSON")
    as_json = {"Content-Type": "application/json"}
    assert refused(api("POST", "/keys", a_session(), content=b"{", headers=as_json)) == (422, "INVALID")
    assert refused(api("POST", "/keys", a_session(), content=b" " * (MAX_BODY + 1))) == (413, "BODY_TOO_LARGE")


def test_a_refusal_repeats_no_value(app: App, api: Api) -> None:
    a_user(app)
    answer = api("POST", "/keys", a_session(), json={"name": ["s3cret"], "scopes": "s3cret", "expires_at": "s3cret"})
    assert [fault["where"] for fault in answer.json()["details"]] == ["body.name", "body.scopes", "body.expires_at"]
    assert "s3cret" not in answer.text


def test_a_bug_of_ours_tells_nothing_of_itself(app: App) -> None:
    def broken() -> float:
        raise ZeroDivisionError("s3cret")

    answer = Api(app, clock=broken)("GET", "/user", a_session(), headers={"Origin": PAGE})
    assert refused(answer) == (500, "INTERNAL")
    assert "s3cret" not in answer.text
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_scripts_of_our_pages_may_call_and_others_may_not(api: Api) -> None:
    asked = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    allowed = api("OPTIONS", "/keys", headers=asked | {"Origin": PAGE})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    refused_page = api("OPTIONS", "/keys", headers=asked | {"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in refused_page.headers
    assert api("GET", "/user", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE


def test_the_api_describes_itself(api: Api) -> None:
    described = api("GET", "/openapi.json").json()
    assert described["servers"] == [{"url": "/api"}]
    assert {"/user", "/keys/{key_id}", "/generate", "/jobs/{job_id}", "/history", "/billing/checkout"} <= set(
        described["paths"]
    )
    create = described["paths"]["/keys"]["post"]
    assert create["security"] == [{"HTTPBearer": []}]
    assert create["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")


def test_a_forgotten_tenant_is_our_bug_and_not_the_callers(app: App) -> None:
    def forgetful() -> float:
        raise TenantContextNotSet("in whose name?")

    assert refused(Api(app, clock=forgetful)("GET", "/user", a_session())) == (500, "INTERNAL")

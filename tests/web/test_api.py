"""The JSON API, from outside: who comes in, what they are told, and what refusals look like."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.routing import Mount

from db.tables import api_keys, users
from db.transaction import SYSTEM
from domain.access import new_key
from integrations.clerk_sessions import PemKeys, Verifier
from integrations.fake_clerk import FakeClerk
from tests.builders import a_tenant
from web.api import create_api
from workers.app import App

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PAGE = "https://app.example.com"

INSTANCE = FakeClerk()


class Api:
    """The API mounted as in the web process, asked without a socket. Its clock stands."""

    def __init__(self, app: App, **options: Any) -> None:
        sessions = Verifier(PemKeys(INSTANCE.pem()), issuer=INSTANCE.issuer, parties=(PAGE,))
        given: dict[str, Any] = {"sessions": sessions, "clock": NOW.timestamp, "origins": (PAGE,)}
        self._web = Starlette(routes=[Mount("/api", create_api(app, **(given | options)))])

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
    key = new_key(uuid4().bytes * 2)
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
    said = answer.json()
    assert (said["tenant"]["id"], said["tenant"]["tier"], said["role"]) == (str(tenant_id), "FREE", "ADMIN")
    assert said["usage"] == api("GET", "/user/usage", a_session()).json()
    assert (said["usage"]["quota"], said["usage"]["remaining"]) == (10, 10)


def test_a_key_comes_to_its_tenant_with_its_scopes(app: App, api: Api) -> None:
    tenant_id = a_tenant(app)
    key = a_key(app, tenant_id, "account:read", "of a later release")
    said = api("GET", "/user", key).json()
    assert (said["tenant"]["id"], said["user_id"], said["role"]) == (str(tenant_id), None, None)
    assert said["scopes"] == ["account:read"]

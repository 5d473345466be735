"""Connecting an account in the browser: to the platform, and back by the callback, once."""

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from db.transaction import SYSTEM
from domain.errors import CheckoutInvalid, NotSetUp, Rejected
from tests.account_stage import Stage, account_stage
from tests.builders import a_tenant
from tests.web.test_webhooks import deps, notified, serving
from web.api.rate_limit import RateLimiter, RateLimits
from web.main import WebDeps
from web.oauth import OAuthCallback
from workers.app import App
from workers.ops import accounts
from workers.ops.connecting import begin_connect, finish_connect
from workers.runtime import logs
from workers.runtime.redis_client import connect

__all__ = ["deps", "notified"]

BACK = "https://app.example.com/accounts?tab=social#top"


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    settings = app.settings.model_copy(
        update={"clerk_authorized_parties": ("https://app.example.com",), "public_url": "https://api.example.com"}
    )
    with account_stage(replace(app, settings=settings)) as made:
        yield made


def begun(stage: Stage, platform: str = "tiktok", return_to: str | None = None, server: str = "") -> str:
    """Begin a connection, and return the state that the platform sends back."""
    found = begin_connect(stage.app, stage.tenant_id, platform, return_to=return_to, server=server)
    return parse_qs(urlsplit(found.address).query)["state"][0]


def callback(stage: Stage, path: str, method: str = "GET", **params: str) -> httpx.Response:
    web = Starlette(routes=[Route("/oauth/{platform}/callback", OAuthCallback(stage.app))])

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(web)
        async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
            return await client.request(method, f"/oauth/{path}/callback", params=params)

    return asyncio.run(ask())


def test_an_owner_comes_back_and_the_account_is_connected(stage: Stage) -> None:
    state = begun(stage, return_to=BACK)
    answer = callback(stage, "tiktok", code="ext-1", state=state)
    (row,) = accounts.listed(stage.app, stage.tenant_id)
    assert answer.status_code == 303
    page = f"https://app.example.com/accounts?tab=social&connected={row['id']}#top"
    assert answer.headers["location"] == page
    assert (row["external_id"], row["status"], row["username"]) == ("ext-1", "active", "user of ext-1")
    assert stage.tokens(row["id"])[0] in stage.platform.good_access
    # The page is loaded again.
    assert callback(stage, "tiktok", code="ext-1", state=state).headers["location"] == page
    assert len(stage.platform.good_access) == 1


def test_without_a_page_to_come_back_to_it_is_said_here(stage: Stage) -> None:
    answer = callback(stage, "tiktok", code="<b>ext", state=begun(stage))
    assert answer.status_code == 200
    assert "user of &lt;b&gt;ext of TikTok is connected" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_state_is_good_once_also_for_many_at_once(stage: Stage) -> None:
    state = begun(stage)

    def finish(number: int) -> str:
        return finish_connect(stage.app, "tiktok", {"state": state, "code": f"ext-{number}"}).code

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(finish, range(16)))
    assert len(stage.platform.good_access) == 1
    assert set(codes) <= {"connected", "state_used"}
    assert len(accounts.listed(stage.app, stage.tenant_id)) == 1


@pytest.mark.parametrize("forged", ["", "x", "x" * 10_000, "\0"], ids=["empty", "short", "long", "nul"])
def test_a_state_that_was_not_made_here_connects_nothing(stage: Stage, forged: str) -> None:
    begun(stage)
    answer = callback(stage, "tiktok", code="ext-1", state=forged)
    assert (answer.status_code, accounts.listed(stage.app, stage.tenant_id)) == (400, [])


def test_a_state_is_good_for_its_platform_and_for_ten_minutes(stage: Stage) -> None:
    state = begun(stage)
    assert finish_connect(stage.app, "youtube", {"state": state, "code": "ext-1"}).code == "state_unknown"
    stage.clock.later(minutes=11)
    assert finish_connect(stage.app, "tiktok", {"state": state, "code": "ext-1"}).code == "state_expired"
    assert accounts.listed(stage.app, stage.tenant_id) == []


def test_whoever_only_looks_at_the_address_does_not_use_it_up(stage: Stage) -> None:
    state = begun(stage)
    assert callback(stage, "tiktok", "HEAD", code="ext-1", state=state).status_code == 405
    assert callback(stage, "tiktok", code="ext-1", state=state).status_code == 200


@pytest.mark.parametrize(
    ("params", "fault", "code"),
    [
        ({"error": "access_denied"}, "", "denied"),
        ({}, "", "code_missing"),
        ({"code": "ext-1"}, "500", "answer_lost"),
        ({"code": "ext-1"}, "revoked", "code_refused"),
    ],
    ids=["denied", "no code", "answer lost", "code refused"],
)
def test_what_goes_wrong_is_said_and_nothing_is_connected(
    stage: Stage, params: dict[str, str], fault: str, code: str
) -> None:
    state = begun(stage, return_to=BACK)
    stage.platform.faults.extend([fault] if fault else [])
    answer = callback(stage, "tiktok", state=state, **params)
    assert f"connect_error={code}" in answer.headers["location"]
    assert accounts.listed(stage.app, stage.tenant_id) == []
    # The code cannot be used again, so its owner starts again.
    assert finish_connect(stage.app, "tiktok", {"state": state, "code": "ext-1"}).code == "state_used"
    assert callback(stage, "tiktok", code="ext-1", state=begun(stage)).status_code == 200


def test_an_account_that_is_connected_again_is_the_same_one(stage: Stage) -> None:
    callback(stage, "tiktok", code="ext-1", state=begun(stage))
    (first,) = accounts.listed(stage.app, stage.tenant_id)
    accounts.disconnect(stage.app, stage.tenant_id, first["id"])
    assert stage.platform.revoked
    callback(stage, "tiktok", code="ext-1", state=begun(stage))
    (second,) = accounts.listed(stage.app, stage.tenant_id)
    assert (second["id"], second["status"]) == (first["id"], "active")


def test_two_tenants_may_have_one_account_and_are_told_so(stage: Stage) -> None:
    callback(stage, "tiktok", code="ext-1", state=begun(stage))
    other = replace(stage, tenant_id=a_tenant(stage.app))
    answer = callback(other, "tiktok", code="ext-1", state=begun(other))
    assert "connected by somebody else here too" in answer.text
    (row,) = accounts.listed(stage.app, other.tenant_id)
    accounts.disconnect(stage.app, other.tenant_id, row["id"])
    assert stage.platform.revoked == []  # some platforms end all access of an account at once
    assert accounts.listed(stage.app, stage.tenant_id)[0]["status"] == "active"


@pytest.mark.parametrize(
    "page",
    ["https://evil.example/", "https://app.example.com.evil.example/", "//evil.example", "javascript:alert(1)", "/x"],
)
def test_nobody_is_sent_back_to_a_page_of_others(stage: Stage, page: str) -> None:
    with pytest.raises(CheckoutInvalid):
        begin_connect(stage.app, stage.tenant_id, "tiktok", return_to=page)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "localhost",
        "http://mastodon.example",
        "https://a@b.example",
        "x y",
        "https://m.example/path",
        "https://m.example?x",
    ],
)
def test_a_server_is_named_by_its_host(stage: Stage, server: str) -> None:
    with pytest.raises(Rejected):
        begin_connect(stage.app, stage.tenant_id, "mastodon", server=server)


def test_an_instance_registers_us_once(stage: Stage) -> None:
    for _ in range(2):
        begun(stage, "mastodon", server="Mastodon.Example")
    with stage.app.db.transaction(SYSTEM) as tx:
        found = tx.connections.app("https://mastodon.example", "https://api.example.com/oauth/mastodon/callback")
    assert found is not None
    assert found[0] == "client"
    assert b"planted" not in found[1]


def test_the_web_process_answers_and_writes_nothing_of_the_address(stage: Stage, deps: WebDeps, redis_url: str) -> None:
    """Over a socket, with the limit of whoever tries states."""
    limiter = RateLimiter(connect(redis_url, used_for="tests"))
    limits = RateLimits(limiter, stage.app.settings.model_copy(update={"rate_limit_per_address": 2}))
    stream = io.StringIO()
    logs.configure("json", "DEBUG", stream)
    state = begun(stage)
    with serving(replace(deps, oauth=OAuthCallback(stage.app, limits))) as web:
        path = "/oauth/tiktok/callback"
        good = web.client.get(path, params={"code": "planted-code", "state": state})
        forged = [web.client.get(path, params={"code": "planted-code", "state": f"forged-{n}"}) for n in range(3)]
        elsewhere = web.client.get("/oauth/myspace/callback", params={"code": "planted-code"})
    logs.configure("console", "WARNING")
    limiter.close()
    assert [each.status_code for each in (good, *forged, elsewhere)] == [200, 400, 400, 429, 404]
    assert good.headers.get_list("referrer-policy") == ["no-referrer"]
    written = stream.getvalue()
    assert "account.connected" in written
    assert [each for each in ("planted-code", state, "forged-1") if each in written] == []
    assert not any(each in good.text for each in (state, "code="))


def test_without_a_key_or_a_registration_nothing_can_be_connected(stage: Stage) -> None:
    without = replace(stage.app, ports=replace(stage.app.ports, vault=None))
    with pytest.raises(NotSetUp, match="TOKEN_ENCRYPTION_KEYS"):
        begin_connect(without, stage.tenant_id, "tiktok")
    without = replace(stage.app, ports=replace(stage.app.ports, logins={}))
    with pytest.raises(NotSetUp, match="TIKTOK_CLIENT_KEY"):
        begin_connect(without, stage.tenant_id, "tiktok")

"""Accounts through the API: who may do what, and what is answered."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.account_stage import Stage, account_stage
from tests.builders import a_tenant
from tests.web.api.test_api import PAGE, Api, a_key, a_session, a_user, refused
from workers.app import App
from workers.ops.connecting import finish_connect


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    settings = app.settings.model_copy(update={"clerk_authorized_parties": (PAGE,)})
    with account_stage(replace(app, settings=settings)) as made:
        yield made


def test_an_account_is_connected_changed_and_disconnected(stage: Stage) -> None:
    api, key = Api(stage.app), a_key(stage.app, stage.tenant_id, "accounts:write", "posts:read")
    begun = api("GET", "/accounts/tiktok/connect", key, params={"return_to": f"{PAGE}/accounts"})
    assert (begun.status_code, begun.json()["expires_in"]) == (200, 600)
    assert begun.headers["cache-control"] == "no-store"
    state = parse_qs(urlsplit(begun.json()["url"]).query)["state"][0]
    outcome = finish_connect(stage.app, "tiktok", {"state": state, "code": "ext-1"})
    assert outcome.address == f"{PAGE}/accounts?connected={outcome.account_id}"
    (row,) = api("GET", "/accounts", key).json()["accounts"]
    assert row == api("GET", f"/accounts/{row['id']}", key).json()
    assert not [each for each in stage.platform.handed_out if each in str(row)]
    path = f"/accounts/{row['id']}"
    changed = api("PATCH", path, key, json={"daily_limit": 5, "timezone": "Europe/Berlin"}).json()
    assert (changed["daily_limit"], changed["timezone"], changed["niche"]) == (5, "Europe/Berlin", None)
    assert api("PATCH", path, key, json={"daily_limit": None}).json()["daily_limit"] is None
    assert refused(api("PATCH", path, key, json={"timezone": None})) == (422, "INVALID")
    assert refused(api("PATCH", path, key, json={"settings": {"privacy_level": "x"}})) == (422, "INVALID")
    assert api("DELETE", path, key).json() == {"says": "its tokens are deleted"}
    assert refused(api("DELETE", path, key)) == (409, "NOT_CONNECTED")
    assert api("GET", path, key).json()["status"] == "disconnected"


def test_a_member_sees_accounts_and_does_not_change_them(stage: Stage) -> None:
    tenant_id = a_user(stage.app, role="MEMBER")
    account = stage.connect(tenant_id=tenant_id)
    api = Api(stage.app)
    assert [row["id"] for row in api("GET", "/accounts", a_session()).json()["accounts"]] == [str(account)]
    for method, path in (("GET", "/accounts/tiktok/connect"), ("DELETE", f"/accounts/{account}")):
        assert refused(api(method, path, a_session())) == (403, "SCOPE_MISSING")


def test_another_tenants_account_is_none(stage: Stage) -> None:
    account, other = stage.connect(), a_tenant(stage.app)
    api, key = Api(stage.app), a_key(stage.app, other, "accounts:write", "posts:read")
    for method in ("GET", "PATCH", "DELETE"):
        options = {"json": {"daily_limit": 1}} if method == "PATCH" else {}
        assert refused(api(method, f"/accounts/{account}", key, **options)) == (404, "NOT_FOUND")


def test_what_cannot_be_connected_is_said(stage: Stage) -> None:
    api, key = Api(stage.app), a_key(stage.app, stage.tenant_id, "accounts:write")
    assert refused(api("GET", "/accounts/myspace/connect", key)) == (422, "INVALID")
    assert refused(api("GET", "/accounts/bluesky/connect", key)) == (503, "NOT_SET_UP")
    evil = {"return_to": "https://evil.example/"}
    assert refused(api("GET", "/accounts/tiktok/connect", key, params=evil)) == (422, "INVALID")

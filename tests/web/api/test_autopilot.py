"""The autopilot through the API: who may do what, and that every change says what will happen."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.web.api.test_api import Api, a_key, a_session, a_user, refused
from tests.workers.ops.test_autopilot import a_chain, an_event
from tests.workers.ops.test_posts import NOW, Tenant
from workers.app import App

READ, WRITE = "posts:read", "accounts:write"


class Client(Tenant):
    """Somebody with accounts, and a key for the autopilot."""

    def __init__(self, app: App, *scopes: str) -> None:
        super().__init__(app)
        self.key = a_key(app, self.id, *(scopes or (READ, WRITE)))
        self._api = Api(app)

    def __call__(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return self._api(method, f"/autopilot{path}", self.key, **options)


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Client:
    return Client(app)


def test_it_is_switched_on_and_says_what_will_happen(ada: Client) -> None:
    assert ada("GET").json()["next"] == ["nothing: it is off"]
    account = ada.account("bluesky")
    consented = ada("PUT", f"/accounts/{account}")
    (row,) = consented.json()["accounts"]
    assert (consented.status_code, row["id"], row["consented_by"]) == (200, str(account), "the API key a key")
    on = ada("PUT", json={"mode": "auto", "times": ["18:30"], "budget_usd": 12.5})
    assert on.status_code == 200
    assert on.json() == ada("GET").json()
    assert (on.json()["budget_usd"], on.json()["money"]["left_usd"]) == (12.5, 12.5)
    assert f"posts appear at 18:30 by each account's clock on {row['username']} (Bluesky)" in on.json()["next"][-1]
    paid = ada("PUT", json={"provider": "runway"}).json()["next"]
    assert "no video can be made by runway now: there is no key for runway here" in paid[1]
    assert not [each for each in paid if "$" in each or "API" in each]
    off = ada("PUT", json={"mode": "off"}).json()
    assert (off["times"], off["next"]) == (["18:30"], ["nothing: it is off"])
    (gone,) = ada("DELETE", f"/accounts/{account}").json()["accounts"]
    assert gone["consented_at"] is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param({"mode": "on"}, "mode", id="mode"),
        pytest.param({"mode": None}, "mode: name a value, or leave it out", id="null"),
        pytest.param({"least_score": "60"}, "least_score", id="text for a number"),
        pytest.param({"least_score": 101}, "least_score", id="score"),
        pytest.param({"videos_a_day": 0}, "videos_a_day", id="videos"),
        pytest.param({"videos_a_day": 9, "concepts_a_day": 5}, "videos a day", id="more videos than concepts"),
        pytest.param({"times": ["25:00"]}, "times", id="time"),
        pytest.param({"times": ["18:30", "18:30"]}, "each once", id="a time twice"),
        pytest.param({"times": ["23:58", "23:59"]}, "at least 1 hour apart", id="times too near"),
        pytest.param({"times": [f"{n % 24:02}:{n // 24}0" for n in range(25)]}, "at most 24 times", id="25 times"),
        pytest.param({"provider": "nobody"}, "provider", id="provider"),
        pytest.param({"budget_usd": -1}, "budget_usd", id="budget"),
        pytest.param({"budget_usd": 0.001}, "cents", id="fractions of a cent"),
        pytest.param({"leastScore": 60}, "did you mean least_score?", id="unknown field"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(ada: Client, body: dict[str, Any], says: str) -> None:
    answer = ada("PUT", json=body)
    assert refused(answer) == (422, "INVALID")
    assert says in answer.json()["error"]
    assert ada("GET").json()["changed_at"] is None


def test_members_and_keys_that_read_change_nothing(app: App) -> None:
    tenant_id = a_user(app, role="MEMBER")
    api, reader = Api(app), a_key(app, tenant_id, READ)
    for credential in (a_session(), reader):
        assert api("GET", "/autopilot", credential).status_code == 200
        for method, path in (("PUT", ""), ("PUT", f"/accounts/{uuid4()}"), ("DELETE", f"/accounts/{uuid4()}")):
            options = {"json": {"mode": "auto"}} if not path else {}
            assert refused(api(method, f"/autopilot{path}", credential, **options)) == (403, "SCOPE_MISSING")
    assert refused(api("GET", "/autopilot", a_key(app, tenant_id, WRITE))) == (403, "SCOPE_MISSING")


def test_another_tenants_accounts_and_chains_are_none(app: App, ada: Client) -> None:
    other = Tenant(app)
    account, chain = other.account(), a_chain(app, other.id)
    for method, path in (
        ("PUT", f"/accounts/{account}"),
        ("DELETE", f"/accounts/{account}"),
        ("GET", f"/chains/{chain}"),
    ):
        assert refused(ada(method, path)) == (404, "NOT_FOUND")
    assert ada("GET", "/chains").json() == {"chains": [], "next": None}
    assert refused(ada("PUT", f"/accounts/{ada.account('tiktok')}")) == (409, "CHOICE_NEEDED")
    assert refused(ada("PUT", f"/accounts/{ada.account(status='needs_reconnect')}")) == (409, "NOT_ACTIVE")


def test_chains_are_listed_and_explained(app: App, ada: Client) -> None:
    account, video = ada.account("bluesky"), ada.video()
    (post,) = ada.create(video, account, at=NOW + timedelta(hours=5))
    chain = a_chain(app, ada.id, stage="video", video_id=video, concept_id="c1", score=74.5)
    a_chain(app, ada.id, place=2)
    an_event(app, ada.id, chain, "begun", "the day's concepts are made")
    first = ada("GET", "/chains?limit=1").json()
    second = ada("GET", f"/chains?limit=1&cursor={first['next']}").json()
    assert [row["id"] for row in second["chains"]] == [str(chain)]
    assert ada("GET", "/chains?stage=video").json() == {"chains": second["chains"], "next": None}
    assert ada("GET", "/chains?stage=done").json()["chains"] == []
    assert refused(ada("GET", "/chains?stage=nonsense")) == (422, "INVALID")
    assert (second["next"], second["chains"][0]["title"]) == (None, "A fox")
    explained = ada("GET", f"/chains/{chain}").json()
    assert explained["chain"] == second["chains"][0]
    assert (explained["stands"], explained["posts"]) == ("its video is made, and its posts are to be planned", [])
    assert [event["kind"] for event in explained["events"]] == ["begun"]
    assert post["status"] == "scheduled"
    for cursor in ("nonsense", "2026-11-27", "2026-11-27.99999", "2026-13-01.1"):
        assert refused(ada("GET", f"/chains?cursor={cursor}")) == (422, "INVALID")

"""Posts through the API, as the dashboard asks for them."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.web.api.test_api import Api, a_key, refused
from tests.workers.ops.test_posts import NOW, Tenant
from workers.app import App

READ, WRITE = "posts:read", "posts:write"
IN_AN_HOUR = (NOW + timedelta(hours=1)).isoformat()


class Client(Tenant):
    """Somebody with videos, accounts, and a key for posts."""

    def __init__(self, app: App, *scopes: str) -> None:
        super().__init__(app)
        self.key = a_key(app, self.id, *(scopes or (READ, WRITE)))
        self._api = Api(app)

    def __call__(self, method: str, path: str = "/posts", **options: Any) -> httpx.Response:
        return self._api(method, path, self.key, **options)

    def ask(self, *accounts: Any, query: str = "", key: str | None = None, **body: Any) -> httpx.Response:
        named = [{"account_id": str(each)} for each in accounts or (self.account(),)]
        whole = {"video_id": str(self.video()), "accounts": named, "caption": "A fox", "at": IN_AN_HOUR} | body
        return self("POST", f"/posts{query}", json=whole, headers={"Idempotency-Key": key} if key else {})


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Client:
    return Client(app)


def test_a_post_from_its_request_to_its_end(ada: Client) -> None:
    masto, sky = ada.account("mastodon"), ada.account("bluesky")
    made = ada.ask(masto, sky)
    assert made.status_code == 201
    first, second = made.json()["posts"]
    assert (first["platform"], second["platform"], first["status"]) == ("mastodon", "bluesky", "scheduled")
    assert first["group_id"] == second["group_id"] is not None
    changed = ada("PATCH", f"/posts/{first['id']}", json={"caption": "Another", "at": "suggested"})
    assert (changed.status_code, changed.json()["caption"]) == (200, "Another")
    assert changed.json()["scheduled_for"] != first["scheduled_for"]
    assert ada("GET", f"/posts/{first['id']}").json() == changed.json()
    explained = ada("GET", f"/posts/{first['id']}/explain").json()
    assert explained["certain"] == ["nothing that publishes it was ever sent to Mastodon"]
    assert [event["kind"] for event in explained["events"]] == ["asked", "changed"]
    cancelled = ada("POST", f"/posts/{second['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert refused(ada("PATCH", f"/posts/{second['id']}", json={"caption": "x"})) == (409, "NOT_EDITABLE")
    again = ada("POST", f"/posts/{second['id']}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "scheduled")
    assert refused(ada("POST", f"/posts/{second['id']}/retry")) == (409, "NOT_OVER")
    assert refused(ada("POST", f"/posts/{second['id']}/approve")) == (409, "NOT_WAITING")


def test_a_post_shows_what_is_expected_of_it(ada: Client) -> None:
    tiktok, sky = ada.account("tiktok"), ada.account("bluesky")
    public = {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}}
    of_tiktok, of_sky = ada.ask(tiktok, sky, options=public).json()["posts"]
    expected = of_tiktok["prediction"]
    assert expected["low"] < expected["score"] < expected["high"]
    assert ada("GET", f"/posts/{of_tiktok['id']}").json()["prediction"] == expected
    words = ada("GET", f"/posts/{of_tiktok['id']}/explain").json()["prediction"]
    assert words.startswith(f"{expected['score']} of 100 ({expected['low']} to {expected['high']}), by shrinkage/v1: ")
    score = ada("GET", f"/posts/{of_tiktok['id']}/metrics").json()["predicted_score"]
    assert round(score) == expected["score"] != score
    assert of_sky["prediction"] is None
    assert ada("GET", f"/posts/{of_sky['id']}/explain").json()["prediction"] is None
    assert ada("GET", f"/posts/{of_sky['id']}/metrics").json()["predicted_score"] is None


def test_a_dry_run_shows_what_would_be_posted(ada: Client) -> None:
    sky = ada.account("bluesky")
    good = ada.ask(sky, query="?dry_run=true", hashtags=["fox"])
    assert good.status_code == 200
    [planned] = good.json()["posts"]
    assert (good.json()["valid"], planned["faults"], planned["account_id"]) == (True, [], str(sky))
    assert planned["preview"]["text"].startswith("A fox\n\n#fox")
    assert planned["preview"]["counts"][0]["most"] == 300
    bad = ada.ask(sky, query="?dry_run=true", caption="x" * 400).json()
    assert bad["valid"] is False
    assert "shorten it by" in bad["posts"][0]["faults"][0]
    assert ada("GET").json() == {"posts": [], "next": None}


def test_what_is_wrong_is_said_by_account_and_nothing_is_scheduled(ada: Client) -> None:
    masto, sky = ada.account("mastodon"), ada.account("bluesky")
    answer = ada.ask(masto, sky, caption="x" * 400)
    assert refused(answer) == (422, "POST_INVALID")
    assert list(answer.json()["details"]) == [str(sky)]
    assert ada("GET").json()["posts"] == []


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param({"at": "tomorrow"}, "at", id="no time"),
        pytest.param({"at": "2026-12-01T09:00:00"}, "at", id="no offset"),
        pytest.param({"at": 1764579600}, "at", id="a number"),
        pytest.param({"accounts": []}, "accounts", id="no account"),
        pytest.param({"accounts": ["x"]}, "accounts", id="no object"),
        pytest.param({"options": {"youtube": {}}}, "options", id="no such platform"),
        pytest.param({"captoin": "x"}, "did you mean caption?", id="no such field"),
        pytest.param({"draft": "yes"}, "draft", id="no switch"),
    ],
)
def test_a_request_that_is_not_as_it_should_be_says_where(ada: Client, body: dict[str, Any], where: str) -> None:
    answer = ada.ask(**body)
    assert refused(answer) == (422, "INVALID")
    assert where in answer.json()["error"]


def test_a_key_makes_posts_once_whoever_sends_it_again(ada: Client) -> None:
    body: dict[str, Any] = {"video_id": str(ada.video()), "accounts": [{"account_id": str(ada.account())}]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ada.ask(key="k1", **body), range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 8}
    assert len({answer.json()["posts"][0]["id"] for answer in answers}) == 1
    assert refused(ada.ask(key="k1", **body, caption="Another")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert refused(ada.ask(**body)) == (422, "POST_INVALID")


def test_another_tenants_things_are_not_there(app: App, ada: Client) -> None:
    bob = Client(app)
    post_id = ada.ask().json()["posts"][0]["id"]
    for method, path in (
        ("GET", ""),
        ("GET", "/explain"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/approve"),
    ):
        assert refused(bob(method, f"/posts/{post_id}{path}")) == (404, "NOT_FOUND")
    assert refused(bob("PATCH", f"/posts/{post_id}", json={"caption": "x"})) == (404, "NOT_FOUND")
    assert refused(bob.ask(ada.account())) == (404, "NOT_FOUND")
    assert refused(bob.ask(video_id=str(ada.video()))) == (404, "NOT_FOUND")
    assert bob("GET").json()["posts"] == []


def test_scopes_say_who_may_read_and_who_may_write(app: App, ada: Client) -> None:
    reader, other = Client(app, READ), Client(app, "videos:read")
    assert reader("GET").status_code == 200
    assert refused(reader.ask()) == (403, "SCOPE_MISSING")
    assert refused(reader("PUT", "/posting-policy", json={})) == (403, "SCOPE_MISSING")
    assert refused(other("GET")) == (403, "SCOPE_MISSING")


def test_lists_the_calendar_and_the_policy(ada: Client) -> None:
    assert ada("PUT", "/posting-policy", json={"needs_approval": True}).json() == {
        "late_after_seconds": 7200,
        "needs_approval": True,
    }
    assert refused(ada("PUT", "/posting-policy", json={"late_after_seconds": 1})) == (422, "INVALID")
    made = [ada.ask().json()["posts"][0] for _ in range(3)]
    assert {post["status"] for post in made} == {"needs_approval"}
    page = ada("GET", "/posts?limit=2&status=needs_approval&platform=mastodon").json()
    rest = ada("GET", f"/posts?limit=2&cursor={page['next']}").json()
    assert [post["id"] for post in page["posts"] + rest["posts"]] == [post["id"] for post in made[::-1]]
    assert ada("POST", f"/posts/{made[0]['id']}/approve").json()["status"] == "scheduled"
    planned = ada("GET", "/posts/calendar?from=2026-11-27T13:00:00Z&to=2026-11-27T14:00:00Z").json()["posts"]
    assert {post["id"] for post in planned} == {post["id"] for post in made}
    for range_ in ("from=2026-11-27T13:00:00Z", "from=2026-11-27T13:00:00Z&to=2026-11-27T13:00:00Z"):
        assert refused(ada("GET", f"/posts/calendar?{range_}")) == (422, "INVALID")

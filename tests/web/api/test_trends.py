"""Trends and competitors through the API."""

from datetime import timedelta
from typing import Any

import pytest

from db.transaction import SYSTEM
from domain.concepts.imported import AudioTrend
from domain.concepts.trends import Sighting, sighting_row
from tests.builders import a_tenant
from tests.web.api.test_api import Api, a_key, refused
from tests.web.api.test_generations import READ, Tenant
from workers.app import App

BREAD = {"platform": "tiktok", "external_id": "1", "title": "Bread at midnight", "captured_at": "2026-11-01T09:00:00Z"}


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def put(tenant: Tenant, *videos: dict[str, Any]) -> list[dict[str, Any]]:
    answer = tenant("PUT", "/competitors", json={"competitors": list(videos)})
    assert answer.status_code == 200, answer.text
    kept: list[dict[str, Any]] = answer.json()["competitors"]
    return kept


def test_competitors_are_kept_listed_and_deleted(app: App, ada: Tenant) -> None:
    videos = [{**BREAD, "external_id": str(n), "captured_at": f"2026-11-0{n}T09:00:00Z"} for n in range(1, 6)]
    assert [each["outcome"] for each in put(ada, *videos)] == ["added"] * 5
    assert [each["outcome"] for each in put(ada, *videos)] == ["kept"] * 5
    first = ada("GET", "/competitors?limit=3").json()
    rest = ada("GET", f"/competitors?limit=3&cursor={first['next']}").json()
    listed = first["competitors"] + rest["competitors"]
    assert ([each["external_id"] for each in listed], rest["next"]) == (["5", "4", "3", "2", "1"], None)
    assert ada("GET", "/competitors?platform=mastodon").json() == {"competitors": [], "next": None}
    assert Tenant(app)("DELETE", f"/competitors/{listed[0]['id']}").status_code == 404
    assert ada("DELETE", f"/competitors/{listed[0]['id']}").status_code == 204
    assert ada("DELETE", f"/competitors/{listed[0]['id']}").status_code == 404
    assert len(ada("GET", "/competitors").json()["competitors"]) == 4


def test_a_newer_capture_replaces_an_older_one(ada: Tenant) -> None:
    put(ada, {**BREAD, "views": 10, "likes": 0, "published_at": "2026-10-31T09:00:00+01:00"})
    [newer] = put(ada, {**BREAD, "captured_at": "2026-11-02T09:00:00Z", "views": 12})
    [older] = put(ada, {**BREAD, "views": 11})
    assert (newer["outcome"], newer["views"], newer["details"]) == ("replaced", 12, {})
    assert (older["outcome"], older["views"]) == ("kept", 12)
    [now] = put(ada, {key: value for key, value in BREAD.items() if key != "captured_at"})
    assert (now["outcome"], now["views"]) == ("replaced", None)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"platform": "myspace"}, "body.competitors.0.platform"),
        ({"views": -1}, "body.competitors.0.views"),
        ({"views": "12"}, "body.competitors.0.views"),
        ({"external_id": "a\x00b"}, "body.competitors.0.external_id"),
        ({"title": "\x00"}, "body.competitors.0.title"),
        ({"url": "javascript:alert(1)"}, "body.competitors.0.url"),
        ({"captured_at": "2099-01-01T00:00:00Z"}, "body.competitors.0.captured_at"),
        ({"externalId": "1"}, "body.competitors.0.externalId"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_nothing_is_kept(ada: Tenant, change: dict[str, Any], where: str) -> None:
    answer = ada("PUT", "/competitors", json={"competitors": [{**BREAD, **change}, BREAD]})
    assert refused(answer) == (422, "INVALID")
    assert answer.json()["error"].startswith(where)
    assert ada("GET", "/competitors").json()["competitors"] == []


def test_trends_are_what_the_sources_last_saw_and_what_was_imported(app: App, ada: Tenant) -> None:
    seen = [sighting_row(Sighting("google-trends", "Artemis III", 1, count=2000, measure="searches"))]
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        rows = tx.trends.lock(
            [("google-trends", "US"), ("google-trends", "DE"), ("hacker-news", "world"), ("reddit", "US")]
        )
        for row in rows:
            days = 2 if row.source == "reddit" else 0
            tx.trends.save_answer(row, now=now - timedelta(days=days), sightings=seen, etag=None, modified=None)
        tx.trends.save_failure(
            next(row for row in rows if row.source == "hacker-news"), failures=1, error="503", retry_at=now
        )
        heard = now - timedelta(hours=1)
        tx.imported_trends.add_audio([AudioTrend("tiktok", "9", "Espresso", "US", heard, "Sabrina", 12)])
        tx.imported_trends.add_audio([AudioTrend("tiktok", "8", "Anderswo", "DE", heard)])
    put(ada, {key: value for key, value in BREAD.items() if key != "captured_at"})
    found = ada("GET", "/trends").json()
    assert found["region"] == "US"
    assert {each["source"]: (each["state"], each["count"]) for each in found["sources"]} == {
        "google-trends": ("cached", 1),
        "hacker-news": ("stale", 1),
        "reddit": ("failed", 0),
        "audio-trends": ("imported", 1),
        "competitors": ("imported", 1),
    }
    assert {each["topic"] for each in found["trends"]} == {"Artemis III", "Espresso", "Bread at midnight"}
    assert [(each["title"], each["usage_count"]) for each in found["audio"]] == [("Espresso", 12)]
    others = Tenant(app)("GET", "/trends").json()
    assert {each["topic"] for each in others["trends"]} == {"Artemis III", "Espresso"}


def test_who_may_only_read_changes_nothing(app: App) -> None:
    tenant_id = a_tenant(app)
    api, key = Api(app), a_key(app, tenant_id, READ)
    assert refused(api("PUT", "/competitors", key, json={"competitors": [BREAD]})) == (403, "SCOPE_MISSING")
    assert api("GET", "/competitors", key).json()["competitors"] == []
    assert api("GET", "/trends", key).status_code == 200
    assert refused(api("GET", "/trends", a_key(app, tenant_id, "account:read"))) == (403, "SCOPE_MISSING")

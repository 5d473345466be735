"""Numbers through the API: of a post, of many, as JSON and for spreadsheets."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.learning.horizons import NOT_IN_TIME
from domain.learning.numbers import Horizon
from domain.learning.performance import CELL_COLUMNS, HORIZON_COLUMNS
from tests.numbers_stage import Measured
from tests.web.api.test_api import Api, a_key, refused
from tests.workers.ops.test_posts import NOW
from web.api.csv_responses import prefers_csv
from workers.app import App

PERFORMANCE = "/analytics/performance"


class Client(Measured):
    def __init__(self, app: App, scope: str = "posts:read") -> None:
        super().__init__(app)
        self.key = a_key(app, self.id, scope)
        self._api = Api(app)

    def __call__(self, path: str, accept: str | None = None) -> httpx.Response:
        return self._api("GET", path, self.key, headers={} if accept is None else {"Accept": accept})

    def table(self, path: str) -> list[dict[str, str]]:
        answer = self(path, "text/csv")
        assert answer.headers["content-type"].startswith("text/csv")
        return list(csv.DictReader(StringIO(answer.text, newline=""), strict=True))


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Client:
    return Client(app)


def test_a_post_has_its_numbers_at_each_horizon(ada: Client) -> None:
    measure_at = NOW + timedelta(hours=1)
    post_id = ada.published(
        ada.account("youtube-shorts"), at=NOW - timedelta(hours=30), measure_at=measure_at, external_id="x1"
    )
    late = timedelta(hours=24, minutes=31)
    ada.look(post_id, Horizon.H24, 200, 0, 3, age=late, definition="youtube-starts-all", details={"saves": 2})
    ada.miss(post_id, Horizon.H1, "YouTube did not answer")
    found = ada(f"/posts/{post_id}/metrics").json()
    one, six, day, three, week = found["horizons"]
    assert (one["state"], one["reason"], one["views"]) == ("missed", "YouTube did not answer", None)
    assert (six["state"], six["reason"]) == ("missed", NOT_IN_TIME)
    assert (day["state"], day["views"], day["likes"], day["shares"]) == ("met", 200, 0, None)
    assert (day["age_seconds"], day["source"], day["definition"]) == (88260, "simulated", "youtube-starts-all")
    assert (day["details"], day["engagement"]) == ({"saves": 2}, None)
    assert [three["state"], week["state"]] == ["to_come", "to_come"]
    assert (found["predicted_score"], found["next_at"]) == (71, measure_at.isoformat().replace("+00:00", "Z"))
    assert found["latest"] == {name: day[name] for name in found["latest"]}
    rows = ada.table(f"/posts/{post_id}/metrics")
    assert tuple(rows[0]) == HORIZON_COLUMNS
    assert [(row["horizon"], row["state"], row["views"], row["likes"], row["shares"]) for row in rows] == [
        ("1h", "missed", "", "", ""),
        ("6h", "missed", "", "", ""),
        ("24h", "met", "200", "0", ""),
        ("72h", "to_come", "", "", ""),
        ("7d", "to_come", "", "", ""),
    ]


def test_a_late_look_is_the_latest_and_meets_nothing(ada: Client) -> None:
    post_id = ada.published(ada.account(), at=NOW - timedelta(days=20))
    ada.look(post_id, None, None, 9, age=timedelta(days=19))
    found = ada(f"/posts/{post_id}/metrics").json()
    assert (found["latest"]["likes"], {each["state"] for each in found["horizons"]}) == (9, {"missed"})
    last = ada.table(f"/posts/{post_id}/metrics")[-1]
    assert (last["horizon"], last["state"], last["likes"], last["age_seconds"]) == ("", "", "9", "1641600")


def test_posts_are_compared(ada: Client) -> None:
    tube, sky = ada.account("youtube-shorts"), ada.account("bluesky")
    for views, definition in ((10, "youtube-starts"), (30, "youtube-starts"), (500, "youtube-starts-all")):
        ada.look(ada.published(tube), Horizon.H24, views, 1, 0, definition=definition)
    ada.look(ada.published(sky), Horizon.H24, None, 4, 1, 0)
    ada.published(tube)
    found = ada(PERFORMANCE).json()
    assert (found["by"], found["horizon"], found["time_zone"], found["more"]) == ("platform", "24h", "UTC", False)
    videos, words = found["cells"]
    assert (videos["key"], videos["posts"], videos["measured"], videos["missed"]) == ("youtube-shorts", 4, 3, 1)
    assert [(each["definition"], each["count"], each["total"], each["median"]) for each in videos["views"]] == [
        ("youtube-starts", 2, 40, 20),
        ("youtube-starts-all", 1, 500, 500),
    ]
    assert videos["unknown"] == {"views": 0, "likes": 0, "comments": 0, "shares": 3, "engagement": 3}
    assert (words["views"], words["unknown"]["views"], words["likes"]["total"]) == ([], 1, 4)
    rows = ada.table(f"{PERFORMANCE}?by=account")
    assert tuple(rows[0]) == CELL_COLUMNS
    assert [row["total"] for row in rows if row["metric"] == "views"] == ["40", "500", ""]
    assert ada(f"{PERFORMANCE}?since=2026-11-27T00:00:00Z").json()["cells"] == []


def test_what_is_anothers_is_not_there(app: App, ada: Client) -> None:
    bob = Client(app)
    post_id = ada.published(ada.account())
    ada.look(post_id, Horizon.H24, 7)
    for theirs in (post_id, uuid4()):
        assert refused(bob(f"/posts/{theirs}/metrics")) == (404, "NOT_FOUND")
    assert bob(PERFORMANCE).json()["cells"] == []
    assert bob.table(PERFORMANCE) == []
    for path in (PERFORMANCE, f"/posts/{post_id}/metrics"):
        assert refused(Client(app, "posts:write")(path))[0] == 403


@pytest.mark.parametrize(
    "query",
    [
        *("by=day", "horizon=2h", "since=2026-11-01", "of=x", "since=1970-01-01T00:00:00Z"),
        "until=2020-01-01T00:00:00Z&since=2021-01-01T00:00:00Z",
    ],
)
def test_what_makes_no_sense_is_refused(ada: Client, query: str) -> None:
    assert refused(ada(f"{PERFORMANCE}?{query}")) == (422, "INVALID")


def test_a_name_that_looks_like_a_formula_is_a_text(app: App, ada: Client) -> None:
    ada.published(ada.account(), video_id=ada.category('=HYPERLINK("http://x","y")'))
    assert {row["key"] for row in ada.table(f"{PERFORMANCE}?by=category")} == {'\'=HYPERLINK("http://x","y")'}


@pytest.mark.parametrize(
    ("accept", "csv_wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/csv", True),
        ("Text/CSV; charset=utf-8", True),
        ("text/*", True),
        ("text/csv, */*", True),
        ("text/csv, */*;q=0.1", True),
        ("text/csv, application/json", False),
        ("text/csv;q=0.5, application/json;q=0.6", False),
        ("text/csv;q=0.6, application/json;q=0.5", True),
        ("text/csv;q=0, */*", False),
        ("text/csv;q=0", False),
        ("text/*;q=0.9, application/*;q=0.8", True),
        ("text/csv;q=0.4, text/*, */*;q=0.5", False),
        ("text/csv;q=high", False),
        ("text/csv;q=1.0001", False),
        ("image/png", False),
        (",;,text/csv", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_form_is_what_is_preferred(accept: str, csv_wanted: bool) -> None:
    assert prefers_csv(accept) == csv_wanted


def test_both_forms_say_what_they_depend_on_and_are_described(app: App, ada: Client) -> None:
    for accept in ("text/csv", "application/json"):
        answer = ada(PERFORMANCE, accept)
        assert (answer.status_code, answer.headers["vary"]) == (200, "Accept, Origin")
    assert ada(PERFORMANCE, "text/csv").headers["content-disposition"].endswith('"performance-by-platform-24h.csv"')
    paths: Mapping[str, Any] = ada("/openapi.json").json()["paths"]
    for path in ("/analytics/performance", "/posts/{post_id}/metrics"):
        assert set(paths[path]["get"]["responses"]["200"]["content"]) == {"application/json", "text/csv"}

"""Videos through the API, as the dashboard asks for them: real rows, real jobs, a real ffmpeg, a store in a folder."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update

from db.schema.videos import media, provider_jobs, video_budgets, video_providers, videos
from db.transaction import SYSTEM
from domain.identity.people import Role
from domain.videos.script import MOST_CHARACTERS
from integrations.studio.frames import Canvas
from integrations.studio.studio import FfmpegStudio
from tests.builders import a_tenant
from tests.drain import drain
from tests.web.api.test_api import Api, a_key, a_session, a_user, refused
from tests.web.api.test_generations import a_generation
from workers.app import App, build
from workers.ops.video_files import add_own
from workers.settings import Settings

READ, WRITE = "videos:read", "videos:write"
SCRIPT = [
    {"timeRange": "0-1s", "onScreenText": "Midnight bread", "visual": "a dark kitchen", "camera": "slow push in"},
    {"timeRange": "1-3s", "onScreenText": "Follow for more", "visual": "a warm loaf", "camera": "still"},
]
CONCEPT: dict[str, Any] = {"id": "c1", "title": "Why everyone bakes at midnight", "category": "Food", "script": SCRIPT}
KEY = "key_" + "0" * 60


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"media_dir": tmp_path / "media"})


@pytest.fixture
def app(app: App) -> App:
    """Draws small pictures: those that platforms take are drawn in `tests/workers/jobs/test_drawing.py`."""
    return replace(app, ports=replace(app.ports, studio=FfmpegStudio(canvas=Canvas(90, 160, 6))))


class Tenant:
    """Somebody with a key for videos, and a generation of some concepts."""

    def __init__(self, app: App, *concepts: dict[str, Any], tier: str = "FREE") -> None:
        self.id = a_tenant(app, subscription_tier=tier)
        self.key = a_key(app, self.id, READ, WRITE)
        self.generation = str(a_generation(app, self.id, concepts=list(concepts or (CONCEPT,))).id)
        self._api = Api(app)

    def __call__(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return self._api(method, f"/videos{path}", self.key, **options)

    def ask(self, idempotency_key: str | None = None, **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self("POST", json={"generation_id": self.generation, "concept_id": "c1"} | body, headers=headers)


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def rows(app: App, table: Any) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        return [dict(row) for row in tx.sql.execute(select(table)).mappings()]


def a_concept(**changes: Any) -> dict[str, Any]:
    return deepcopy(CONCEPT) | changes


# --- as a person uses it ----------------------------------------------------------------------------------------


def test_a_concept_becomes_a_file_that_can_be_fetched(app: App, ada: Tenant) -> None:
    asked = ada.ask()
    video = asked.json()
    assert (asked.status_code, asked.headers["location"]) == (202, f"/api/videos/{video['id']}")
    assert (video["status"], video["provider"], video["url"]) == ("pending", "storyboard", None)
    drain(app)
    made = ada("GET", f"/{video['id']}").json()
    assert (made["status"], made["percent"], made["error"], made["cost_usd"]) == ("completed", 100, None, 0)
    assert 2.9 <= made["duration_seconds"] <= 3.1
    assert "storyboard" in " ".join(made["warnings"])
    with app.db.transaction(SYSTEM) as tx:
        file = tx.media.get(ada.id, UUID(made["media_id"]))
    assert file is not None
    assert made["sha256"] == file.sha256.hex()
    assert file.key in made["url"]
    assert made["thumbnail_url"].partition("?")[0].endswith(".jpg")
    [listed] = ada("GET").json()["videos"]
    assert (listed["id"], listed["status"]) == (video["id"], "completed")


def test_asking_twice_makes_one_and_again_makes_another(app: App, ada: Tenant) -> None:
    first = ada.ask().json()["id"]
    asked = ada.ask()
    assert (asked.status_code, asked.json()["id"]) == (200, first)
    drain(app)
    asked = ada.ask()
    assert (asked.status_code, asked.json()["id"], asked.json()["status"]) == (200, first, "completed")
    another = ada.ask(again=True)
    assert another.status_code == 202
    assert another.json()["id"] != first


def test_many_who_ask_at_once_get_one_video(app: App, ada: Tenant) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ada.ask(), range(24)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 23}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(rows(app, videos)) == 1


def test_an_idempotency_key_brings_back_its_video(app: App, ada: Tenant) -> None:
    first = ada.ask("mine", again=True)
    assert first.status_code == 202
    drain(app)
    again = ada.ask("mine", again=True)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert refused(ada.ask("mine", again=True, concept_id="c2")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert ada.ask("another", again=True).json()["id"] != first.json()["id"]


def test_a_list_comes_in_pages_of_what_was_asked_for(app: App) -> None:
    ada = Tenant(app, *(a_concept(id=f"c{n}") for n in range(5)))
    ids = [ada.ask(concept_id=f"c{n}").json()["id"] for n in range(5)]
    page = ada("GET", "?limit=2").json()
    assert [each["id"] for each in page["videos"]] == [ids[4], ids[3]]
    ada.ask(concept_id="c4", again=True)
    page = ada("GET", f"?limit=2&cursor={page['next']}").json()
    assert [each["id"] for each in page["videos"]] == [ids[2], ids[1]]
    page = ada("GET", f"?limit=2&cursor={page['next']}").json()
    assert ([each["id"] for each in page["videos"]], page["next"]) == ([ids[0]], None)
    ada("POST", f"/{ids[0]}/cancel")
    assert [each["id"] for each in ada("GET", "?status=cancelled").json()["videos"]] == [ids[0]]
    assert ada("GET", f"?generation_id={uuid4()}").json() == {"videos": [], "next": None}
    assert refused(ada("GET", "?status=lost")) == (422, "INVALID")
    assert refused(ada("GET", "?cursor=x")) == (422, "INVALID")


def test_what_waits_is_cancelled_once(app: App, ada: Tenant) -> None:
    video_id = ada.ask().json()["id"]
    assert ada("POST", f"/{video_id}/cancel").json()["status"] == "cancelled"
    assert refused(ada("POST", f"/{video_id}/cancel")) == (409, "NOT_LIVE")
    drain(app)
    assert ada("GET", f"/{video_id}").json()["status"] == "cancelled"
    assert rows(app, media) == []
    assert ada.ask().status_code == 202


def test_what_it_would_cost_is_said_before_anything_is_bought(app: App, ada: Tenant) -> None:
    options = ada("GET", f"/estimate?generation_id={ada.generation}&concept_id=c1").json()["options"]
    assert options[0] == options[0] | {"provider": "storyboard", "usd": 0, "usable": True, "reason": None}
    paid = {(each["provider"], each["layout"]): each for each in options[1:]}
    assert paid["runway", "clip"]["usd"] == pytest.approx(3 * 0.12)
    assert not paid["runway", "clip"]["usable"]
    assert paid["runway", "clip"]["reason"] == "there is no key for runway here"
    assert "removed its Videos API" in next(each["reason"] for each in options if each["provider"] == "openai")
    assert rows(app, provider_jobs) == rows(app, videos) == []


@pytest.mark.parametrize(("tier", "limit"), [("FREE", 0), ("STARTER", 0), ("PRO", 25), ("AGENCY", 100)])
def test_a_plan_has_its_budget(app: App, tier: str, limit: float) -> None:
    budget = Tenant(app, tier=tier)("GET", "/budget").json()
    assert budget.items() >= {"limit_usd": limit, "reserved_usd": 0, "spent_usd": 0, "left_usd": limit}.items()
    assert date.fromisoformat(budget["month"]).day == 1


# --- who may ----------------------------------------------------------------------------------------------------


def test_others_have_no_such_video_generation_or_file(app: App, ada: Tenant) -> None:
    video_id = ada.ask().json()["id"]
    drain(app)
    media_id = ada("GET", f"/{video_id}").json()["media_id"]
    bob = Tenant(app)
    assert refused(bob("GET", f"/{video_id}")) == (404, "NOT_FOUND")
    assert refused(bob("POST", f"/{video_id}/cancel")) == (404, "NOT_FOUND")
    assert refused(bob.ask(generation_id=ada.generation)) == (404, "NOT_FOUND")
    assert refused(bob("POST", json={"media_id": media_id})) == (404, "NOT_FOUND")
    assert refused(bob("GET", f"/estimate?generation_id={ada.generation}")) == (404, "NOT_FOUND")
    assert bob("GET").json()["videos"] == []


def test_the_same_concept_of_two_tenants_is_two_files(app: App, ada: Tenant) -> None:
    bob = Tenant(app)
    ids = [(each, each.ask().json()["id"]) for each in (ada, bob)]
    drain(app)
    made = [each("GET", f"/{video_id}").json() for each, video_id in ids]
    assert made[0]["sha256"] == made[1]["sha256"]
    assert made[0]["media_id"] != made[1]["media_id"]
    assert str(ada.id) in made[0]["url"]
    assert str(bob.id) in made[1]["url"]


def test_members_may_render_and_keys_need_the_scope(app: App, ada: Tenant) -> None:
    api = Api(app)
    a_user(app, role=Role.MEMBER)
    assert api("GET", "/videos/budget", a_session()).status_code == 200
    old = a_key(app, ada.id, "generations:read", "generations:write")
    assert refused(api("GET", "/videos", old)) == (403, "SCOPE_MISSING")
    reader = a_key(app, ada.id, READ)
    assert api("GET", "/videos", reader).status_code == 200
    assert refused(api("POST", "/videos", reader, json={"generation_id": ada.generation})) == (403, "SCOPE_MISSING")


# --- bad input: one clear line, and nothing is left behind ------------------------------------------------------

LONG = [{"timeRange": f"{n * 60}-{n * 60 + 60}s", "onScreenText": "x", "visual": "y"} for n in range(10)]
WORDY = [{"timeRange": f"{n}-{n + 1}s", "onScreenText": "x" * 250, "visual": "y"} for n in range(20)]


@pytest.mark.parametrize(
    ("concept", "line"),
    [
        (a_concept(script=None), "the concept has no script"),
        (a_concept(script="a text"), "the concept has no script"),
        (a_concept(title="x" * 10_000), "the title has 10,000 characters; at most 200"),
        (a_concept(script=[SCRIPT[0] | {"onScreenText": "x" * 10_000}]), "segment 1 shows 10,000 characters"),
        (a_concept(script=WORDY), f"at most {MOST_CHARACTERS:,} can be read in time"),
        (a_concept(script=LONG), "the script lasts 600 s"),
        (a_concept(script=[SCRIPT[0] | {"timeRange": "later"}]), "segment 1 has no time range such as 0-3s"),
    ],
)
def test_a_script_that_cannot_be_rendered_is_one_line(app: App, concept: dict[str, Any], line: str) -> None:
    ada = Tenant(app, concept)
    answer = ada.ask()
    assert refused(answer) == (422, "INVALID")
    assert line in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert refused(ada("GET", f"/estimate?generation_id={ada.generation}")) == (422, "INVALID")
    assert rows(app, videos) == rows(app, video_budgets) == rows(app, provider_jobs) == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"provider": "kodak"}, 422, "'kodak'; there are storyboard"),
        ({"provider": "openai"}, 422, "removed its Videos API"),
        ({"provider": "runway"}, 422, "there is no key for runway here"),
        ({"provider": "auto"}, 422, "no clip can be bought"),
        ({"layout": "hook"}, 422, "name a provider"),
        ({"layout": "opera"}, 422, "layout"),
        ({"concept_id": "c9"}, 404, "c9"),
        ({"generation_id": str(uuid4())}, 404, "generation"),
        ({"media_id": str(uuid4())}, 404, "media file"),
    ],
)
def test_what_cannot_be_had_is_one_line(app: App, ada: Tenant, body: dict[str, Any], status: int, words: str) -> None:
    answer = ada.ask(**body)
    assert refused(answer)[0] == status
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert rows(app, videos) == rows(app, video_budgets) == []


def test_a_concept_is_named_by_its_id_or_its_place_or_is_the_first(app: App) -> None:
    ada = Tenant(app, CONCEPT, a_concept(id="c2"))
    assert ada.ask(concept_id="#2").json()["concept_id"] == "c2"
    assert ada.ask(concept_id="c2").status_code == 200
    assert ada.ask(concept_id=None).json()["concept_id"] == "c1"


def test_a_request_for_nothing_is_one_line(ada: Tenant) -> None:
    assert refused(ada("POST", json={})) == (422, "INVALID")
    assert refused(ada("POST", json={"generationId": ada.generation})) == (422, "INVALID")


@pytest.fixture
def buying(settings: Settings) -> Any:
    """An application with a key of Runway, which is never asked here."""
    changed = Settings.model_validate(
        settings.model_dump() | {"runwayml_api_secret": KEY, "runwayml_base_url": "http://127.0.0.1:9"}
    )
    app = build(changed, name="tests")
    yield app
    app.close()


def test_who_has_no_money_left_is_told_the_figures(buying: App) -> None:
    ada = Tenant(buying, tier="FREE")
    answer = ada.ask(provider="runway")
    assert refused(answer) == (402, "BUDGET_EXCEEDED")
    assert answer.json()["details"].items() >= {"limit_usd": "0.00", "left_usd": "0.00", "asked_usd": "0.36"}.items()
    assert rows(buying, videos) == rows(buying, provider_jobs) == []
    assert ada.ask().status_code == 202


def test_a_provider_that_an_operator_disabled_is_not_asked(buying: App) -> None:
    ada = Tenant(buying, tier="PRO")
    with buying.db.transaction(SYSTEM) as tx:
        tx.sql.execute(update(video_providers).where(video_providers.c.provider == "runway").values(enabled=False))
    answer = ada.ask(provider="runway")
    assert refused(answer) == (422, "INVALID")
    assert "runway is disabled" in answer.json()["error"]
    assert rows(buying, videos) == []


def test_without_ffmpeg_a_video_fails_in_words_and_is_made_later(app: App, settings: Settings, tmp_path: Path) -> None:
    missing = settings.model_copy(update={"ffmpeg_bin": tmp_path / "nowhere"})
    lame = build(missing, name="tests")
    try:
        ada = Tenant(lame)
        video_id = ada.ask().json()["id"]
        for _ in range(3):
            drain(lame)
            with lame.db.transaction(SYSTEM) as tx:
                tx.driver.execute("UPDATE job_queue SET scheduled_for = now() WHERE status = 'pending'")
        failed = ada("GET", f"/{video_id}").json()
        assert failed["status"] == "failed"
        assert "ffmpeg" in failed["error"]
        assert "\n" not in failed["error"]
        assert rows(lame, media) == []
        asked = ada.ask()
        assert asked.status_code == 202
        drain(app)
        assert ada("GET", f"/{asked.json()['id']}").json()["status"] == "completed"
    finally:
        lame.close()


class BrokenStudio:
    """It has a bug, whose text names what is nobody's business."""

    def storyboard(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError("postgres://somebody@internal")


def test_a_bug_of_ours_fails_a_video_and_tells_nobody_its_text(app: App) -> None:
    lame = replace(app, ports=replace(app.ports, studio=BrokenStudio()))
    ada = Tenant(lame)
    video_id = ada.ask().json()["id"]
    for _ in range(3):
        drain(lame)
        with lame.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET scheduled_for = now() WHERE status = 'pending'")
    failed = ada("GET", f"/{video_id}").json()
    assert (failed["status"], failed["error"]) == ("failed", "an error of our own; it has been logged")


def test_a_file_that_is_no_video_becomes_none(app: App, ada: Tenant, tmp_path: Path) -> None:
    """It begins like one, so it was taken; the look at it says what it is."""
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"\0\0\0\x18ftypmp42" + b"nothing" * 1000)
    media_id = add_own(app, ada.id, fake)
    asked = ada("POST", json={"media_id": str(media_id)})
    assert asked.status_code == 202
    drain(app)
    failed = ada("GET", f"/{asked.json()['id']}").json()
    assert failed["status"] == "failed"
    assert failed["error"].startswith("the file has no index (moov)")
    assert "\n" not in failed["error"]

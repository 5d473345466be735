"""`viral videos` and `viral providers`, as an operator uses them: a real ffmpeg, a store in a folder."""

import os
import pty
import signal
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from db.schema.videos import media, video_budgets, videos
from db.transaction import SYSTEM
from domain.videos.plan import Clip
from domain.videos.submissions import ClipOrder
from tests.builders import a_tenant
from tests.cli.shell import Shell, a_process, working
from tests.wait import until
from tests.web.api.test_generations import a_generation
from tests.web.api.test_videos import CONCEPT, a_concept
from workers.app import App
from workers.settings import Settings

NOBODY = "00000000-0000-0000-0000-000000000000"
KEY = "key_" + "0" * 60


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"media_dir": tmp_path / "media"})


@pytest.fixture(autouse=True)
def _one_store(viral: Shell, settings: Settings) -> None:
    viral.environment |= {"MEDIA_DIR": str(settings.media_dir)}


@pytest.fixture
def tenant_id(app: App) -> UUID:
    return a_tenant(app, subscription_tier="PRO")


@pytest.fixture
def generation(app: App, tenant_id: UUID) -> UUID:
    return a_generation(app, tenant_id, concepts=[CONCEPT, a_concept(id="c2", title="Bread at noon")]).id


def count(app: App, table: Any) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return len(tx.sql.execute(select(table)).all())


# --- one command makes a concept an MP4 that the platforms take ----------------------------------------------------


@pytest.mark.proof
def test_one_command_makes_a_file_that_every_platform_takes_and_a_file_of_ones_own_is_a_video_too(
    viral: Shell, app: App, tenant_id: UUID, generation: UUID, tmp_path: Path
) -> None:
    with working(app):
        made = viral.json("videos", "render", "--generation", generation, "--concept", 2, "--wait")
    assert {"video_id", "path", "sha256", "probe", "provider", "cost"} <= made.keys()
    assert (made["status"], made["provider"], made["cost"], made["title"]) == (
        "completed",
        "storyboard",
        0,
        "Bread at noon",
    )
    assert sha256(Path(made["path"]).read_bytes()).hexdigest() == made["sha256"]
    assert (made["probe"]["width"], made["probe"]["height"], made["probe"]["video_codec"]) == (1080, 1920, "h264")
    viral.done("media", "check", made["path"], "--platform", "all")
    shown = viral.done("videos", "show", made["video_id"])
    assert made["path"] in shown.out
    assert "$0.00" in shown.out
    [listed] = viral.json("videos", "list", "--generation", generation)
    assert listed["id"] == made["video_id"]
    again = viral("videos", "render", "--generation", generation, "--concept", 2)
    assert (again.code, "is completed; --again makes another one" in again.err) == (0, True)
    assert count(app, videos) == 1

    own = tmp_path / "holiday.mp4"
    own.write_bytes(Path(made["path"]).read_bytes())
    with working(app):
        mine = viral.json("videos", "render", "--file", own, "--tenant", tenant_id, "--wait")
    assert (mine["status"], mine["source"], mine["sha256"]) == ("completed", "own", made["sha256"])
    assert mine["video_id"] != made["video_id"]


def test_a_concept_is_found_by_its_id(viral: Shell, app: App, tenant_id: UUID) -> None:
    concept = a_concept(id=str(uuid4()))
    a_generation(app, tenant_id, concepts=[concept])
    assert viral.json("videos", "render", concept["id"])["concept_id"] == concept["id"]
    assert viral.refused("videos", "render", concept["id"], "--tenant", a_tenant(app)).endswith(str(tenant_id))


def test_what_waits_is_cancelled(viral: Shell, app: App, generation: UUID) -> None:
    video_id = viral.json("videos", "render", "--generation", generation)["video_id"]
    assert viral.done("videos", "cancel", video_id).out.startswith(f"{video_id}  ")
    result = viral("videos", "cancel", video_id)
    assert (result.code, "cancelled" in result.out) == (1, True)
    assert [each["status"] for each in viral.json("videos", "list", "--status", "cancelled")] == ["cancelled"]


@pytest.mark.proof
def test_who_waits_before_a_terminal_sees_how_far_it_is_and_may_leave(
    environment: dict[str, str], settings: Settings, generation: UUID
) -> None:
    """No worker runs: the shell says so, and Ctrl-C leaves the video to whoever comes."""
    terminal, theirs = pty.openpty()
    words = ("videos", "render", "--generation", str(generation), "--wait")
    process = a_process(
        environment | {"MEDIA_DIR": str(settings.media_dir), "TERM": "xterm"}, *words, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen: list[str] = []

    def sees(words: str) -> Callable[[], bool]:
        def look() -> bool:
            seen.append(os.read(terminal, 65536).decode(errors="replace"))
            return words in "".join(seen)

        return look

    until(sees("waiting"), "the stage")
    until(sees("No worker works on media"), "the hint")
    process.send_signal(signal.SIGINT)
    until(sees("goes on without you"), "the way back")
    assert process.wait(90) == 1
    os.close(terminal)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "CONCEPT, --generation, --file"),
        (("c1", "--generation", NOBODY), "CONCEPT, --generation, --file"),
        (("c1", "--concept", "2"), "--concept"),
        (("--file", __file__), "--tenant"),
        (("--file", "nowhere.mp4", "--tenant", NOBODY), "does not exist"),
        (("--generation", NOBODY, "--layout", "opera"), "there are storyboard, clip, hook, scenes"),
    ],
)
def test_a_command_line_that_makes_no_sense(away: Shell, words: tuple[str, ...], why: str) -> None:
    result = away("videos", "render", *words)
    assert (result.code, result.out) == (2, "")
    assert why in result.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("resolve", NOBODY, "lost", "--job", "x"), "--job"),
        (("resolve", NOBODY, "found", "--job", "x", "--charged", "1"), "--charged"),
        (("resolve", NOBODY, "maybe"), "found, lost"),
        (("resolve", NOBODY, "lost", "--charged", "NaN"), "between 0 and 100,000"),
        (("budget", NOBODY, "--limit", "-1"), "between 0 and 100,000"),
        (("budget", NOBODY, "--limit", "ten"), "is no amount"),
        (("budget", NOBODY, "--limit", "1", "--plan"), "--limit, --plan"),
        (("list", "--status", "lost"), "unconfirmed"),
    ],
)
def test_other_command_lines_that_make_no_sense(away: Shell, words: tuple[str, ...], why: str) -> None:
    result = away("videos", *words)
    assert (result.code, result.out) == (2, "")
    assert why in result.err


def test_what_is_not_there_is_one_line(viral: Shell, app: App, tenant_id: UUID, generation: UUID) -> None:
    assert "no generation has the id" in viral.refused("videos", "render", "--generation", NOBODY)
    assert "has 2 concepts" in viral.refused("videos", "render", "--generation", generation, "--concept", 3)
    assert "nowhere" in viral.refused("videos", "render", "nowhere")
    for command in ("show", "cancel"):
        assert NOBODY in viral.refused("videos", command, NOBODY)
    assert NOBODY in viral.refused("videos", "resolve", NOBODY, "lost")
    assert NOBODY in viral.refused("videos", "budget", NOBODY)
    assert "kodak" in viral.refused("videos", "render", "--generation", generation, "--provider", "kodak", "--yes")
    assert "kodak" in viral.refused("providers", "disable", "kodak")
    assert count(app, videos) == count(app, video_budgets) == 0


def test_a_file_that_is_no_video_is_one_line(viral: Shell, app: App, tenant_id: UUID) -> None:
    line = viral.refused("videos", "render", "--file", __file__, "--tenant", tenant_id)
    assert "the file is a text; MP4, MOV and WebM videos are taken" in line
    assert count(app, videos) == count(app, media) == 0


# --- money --------------------------------------------------------------------------------------------------------


def test_a_price_is_shown_and_nothing_is_bought_without_a_yes(viral: Shell, app: App, generation: UUID) -> None:
    viral.environment |= {"RUNWAYML_API_SECRET": KEY, "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
    result = viral("videos", "render", "--generation", generation, "--provider", "runway")
    assert (result.code, result.out) == (2, "")
    assert (
        "runway makes one clip for a video of 3 s (layout clip), for $0.36 at most. Say --yes to buy it" in result.err
    )
    assert count(app, videos) == 0
    asked = viral.json("videos", "render", "--generation", generation, "--provider", "runway", "--yes")
    assert (asked["status"], asked["estimated_usd"]) == ("pending", 0.36)


def test_a_price_is_shown_of_one_long_segment_too(viral: Shell, app: App, tenant_id: UUID) -> None:
    """It is longer than a clip, so a hook is bought."""
    viral.environment |= {"RUNWAYML_API_SECRET": KEY, "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
    concept = a_concept(id="long", script=[{"timeRange": "0-40s", "visual": "Dough rises."}])
    generation = a_generation(app, tenant_id, concepts=[concept]).id
    for provider, who in (("runway", "runway"), ("auto", "the first provider that can be used")):
        result = viral("videos", "render", "--generation", generation, "--provider", provider)
        assert (result.code, count(app, videos)) == (2, 0)
        assert f"{who} makes one clip for a video of 40 s (layout hook), for $1.20 at most" in result.err


def test_the_shell_says_how_a_doubt_is_decided(viral: Shell, app: App, tenant_id: UUID, generation: UUID) -> None:
    viral.environment |= {"RUNWAYML_API_SECRET": KEY, "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
    asked = viral.json("videos", "render", "--generation", generation, "--provider", "runway", "--yes")
    video_id, job_id = UUID(asked["video_id"]), UUID(asked["job_id"])
    clip = Clip(0, ClipOrder("gen4.5", "Dough rises.", 3, "720:1280"), Decimal("0.36"))
    with app.db.transaction(tenant_id) as tx:
        order: dict[str, Any] = {"id": tx.new_id(), "job_id": job_id, "provider": "runway", "clip": clip}
        row = tx.submissions.intend(tenant_id, video_id, **order, now=tx.now())
        tx.submissions.doubt(tenant_id, row.id, message="nobody can tell")
        tx.videos.end(tenant_id, video_id, "unconfirmed", "nobody can tell")
    command = f"viral videos resolve {video_id} found --job ITS_ID"
    for words in (("show", video_id), ("cancel", video_id)):
        assert command in " ".join(viral("videos", *words).out.split())
    with working(app):
        by_filter = ("videos", "resolve", "lost", "--status", "unconfirmed", "--tenant", tenant_id)
        assert "completed: 1 done" in viral(*by_filter, "--reason", "the console has none", "--yes").out
    assert command not in viral.done("videos", "show", video_id).out


def test_more_than_the_budget_is_refused_with_figures(
    viral: Shell, app: App, generation: UUID, tenant_id: UUID
) -> None:
    viral.environment |= {"RUNWAYML_API_SECRET": KEY, "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
    viral.done("videos", "budget", tenant_id, "--limit", "0.30")
    line = viral.refused("videos", "render", "--generation", generation, "--provider", "runway", "--yes")
    assert "$0.36" in line
    assert "$0.30" in line
    assert count(app, videos) == 0


def test_a_budget_is_the_plans_or_the_tenants_own(viral: Shell, tenant_id: UUID) -> None:
    assert viral.json("videos", "budget", tenant_id).items() >= {"limit_usd": 25, "spent_usd": 0, "own": False}.items()
    assert viral.json("videos", "budget", tenant_id, "--limit", "40").items() >= {"limit_usd": 40, "own": True}.items()
    assert "$40.00" in viral.done("videos", "budget", tenant_id).out
    assert viral.json("videos", "budget", tenant_id, "--plan").items() >= {"limit_usd": 25, "own": False}.items()


def test_providers_say_whether_they_can_be_used(viral: Shell) -> None:
    listed = {row["provider"]: row for row in viral.json("providers", "list")}
    assert next(iter(listed)) == "storyboard"
    assert listed["storyboard"]["reason"] is None
    assert "RUNWAYML_API_SECRET" in listed["runway"]["reason"]
    assert "removed its Videos API" in listed["openai"]["reason"]
    shown = viral.done("providers", "list").out
    assert shown.endswith("by the keys of this shell; workers may have others\n")
    assert "$0.12" in shown
    assert "5 or 10 s" in shown, "Luma sells nothing between"
    viral.environment |= {"RUNWAYML_API_SECRET": KEY}
    assert {row["provider"]: row["reason"] for row in viral.json("providers", "list")}["runway"] is None
    viral.done("providers", "disable", "runway")
    assert "viral providers enable runway" in viral.done("providers", "list").out
    viral.done("providers", "enable", "runway")
    assert "enable runway" not in viral.done("providers", "list").out


def test_help_names_what_each_command_does(away: Shell) -> None:
    for command in ("render", "list", "show", "cancel", "resolve", "budget"):
        assert away("videos", command, "--help").code == 0
    assert "viral providers list" in away("videos", "render", "--help").out


def test_a_list_by_a_provider_that_nobody_knows_names_those_that_there_are(viral: Shell) -> None:
    line = viral.senseless("videos", "list", "--provider", "kodak")
    assert "this release knows no kodak; it knows storyboard" in line
    assert "runway" in line
    assert viral.json("videos", "list", "--provider", "runway") == []

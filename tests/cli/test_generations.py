"""`viral generations`: concepts for people to read, daily preferences, and how the sources are."""

import json
import re
from collections.abc import Callable

import pytest

from tests.builders import a_tenant, tenant
from tests.cli.shell import ROOT, Shell
from workers.app import App


@pytest.fixture(autouse=True)
def _no_network(viral: Shell) -> None:
    viral.environment |= {"TREND_SOURCES": "none"}


@pytest.fixture
def settings(settings: object) -> object:
    return settings.model_copy(update={"trend_sources": ("none",)})  # type: ignore[attr-defined]


def test_what_a_job_made_can_be_read(viral: Shell, app: App, drain: Callable[[], int]) -> None:
    tenant_id = a_tenant(app)
    job_id = viral("jobs", "enqueue", "generation.generate_concepts", "--tenant", tenant_id).out.strip()
    drain()
    listed = json.loads(viral("generations", "list", "--tenant", tenant_id, "--json").out)
    assert [(row["concepts"], row["generator"], row["job_id"]) for row in listed] == [(5, "local-grammar/v1", job_id)]
    shown = viral("generations", "show", listed[0]["id"])
    whole = json.loads(viral("generations", "show", listed[0]["id"], "--json").out)
    for concept in whole["concepts"]:
        assert concept["title"] in shown.lines
        assert concept["caption"] in shown.out
    # A tenant without a post: what the document shows of its predictions is what is shown.
    example = (ROOT / "docs/concepts.md").read_text("utf-8")
    predicted = set(re.findall(r"^(?:tiktok|youtubeShorts|instagramReels)  .*", example, re.MULTILINE))
    assert len(predicted) == 3
    assert predicted <= set(shown.lines)


def test_a_generation_that_is_not_there_is_one_line(viral: Shell) -> None:
    result = viral("generations", "show", "00000000-0000-0000-0000-000000000000")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "no generation has the id" in result.err


def test_a_tenant_gets_daily_concepts_at_an_hour_of_their_clock(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app)
    result = viral("generations", "daily", tenant_id, "--hour", 7, "--zone", "Asia/Tokyo", "--region", "jp", "--json")
    preferences = {"daily_enabled": True, "daily_hour": 7, "timezone": "Asia/Tokyo", "region": "JP", "daily_count": 5}
    assert json.loads(result.out).items() >= preferences.items()
    assert tenant(app, tenant_id).items() >= preferences.items()
    viral("generations", "daily", tenant_id, "--off")
    assert tenant(app, tenant_id).items() >= (preferences | {"daily_enabled": False}).items()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--zone", "Mars/Olympus"), "is no zone"),
        (("--region", "Germany"), "is no country"),
        (("--hour", "24"), "--hour"),
    ],
)
def test_preferences_that_make_no_sense_are_told(away: Shell, words: tuple[str, ...], why: str) -> None:
    result = away("generations", "daily", "00000000-0000-0000-0000-000000000000", *words)
    assert result.code == 2
    assert why in result.err


def test_sources_that_nobody_asked(viral: Shell) -> None:
    assert viral("generations", "sources").out == "No trend source has been asked yet.\n"


def test_a_source_that_does_not_exist_is_a_wrong_setting(viral: Shell) -> None:
    result = viral("generations", "list", TREND_SOURCES="google-trends,myspace")
    assert result.code == 1
    assert "TREND_SOURCES: should name some of google-trends" in result.err

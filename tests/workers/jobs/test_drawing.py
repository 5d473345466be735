"""From a request to a file that every platform takes, by the real studio: a storyboard, a clip that is the whole video,
and one that cannot be shown."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.videos.profiles import NAMES
from domain.videos.script import script_of
from integrations.studio.frames import Canvas
from integrations.studio.studio import FfmpegStudio
from tests.video_stage import MP4, Stage, a_concept, stage
from workers.settings import Settings

STUDIO = FfmpegStudio(canvas=Canvas(540, 960, 30))
"""Draws half the size: `tests/cli/test_videos.py` draws the whole one."""


@pytest.fixture(scope="module")
def a_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the providers send: five seconds that the studio drew itself."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    STUDIO.storyboard(script_of(a_concept(segments=1, seconds=5)), path, watch=lambda fraction: None)
    return path.read_bytes()


@pytest.fixture
def here(settings: Settings, tmp_path: Path, a_clip: bytes) -> Iterator[Stage]:
    with stage(settings, tmp_path / "media", media=a_clip) as made:
        yield replace(made, app=replace(made.app, ports=replace(made.app.ports, studio=STUDIO)))


@pytest.mark.proof
def test_a_storyboard_and_a_bought_clip_are_taken_by_every_platform(here: Stage) -> None:
    tenant_id = here.tenant()
    drawn = here.ask(tenant_id, a_concept(segments=1, seconds=3))
    clip = here.ask(tenant_id, a_concept(segments=2, seconds=2), provider="runway")
    hook = here.ask(tenant_id, a_concept(segments=2, seconds=2), provider="runway", layout="hook")
    here.run()
    for video_id, seconds in ((drawn, 3), (clip, 4), (hook, 4)):
        video = here.show(video_id)
        assert video["status"] == "completed", video["error_message"]
        assert video["details"]["faults"] == {}
        assert len(NAMES) >= 3
        assert abs(float(video["duration_seconds"]) - seconds) < 0.1
        probe = video["details"]["probe"]
        assert (probe["width"], probe["height"], probe["video_streams"], probe["audio_streams"]) == (540, 960, 1, 1)
        assert (probe["edit_lists"], probe["moov_first"]) == (0, True)
        assert not video["details"]["unusable_clips"]
    assert here.budget(tenant_id).spent == here.bill()


@pytest.mark.proof
def test_a_clip_that_cannot_be_decoded_is_paid_and_its_slide_is_shown(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].media = MP4  # whole, as far as its boxes tell
    video_id = here.ask(tenant_id, a_concept(segments=2, seconds=2), provider="runway", layout="hook")
    whole = here.ask(tenant_id, a_concept(segments=2, seconds=2), provider="runway")
    here.run()
    video = here.show(video_id)
    assert video["status"] == "completed"
    assert "was paid for and cannot be shown" in video["details"]["unusable_clips"]["0"]
    assert here.show(whole)["status"] == "failed"
    assert here.budget(tenant_id).spent == here.bill() > 0

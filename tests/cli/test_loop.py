"""`viral dev loop`: what comes back is what the simulated platforms must have said, and nothing is left behind."""

import json
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil
import pytest

from cli.commands.loop import show_event
from domain.learning.numbers import Horizon
from domain.learning.scale import log_engagement, score_of
from simulators.outside import LABEL
from simulators.platforms.growth import numbers_at
from tests.cli.shell import NOWHERE, Shell, a_process
from tests.wait import until

OTHERS = {"DATABASE_URL": NOWHERE, "REDIS_URL": "redis://127.0.0.1:1/0", "TIKTOK_BASE_URL": "https://tiktok.example"}
"""Somebody's own, which the loop must not meet."""


def of_this(folder: Path) -> list[int]:
    """Return the processes that work in this folder."""
    found = []
    for each in psutil.process_iter():
        try:
            if str(folder) in " ".join([*each.cmdline(), each.environ().get("VIRAL_HOME", "")]):
                found.append(each.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def temporary() -> dict[str, str]:
    """An environment whose temporary folder is one of our own, so that all that is left can be seen."""
    folder = Path(tempfile.mkdtemp(prefix="loop-test-"))
    folder.chmod(0o711)
    return {"TMPDIR": str(folder)}


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_each_number_is_the_curve_at_its_age_and_nothing_is_left(temporary: dict[str, str]) -> None:
    # Of the first seeds, this one's video is the shortest.
    run = a_process(temporary | OTHERS, "dev", "loop", "--seed", "12", "--json", stdout=PIPE, stderr=PIPE)
    out, err = run.communicate(timeout=380)
    assert (run.returncode, err) == (0, "")
    rows: list[Mapping[str, Any]] = json.loads(out)
    platforms = {"tiktok", "youtube-shorts", "instagram-reels"}
    assert {(row["platform"], row["horizon"]) for row in rows} == {(p, str(h)) for p in platforms for h in Horizon}
    assert len(rows) == len(platforms) * len(Horizon)
    for row in rows:
        horizon = Horizon(row["horizon"])
        assert horizon.age.total_seconds() <= row["age_s"] <= horizon.closes.total_seconds()
        grown = numbers_at(row["external_id"], row["age_s"])
        assert (row["views"], row["likes"], row["comments"]) == (grown.views, grown.likes, grown.comments), row
        assert row["simulated"] is True
        assert row["missed"] is None
    assert len({row["post_id"] for row in rows}) == len(platforms)
    for row in rows:
        if row["horizon"] == Horizon.H24:
            parts = [row[name] for name in ("likes", "comments", "shares") if row[name] is not None]
            assert row["actual"] == pytest.approx(score_of(log_engagement(100 * sum(parts) / row["views"])), abs=0.001)
            # What the next post like it is expected to do has moved to where this one came.
            assert (row["next"] - row["predicted"]) * (row["actual"] - row["predicted"]) > 0, row
    folder = Path(temporary["TMPDIR"])
    assert of_this(folder) == []
    folder.rmdir()  # it is empty


@pytest.mark.proof
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_whoever_stops_it_finds_nothing_left(temporary: dict[str, str], tmp_path: Path, number: int) -> None:
    output, folder = tmp_path / "out", Path(temporary["TMPDIR"])
    with output.open("w") as out:
        run = a_process(temporary | {"PYTHONUNBUFFERED": "1"}, "dev", "loop", "--seed", "1", stdout=out)
    try:
        # SIGINT amid the rounds, SIGTERM while the servers start.
        amid = "accounts connected" if number == signal.SIGINT else LABEL
        until(lambda: amid in output.read_text() or run.poll() is not None, "it to begin")
        assert run.poll() is None
        run.send_signal(number)
        assert run.wait(timeout=60) == 130
    finally:
        run.kill()
        run.wait()
    assert of_this(folder) == []
    folder.rmdir()


def test_a_folder_with_something_in_it_is_not_taken(nothing_runs: Shell, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "there").write_text("")
    assert "is there already" in nothing_runs.senseless("dev", "loop", "--home", tmp_path / "kept")
    assert os.listdir(tmp_path / "kept") == ["there"]


def test_people_see_what_happened_and_a_dash_where_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"platform": "tiktok", "horizon": str(each), "views": None if each == Horizon.H6 else 1234} for each in Horizon
    ]
    concept: dict[str, Any] = {"title": "A \x1b[2Jfox", "topic": "foxes", "trendSource": "reddit"}
    concept["platformVirality"] = {name: {"score": 71} for name in ("tiktok", "youtubeShorts", "instagramReels")}
    show_event({"event": "concept", "round": 1, "of": 5, "concept": concept, "took_s": 0.4})
    show_event({"event": "numbers", "rows": rows, "took_s": 0.5})
    learned = {"platform": "tiktok", "predicted": 71.4, "low": 40.0, "high": 90.2, "actual": 63.5, "next": None}
    critique = {"critique": "All of \x1b[2J3 were worse.", "critic": "local-critic/v1"}
    show_event({"event": "learning", "rows": [learned], **critique, "took_s": 0.5})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert [line.split() for line in out.splitlines()[-2:]] == [
        ["TikTok", "71", "40", "to", "90", "64", "—"],
        ["critique", "(local-critic/v1):", "All", "of", "\\x1b[2J3", "were", "worse."],
    ]
    assert "predicted     TikTok 71, YouTube Shorts 71, Instagram Reels 71 of 100" in out
    assert out.splitlines()[-5].split() == ["TikTok", "1,234", "—", "1,234", "1,234", "1,234"]
    assert "simulated" in out

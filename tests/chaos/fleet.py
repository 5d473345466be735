"""The processes of an experiment: worker dynos, schedulers, a web process. Each writes its log to a file of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.spawn import answers, free_port, signal_group, spawn
from tests.chaos.fork_server import ROOT
from tests.chaos.servers import System
from tests.wait import until

FAST = {"CHAOS_INTERVAL": "0.7", "CHAOS_LEASE": "2.5", "CHAOS_SWEEP": "0.7", "IDLE_INTERVAL": "1"}
"""Heartbeat, lease, sweep and rest of experiments with many trials; shipped are 10 s, 30 s, 10 s and 15 s."""

SHIPPED: Mapping[str, str] = {}


@dataclass(frozen=True)
class Order:
    """How to start a process. A `warm` one is forked from the fork server; the others begin from nothing."""

    role: str
    call: str
    argv: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    warm: bool = True


@dataclass
class Member:
    order: Order
    pid: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarted: bool = False


class Fleet:
    def __init__(self, system: System, **environment: str) -> None:
        self.system = system
        self.fork_server = system.servers.fork_server
        self.environment = {
            **system.environment,
            "LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
            "WORKER_WAITING": "4",  # so that jobs wait in Redis, where much may happen to them
            **environment,
        }
        self.members: list[Member] = []
        self.restarts = 0

    def dyno(self, *, processes: int = 1, threads: int = 4, grace_s: int = 20, warm: bool = True, **env: str) -> Member:
        size = {"WORKER_PROCESSES": processes, "WORKER_THREADS": threads, "WORKER_GRACE_SECONDS": grace_s}
        env |= {name: str(number) for name, number in size.items()}
        return self.start(Order("worker", "workers.__main__:begin", ["tests.chaos.worker:start"], env, warm))

    def dynos(self, number: int, **options: Any) -> list[Member]:
        return [self.dyno(**options) for _ in range(number)]

    def workers(self, number: int, **options: Any) -> None:
        """A scheduler and so many dynos of one worker process, which have signed on when this returns."""
        self.scheduler()
        self.dynos(number, **options)
        self.await_signed_on(number)

    def scheduler(self, *, warm: bool = True, **env: str) -> Member:
        return self.start(Order("scheduler", "tests.chaos.clock:run", (), env, warm))

    def web(self) -> str:
        """A real web process. Returns its origin."""
        port = free_port()
        self.start(Order("web", "cli.main", ["web"], {"PORT": str(port)}, warm=False))
        until(lambda: answers(port), "the web process to listen")
        return f"http://127.0.0.1:{port}"

    def start(self, order: Order) -> Member:
        log = self.system.folder / f"{order.role}.{len(self.members)}.log"
        env = {**self.environment, **order.env}
        if order.warm:
            assert self.fork_server is not None
            member = Member(order, self.fork_server.fork(order.call, order.argv, env, log), log)
        else:
            module = order.call.partition(":")[0].removesuffix(".__main__")
            with log.open("ab") as file:
                process = spawn(
                    [sys.executable, "-m", module, *order.argv],
                    env=os.environ | env,
                    death_signal=signal.SIGKILL,
                    stdout=file,
                    cwd=ROOT,
                )
            member = Member(order, process.pid, log, process)
        self.members.append(member)
        return member

    def runs(self, member: Member) -> bool:
        if member.process is not None:
            return member.process.poll() is None
        assert self.fork_server is not None
        return member.pid not in self.fork_server.ended

    def exit_code(self, member: Member) -> int | None:
        if member.process is not None:
            return member.process.poll()
        assert self.fork_server is not None
        return self.fork_server.ended.get(member.pid)

    def up(self, role: str = "worker") -> list[Member]:
        return [member for member in self.members if member.order.role == role and self.runs(member)]

    def restart_fallen(self) -> int:
        """Start again what has ended, as a dyno manager does. Returns how many."""
        fallen = [member for member in self.members if not member.restarted and not self.runs(member)]
        for member in fallen:
            member.restarted = True
            signal_group(member.pid, signal.SIGKILL)
            self.start(member.order)
        self.restarts += len(fallen)
        return len(fallen)

    def processes(self, member: Member) -> list[int]:
        """The worker processes of a dyno."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(member.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child.pid)
        return found

    def signed_on(self) -> list[int]:
        """Pids of live worker processes, by the table."""
        rows = self.system.rows("SELECT pid FROM workers WHERE lease_until > now()")
        return [pid for (pid,) in rows if psutil.pid_exists(pid)]

    def await_signed_on(self, number: int) -> None:
        until(lambda: len(self.signed_on()) >= number, f"{number} worker processes to sign on")

    def lines(self) -> Iterator[dict[str, Any]]:
        """What all processes have logged."""
        for path in sorted(self.system.folder.glob("*.log")):
            with path.open(errors="replace") as file:
                for line in file:
                    if line.startswith("{"):
                        with suppress(ValueError):
                            yield json.loads(line) | {"process": path.stem}

    def logged(self, *events: str) -> int:
        """How often one of these was logged."""
        return sum(line.get("event") in events for line in self.lines())

    def troubles(self) -> list[str]:
        """Kinds of tracebacks and errors in the logs, with how often: what an operator would be woken by."""
        found: dict[str, int] = {}
        for line in self.lines():
            if line.get("level") in {"error", "critical"}:
                last = str(line.get("exception", "")).strip().rpartition("\n")[2]
                key = f"{line.get('event')}: {last or line.get('error', '')}"[:160]
                found[key] = found.get(key, 0) + 1
        return [f"{count} x {what}" for what, count in sorted(found.items(), key=lambda each: -each[1])]

    def end(self) -> None:
        for member in self.members:
            for pid in self.processes(member):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            signal_group(member.pid, signal.SIGKILL)
        for member in self.members:
            if member.process is not None:
                member.process.wait()
        until(lambda: not any(self.runs(member) for member in self.members), "every process to be gone")


@contextmanager
def fleet_of(system: System, **environment: str) -> Iterator[Fleet]:
    fleet = Fleet(system, **environment)
    try:
        yield fleet
    finally:
        fleet.end()

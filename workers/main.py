"""One worker process: `dramatiq workers.main:start` (what `viral worker` runs).

Dramatiq's parent forks the processes, and each calls `start`. A platform that stops a dyno signals every process,
and Dramatiq's parent passes the signal on, so each process hears SIGTERM twice; Dramatiq takes the second for an
order to die. Here only the first counts (docs/decisions/0003-the-drain-survives-repeated-signals.md).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import FrameType, ModuleType
from typing import Any

import dramatiq
import structlog
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware
from dramatiq.worker import Worker

import workers.jobs
from workers import logs
from workers.app import App, build
from workers.broker import BellBroker, declare_actor
from workers.heartbeat import INTERVAL, LEASE, Heartbeat
from workers.job import QUEUES
from workers.runner import Runner
from workers.settings import Settings, load

QUEUES_VARIABLE = "WORKER_QUEUES"
PR_SET_PDEATHSIG = 1

log = structlog.get_logger()


class Lifecycle(Middleware):
    """Ties a runner and its heartbeat to the boot and the drain of a Dramatiq worker."""

    def __init__(self, app: App, runner: Runner, heartbeat: Heartbeat) -> None:
        self._app = app
        self._runner = runner
        self._heartbeat = heartbeat

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._app.start()
        self._heartbeat.start()
        self._runner.start()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        log.info("worker.ready", worker_id=str(self._runner.worker_id), threads=worker.worker_threads)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        log.info("worker.draining", running=len(self._runner.leases))
        self._runner.stop()
        self._heartbeat.drain()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._runner.close()
        returned = self._heartbeat.leave()
        self._app.close()
        log.info("worker.stopped", given_back=[str(job_id) for job_id in returned])


def start() -> None:
    """Called by Dramatiq in each worker process, on its main thread, before its threads start."""
    serve(load())


def serve(
    settings: Settings,
    packages: Sequence[ModuleType] = (workers.jobs,),
    *,
    interval: timedelta = INTERVAL,
    lease: timedelta = LEASE,
) -> None:
    """Make this process a worker for the job types of `packages`; `interval` and `lease` are its heartbeat's."""
    logs.configure(settings.log_format, settings.log_level)
    _die_with_parent()
    _drain_once()
    queues = tuple(filter(None, os.environ.get(QUEUES_VARIABLE, "").split(","))) or tuple(QUEUES)
    app = build(settings, name="viral worker", pool_size=settings.worker_threads + 2, packages=packages)
    runner = app.runner()
    broker = BellBroker(settings.redis_url, queues, runner.helping)
    heartbeat = Heartbeat(app.db, runner, queues=queues, version=app.version, interval=interval, lease=lease)
    broker.add_middleware(Lifecycle(app, runner, heartbeat))
    declare_actor(broker, runner.run)
    dramatiq.set_broker(broker)


def command(settings: Settings, queues: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The Dramatiq command line of a worker, and what to add to its environment."""
    arguments = [
        sys.executable,
        "-m",
        "dramatiq",
        "workers.main:start",
        "--skip-logging",
        f"--processes={settings.worker_processes}",
        f"--threads={settings.worker_threads}",
        f"--worker-shutdown-timeout={settings.worker_grace_seconds * 1000}",
    ]
    return arguments, {QUEUES_VARIABLE: ",".join(queues)}


def _drain_once() -> None:
    drains: list[Any] = [signal.getsignal(signal.SIGTERM)]

    def first_only(signum: int, frame: FrameType | None) -> None:
        # A second signal may interrupt this very handler; taking the last element can happen only once.
        with suppress(IndexError):
            drains.pop()(signum, frame)

    signal.signal(signal.SIGTERM, first_only)


def _die_with_parent() -> None:
    """A worker whose Dramatiq parent was killed must drain too, or it would work on unseen (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

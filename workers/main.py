"""One worker process: threads, a runner for what they are handed, a heartbeat (`__main__` is its parent)."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import structlog

import workers.jobs
from db.transaction import NO_ANSWER
from domain.ops.connections import Role, usual_pool
from workers.adapters.ports import store_watch
from workers.app import build
from workers.engine.broker import SortedSetBroker
from workers.engine.heartbeat import INTERVAL, LEASE, Heartbeat
from workers.engine.queues import (
    QUEUES,
    QUEUES_VARIABLE,
    declare_actors,
    notifications_key,
    places,
    render_limit,
    wanted_queues,
)
from workers.engine.threads import Threads
from workers.ops.changes import start_note
from workers.ops.notices import NoticeWatch
from workers.runtime import logs
from workers.runtime.cores import usable_cores
from workers.runtime.metrics import MetricsReport
from workers.runtime.sentry import open_errors
from workers.runtime.startup import when_served
from workers.settings import Settings, load

log = structlog.get_logger()


def start() -> "WorkerProcess":
    """Put a worker process together; its parent calls this in each of them."""
    return WorkerProcess(load())


class WorkerProcess:
    """Runs the job types of `packages`; `interval` and `lease` are its heartbeat's."""

    def __init__(
        self,
        settings: Settings,
        packages: Sequence[ModuleType] = (workers.jobs,),
        *,
        interval: timedelta = INTERVAL,
        lease: timedelta = LEASE,
    ) -> None:
        self._errors = open_errors(settings.sentry_dsn.get_secret_value(), "worker")
        logs.configure(settings.log_format, settings.log_level, report=self._errors.report if self._errors else None)
        queues = wanted_queues()
        self._settings = settings
        pool_size = usual_pool(Role.WORKER, settings.worker_threads)
        self._app = build(settings, name="viral worker", pool_size=pool_size, packages=packages)
        self._runner = self._app.runner()
        separate = self._app.db.separate()
        report = MetricsReport(separate, self._app.metrics, role=Role.WORKER, release=self._app.release)
        self._heartbeat = Heartbeat(
            separate,
            self._runner,
            queues=queues,
            version=self._app.release,
            interval=interval,
            lease=lease,
            rest=timedelta(seconds=settings.idle_interval),
            report=report.try_to_send,
        )
        self._store_watch = store_watch(settings, self._app.db, Role.WORKER)
        self._start_note = start_note(self._app, Role.WORKER, "" if set(queues) == {*QUEUES} else " ".join(queues))
        self._notices = NoticeWatch(self._app)
        self._places = places(
            queues,
            threads=settings.worker_threads,
            waiting=settings.worker_waiting,
            drawing=render_limit(settings.render_at_once, cores=usable_cores(), processes=settings.worker_processes),
        )
        keys = {queue: notifications_key(queue) for queue in queues}
        self.broker = SortedSetBroker(settings.redis_url, keys, self._places)
        declare_actors(self.broker, queues, self._runner.run, self._runner.batch_size)

    def run(self, asked_to_stop: SimpleQueue[Any]) -> None:
        """Work until asked to stop; then finish what was begun, and give back what outlasts the grace period.

        Raises:
            SchemaNewer: this release must not work on this database.
        """
        self._app.start()
        if when_served(self._sign_on, asked_to_stop, waits="worker.waits"):
            self._runner.start()
            threads = Threads(self.broker, most=sum(self._places.values()))
            threads.start()
            log.info(
                "worker.ready",
                worker_id=str(self._runner.worker_id),
                at_once=self._places,
                connections=self._app.db.pool_size,
            )
            asked_to_stop.get()
            self._drain(threads)
        self.broker.close()
        self._app.close()
        if self._errors is not None:
            self._errors.close()

    def _sign_on(self) -> None:
        """No job is claimed before the first heartbeat is written: without one, a process is dead to the others."""
        self._app.check_schema()
        self._heartbeat.start()
        self._store_watch.start()
        self._start_note.start()
        self._notices.start()

    def _drain(self, threads: Threads) -> None:
        log.info("worker.draining", running=len(self._runner.leases))
        self._runner.stop()
        with suppress(*NO_ANSWER):
            self._heartbeat.drain()
        threads.stop(timeout=self._settings.worker_grace_seconds * 1000)
        self._runner.close()
        self._store_watch.stop()
        self._start_note.stop()
        self._notices.stop()
        try:
            returned = self._heartbeat.sign_off()
        except NO_ANSWER as error:
            log.warning("worker.not_signed_off", reason=str(error), next="its jobs are rescued when its lease is over")
        else:
            log.info("worker.stopped", given_back=[str(job_id) for job_id in returned])


def command(queues: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a worker dyno, and what to add to its environment."""
    return [sys.executable, "-m", "workers"], {QUEUES_VARIABLE: ",".join(queues)}

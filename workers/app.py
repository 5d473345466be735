"""The composition root: the one place where engines, clients and settings are put together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from random import Random
from types import ModuleType
from uuid import uuid4

import workers.jobs
from db.migrate.revisions import check
from db.postgres.connection import DEFAULT_SETTINGS, TransactionSettings
from db.postgres.url import parse
from db.queue.notifications import Notifications
from db.security import RoleRefused, lacking
from db.transaction import POOL_TIMEOUT, SYSTEM, Database, Tx
from domain.ports import Ports
from workers.adapters.ports import open_ports
from workers.engine.batcher import Batcher
from workers.engine.discovery import discover
from workers.engine.job import JobTypes
from workers.engine.notifier import Notifier
from workers.engine.queues import QUEUES
from workers.engine.runner import PutBack, Runner
from workers.runtime.ids import Ids
from workers.runtime.metrics import Metrics
from workers.runtime.redis_client import connect
from workers.runtime.tracing import Tracing, open_tracing
from workers.runtime.version import VERSION
from workers.settings import Settings, require

NOTIFIER_REST, CROWDED_REST = 0.002, 0.01
"""Seconds between two notifications of a process: each costs as much as enqueueing a job and carries any number. The
second is the rest while more waits than is notified directly: then it only signals the dispatcher."""


@dataclass(frozen=True)
class App:
    """The parts that every entrypoint (web, scheduler, cli, worker) works with."""

    settings: Settings
    db: Database
    notifier: Notifier
    notifications: Batcher[Notifications, None]
    job_types: JobTypes
    ports: Ports
    metrics: Metrics
    version: str
    tracing: Tracing
    release: str = VERSION
    """What a deploy changes: `version` is the same for many of them."""
    clock: Callable[[], datetime] | None = None

    def runner(
        self, *, put_back: PutBack | None = None, stopwatch: Callable[[], float] = time.monotonic, batch_size: int = 1
    ) -> Runner:
        """Make a runner for this boot of this process: its id is new, so no restart can keep a dead lease alive."""
        return Runner(
            self.db,
            self.job_types,
            worker_id=uuid4(),
            ports=self.ports,
            tracing=self.tracing,
            rng=Random(),  # noqa: S311 - jitter
            put_back=put_back or self.notifier.put_back,
            metrics=self.metrics,
            clock=self.clock,
            stopwatch=stopwatch,
            batch_size=batch_size,
        )

    def now(self, tx: Tx) -> datetime:
        """Return the moment: the database's, unless the application has a clock of its own."""
        return self.clock() if self.clock is not None else tx.now()

    def committed(self, notifications: Notifications) -> None:
        """Count what a transaction has committed, and have the workers notified; neither waits nor raises."""
        _committed(self.metrics, self.notifications, notifications)

    def check_schema(self) -> None:
        """Check that this release may work on this database.

        Raises:
            SchemaNewer: it must not.
            RoleRefused: the role of the URL is not bound by row-level security, or lacks rights.
            SchemaOlder, DatabaseUnavailable: it cannot yet.
        """
        with self.db.transaction(SYSTEM) as tx:
            if missing := tx.health.missing_rights():
                raise RoleRefused(lacking(missing))
            check(tx.health.schema())

    def start(self) -> None:
        """Start the thread that notifies: from here on no commit waits for Redis.

        The dispatcher is woken: the process before may have died between a commit and its notification.
        """
        self.notifications.start()
        started = Notifications()
        started.defer()
        self.notifications.post(started)

    def stop(self) -> None:
        """Send the notifications of past commits; from here on each commit sends its own."""
        self.notifications.stop(timeout=1)

    def close(self) -> None:
        self.db.close()
        self.stop()
        self.notifier.close()
        self.tracing.close()


def build(
    settings: Settings,
    *,
    name: str,
    pool_size: int = 4,
    packages: Sequence[ModuleType] = (workers.jobs,),
    clock: Callable[[], datetime] | None = None,
    pool_timeout: float = POOL_TIMEOUT,
    transactions: TransactionSettings = DEFAULT_SETTINGS,
) -> App:
    """Put an application together; nothing is connected yet. `name` is what Postgres shows as application_name.

    `pool_size` is used unless a setting has another (`domain.ops.connections`). `pool_timeout` is the seconds that a
    thread waits for a connection while all of them are in use, unless the URL has another. Job types are looked for in
    `packages`; `clock` replaces the database's clock as the source of `ctx.now()`, for tests and rehearsals.

    Raises:
        SettingsInvalid: a setting that every process needs is missing.
        JobTypeTwice: two job types share a name.
    """
    require(settings, "database_url", "redis_url")
    job_types = discover(packages)
    metrics = Metrics({"job_type": job_types.keys(), "queue": QUEUES})
    notifier = Notifier(connect(settings.redis_url), metrics=metrics)
    notifications = Batcher(
        notifier.notify_all,
        name="notifications",
        limit=1000,
        linger=lambda: CROWDED_REST if notifier.crowded else NOTIFIER_REST,
    )
    tracing = open_tracing(
        settings.otel_exporter_otlp_endpoint,
        settings.otel_exporter_otlp_traces_endpoint,
        settings.otel_exporter_otlp_headers.get_secret_value(),
        service=name.replace(" ", "-"),
    )
    db = Database(
        settings.database_url,
        pool_size=settings.pool_size or pool_size,
        pool_timeout=parse(settings.database_url).pool_timeout or pool_timeout,
        new_id=Ids(),
        on_commit=partial(_committed, metrics, notifications),
        origin=tracing.origin,
        application_name=name,
        settings=transactions,
    )
    return App(
        settings=settings,
        db=db,
        notifier=notifier,
        notifications=notifications,
        job_types=job_types,
        ports=open_ports(settings, db, metrics, job_types),
        metrics=metrics,
        version=VERSION,
        release=settings.release_name,
        tracing=tracing,
        clock=clock,
    )


def _committed(metrics: Metrics, batcher: Batcher[Notifications, None], notifications: Notifications) -> None:
    for (name, *labels), by in notifications.counted.items():
        metrics.count(name, *labels, by=by)
    if notifications:
        batcher.post(notifications)

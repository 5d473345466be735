"""Enqueues jobs: what a new job is, and the statements that insert it.

Jobs are sent in parts, in one round trip; what is due when it is inserted becomes ready with the caller's commit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import psycopg

from db.postgres.values import literal
from db.queue.jobs import Jobs
from db.queue.notifications import Notifications
from domain.errors import PayloadInvalid, TenantDeleted
from domain.text.storable import to_json

LARGEST_PAYLOAD = 262_144
"""Characters. The table has a limit of its own, for what other programs insert."""

ENQUEUED = "viral_jobs_enqueued_total"
"""The metric that counts new jobs, by their type."""

PART = 250
"""Jobs that are sent at once: few enough that Postgres starts early, enough that a statement costs little a job."""


class Origin(NamedTuple):
    """What enqueues a job, and the trace that it belongs to: the columns of these names."""

    cause: str | None = None
    traceparent: str | None = None


UNKNOWN = Origin()

AsksOrigin = Callable[[str], Origin]


def of_unknown_origin(queue: str) -> Origin:
    """Say that nobody knows what enqueues a job: of a pool that was given no better."""
    return UNKNOWN


class Options(TypedDict, total=False):
    """How one enqueueing may differ from what the job type declares. Names and meanings are those of `NewJob`."""

    id: UUID
    priority: int
    max_attempts: int
    scheduled_for: datetime
    delay: timedelta
    unique_key: str


class NewJob(NamedTuple):
    """A job to be inserted. `scheduled_for` None means now; `delay` is added to either. `origin` None means
    whatever the thread works for that enqueues it. (A named tuple: they are made by the ten thousand a second.)"""

    id: UUID
    job_type: str
    queue: str
    tenant_id: UUID | None = None
    payload: Mapping[str, Any] = {}
    priority: int = 5
    max_attempts: int = 3
    scheduled_for: datetime | None = None
    delay: timedelta = timedelta(0)
    unique_key: str | None = None
    ordering_key: str | None = None
    cost: int = 1
    payload_version: int = 1
    origin: Origin | None = None

    @property
    def plain(self) -> bool:
        """Whether it is due at once and cannot have a twin: inserting it leaves nothing to be asked."""
        return self.unique_key is None and self.due_at_once

    @property
    def due_at_once(self) -> bool:
        return self.scheduled_for is None and not self.delay


COLUMNS = {
    "id": ("uuid", ""),
    "job_type": ("text", ""),
    "queue": ("text", ""),
    "tenant_id": ("uuid", "NULL"),
    "payload": ("text", "'{}'"),
    "priority": ("int", "5"),
    "max_attempts": ("int", "3"),
    "scheduled_for": ("timestamptz", "NULL"),
    "delay": ("interval", "'0'"),
    "unique_key": ("text", "NULL"),
    "ordering_key": ("text", "NULL"),
    "cost": ("int", "1"),
    "payload_version": ("int", "1"),
    "cause": ("text", "NULL"),
    "traceparent": ("text", "NULL"),
}
"""The type of each field of a `NewJob` and its `Origin`, and its default."""

DEFAULTS = NewJob._field_defaults | Origin._field_defaults

TIMES, KEY = frozenset({"scheduled_for", "delay"}), "unique_key"

# What is due is ready at once; what is not is deferred until it is.
INSERT = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, payload, priority, max_attempts, unique_key, ordering_key, cost,
                       payload_version, cause, traceparent, scheduled_for, wake_at)
SELECT id, tenant_id, job_type, queue, payload::jsonb, priority, max_attempts, unique_key, ordering_key, cost,
       payload_version, cause, traceparent, due, CASE WHEN due > now() THEN due END
FROM ({jobs}) AS jobs, LATERAL (SELECT coalesce(jobs.scheduled_for, now()) + jobs.delay AS due) AS moment
"""

# Once a statement: the trigger, which refuses other programs' jobs, would cost nearly as much as the row itself
# (docs/decisions/0060).
UNLESS_DELETED = """
WHERE tenant_id IS NULL
   OR NOT EXISTS (SELECT FROM tenants t WHERE t.id = jobs.tenant_id AND t.deletion_began_at IS NOT NULL)
"""

DELETED = "SELECT id, deletion_began_at FROM tenants WHERE deletion_began_at IS NOT NULL AND id = ANY(%s)"

UNLESS_LIVE = """
ON CONFLICT (job_type, tenant_id, unique_key) WHERE unique_key IS NOT NULL AND status IN ('pending', 'running')
DO NOTHING
"""

DUE = "RETURNING id, scheduled_for <= now()"


def insert(
    driver: psycopg.Connection[Any],
    notifications: Notifications,
    jobs: Iterable[NewJob],
    origin: AsksOrigin = of_unknown_origin,
) -> list[UUID]:
    """Insert the jobs, in one round trip, and return their ids, in their order; those that are due are added to
    `notifications`, and so is that others are deferred. Of a job whose tenant has a live one of its type and unique
    key, the id is that one's. Of several tenants' jobs those of a deleted one are left out, and their ids lead nowhere.

    `origin` is asked, with the first job's queue, once for each part whose jobs do not all have an origin of their own.
    The next part is put together while Postgres inserts the one before.

    Raises:
        PayloadInvalid: a payload is too large.
        TenantDeleted: all are one tenant's, which was deleted.
    """
    remaining = iter(jobs)
    with driver.pipeline():
        sent = [(part, _send(driver, part, origin)) for part in iter(lambda: list(islice(remaining, PART)), [])]
    return [job_id for part, cursor in sent for job_id in _inserted(driver, notifications, part, origin, cursor)]


def insert_one(
    driver: psycopg.Connection[Any],
    notifications: Notifications,
    job: NewJob,
    origin: AsksOrigin = of_unknown_origin,
) -> UUID:
    """Insert one job as `insert` does."""
    return _inserted(driver, notifications, [job], origin, _send(driver, [job], origin))[0]


def insert_plain(job: NewJob, driver: psycopg.Connection[Any]) -> bytes:
    """Write the statement that inserts one job that is due at once and has no live twin, as text that can be sent
    together with BEGIN and COMMIT."""
    # Joined by hand: as `psycopg.sql` it takes four times as long, which is a quarter of what enqueueing costs.
    cause, traceparent = job.origin or UNKNOWN
    return b"SELECT enqueue_job('%s', %s, %s, %s, %s, %d, %d, %s, %s, %d, %d, %s, %s); " % (
        str(job.id).encode(),
        literal(job.job_type, driver),
        literal(job.queue, driver),
        literal(None if job.tenant_id is None else str(job.tenant_id), driver),
        literal(_json(job.payload), driver),
        job.priority,
        job.max_attempts,
        literal(job.unique_key, driver),
        literal(job.ordering_key, driver),
        job.cost,
        job.payload_version,
        literal(cause, driver),
        literal(traceparent, driver),
    )


def _send(driver: psycopg.Connection[Any], jobs: Sequence[NewJob], origin: AsksOrigin) -> psycopg.Cursor[Any]:
    values: dict[str, Any] = {}
    usual, varying = [], []
    columns = dict(zip(NewJob._fields, zip(*jobs, strict=True), strict=True))
    columns |= _origins(columns.pop("origin"), jobs[0].queue, origin)
    for name, column in columns.items():
        if column[0] != column[-1] or column.count(column[0]) < len(column):
            varying.append(name)
            values[name] = [_json(payload) for payload in column] if name == "payload" else list(column)
        elif column[0] == DEFAULTS.get(name, ...):
            usual.append(name)
        else:
            values[name] = _json(column[0]) if name == "payload" else column[0]
    return driver.execute(_statement(frozenset(usual), tuple(varying)), values, prepare=True)


def _origins(own: Sequence[Origin | None], queue: str, origin: AsksOrigin) -> dict[str, tuple[str | None, ...]]:
    """Return the columns of an origin: each job's own, or else that of whoever enqueues them."""
    if own.count(None) == len(own):
        return {name: (value,) * len(own) for name, value in origin(queue)._asdict().items()}
    usual = origin(queue) if None in own else UNKNOWN
    return dict(zip(Origin._fields, zip(*(each or usual for each in own), strict=True), strict=True))


@lru_cache(maxsize=128)
def _statement(usual: frozenset[str], varying: tuple[str, ...]) -> bytes:
    """Write the statement that inserts jobs, of which the `usual` fields have their defaults in all, and the `varying`
    ones, an array each, differ. What is the same in all is sent once; jobs that must be due, and cannot have a twin,
    return nothing."""
    fields = [
        f"{default if name in usual else f'%({name})s'}::{kind} AS {name}"
        for name, (kind, default) in COLUMNS.items()
        if name not in varying
    ]
    jobs = f"SELECT {', '.join([*fields, *varying])}"
    if varying:
        # Binary arrays: text arrays have to be quoted element by element, which costs twenty times as much.
        arrays = ", ".join(f"%({name})b::{COLUMNS[name][0]}[]" for name in varying)
        jobs += f" FROM unnest({arrays}) AS arrays ({', '.join(varying)})"
    statement = INSERT.format(jobs=jobs)
    if "tenant_id" not in usual:
        statement += UNLESS_DELETED
    if KEY not in usual:
        statement += UNLESS_LIVE
    if not usual >= TIMES | {KEY}:
        statement += DUE
    return statement.encode()


def _inserted(
    driver: psycopg.Connection[Any],
    notifications: Notifications,
    jobs: Sequence[NewJob],
    origin: AsksOrigin,
    cursor: psycopg.Cursor[Any],
) -> list[UUID]:
    """Return the ids of the jobs, or of their twins."""
    if cursor.description is None:
        new = jobs if cursor.rowcount == len(jobs) else _of_living(driver, jobs)
        due, ids = new, [job.id for job in jobs]
    else:
        is_due: dict[UUID, bool] = dict(cursor.fetchall())
        due = [job for job in jobs if is_due.get(job.id)]
        new = [job for job in jobs if job.id in is_due]
        if not all(is_due.values()):
            notifications.defer()
        absent = [job for job in jobs if job.id not in is_due]
        twins = {
            job.id: _twin_or_insert(driver, notifications, job, origin)
            for job in (_of_living(driver, absent, among=jobs) if absent else ())
        }
        ids = [twins.get(job.id, job.id) for job in jobs]
    for job in due:
        notifications.add(job.queue, job.id, job.priority)
    for job in new:
        notifications.count(ENQUEUED, job.job_type)
    return ids


def _of_living(
    driver: psycopg.Connection[Any], jobs: Sequence[NewJob], among: Sequence[NewJob] | None = None
) -> Sequence[NewJob]:
    """Return those of the jobs whose tenants were not deleted. `among`: all that are enqueued together.

    Raises:
        TenantDeleted: all of them are one tenant's, which was.
    """
    tenants = {job.tenant_id for job in jobs if job.tenant_id is not None}
    deleted = dict(driver.execute(DELETED, (list(tenants),)).fetchall()) if tenants else {}
    if deleted and len({job.tenant_id for job in among or jobs}) == 1:
        [(tenant_id, at)] = deleted.items()
        raise TenantDeleted(f"tenant {tenant_id} was deleted on {at:%Y-%m-%d}")
    return [job for job in jobs if job.tenant_id not in deleted]


def _twin_or_insert(
    driver: psycopg.Connection[Any], notifications: Notifications, job: NewJob, origin: AsksOrigin
) -> UUID:
    twin = Jobs(driver).live_twin(job.job_type, job.tenant_id, job.unique_key)
    # If the twin has ended between the two statements, the key is free again.
    return insert_one(driver, notifications, job, origin) if twin is None else twin


def _json(payload: Mapping[str, Any]) -> str:
    text = to_json(payload)
    if len(text) > LARGEST_PAYLOAD:
        raise PayloadInvalid(f"the payload has {len(text):,} characters; at most {LARGEST_PAYLOAD:,} can be claimed")
    return text

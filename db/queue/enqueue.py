"""What a job is when it is added, and the statements that add it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from domain.text.storable import to_json


class NewJob(NamedTuple):
    """A job to be added. `scheduled_for` None means now; `delay` is added to either. (A named tuple: they are made by
    the ten thousand a second.)"""

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

    @property
    def plain(self) -> bool:
        """Whether it is due at once and cannot have a twin: adding it leaves nothing to be asked."""
        return self.unique_key is None and self.scheduled_for is None and not self.delay


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
}
"""The type of each field of a `NewJob`, and its default."""

TIMES, KEY = frozenset({"scheduled_for", "delay"}), "unique_key"

# What is due waits for its turn; what is not sleeps until it is.
ADD = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, payload, priority, max_attempts, unique_key, ordering_key, cost,
                       payload_version, scheduled_for, wake_at)
SELECT id, tenant_id, job_type, queue, payload::jsonb, priority, max_attempts, unique_key, ordering_key, cost,
       payload_version, due, CASE WHEN due > now() THEN due END
FROM ({given}) AS given, LATERAL (SELECT coalesce(given.scheduled_for, now()) + given.delay AS due) AS moment
"""

UNLESS_LIVE = """
ON CONFLICT (job_type, tenant_id, unique_key) WHERE unique_key IS NOT NULL AND status IN ('pending', 'running')
DO NOTHING
"""

DUE = "RETURNING id, scheduled_for <= now()"


@lru_cache(maxsize=128)
def adding(usual: frozenset[str], varying: tuple[str, ...]) -> bytes:
    """The statement that adds jobs, of which the `usual` fields have their defaults in all, and the `varying` ones, an
    array each, differ. What is the same in all is sent once; jobs that must be due, and cannot have a twin, return
    nothing."""
    fields = [
        f"{default if name in usual else f'%({name})s'}::{kind} AS {name}"
        for name, (kind, default) in COLUMNS.items()
        if name not in varying
    ]
    given = f"SELECT {', '.join([*fields, *varying])}"
    if varying:
        # Binary arrays: text arrays have to be quoted element by element, which costs twenty times as much.
        arrays = ", ".join(f"%({name})b::{COLUMNS[name][0]}[]" for name in varying)
        given += f" FROM unnest({arrays}) AS arrays ({', '.join(varying)})"
    statement = ADD.format(given=given)
    if KEY not in usual:
        statement += UNLESS_LIVE
    if not usual >= TIMES | {KEY}:
        statement += DUE
    return statement.encode()


def adding_plain(job: NewJob, driver: psycopg.Connection[Any]) -> bytes:
    """The statement that adds one plain job, as text that can be sent together with BEGIN and COMMIT."""
    given = {name: value for name, value in job._asdict().items() if value != NewJob._field_defaults.get(name, ...)}
    if "payload" in given:
        given["payload"] = to_json(given["payload"])
    values = b", ".join(sql.Literal(value).as_bytes(driver) for value in given.values())
    return f"INSERT INTO job_queue ({', '.join(given)}) VALUES (".encode() + values + b"); "

"""Stores webhook events: a hot path, one statement and one round trip for a whole batch of events, each with the job
that applies it, unless it is ignored. The pair (source, external_id) is kept for good and is unique, so a delivery can
come any number of times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, get_args
from uuid import UUID

import psycopg

from db.postgres.connection import AppConnection, begin_in_pipeline
from db.postgres.error_text import one_line
from db.postgres.errors import DatabaseUnavailable, is_contended, is_stale_plan, why_away
from db.security import SYSTEM_SCOPE
from domain.events.outcomes import Status

WRONG_EVENT = (psycopg.DataError, psycopg.IntegrityError)
"""The errors by which Postgres refuses an event that cannot be stored: the connection is as good as before."""


class NewEvent(NamedTuple):
    """An event to be stored, and the job that is to apply it. `payload` is JSON text without U+0000.

    An event without a job is ignored by its type. (A named tuple: they are made by the thousand a second.)
    """

    id: UUID
    source: str
    external_id: str
    type: str
    api_version: str | None
    livemode: bool | None
    occurred_at: datetime | None
    subject: str | None
    payload: str
    body: bytes | None
    job_id: UUID | None
    job_type: str
    queue: str
    max_attempts: int = 3
    priority: int = 5
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The row and the job of an event; for a duplicate, those of its first delivery. An ignored one has no job."""

    event_id: UUID
    job_id: UUID | None
    queue: str
    duplicate: bool


KINDS: dict[Any, str] = {UUID: "uuid", str: "text", bool: "bool", datetime: "timestamptz", bytes: "bytea", int: "int"}
COLUMNS = {
    name: KINDS[next(iter(get_args(kind)), kind)]  # of `str | None`, the first is `str`
    for name, kind in NewEvent.__annotations__.items()
}

# Binary arrays (%b): text arrays have to be quoted element by element, which costs twenty times as much.
STORE = f"""
WITH new AS (
    SELECT * FROM unnest({", ".join(f"%b::{kind}[]" for kind in COLUMNS.values())}) AS new ({", ".join(COLUMNS)})
), stored AS (
    INSERT INTO webhook_events (id, source, external_id, type, api_version, livemode, occurred_at, subject, payload,
                                body, job_id, traceparent, status, processed_at)
    SELECT id, source, external_id, type, api_version, livemode, occurred_at, subject, payload::jsonb, body, job_id,
           traceparent,
           CASE WHEN job_id IS NULL THEN '{Status.IGNORED_TYPE}' ELSE '{Status.RECEIVED}' END,
           CASE WHEN job_id IS NULL THEN now() END
    FROM new
    ON CONFLICT (source, external_id) DO NOTHING
    RETURNING id
), enqueued AS (
    INSERT INTO job_queue (id, job_type, queue, payload, unique_key, max_attempts, priority, cause, traceparent)
    SELECT job_id, job_type, queue, jsonb_build_object('event_id', id), id::text, max_attempts, priority,
           'event:' || id, traceparent
    FROM new JOIN stored USING (id) WHERE job_id IS NOT NULL
)
SELECT id FROM stored
"""

# A row that another transaction has locked is not counted: a worker that was stopped while it applies an event would
# hold up all that is delivered. Our own earlier try (the row has its id) was no delivery.
FIRST_DELIVERIES = """
WITH again AS (
    SELECT * FROM unnest(%b::text[], %b::text[], %b::uuid[]) AS again (source, external_id, id)
), first AS (
    SELECT e.source, e.external_id, e.id, e.job_id,
           count(*) FILTER (WHERE e.id <> again.id) AS duplicates
    FROM again JOIN webhook_events e USING (source, external_id) GROUP BY e.id
), free AS (
    SELECT id FROM webhook_events WHERE id IN (SELECT id FROM first WHERE duplicates > 0) FOR NO KEY UPDATE SKIP LOCKED
), counted AS (
    UPDATE webhook_events e SET duplicates = e.duplicates + first.duplicates, duplicate_at = now()
    FROM first JOIN free USING (id) WHERE e.id = first.id
)
SELECT source, external_id, id, job_id FROM first
"""


def store_and_commit(connection: AppConnection, batch: Sequence[NewEvent]) -> list[Stored]:
    """Insert each event that is new, and its job, in one transaction. Returns where each is kept, in the batch's order.

    The connection should be in autocommit mode: then everything, BEGIN and COMMIT too, is one round trip.

    Doing it again after any failure is safe: nothing can be stored twice. An event that is already there under our own
    id (an earlier try whose COMMIT was not answered) is no duplicate.

    Raises:
        DatabaseUnavailable: the server is away, or refuses writes, and the connection is closed. If that happened
            during COMMIT, the batch may be stored.
        psycopg.Error: Postgres refused what was sent; nothing was stored.
    """
    try:
        new = _insert(connection, batch)
        again = [event for event in batch if event.id not in new]
        first = _first_deliveries(connection, again) if again else {}
    except Exception as error:
        unharmed = _roll_back(connection)
        if isinstance(error, WRONG_EVENT) or not isinstance(error, psycopg.Error):
            raise
        # Whatever else it was, another connection may be better than this one.
        connection.close()
        why = why_away(error)
        if why is None and unharmed and not (is_contended(error) or is_stale_plan(error)):
            raise
        raise DatabaseUnavailable(f"Postgres cannot store it now ({why or 'try again'}): {one_line(error)}") from error
    return [
        Stored(event.id, event.job_id, event.queue, duplicate=False)
        if event.id in new
        else _as_first_delivered(event, *first.get((event.source, event.external_id), (event.id, None)))
        for event in batch
    ]


def _insert(connection: AppConnection, batch: Sequence[NewEvent]) -> set[UUID]:
    """Insert the events that are new, and commit. Returns their ids."""
    # Two processes that store the same events in one order wait for each other instead of deadlocking.
    ordered = sorted(batch, key=lambda event: (event.source, event.external_id))
    arrays = [list(column) for column in zip(*ordered, strict=True)]
    with connection.pipeline():
        begin_in_pipeline(connection, SYSTEM_SCOPE)
        inserted = connection.execute(STORE, arrays, prepare=True)
        connection.execute("COMMIT")
    return {event_id for (event_id,) in inserted}


def _first_deliveries(
    connection: AppConnection, events: Sequence[NewEvent]
) -> dict[tuple[str, str], tuple[UUID, UUID | None]]:
    keys = [[getattr(event, column) for event in events] for column in ("source", "external_id", "id")]
    with connection.pipeline():
        begin_in_pipeline(connection, SYSTEM_SCOPE)
        found = connection.execute(FIRST_DELIVERIES, keys)
        connection.execute("COMMIT")
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


def _as_first_delivered(event: NewEvent, event_id: UUID, job_id: UUID | None) -> Stored:
    return Stored(event_id, job_id, event.queue, duplicate=event_id != event.id)


def _roll_back(connection: AppConnection) -> bool:
    """Roll back; False if the connection is lost."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()
    return not connection.closed

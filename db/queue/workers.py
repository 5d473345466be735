"""Liveness: one row per worker process, renewed by its heartbeat; and the jobs of processes that fell silent.

A row's id is new at every boot, never a host or dyno name: a restarted process must not keep a dead one's lease
alive. A job is lost when it is running and no live row owns it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.postgres.rows import rows_of
from db.postgres.values import UnreadableJson

BEAT = """
INSERT INTO workers (id, hostname, pid, queues, version, heartbeat_at, lease_until)
VALUES (%(id)s, %(hostname)s, %(pid)s, %(queues)s, %(version)s, now(), now() + %(lease)s)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until
"""

LOST = """
j.status = 'running' AND (
    j.deadline_at < now() - %(grace)s::interval
    OR NOT EXISTS (SELECT FROM workers w WHERE w.id = j.worker_id AND w.lease_until > now())
)
"""

LIMIT_LOCK_WAIT = "SET LOCAL lock_timeout = '200ms'"

FIND_LOST = f"SELECT id, tenant_id FROM job_queue j WHERE {LOST} ORDER BY id"

LOCK_LOST = f"""
SELECT j.id, j.tenant_id, j.job_type, j.queue, j.payload, j.payload_version, j.attempts AS attempt, j.max_attempts,
       j.crashes + 1 AS crashes, j.lease_token, j.worker_id, j.error_message, j.traceparent,
       j.cancel_requested_at IS NOT NULL AS unwanted,
       EXISTS (SELECT FROM workers w WHERE w.id = j.worker_id AND w.lease_until > now()) AS overran
FROM job_queue j WHERE j.id = %(id)s AND {LOST}
FOR NO KEY UPDATE OF j SKIP LOCKED
"""

DELETE_DEAD = """
DELETE FROM workers w
WHERE w.lease_until < now() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM job_queue j WHERE j.worker_id = w.id AND j.status = 'running')
"""


OVERRUN_GRACE = timedelta(seconds=30)
"""How far past its deadline a job of a live process is given up: its own time limits had their chance by then."""


@dataclass(frozen=True)
class LostJob:
    """A running job whose process is dead, or (`overran`) lives and is past the job's deadline.

    `crashes` counts this death. A job of `NOBODY` has no process any more; its `error_message`, if there is one, is why
    its attempt, which has been recorded, was the last.
    """

    id: UUID
    tenant_id: UUID | None
    job_type: str
    queue: str
    payload: Mapping[str, Any] | UnreadableJson
    payload_version: int
    attempt: int
    max_attempts: int
    crashes: int
    lease_token: int
    worker_id: UUID
    error_message: str | None
    traceparent: str | None
    unwanted: bool
    overran: bool
    limited: bool = False


class Workers:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def beat(
        self, worker_id: UUID, *, hostname: str, pid: int, queues: Sequence[str], version: str, lease: timedelta
    ) -> None:
        """Record that the process lives; its jobs are its own for `lease` from now."""
        values = {
            "id": worker_id,
            "hostname": hostname,
            "pid": pid,
            "queues": list(queues),
            "version": version,
            "lease": lease,
        }
        self._driver.execute(BEAT, values)

    def set_draining(self, worker_id: UUID) -> None:
        """Show that the process takes no further job."""
        self._driver.execute("UPDATE workers SET draining = true WHERE id = %s", (worker_id,))

    def lost(self) -> list[tuple[UUID, UUID | None]]:
        """List running jobs whose process is dead, or that are long past their deadline, with their tenants."""
        return self._driver.execute(FIND_LOST, {"grace": OVERRUN_GRACE}).fetchall()

    def limit_lock_wait(self) -> None:
        """Let no statement of this transaction wait for a lock for longer than a moment."""
        self._driver.execute(LIMIT_LOCK_WAIT)

    def lock_lost(self, job_id: UUID) -> LostJob | None:
        """Lock a lost job; None if it is not lost any more, or somebody else has locked it."""
        with self._driver.cursor(row_factory=class_row(LostJob)) as cursor:
            return cursor.execute(LOCK_LOST, {"id": job_id, "grace": OVERRUN_GRACE}).fetchone()

    def count_crash(self, job_id: UUID) -> None:
        self._driver.execute("UPDATE job_queue SET crashes = least(crashes, 32766) + 1 WHERE id = %s", (job_id,))

    def delete(self, worker_id: UUID) -> None:
        """Delete the row of a process that owns no job any more."""
        self._driver.execute(
            "DELETE FROM workers w WHERE id = %s AND NOT EXISTS "
            "(SELECT FROM job_queue j WHERE j.worker_id = w.id AND j.status = 'running')",
            (worker_id,),
        )

    def delete_dead(self) -> None:
        """Delete rows of processes that died long ago and own nothing."""
        self._driver.execute(DELETE_DEAD)

    def all(self) -> list[dict[str, Any]]:
        """Newest boot first, with the number of jobs each runs."""
        query = """
            SELECT w.*, lease_until > now() AS alive,
                   (SELECT count(*) FROM job_queue j WHERE j.worker_id = w.id AND j.status = 'running') AS running
            FROM workers w ORDER BY started_at DESC
        """
        return rows_of(self._driver, query)

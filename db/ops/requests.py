"""What the API keeps of its requests: which job an idempotency key made, and who asked what, how often."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

KEPT = timedelta(hours=24)
"""How long a key brings back its job, counted from when it was enqueued."""

# Through the indexes by tenant and time: only the tenant's own jobs of a day are read.
BY_KEY = """
SELECT id, payload FROM job_queue
WHERE tenant_id = %(tenant_id)s AND created_at > now() - %(kept)s AND job_type = %(job_type)s AND unique_key = %(key)s
UNION ALL
SELECT id, payload FROM job_archive
WHERE tenant_id = %(tenant_id)s AND completed_at > now() - %(kept)s AND created_at > now() - %(kept)s
    AND job_type = %(job_type)s AND unique_key = %(key)s
LIMIT 1
"""

# A tenant that is gone, or is being deleted, costs the requests of others nothing: no reference fails, and no lock is
# waited for.
RECORD = """
INSERT INTO api_usage (tenant_id, kind, name, status_code, duration_ms)
SELECT asked.tenant_id, 'api', asked.name, asked.status, asked.duration
FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::int[]) AS asked (tenant_id, name, status, duration)
JOIN tenants ON tenants.id = asked.tenant_id
FOR KEY SHARE OF tenants SKIP LOCKED
RETURNING tenant_id
"""
STILL_THERE = "SELECT id FROM tenants WHERE id = ANY(%s)"

FIELDS = "id, job_type, status, attempts, result, error_message, scheduled_for, created_at, started_at, completed_at"
JOB = f"""
SELECT {FIELDS} FROM job_queue WHERE id = %(id)s AND tenant_id = %(tenant_id)s
UNION ALL
SELECT {FIELDS} FROM job_archive WHERE id = %(id)s AND tenant_id = %(tenant_id)s
"""

# An error that nobody foresaw is recorded with its traceback; those of ours about Postgres tell where it is.
UNSAID = ["DatabaseUnavailable", "PoolTimeout", "Contended", "CommitUnknown"]
LAST_ATTEMPT = """
(SELECT traceback, error_class FROM job_attempts WHERE job_id = %(id)s ORDER BY id DESC LIMIT 1)
UNION ALL
SELECT attempt_history -> -1 ->> 'traceback', attempt_history -> -1 ->> 'error_class'
FROM job_archive WHERE id = %(id)s
"""


class Request(NamedTuple):
    """One request that was answered; `name` is its method and route, `duration` milliseconds."""

    tenant_id: UUID
    name: str
    status: int
    duration: int


class Requests:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def job_of(self, tenant_id: UUID, job_type: str, key: str) -> tuple[UUID, dict[str, Any]] | None:
        """The job that this unique key made in the last 24 hours, whether it has ended or not, and its payload."""
        values = {"tenant_id": tenant_id, "job_type": job_type, "key": key, "kept": KEPT}
        return self._driver.execute(BY_KEY, values).fetchone()

    def job(self, tenant_id: UUID, job_id: UUID) -> dict[str, Any] | None:
        """The tenant's own job of this id, in the queue or in the archive."""
        with self._driver.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(JOB, {"id": job_id, "tenant_id": tenant_id}).fetchone()

    def ended_as_foreseen(self, job_id: UUID) -> bool:
        """System scope: whether the last attempt's error is one whose text was written for people."""
        last = self._driver.execute(LAST_ATTEMPT, {"id": job_id}).fetchone()
        return last is not None and last[0] is None and last[1] not in UNSAID

    def record(self, requests: Sequence[Request]) -> list[Request]:
        """System scope: keep requests of any tenants, but for those of tenants that are gone. Returns those of tenants
        that somebody else has locked, to be tried again."""
        kept = {
            row[0] for row in self._driver.execute(RECORD, [list(column) for column in zip(*requests, strict=True)])
        }
        left = [each for each in requests if each.tenant_id not in kept]
        if not left:
            return []
        there = {row[0] for row in self._driver.execute(STILL_THERE, ([each.tenant_id for each in left],))}
        return [each for each in left if each.tenant_id in there]

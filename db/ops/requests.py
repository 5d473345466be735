"""What the API keeps of its requests: the job of an idempotency key, the tenant's own view of a job, and its usage."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

KEPT = timedelta(hours=24)
"""A key returns its job for this long after the job was enqueued."""

# The indexes by tenant and time serve this: only the tenant's own jobs of a day are read.
BY_KEY = """
SELECT id, payload FROM job_queue
WHERE tenant_id = %(tenant_id)s AND created_at > now() - %(kept)s AND job_type = %(job_type)s AND unique_key = %(key)s
UNION ALL
SELECT id, payload FROM job_archive
WHERE tenant_id = %(tenant_id)s AND completed_at > now() - %(kept)s AND created_at > now() - %(kept)s
    AND job_type = %(job_type)s AND unique_key = %(key)s
LIMIT 1
"""

# A job that is live keeps its key for longer.
BY_KEY_OR_LIVE = BY_KEY.replace(
    "LIMIT 1",
    """UNION ALL
SELECT id, payload FROM job_queue
WHERE tenant_id = %(tenant_id)s AND job_type = %(job_type)s AND unique_key = %(key)s
    AND status IN ('pending', 'running')
LIMIT 1""",
)

# A tenant that is gone, or is being deleted, costs the requests of others nothing: no reference fails, and no lock is
# waited for.
RECORD = """
INSERT INTO api_usage (tenant_id, kind, name, status_code, duration_ms)
SELECT request.tenant_id, 'api', request.name, request.status, request.duration
FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::int[]) AS request (tenant_id, name, status, duration)
JOIN tenants ON tenants.id = request.tenant_id
FOR KEY SHARE OF tenants SKIP LOCKED
RETURNING tenant_id
"""
EXISTING_TENANTS = "SELECT id FROM tenants WHERE id = ANY(%s)"

FIELDS = "id, job_type, status, attempts, result, error_message, scheduled_for, created_at, started_at, completed_at"
JOB = f"""
SELECT {FIELDS} FROM job_queue WHERE id = %(id)s AND tenant_id = %(tenant_id)s
UNION ALL
SELECT {FIELDS} FROM job_archive WHERE id = %(id)s AND tenant_id = %(tenant_id)s
"""

# Errors that are not written for people: those with a traceback, and ours about Postgres and the media store, which
# name addresses, settings and folders.
INTERNAL_ERRORS = ["DatabaseUnavailable", "PoolTimeout", "Contended", "CommitUnknown", "StoreUnavailable", "StoreFull"]
LAST_ATTEMPT = """
(SELECT traceback, error_class FROM job_attempts WHERE job_id = %(id)s ORDER BY id DESC LIMIT 1)
UNION ALL
SELECT attempt_history -> -1 ->> 'traceback', attempt_history -> -1 ->> 'error_class'
FROM job_archive WHERE id = %(id)s
"""


class Request(NamedTuple):
    """One answered request; `name` is its method and route, `duration` is in milliseconds."""

    tenant_id: UUID
    name: str
    status: int
    duration: int


class Requests:
    """The queries of the API about its requests."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def job_of(self, tenant_id: UUID, job_type: str, key: str) -> tuple[UUID, dict[str, Any]] | None:
        """Return the job that this unique key made in the last 24 hours, ended or not, and its payload."""
        values = {"tenant_id": tenant_id, "job_type": job_type, "key": key, "kept": KEPT}
        return self._driver.execute(BY_KEY, values).fetchone()

    def job(self, tenant_id: UUID, job_id: UUID) -> dict[str, Any] | None:
        """Return the tenant's own job of this id, from the queue or the archive."""
        with self._driver.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(JOB, {"id": job_id, "tenant_id": tenant_id}).fetchone()

    def ended_as_foreseen(self, job_id: UUID) -> bool:
        """Whether the text of the last attempt's error was written for people; needs the system scope."""
        last = self._driver.execute(LAST_ATTEMPT, {"id": job_id}).fetchone()
        return last is not None and last[0] is None and last[1] not in INTERNAL_ERRORS

    def record(self, requests: Sequence[Request]) -> list[Request]:
        """Record requests of any tenants that exist; needs the system scope. Returns those of tenants that another
        transaction has locked, to be recorded later."""
        columns = [list(column) for column in zip(*requests, strict=True)]
        recorded = {tenant_id for (tenant_id,) in self._driver.execute(RECORD, columns)}
        left = [each for each in requests if each.tenant_id not in recorded]
        existing = self._driver.execute(EXISTING_TENANTS, ([each.tenant_id for each in left],)) if left else ()
        locked = {tenant_id for (tenant_id,) in existing}
        return [each for each in left if each.tenant_id in locked]

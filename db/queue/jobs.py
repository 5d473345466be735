"""Reads of `job_queue`: one job, its attempts, the newest, those that are due."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import scalar_row

from db.postgres.rows import Listing, listing_of, row_of, rows_of

LIVE_TWIN = """
SELECT id FROM job_queue
WHERE job_type = %s AND tenant_id IS NOT DISTINCT FROM %s AND unique_key = %s AND status IN ('pending', 'running')
"""


class Jobs:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def get(self, job_id: UUID, *, lock: bool = False) -> dict[str, Any] | None:
        """All columns of one job; with `lock` nobody else changes it before the transaction ends."""
        query = f"SELECT * FROM job_queue WHERE id = %s{' FOR NO KEY UPDATE' if lock else ''}"
        return row_of(self._driver, query, (job_id,))

    def live_twin(self, job_type: str, tenant_id: UUID | None, unique_key: str | None) -> UUID | None:
        """The pending or running job of this type, tenant and unique key, if there is one."""
        row = self._driver.execute(LIVE_TWIN, (job_type, tenant_id, unique_key)).fetchone()
        return None if row is None else row[0]

    def attempts(self, job_id: UUID) -> list[dict[str, Any]]:
        """The attempts that did not complete, oldest first."""
        return rows_of(self._driver, "SELECT * FROM job_attempts WHERE job_id = %s ORDER BY id", (job_id,))

    def steps(self, job_id: UUID) -> list[dict[str, Any]]:
        """The steps that its handler took outside the database, in their order."""
        return rows_of(self._driver, "SELECT * FROM job_steps WHERE job_id = %s ORDER BY created_at, step", (job_id,))

    def tenant_name(self, tenant_id: UUID) -> str | None:
        """The name of the tenant that a job works for, if it is still there."""
        row = self._driver.execute("SELECT name FROM tenants WHERE id = %s", (tenant_id,)).fetchone()
        return None if row is None else row[0]

    def outages(self, job_id: UUID) -> int:
        """How many attempts of the job were given back because the database went away."""
        query = (
            "SELECT count(*) FROM job_attempts WHERE job_id = %s AND outcome = 'returned' AND error_class IS NOT NULL"
        )
        return int(self._driver.execute(query, (job_id,)).fetchall()[0][0])

    def recent(self, **wanted: Any) -> list[dict[str, Any]]:
        """The rows of `list_recent`."""
        return self.list_recent(**wanted).rows

    def list_recent(
        self,
        *,
        status: str | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        tenant_id: UUID | None = None,
        limit: int = 50,
    ) -> Listing:
        """Newest first, as many as are not too much at once."""
        wanted = {"status": status, "job_type": job_type, "queue": queue, "tenant_id": tenant_id}
        values = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = %({column})s" for column in values) or "true"
        query = f"SELECT * FROM job_queue WHERE {where} ORDER BY id DESC LIMIT %(limit)s"
        return listing_of(self._driver, query, values | {"limit": limit})

    def due_now(self, limit: int = 100) -> Sequence[UUID]:
        """Ids of pending jobs that are due, in the order in which they should run. For draining in one thread."""
        query = """
            SELECT id FROM job_queue WHERE status = 'pending' AND scheduled_for <= now()
            ORDER BY priority, scheduled_for, id LIMIT %s
        """
        with self._driver.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, (limit,)).fetchall()

"""Keeps effects outside the database, one row each: `intended` before, `confirmed` with its result after.

A step that is found intended was begun by an attempt that did not record how it went. Its idempotency key is
the same for every attempt of the job.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

INTEND = """
INSERT INTO job_steps (job_id, step, idempotency_key) VALUES (%(job_id)s, %(step)s, %(key)s)
ON CONFLICT (job_id, step) DO NOTHING RETURNING step
"""

RECORD = """
UPDATE job_steps
SET status = %(status)s, result = %(result)s, confirmed_at = CASE %(status)s WHEN 'confirmed' THEN now() END
WHERE job_id = %(job_id)s AND step = %(step)s
"""


@dataclass(frozen=True)
class Step:
    """A step as it is recorded; `begun_before`: an earlier attempt may have acted."""

    status: str
    idempotency_key: str
    result: Any
    begun_before: bool


class Steps:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def intend(self, job_id: UUID, step: str) -> Step:
        """Write down that the step is about to be taken, unless it has been."""
        values = {"job_id": job_id, "step": step, "key": f"{job_id}:{step}"}
        new = self._driver.execute(INTEND, values).fetchone() is not None
        query = """
            SELECT status, idempotency_key, result, %s AS begun_before FROM job_steps WHERE job_id = %s AND step = %s
        """
        with self._driver.cursor(row_factory=class_row(Step)) as cursor:
            return cursor.execute(query, (not new, job_id, step)).fetchall()[0]

    def begun(self, job_id: UUID, step: str) -> bool:
        """Return whether an attempt may have acted. Of a job that is deleted it may: its steps went with it."""
        query = """
            SELECT NOT EXISTS (SELECT FROM job_queue WHERE id = %(job_id)s)
                OR EXISTS (SELECT FROM job_steps WHERE job_id = %(job_id)s AND step = %(step)s)
        """
        [(may_have,)] = self._driver.execute(query, {"job_id": job_id, "step": step}).fetchall()
        return bool(may_have)

    def record(self, job_id: UUID, step: str, status: str, result: str | None = None) -> None:
        """Write down how it went: "confirmed" with its result as JSON text, or "unknown"."""
        values = {"job_id": job_id, "step": step, "status": status, "result": result}
        self._driver.execute(RECORD, values)

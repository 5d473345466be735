"""Attempts that failed, of jobs that are not archived yet: together, by what they failed of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.postgres.rows import rows_of

LOOKED_AT = 100_000
"""Attempts of any outcome that a window looks back over at most."""

# By the primary key, from its end: most attempts may be snoozes, so what is read is bounded too.
WINDOW = """
WITH failed AS MATERIALIZED (
    SELECT id, job_id, attempt, outcome, error_class, error_message, error_group, release, started_at, ended_at
    FROM job_attempts
    WHERE id > (SELECT coalesce(max(id), 0) - %(looked_at)s FROM job_attempts)
      AND outcome IN ('failed', 'rejected', 'lost')
      AND (%(since)s::timestamptz IS NULL OR ended_at >= %(since)s)
    ORDER BY id DESC LIMIT %(limit)s
)
"""

# A row of an older release has no group: those of one text are counted together.
GROUPS = f"""
{WINDOW}, joined AS (
    SELECT a.id, a.ended_at, a.release, a.error_group, a.job_id, j.job_type, j.status, j.tenant_id,
           CASE WHEN a.error_group IS NULL THEN coalesce(a.error_class, '') END AS error_class,
           CASE WHEN a.error_group IS NULL THEN left(coalesce(a.error_message, ''), 600) END AS error_message,
           coalesce(t.subscription_tier, 'FREE') <> 'FREE' AS pays
    FROM failed a JOIN job_queue j ON j.id = a.job_id LEFT JOIN tenants t ON t.id = j.tenant_id
)
SELECT error_group, error_class, error_message, count(*) AS attempts, min(ended_at) AS first_at,
       max(ended_at) AS last_at, (array_agg(release ORDER BY id))[1] AS first_release,
       array_agg(DISTINCT job_type) AS job_types, count(DISTINCT job_id) AS jobs,
       count(DISTINCT job_id) FILTER (WHERE status = 'failed') AS given_up,
       coalesce(array_agg(DISTINCT tenant_id) FILTER (WHERE tenant_id IS NOT NULL), ARRAY[]::uuid[]) AS tenants,
       coalesce(array_agg(DISTINCT tenant_id) FILTER (WHERE pays), ARRAY[]::uuid[]) AS paying,
       max(id) AS sample_id
FROM joined GROUP BY error_group, error_class, error_message
"""

MINUTES = f"""
{WINDOW}
SELECT error_group, date_trunc('minute', ended_at) AS minute, count(*) FROM failed GROUP BY 1, 2
"""

SAMPLES = "SELECT id, error_class, left(error_message, 2000) AS error_message FROM job_attempts WHERE id = ANY(%s)"

OF_GROUP = f"""
{WINDOW}
SELECT a.id, a.job_id, a.attempt, a.outcome, a.error_class, left(a.error_message, 2000) AS error_message, a.error_group,
       a.release, a.started_at, a.ended_at, j.job_type, j.status, j.tenant_id
FROM failed a JOIN job_queue j ON j.id = a.job_id
WHERE a.error_group IS NULL OR a.error_group = %(error_group)s ORDER BY a.id DESC
"""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """An attempt that failed, and its job. One of an older release has no group."""

    id: int
    job_id: UUID
    attempt: int
    outcome: str
    error_class: str | None
    error_message: str | None
    error_group: str | None
    release: str | None
    started_at: datetime | None
    ended_at: datetime
    job_type: str
    status: str
    tenant_id: UUID | None


class Failures:
    """Query group; system scope. All look at the newest attempts that failed, `limit` of them, not older than `since`,
    among the newest `LOOKED_AT` attempts."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def groups(self, limit: int, since: datetime | None) -> list[dict[str, Any]]:
        """Count them by group. Without a group: by class and text, for whoever can name the group."""
        return rows_of(self._driver, GROUPS, _window(limit, since))

    def by_minute(self, limit: int, since: datetime | None) -> list[tuple[str | None, datetime, int]]:
        """Count them by group and minute."""
        return self._driver.execute(MINUTES.encode(), _window(limit, since), prepare=False).fetchall()

    def samples(self, ids: Sequence[int]) -> dict[int, tuple[str | None, str | None]]:
        """The class and the text of attempts."""
        return {row["id"]: (row["error_class"], row["error_message"]) for row in rows_of(self._driver, SAMPLES, (ids,))}

    def of_group(self, group: str, limit: int, since: datetime | None) -> list[FailedRow]:
        """Those of a group, newest first, and those that have none."""
        values = _window(limit, since) | {"error_group": group}
        with self._driver.cursor(row_factory=class_row(FailedRow)) as cursor:
            return cursor.execute(OF_GROUP.encode(), values, prepare=False).fetchall()


def _window(limit: int, since: datetime | None) -> dict[str, Any]:
    return {"limit": limit, "since": since, "looked_at": LOOKED_AT}

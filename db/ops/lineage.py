"""What came of what: jobs by their cause, and the rows that name the job that made them. System scope.

Every query is by ids and bounded; each finds its rows by an index, in the archive too
(`tests/workers/ops/test_lineage.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

JOB = """
'job' AS kind, id::text, job_type AS title, status, created_at AS at, tenant_id, cause,
left(payload ->> 'event_id', 36) AS event_id, left(payload ->> 'video_id', 36) AS video_id,
left(payload ->> 'post_id', 36) AS post_id, completed_at AS until
"""

JOBS = f"""
SELECT {JOB}, NULL AS above FROM job_queue WHERE id = ANY(%(ids)s::uuid[])
UNION ALL SELECT {JOB}, NULL FROM job_archive WHERE id = ANY(%(ids)s::uuid[])
LIMIT %(most)s
"""

# The indexes are partial: a query has to say what they say.
CAUSED = f"""
(SELECT {JOB}, substr(cause, 5) AS above FROM job_queue
 WHERE cause = ANY(%(causes)s::text[]) AND left(cause, 4) = 'job:' LIMIT %(most)s)
UNION ALL
(SELECT {JOB}, substr(cause, 5) FROM job_archive
 WHERE cause = ANY(%(causes)s::text[]) AND left(cause, 4) = 'job:' LIMIT %(most)s)
LIMIT %(most)s
"""

EVENTS = """
SELECT 'event' AS kind, id::text, source || ' ' || type AS title, status, received_at AS at, NULL::uuid AS tenant_id,
       job_id::text AS above
FROM webhook_events WHERE id = ANY(%(ids)s::uuid[]) LIMIT %(most)s
"""

RUNS = """
SELECT 'schedule' AS kind, %(name)s || '@' || %(id)s AS id, %(name)s AS title, 'enqueued' AS status, fire_at AS at,
       NULL::uuid AS tenant_id, job_id::text AS above
FROM schedule_fires WHERE schedule = %(name)s AND fire_at = %(at)s
"""

# The tenants of the jobs are in these indexes before the job.
GENERATION = """
SELECT 'generation' AS kind, g.id::text, coalesce(g.generator, 'imported') AS title, 'made' AS status,
       g.created_at AS at, g.tenant_id, g.job_id::text AS above
FROM generations g
"""
GENERATIONS_OF = f"""
{GENERATION} JOIN unnest(%(tenants)s::uuid[], %(ids)s::uuid[]) AS job (tenant_id, id)
    ON g.tenant_id = job.tenant_id AND g.job_id = job.id LIMIT %(most)s
"""
GENERATIONS = f"{GENERATION} WHERE g.id = ANY(%(ids)s::uuid[]) LIMIT %(most)s"

LEDGER = """
SELECT 'ledger' AS kind, l.id::text, l.kind || ' ' || l.amount AS title, l.kind AS status, l.at, l.tenant_id,
       l.cause, substr(l.cause, 5) AS above
FROM quota_ledger l
"""
LEDGER_OF = f"""
{LEDGER} JOIN unnest(%(tenants)s::uuid[], %(causes)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[])
    AS job (tenant_id, cause, since, until)
    ON l.tenant_id = job.tenant_id AND l.taken_at BETWEEN job.since AND job.until
       AND l.cause = job.cause
LIMIT %(most)s
"""
LEDGER_ROWS = f"{LEDGER} WHERE l.id = ANY(%(numbers)s::bigint[]) LIMIT %(most)s"

VIDEO = """
SELECT 'video' AS kind, v.id::text, coalesce(nullif(v.title, ''), v.layout) AS title, v.status, v.created_at AS at,
       v.tenant_id, v.job_id::text AS made_by, v.generation_id::text AS above
FROM videos v
"""
VIDEOS = f"{VIDEO} WHERE v.id = ANY(%(ids)s::uuid[]) LIMIT %(most)s"
VIDEOS_OF = f"""
{VIDEO} JOIN unnest(%(tenants)s::uuid[], %(ids)s::uuid[]) AS generation (tenant_id, id)
    ON v.tenant_id = generation.tenant_id AND v.generation_id = generation.id LIMIT %(most)s
"""

POST = """
SELECT 'post' AS kind, p.id::text, coalesce(nullif(p.title, ''), 'post') AS title, p.status, p.created_at AS at,
       p.tenant_id, p.job_id::text AS made_by, p.video_id::text AS above
FROM social_posts p
"""
POSTS = f"{POST} WHERE p.id = ANY(%(ids)s::uuid[]) LIMIT %(most)s"
POSTS_OF = f"""
{POST} JOIN unnest(%(tenants)s::uuid[], %(ids)s::uuid[]) AS video (tenant_id, id)
    ON p.tenant_id = video.tenant_id AND p.video_id = video.id LIMIT %(most)s
"""


A_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Made:
    """A row of some kind. `above` is the id of what it came of (of an event or a run: of its job), where the row says
    so; `made_by` the job that worked on it last; `event_id`, `video_id` and `post_id` are what a job's payload names,
    as it is written there."""

    kind: str
    id: str
    title: str
    status: str
    at: datetime
    tenant_id: UUID | None
    above: str | None
    cause: str | None = None
    made_by: str | None = None
    event_id: str | None = None
    video_id: str | None = None
    post_id: str | None = None
    until: datetime | None = None


class Lineages:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def find(self, kind: str, ids: Sequence[UUID], most: int) -> list[Made]:
        """Return the rows of these ids: of an event, a job, a generation, a video or a post."""
        queries = {"event": EVENTS, "job": JOBS, "generation": GENERATIONS, "video": VIDEOS, "post": POSTS}
        return self._made(queries[kind], {"ids": list(ids), "most": most})

    def run(self, schedule: str, at: datetime) -> list[Made]:
        """Return the run of a schedule at this time, if there is one."""
        return self._made(RUNS, {"name": schedule, "at": at, "id": at.isoformat()})

    def ledger(self, numbers: Sequence[int], most: int) -> list[Made]:
        """Return entries of the quota's ledger."""
        return self._made(LEDGER_ROWS, {"numbers": list(numbers), "most": most})

    def enqueued_by(self, jobs: Sequence[Made], most: int) -> list[Made]:
        """Return the jobs that these jobs enqueued."""
        return self._made(CAUSED, {"causes": [f"job:{job.id}" for job in jobs], "most": most})

    def generations_of(self, jobs: Sequence[Made], most: int) -> list[Made]:
        return self._made(GENERATIONS_OF, _by_tenant(jobs) | {"most": most})

    def ledger_of(self, jobs: Sequence[Made], now: datetime, most: int) -> list[Made]:
        """Return the entries that these jobs made while they were there."""
        theirs = [job for job in jobs if job.tenant_id is not None]
        values = {
            "tenants": [job.tenant_id for job in theirs],
            "causes": [f"job:{job.id}" for job in theirs],
            "since": [job.at - A_MINUTE for job in theirs],
            "until": [max(job.until or now, job.at) for job in theirs],
            "most": most,
        }
        return self._made(LEDGER_OF, values)

    def videos_of(self, generations: Sequence[Made], most: int) -> list[Made]:
        return self._made(VIDEOS_OF, _by_tenant(generations) | {"most": most})

    def posts_of(self, videos: Sequence[Made], most: int) -> list[Made]:
        return self._made(POSTS_OF, _by_tenant(videos) | {"most": most})

    def _made(self, query: str, values: Mapping[str, Any]) -> list[Made]:
        with self._driver.cursor(row_factory=class_row(Made)) as cursor:
            return cursor.execute(query.encode(), values).fetchall()


def _by_tenant(rows: Sequence[Made]) -> dict[str, Any]:
    theirs = [row for row in rows if row.tenant_id is not None]
    return {"tenants": [row.tenant_id for row in theirs], "ids": [UUID(row.id) for row in theirs]}

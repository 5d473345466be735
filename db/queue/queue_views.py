"""Queues as an operator sees them: what waits, since when, what runs, and what is tried again, at a bounded cost.

Each part is read along an index of its own, and no further than it takes to say "more than so many": a page of queues
costs the same with a hundred thousand pending and a million finished jobs as with ten of them. What a bound cut off is
said (`cut`), never left out in silence.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from db.queue.dispatch import READY_JOBS
from db.queue.job_lists import ALONG_INDEXES, FAILED_LAST, SORT
from db.schema.queue import SHARE

MOST_COUNTED: Final = 10_000
"""What is more is "more than 10,000"."""

MOST_READY: Final = 30_000
"""Ready jobs of one queue that are read for the oldest of them. Of more, only the first of each tenant's share is."""

MOST_SHARES: Final = 5_000
MOST_DEFERRED: Final = 20_000
MOST_BACKOFF: Final = 2_500
MOST_RUNNING: Final = 20_000
MOST_QUEUES: Final = 100
"""Queues with ready jobs that are looked at: other programs may name any number of them."""

# From queue to queue through the index, as `db/queue/dispatch.py` does.
READY = f"""
WITH RECURSIVE named AS (
    (SELECT queue FROM job_queue WHERE {READY_JOBS} ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue > named.queue ORDER BY queue LIMIT 1)
    FROM named WHERE named.queue IS NOT NULL
)
SELECT named.queue, counted.waiting, counted.scheduled, counted.oldest, counted.read > {MOST_READY} AS cut
FROM (SELECT queue FROM named WHERE queue IS NOT NULL LIMIT {MOST_QUEUES}) AS named CROSS JOIN LATERAL (
    SELECT count(*) AS read, count(*) FILTER (WHERE scheduled_for <= now()) AS waiting,
           count(*) FILTER (WHERE scheduled_for > now()) AS scheduled,
           min(scheduled_for) FILTER (WHERE scheduled_for <= now()) AS oldest
    FROM (SELECT scheduled_for FROM job_queue WHERE {READY_JOBS} AND queue = named.queue
          LIMIT {MOST_READY + 1}) AS ready
) AS counted
"""

# A tenant's first job in a share is its oldest there.
OLDEST_OF_SHARES = f"""
WITH RECURSIVE shares AS (
    (SELECT priority, {SHARE} AS tenant, scheduled_for FROM job_queue WHERE queue = %(queue)s AND {READY_JOBS}
     ORDER BY priority, {SHARE}, scheduled_for LIMIT 1)
    UNION ALL
    SELECT following.priority, following.tenant, following.scheduled_for FROM shares CROSS JOIN LATERAL (
        SELECT priority, {SHARE} AS tenant, scheduled_for FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND (priority, {SHARE}) > (shares.priority, shares.tenant)
        ORDER BY priority, {SHARE}, scheduled_for LIMIT 1
    ) AS following
)
SELECT min(scheduled_for) FROM (SELECT scheduled_for FROM shares LIMIT {MOST_SHARES}) AS firsts
WHERE scheduled_for <= now()
"""

# What is to be woken first is what matters first.
FIRST_DEFERRED = f"""
SELECT id, queue, tenant_id, scheduled_for, attempts, wake_at FROM job_queue
WHERE status = 'pending' AND wake_at IS NOT NULL
ORDER BY wake_at LIMIT {MOST_DEFERRED + 1}
"""

# A deferred job that is due is held back, by its ordering key mostly.
DEFERRED = f"""
SELECT queue, count(*) FILTER (WHERE scheduled_for <= now()) AS waiting,
       count(*) FILTER (WHERE scheduled_for > now()) AS scheduled,
       min(scheduled_for) FILTER (WHERE scheduled_for <= now()) AS oldest, sum(count(*)) OVER () AS read
FROM ({FIRST_DEFERRED}) AS deferred GROUP BY queue
"""

PAUSED = """
SELECT queue, array_agg(tenant_id) FROM queue_policies WHERE tenant_id IS NOT NULL AND paused_at IS NOT NULL
GROUP BY queue
"""

# Asked only of a queue in which a tenant is paused.
DUE_BY_PAUSED = f"""
SELECT CASE WHEN tenant_id = ANY(%(paused)s) THEN tenant_id END AS tenant_id, count(*) AS waiting,
       min(scheduled_for) AS oldest
FROM (
    (SELECT tenant_id, scheduled_for FROM job_queue WHERE {READY_JOBS} AND queue = %(queue)s LIMIT {MOST_READY})
    UNION ALL
    SELECT tenant_id, scheduled_for FROM ({FIRST_DEFERRED}) AS deferred WHERE queue = %(queue)s
) AS pending WHERE scheduled_for <= now() GROUP BY 1
"""

# Whether an attempt failed is looked up for each job, so it is for fewer.
BACKOFF = f"""
SELECT queue, count(*) FILTER (WHERE failed) AS backoff, min(scheduled_for) FILTER (WHERE failed) AS next_try,
       sum(count(*)) OVER () AS read
FROM (
    SELECT queue, scheduled_for, {FAILED_LAST} AS failed
    FROM (SELECT * FROM ({FIRST_DEFERRED}) AS deferred WHERE scheduled_for > now() AND attempts > 0
          ORDER BY wake_at LIMIT {MOST_BACKOFF + 1}) AS j
) AS tried GROUP BY queue
"""

RUNNING = f"""
SELECT queue, count(*) AS running
FROM (SELECT queue FROM job_queue WHERE status = 'running' LIMIT {MOST_RUNNING + 1}) AS running GROUP BY queue
"""

FAILED = f"""
SELECT queue, count(*) AS failed, max(completed_at) AS last_failed, sum(count(*)) OVER () AS read
FROM (
    SELECT queue, completed_at FROM job_queue WHERE status = 'failed' AND completed_at IS NOT NULL
    ORDER BY completed_at DESC LIMIT {MOST_COUNTED + 1}
) AS failed GROUP BY queue
"""

SHARES = f"""
SELECT ready.tenant_id, t.name, t.subscription_tier, ready.waiting, ready.oldest, read
FROM (
    SELECT tenant_id, count(*) AS waiting, min(scheduled_for) AS oldest, sum(count(*)) OVER () AS read
    FROM (SELECT tenant_id, scheduled_for FROM job_queue WHERE {READY_JOBS} AND queue = %(queue)s
          LIMIT {MOST_READY + 1}) AS ready
    WHERE scheduled_for <= now() GROUP BY tenant_id ORDER BY waiting DESC, tenant_id LIMIT %(limit)s
) AS ready LEFT JOIN tenants t ON t.id = ready.tenant_id ORDER BY waiting DESC, ready.tenant_id
"""

NAMED = """
SELECT j.id, j.job_type, j.tenant_id, t.name AS tenant, j.priority, j.scheduled_for, j.attempts, j.max_attempts
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS wanted (id, place) JOIN job_queue j USING (id)
LEFT JOIN tenants t ON t.id = j.tenant_id ORDER BY place
"""


@dataclass
class Counts:
    """The jobs of one queue. `oldest` is of those that no pause of their tenant holds; `held` are the due jobs of each
    tenant that is paused. `cut` names the numbers that are lower bounds, because more was not read."""

    waiting: int = 0
    scheduled: int = 0
    running: int = 0
    backoff: int = 0
    failed: int = 0
    oldest: datetime | None = None
    next_try: datetime | None = None
    last_failed: datetime | None = None
    held: dict[UUID, int] = field(default_factory=dict)
    cut: tuple[str, ...] = ()


class QueueViews:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def counts(self) -> dict[str, Counts]:
        """Count the jobs of every queue that has any which are live or failed. A job that is due waits, one that is
        held back too; `scheduled` ones are not due, and those in backoff are among them."""
        self._driver.execute(ALONG_INDEXES)
        self._driver.execute(SORT, ("off",))  # to put a few names in a table is quicker than to sort all that has one
        found: dict[str, Counts] = {}

        def of(queue: str) -> Counts:
            return found.setdefault(queue, Counts())

        for row in rows_of(self._driver, READY):
            counts = of(row["queue"])
            counts.waiting, counts.scheduled, counts.oldest = row["waiting"], row["scheduled"], row["oldest"]
            if row["cut"]:
                counts.cut = ("waiting",)
                first = self._driver.execute(OLDEST_OF_SHARES, {"queue": row["queue"]}).fetchall()[0][0]
                counts.oldest = _earlier(counts.oldest, first)
        deferred = rows_of(self._driver, DEFERRED)
        for row in deferred:
            counts = of(row["queue"])
            counts.waiting += row["waiting"]
            counts.scheduled += row["scheduled"]
            counts.oldest = _earlier(counts.oldest, row["oldest"])
        for queue, tenants in self._driver.execute(PAUSED).fetchall():
            due = rows_of(self._driver, DUE_BY_PAUSED, {"queue": queue, "paused": tenants})
            of(queue).oldest = next((row["oldest"] for row in due if row["tenant_id"] is None), None)
            of(queue).held = {row["tenant_id"]: row["waiting"] for row in due if row["tenant_id"] is not None}
        backoff = rows_of(self._driver, BACKOFF)
        for row in backoff:
            of(row["queue"]).backoff, of(row["queue"]).next_try = row["backoff"], row["next_try"]
        for row in rows_of(self._driver, RUNNING):
            of(row["queue"]).running = row["running"]
        failed = rows_of(self._driver, FAILED)
        for row in failed:
            of(row["queue"]).failed, of(row["queue"]).last_failed = row["failed"], row["last_failed"]
        self._driver.execute(SORT, ("on",))
        more = set[str]()
        if deferred and deferred[0]["read"] > MOST_DEFERRED:
            more |= {"waiting", "scheduled", "backoff"}
        if backoff and backoff[0]["read"] > MOST_BACKOFF:
            more.add("backoff")
        if failed and failed[0]["read"] > MOST_COUNTED:
            more.add("failed")
        for counts in found.values():
            _cut(counts, more)
        return found

    def shares(self, queue: str, limit: int) -> list[dict[str, Any]]:
        """The tenants with the most jobs that are due and ready, and how many; `tenant_id` is None for the jobs of
        nobody. Of more than `MOST_READY` jobs the first ones of the dispatch order's index are counted: `read` is their
        number."""
        self._driver.execute(ALONG_INDEXES)
        return rows_of(self._driver, SHARES, {"queue": queue, "limit": limit})

    def named(self, ids: list[UUID]) -> list[dict[str, Any]]:
        """A few columns of these jobs, in this order; without those that are gone."""
        return rows_of(self._driver, NAMED, {"ids": ids})


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _cut(counts: Counts, more: set[str]) -> None:
    """Bound the numbers, and write down which of them are lower bounds: those of which there are `more` in any queue,
    too."""
    cut = {*counts.cut, *more}
    for name in ("waiting", "scheduled", "running", "backoff", "failed"):
        if getattr(counts, name) > MOST_COUNTED:
            setattr(counts, name, MOST_COUNTED)
            cut.add(name)
    counts.cut = tuple(sorted(cut))

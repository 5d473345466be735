"""What platforms said of posts at each horizon, and the horizons at which nobody could ask.

A post is measured by whoever has its row locked: what is settled of it is read, decided by
`domain/learning/horizons.py` and written within that lock, so a horizon is met or missed once, whoever else is at it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from domain.learning.horizons import REMOVED
from domain.learning.measuring import MeasuredPost, Miss, Postponed, Snapshot
from domain.learning.numbers import Horizon
from domain.learning.outcomes import judge
from domain.text.storable import to_json

COLLECT = "analytics.collect"
"""The job type that an account's posts are collected by (`workers/jobs/analytics.py`)."""

# Accounts with posts whose look is due and that no live job collects, those that wait longest first; one tenant's
# between those of the others.
DUE_ACCOUNTS = f"""
WITH waiting AS (
    SELECT p.tenant_id, p.account_id, min(p.measure_at) AS since FROM social_posts p
    WHERE p.measure_at <= %(now)s AND p.status = 'published'
    GROUP BY p.tenant_id, p.account_id
), turns AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY since, account_id) AS turn FROM waiting w
    WHERE NOT EXISTS (
        SELECT FROM job_queue j
        WHERE j.job_type = '{COLLECT}' AND j.tenant_id = w.tenant_id AND j.unique_key = w.account_id::text
            AND j.status IN ('pending', 'running')
    )
)
SELECT tenant_id, account_id FROM turns ORDER BY turn, since, account_id LIMIT %(limit)s
"""

# Of posts that the release before this one published while it was rolled out: it knew no `measure_at`. NULL is also
# what a post has whose last look was taken a little early, so one with anything written down is not begun again.
UNBEGUN = """
p.status = 'published' AND p.measure_at IS NULL AND p.published_at > %(since)s
    AND NOT EXISTS (SELECT FROM analytics_snapshots s WHERE s.tenant_id = p.tenant_id AND s.post_id = p.id)
    AND NOT EXISTS (SELECT FROM missed_horizons m WHERE m.tenant_id = p.tenant_id AND m.post_id = p.id)
"""

BEGIN = f"""
UPDATE social_posts SET measure_at = greatest(published_at + %(first)s, %(now)s) WHERE id IN (
    SELECT p.id FROM social_posts p WHERE {UNBEGUN}
    ORDER BY p.id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
"""

ANY_DUE = f"""
SELECT EXISTS (SELECT FROM social_posts p WHERE p.measure_at <= %(now)s AND p.status = 'published')
    OR EXISTS (SELECT FROM social_posts p WHERE {UNBEGUN})
"""

MEASURED_POST = """
SELECT p.id, p.external_id, p.published_at, p.measure_at, p.measure_note, p.gone_at, ARRAY(
    SELECT s.horizon FROM analytics_snapshots s
    WHERE s.tenant_id = p.tenant_id AND s.post_id = p.id AND s.horizon IS NOT NULL
    UNION ALL SELECT m.horizon FROM missed_horizons m WHERE m.tenant_id = p.tenant_id AND m.post_id = p.id
) AS settled_names
FROM social_posts p
"""

DUE_POSTS = f"""{MEASURED_POST}
WHERE p.tenant_id = %(tenant_id)s AND p.account_id = %(account_id)s AND p.measure_at <= %(until)s
    AND p.status = 'published' AND p.published_at IS NOT NULL
ORDER BY p.measure_at, p.id LIMIT %(limit)s
"""

LOCK = """
SELECT id FROM social_posts WHERE tenant_id = %s AND id = ANY(%s) ORDER BY id FOR NO KEY UPDATE
"""

LOCKED = f"""{MEASURED_POST}
WHERE p.tenant_id = %s AND p.id = ANY(%s) AND p.status = 'published' AND p.measure_at IS NOT NULL
ORDER BY p.id
"""

RECORD = """
WITH snapshot AS (
    INSERT INTO analytics_snapshots (tenant_id, post_id, captured_at, age, horizon, views, likes, comments, shares,
        details, source, definition)
    VALUES (%(tenant_id)s, %(id)s, %(captured_at)s, %(age)s, %(horizon)s, %(views)s, %(likes)s, %(comments)s,
        %(shares)s, %(details)s, %(source)s, %(definition)s)
), feedback AS (
    INSERT INTO performance_feedback (tenant_id, generation_id, concept_id, post_id, platform, horizon, views, likes,
        comments, shares, predicted_score, observed_at, definition)
    SELECT p.tenant_id, v.generation_id, v.concept_id, p.id, a.platform, %(horizon)s, %(views)s, %(likes)s,
        %(comments)s, %(shares)s,
        coalesce(
            (SELECT w.score::numeric FROM post_predictions w
            WHERE w.tenant_id = p.tenant_id AND w.post_id = p.id AND w.shown),
            -- Of posts that a release made which wrote no rows.
            CASE WHEN jsonb_typeof(p.prediction -> 'score') = 'number'
                AND (p.prediction ->> 'score')::numeric BETWEEN 0 AND 100
                THEN (p.prediction ->> 'score')::numeric END),
        %(captured_at)s, %(outcome)s
    FROM social_posts p
    JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
    JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id
    WHERE p.tenant_id = %(tenant_id)s AND p.id = %(id)s AND %(horizon)s::text IS NOT NULL
)
UPDATE social_posts SET measure_at = %(next_at)s, measure_note = NULL, gone_at = NULL
WHERE tenant_id = %(tenant_id)s AND id = %(id)s
"""

MISS = """
INSERT INTO missed_horizons (tenant_id, post_id, horizon, reason, at)
VALUES (%(tenant_id)s, %(id)s, %(horizon)s, %(reason)s, %(now)s) ON CONFLICT DO NOTHING
"""

POSTPONE = """
UPDATE social_posts SET measure_at = %(next_at)s, measure_note = %(note)s, gone_at = %(gone_at)s
WHERE tenant_id = %(tenant_id)s AND id = %(id)s
"""

PUT_OFF = """
UPDATE social_posts SET measure_at = %(until)s, measure_note = %(note)s
WHERE tenant_id = %(tenant_id)s AND id IN (
    SELECT id FROM social_posts
    WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND measure_at <= %(now)s
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
"""

# By the tenants that have accounts: of all tenants together neither table has an index by time.
LATELY = """
WITH here AS (SELECT DISTINCT tenant_id FROM social_accounts), missed AS (
    SELECT m.reason, count(*) AS count FROM here
    JOIN missed_horizons m ON m.tenant_id = here.tenant_id AND m.at > %(since)s AND m.reason <> %(removed)s
    GROUP BY m.reason
)
SELECT coalesce((SELECT sum(count) FROM missed), 0)::bigint,
    (SELECT count(*) FROM here JOIN analytics_snapshots s ON s.tenant_id = here.tenant_id AND s.captured_at > %(since)s
        WHERE s.horizon IS NOT NULL),
    (SELECT reason FROM missed ORDER BY count DESC, reason LIMIT 1),
    (SELECT count(*) FROM social_posts WHERE measure_at <= %(late)s AND status = 'published'),
    (SELECT min(measure_at) FROM social_posts WHERE measure_at IS NOT NULL AND status = 'published')
"""


class Lately(NamedTuple):
    """How collecting does: horizons missed and met, the most frequent reason, how many posts wait for longer than they
    should, and since when the first one waits."""

    missed: int
    met: int
    reason: str | None
    late: int
    waits_since: datetime | None


class Snapshots:
    """Query group. What writes is for posts that the transaction has locked by `lock`."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def begin(self, *, now: datetime, limit: int) -> int:
        """Have posts measured that were published without saying so, unless their last horizon has closed; return how
        many these are. System scope."""
        values = {"first": Horizon.H1.age, "now": now, "since": now - Horizon.D7.closes, "limit": limit}
        return self._driver.execute(BEGIN, values).rowcount

    def any_due(self, now: datetime) -> bool:
        """Whether `begin` or `due_accounts` may find anything. System scope."""
        row = self._driver.execute(ANY_DUE, {"now": now, "since": now - Horizon.D7.closes}).fetchone()
        return row is not None and bool(row[0])

    def due_accounts(self, *, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
        """Return tenants and accounts with posts to be measured that no live job collects, in fair order. System
        scope."""
        rows = self._driver.execute(DUE_ACCOUNTS, {"now": now, "limit": limit})
        return [(tenant_id, account_id) for tenant_id, account_id in rows]

    def due_posts(self, tenant_id: UUID, account_id: UUID, *, until: datetime, limit: int) -> list[MeasuredPost]:
        """Return the account's posts whose look is due by then, those that wait longest first."""
        values = {"tenant_id": tenant_id, "account_id": account_id, "until": until, "limit": limit}
        with self._driver.cursor(row_factory=class_row(MeasuredPost)) as cursor:
            return cursor.execute(DUE_POSTS.encode(), values).fetchall()

    def lock(self, tenant_id: UUID, post_ids: Collection[UUID]) -> list[MeasuredPost]:
        """Lock these posts, and return those that are still to be measured, as they are now."""
        this = (tenant_id, list(post_ids))
        self._driver.execute(LOCK, this)
        # What was settled while the lock was waited for is seen by the next statement, and not by the one that waited.
        with self._driver.cursor(row_factory=class_row(MeasuredPost)) as cursor:
            return cursor.execute(LOCKED.encode(), this).fetchall()

    def record(self, tenant_id: UUID, snapshots: Sequence[Snapshot]) -> None:
        """Keep what platforms said; what meets a horizon is also feedback about the post."""
        with self._driver.cursor() as cursor:
            cursor.executemany(RECORD, [_row(tenant_id, each) for each in snapshots])

    def miss(self, tenant_id: UUID, misses: Sequence[Miss], now: datetime) -> None:
        """Write down horizons that have closed without numbers."""
        rows = [
            {"tenant_id": tenant_id, "id": each.post_id, "horizon": each.horizon, "reason": each.reason, "now": now}
            for each in misses
        ]
        with self._driver.cursor() as cursor:
            cursor.executemany(MISS, rows)

    def postpone(self, tenant_id: UUID, posts: Sequence[Postponed]) -> None:
        """Say when posts are tried again that could not be measured."""
        rows = [
            {
                "tenant_id": tenant_id,
                "id": each.post_id,
                "next_at": each.next_at,
                "note": each.note,
                "gone_at": each.gone_at,
            }
            for each in posts
        ]
        with self._driver.cursor() as cursor:
            cursor.executemany(POSTPONE, rows)

    def put_off(self, tenant_id: UUID, account_id: UUID, *, now: datetime, until: datetime, note: str) -> None:
        """Let all that is due of an account wait until then."""
        values = {"tenant_id": tenant_id, "account_id": account_id, "now": now, "until": until, "note": note}
        self._driver.execute(PUT_OFF, values)

    def lately(self, *, since: datetime, late: datetime) -> Lately:
        """Return how collecting does since then; posts count as late that should have been measured before `late`.
        System scope."""
        values = {"since": since, "late": late, "removed": REMOVED}
        return Lately(*self._driver.execute(LATELY, values).fetchall()[0])


def _row(tenant_id: UUID, snapshot: Snapshot) -> Mapping[str, Any]:
    numbers = snapshot.numbers
    return {
        "tenant_id": tenant_id,
        "id": snapshot.post_id,
        "captured_at": snapshot.captured_at,
        "age": snapshot.age,
        "horizon": snapshot.horizon,
        "views": numbers.views,
        "likes": numbers.likes,
        "comments": numbers.comments,
        "shares": numbers.shares,
        "details": to_json(dict(numbers.details)),
        "source": snapshot.source,
        "definition": numbers.definition or None,
        "outcome": judge(numbers).definition or None,
        "next_at": snapshot.next_at,
    }

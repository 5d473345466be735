"""The log of outcomes: `performance_feedback` in the order in which it is learned, with what each post was predicted
to be. Nothing of it is ever deleted, but with its tenant.

An outcome is learned by whoever has its row locked, in the commit that changes its learner. So what the learners have
learned is at every moment exactly what the log says is learned.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from db.postgres.rows import rows_of
from domain.learning.learner import LearnerKey
from domain.learning.log import Logged, Settled
from domain.learning.numbers import Horizon, Numbers
from domain.learning.outcomes import Prior

LEARN = "reflexion.learn"
"""The job type that a tenant's outcomes are learned by (`workers/jobs/learning.py`)."""

# As the partial indexes of the table have it.
LOG = "f.post_id IS NOT NULL AND f.horizon IN ('24h', '7d')"
UNLEARNED = f"f.learned_at IS NULL AND {LOG}"

# One step down the index for each tenant, however many outcomes it has.
DUE_TENANTS = f"""
WITH RECURSIVE waiting AS (
    (SELECT f.tenant_id FROM performance_feedback f
    WHERE {UNLEARNED} AND f.tenant_id > %(after)s ORDER BY f.tenant_id LIMIT 1)
    UNION ALL
    SELECT next.tenant_id FROM waiting CROSS JOIN LATERAL (
        SELECT f.tenant_id FROM performance_feedback f
        WHERE {UNLEARNED} AND f.tenant_id > waiting.tenant_id ORDER BY f.tenant_id LIMIT 1
    ) AS next
)
SELECT w.tenant_id FROM waiting w
WHERE NOT EXISTS (
    SELECT FROM job_queue j
    WHERE j.job_type = '{LEARN}' AND j.tenant_id = w.tenant_id AND j.unique_key = w.tenant_id::text
        AND j.status IN ('pending', 'running')
) AND w.tenant_id NOT IN (
    SELECT j.tenant_id FROM job_queue j
    WHERE j.status = 'failed' AND j.completed_at > %(failed_since)s AND j.job_type = '{LEARN}'
        AND j.tenant_id IS NOT NULL
)
LIMIT %(limit)s
"""

LOCK_UNLEARNED = f"""
SELECT f.id FROM performance_feedback f
WHERE f.tenant_id = %(tenant_id)s AND {UNLEARNED}
ORDER BY f.observed_at, f.id LIMIT %(limit)s FOR NO KEY UPDATE
"""

LOCK_THESE = f"""
SELECT f.id FROM performance_feedback f
WHERE f.tenant_id = %(tenant_id)s AND f.id = ANY(%(ids)s) AND {UNLEARNED}
ORDER BY f.observed_at, f.id FOR NO KEY UPDATE
"""

# A category is looked for in the concept only where no prediction has it: a generation's concepts are large.
LOGGED = """
SELECT f.id, f.platform, f.horizon, f.observed_at, f.views, f.likes, f.comments, f.shares,
    s.definition AS views_definition, f.learned_at IS NOT NULL AS learned,
    f.learned_at IS NULL AND p.status = 'removed' AS removed, p.account_id::text AS account,
    forecast.models, forecast.definitions, forecast.values, forecast.prior_ids, forecast.features,
    CASE WHEN forecast.models IS NULL THEN (
        SELECT jsonb_path_query_first(g.concepts, '$[*] ? (@.id == $id).category',
            jsonb_build_object('id', f.concept_id)) #>> '{{}}'
        FROM generations g WHERE g.tenant_id = f.tenant_id AND g.id = f.generation_id
    ) END AS category
FROM ({outcomes}) AS f
JOIN social_posts p ON p.tenant_id = f.tenant_id AND p.id = f.post_id
LEFT JOIN analytics_snapshots s ON s.tenant_id = f.tenant_id AND s.post_id = f.post_id AND s.horizon = f.horizon
CROSS JOIN LATERAL (
    SELECT array_agg(w.model) AS models, array_agg(w.definition) AS definitions, array_agg(w.value) AS values,
        array_agg(w.prior_id) AS prior_ids, (array_agg(w.features))[1] AS features
    FROM (
        SELECT * FROM post_predictions w
        WHERE w.tenant_id = f.tenant_id AND w.post_id = f.post_id AND w.horizon = f.horizon ORDER BY w.model
    ) AS w
) AS forecast
ORDER BY f.observed_at, f.id
"""

THESE = LOGGED.format(
    outcomes="SELECT * FROM performance_feedback f WHERE f.tenant_id = %(tenant_id)s AND f.id = ANY(%(ids)s)"
)

# A page of what a learner has learned, and of what nobody has learned yet.
PAGE = LOGGED.format(
    outcomes=f"""
    SELECT * FROM performance_feedback f
    WHERE f.tenant_id = %(tenant_id)s AND f.platform = %(platform)s AND f.horizon = %(horizon)s AND {LOG}
        AND (f.observed_at, f.id) > (%(at)s::timestamptz, %(id)s::uuid)
        AND (f.learned_at IS NULL OR (f.definition = %(definition)s AND f.set_aside IS NULL))
    ORDER BY f.observed_at, f.id LIMIT %(limit)s
"""
)

# What a learner has learned last.
LAST = LOGGED.format(
    outcomes=f"""
    SELECT * FROM performance_feedback f
    WHERE f.tenant_id = %(tenant_id)s AND f.platform = %(platform)s AND f.horizon = %(horizon)s AND {LOG}
        AND f.learned_at IS NOT NULL AND f.definition = %(definition)s AND f.set_aside IS NULL
    ORDER BY f.observed_at DESC, f.id DESC LIMIT %(limit)s
"""
)

SETTLE = """
UPDATE performance_feedback f SET learned_at = now(), definition = coalesce(nullif(new.definition, ''), f.definition),
    set_aside = new.set_aside, actual_score = coalesce(f.actual_score, round(new.score::numeric, 4))
FROM unnest(%(ids)s::uuid[], %(definitions)s::text[], %(reasons)s::text[], %(scores)s::double precision[])
    AS new (id, definition, set_aside, score)
WHERE f.tenant_id = %(tenant_id)s AND f.id = new.id
"""

PRIORS = "SELECT id, value, categories FROM pooled_priors WHERE id = ANY(%s)"


class Outcomes:
    """Query group. Outcomes are in the order of (observed_at, id)."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def due_tenants(self, *, after: UUID, failed_since: datetime, limit: int) -> list[UUID]:
        """Return tenants, by their id and `after` that one, with outcomes that nobody has learned and that no live job
        is about to; without those whose job has failed since that moment. System scope."""
        values = {"after": after, "failed_since": failed_since, "limit": limit}
        return [tenant_id for (tenant_id,) in self._driver.execute(DUE_TENANTS, values)]

    def lock_unlearned(self, tenant_id: UUID, *, limit: int) -> list[Logged]:
        """Lock the first outcomes that nobody has learned, and return them."""
        locked = self._driver.execute(LOCK_UNLEARNED, {"tenant_id": tenant_id, "limit": limit}).fetchall()
        # What was learned while the lock was waited for is seen by the next statement.
        return self._these(tenant_id, [outcome_id for (outcome_id,) in locked])

    def lock_these(self, tenant_id: UUID, ids: Sequence[UUID]) -> int:
        """Lock those of these outcomes that nobody has learned, and return how many there are."""
        return self._driver.execute(LOCK_THESE, {"tenant_id": tenant_id, "ids": list(ids)}).rowcount

    def page(
        self, tenant_id: UUID, key: LearnerKey, *, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Logged]:
        """Return outcomes that this learner has learned and, of its platform and horizon, those that nobody has, from
        the beginning or after one."""
        at, outcome_id = after or ("-infinity", UUID(int=0))
        values = {"tenant_id": tenant_id, "platform": key.platform, "horizon": key.horizon, "limit": limit}
        return self._logged(PAGE, values | {"definition": key.definition, "at": at, "id": outcome_id})

    def last(self, tenant_id: UUID, key: LearnerKey, *, limit: int) -> list[Logged]:
        """Return the last outcomes that this learner has learned, oldest first."""
        values = {"tenant_id": tenant_id, "platform": key.platform, "horizon": key.horizon, "limit": limit}
        return self._logged(LAST, values | {"definition": key.definition})

    def settle(self, tenant_id: UUID, settled: Sequence[Settled]) -> None:
        """Write down what became of outcomes that are locked."""
        if not settled:
            return
        values = {
            "tenant_id": tenant_id,
            "ids": [each.id for each in settled],
            "definitions": [each.definition for each in settled],
            "reasons": [each.reason for each in settled],
            "scores": [each.score for each in settled],
        }
        self._driver.execute(SETTLE, values)

    def priors(self, ids: Sequence[int]) -> dict[int, Prior]:
        """Return these pooled priors."""
        rows = rows_of(self._driver, PRIORS, (list(ids),)) if ids else []
        return {row["id"]: Prior(row["value"], row["categories"], row["id"]) for row in rows}

    def _these(self, tenant_id: UUID, ids: Sequence[UUID]) -> list[Logged]:
        return self._logged(THESE, {"tenant_id": tenant_id, "ids": list(ids)}) if ids else []

    def _logged(self, query: str, values: Mapping[str, Any]) -> list[Logged]:
        with self._driver.cursor(row_factory=dict_row) as cursor:
            return list(_rows(cursor.execute(query.encode(), values).fetchall()))


def _rows(rows: Sequence[dict[str, Any]]) -> Iterator[Logged]:
    for row in rows:
        counts = {name: row[name] for name in ("views", "likes", "comments", "shares")}
        yield Logged(
            id=row["id"],
            platform=row["platform"],
            horizon=Horizon(row["horizon"]),
            observed_at=row["observed_at"],
            numbers=Numbers(**counts, definition=row["views_definition"] or ""),
            removed=row["removed"],
            account=row["account"],
            category=row["category"],
            learned=row["learned"],
            models=row["models"] or (),
            definitions=row["definitions"] or (),
            values=row["values"] or (),
            prior_ids=row["prior_ids"] or (),
            features=row["features"],
        )

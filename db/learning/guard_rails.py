"""Which model scores for a learner, and what was decided about that: rows of `scoring_adjustments`.

Who writes has the learner locked (`tx.learners.lock`).
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.learner import CHAMPION, TRAILING, YARDSTICK, LearnerKey
from domain.learning.promotion import LEAST, PAUSE, WARM_UP, WORSE, Step
from domain.text.storable import to_json

THIS = "tenant_id = %(tenant_id)s AND platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s"

# A model that was proposed in vain, or that went back.
PAUSED = f"""
SELECT coalesce(report ->> 'from', model_version) AS model, max(sample_size) + {PAUSE} AS until
FROM scoring_adjustments
WHERE {THIS} AND (adjustment_type = '{Step.ROLLBACK}' OR adjustment_type = '{Step.PROMOTION}' AND applied_at IS NULL)
GROUP BY 1
"""

# Of the last outcomes that were predicted, the newest first: whether each was learned since the champion scores. What
# comes late, in a place before the promotion, lies behind one that was learned before it.
LATELY = f"""
SELECT f.learned_at > l.champion_since FROM learners l
JOIN performance_feedback f USING (tenant_id, platform, horizon, definition)
WHERE {THIS} AND f.post_id IS NOT NULL AND f.horizon IN ('24h', '7d') AND f.learned_at IS NOT NULL
    AND f.set_aside IS NULL AND EXISTS (
        SELECT FROM post_predictions w
        WHERE w.tenant_id = f.tenant_id AND w.post_id = f.post_id AND w.horizon = f.horizon
            AND w.definition = f.definition
    )
ORDER BY f.observed_at DESC, f.id DESC LIMIT {TRAILING}
"""

PANEL = """
SELECT tenant_id FROM learners
WHERE platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s AND tenant_id <> %(tenant_id)s
    AND outcomes >= %(least)s
ORDER BY outcomes DESC, tenant_id LIMIT %(limit)s
"""

# By the clock and not by when the transaction began: who waited for the lock comes after whom it waited for.
CHANGE = f"""
UPDATE learners SET champion = %(champion)s, previous = %(previous)s, champion_since = clock_timestamp(),
    champion_since_outcomes = %(outcomes)s, checked_at_outcomes = %(outcomes)s
WHERE {THIS}
"""

CHECKED = f"UPDATE learners SET checked_at_outcomes = %(outcomes)s WHERE {THIS}"

STANDINGS = """
SELECT platform, horizon, definition, outcomes, champion, previous, champion_since, champion_since_outcomes, updated_at,
    state
FROM learners WHERE tenant_id = %s ORDER BY horizon, platform, definition
"""

HISTORY = """
SELECT coalesce(applied_at, created_at) AS at, adjustment_type AS kind, platform, horizon, category, old_value,
    new_value, model_version AS model, sample_size AS outcomes, applied_at IS NOT NULL AS applied, reason
FROM scoring_adjustments WHERE tenant_id = %s ORDER BY coalesce(applied_at, created_at) DESC, id DESC LIMIT %s
"""

SET_ASIDE = """
SELECT platform, horizon, set_aside AS reason, count(*) AS count FROM performance_feedback
WHERE tenant_id = %s AND set_aside IS NOT NULL GROUP BY 1, 2, 3 ORDER BY count DESC, 1, 2, 3
"""

# The gaps of the last outcomes that both had predicted, learner by learner. Place 4 of a drift is `alarmed`.
GAPS = f"""
SELECT l.tenant_id, l.platform, l.horizon, l.champion, l.outcomes, t.count, t.champion_gap, t.median_gap,
    coalesce((l.state #>> '{{drift,4}}')::double precision, 0) > 0 AS drifts
FROM learners l CROSS JOIN LATERAL (
    SELECT count(*) AS count, avg(abs((g ->> l.champion)::double precision)) AS champion_gap,
        avg(abs((g ->> '{YARDSTICK}')::double precision)) AS median_gap
    FROM jsonb_array_elements(l.state -> 'trailing') AS g WHERE g ? l.champion AND g ? '{YARDSTICK}'
) AS t
"""

OVERVIEW = f"""
WITH lately AS ({GAPS})
SELECT platform, horizon, count(DISTINCT tenant_id) AS tenants, sum(outcomes)::bigint AS outcomes,
    count(*) FILTER (WHERE champion <> '{CHAMPION}') AS promoted,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY champion_gap) FILTER (WHERE count >= %(least)s) AS gap,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY 1 - champion_gap / nullif(median_gap, 0))
        FILTER (WHERE count >= %(least)s) AS skill,
    count(*) FILTER (WHERE count >= %(least)s AND champion_gap > %(worse)s * median_gap) AS worse,
    count(*) FILTER (WHERE count >= %(least)s) AS compared, count(*) FILTER (WHERE drifts) AS drifting
FROM lately GROUP BY platform, horizon ORDER BY horizon, platform
"""

WORSE_TENANTS = f"""
WITH lately AS ({GAPS})
SELECT tenant_id, platform, horizon, champion_gap, median_gap FROM lately
WHERE count >= %(least)s AND champion_gap > %(worse)s * median_gap
ORDER BY champion_gap / nullif(median_gap, 0) DESC, tenant_id LIMIT %(limit)s
"""

WAITING = """
SELECT count(*) AS outcomes, min(observed_at) AS since FROM performance_feedback
WHERE learned_at IS NULL AND post_id IS NOT NULL AND horizon IN ('24h', '7d')
"""

POOL_CHANGED = "SELECT max(made_at) AS at FROM pooled_priors"

RECORD = """
INSERT INTO scoring_adjustments (tenant_id, category, platform, horizon, definition, adjustment_type, reason,
    sample_size, model_version, report, applied_at)
VALUES (%(tenant_id)s, '', %(platform)s, %(horizon)s, %(definition)s, %(step)s, %(reason)s, %(outcomes)s, %(model)s,
    %(report)s, CASE WHEN %(applied)s THEN clock_timestamp() END)
"""


class GuardRails:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    # --- looking -----------------------------------------------------------------------------------------------------

    def standings(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the tenant's learners with all that they have learned."""
        return rows_of(self._driver, STANDINGS, (tenant_id,))

    def history(self, tenant_id: UUID, *, limit: int) -> list[dict[str, Any]]:
        """Return what changed a tenant's scores, and which models were proposed in vain, newest first."""
        return rows_of(self._driver, HISTORY, (tenant_id, limit))

    def set_aside(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return how many of a tenant's outcomes nothing was learned from, by reason."""
        return rows_of(self._driver, SET_ASIDE, (tenant_id,))

    def overview(self) -> list[dict[str, Any]]:
        """Return how learning does on each platform and horizon, over all tenants. System scope."""
        return rows_of(self._driver, OVERVIEW, {"least": LEAST, "worse": WORSE})

    def worse_tenants(self, *, least: int, limit: int) -> list[dict[str, Any]]:
        """Return learners whose champion is clearly worse than a running median, on so many outcomes. System scope."""
        return rows_of(self._driver, WORSE_TENANTS, {"least": least, "worse": WORSE, "limit": limit})

    def waiting(self) -> tuple[int, datetime | None]:
        """Return how many outcomes in scope nobody has learned, and when the first of them was seen."""
        [row] = rows_of(self._driver, WAITING)
        return row["outcomes"], row["since"]

    def pool_changed(self) -> datetime | None:
        """Return when a figure of the pool has changed last."""
        [row] = rows_of(self._driver, POOL_CHANGED)
        at: datetime | None = row["at"]
        return at

    # --- deciding ----------------------------------------------------------------------------------------------------

    def paused(self, tenant_id: UUID, key: LearnerKey) -> dict[str, int]:
        """Return the models that are not proposed before so many outcomes, since they were found no better, or went
        back."""
        rows = rows_of(self._driver, PAUSED, _named(tenant_id, key))
        return {row["model"]: row["until"] for row in rows if row["model"] is not None}

    def resolved(self, tenant_id: UUID, key: LearnerKey) -> int:
        """Return how many of the learner's last outcomes that were predicted came since its champion scores."""
        rows = self._driver.execute(LATELY, _named(tenant_id, key)).fetchall()
        return sum(1 for _ in takewhile(bool, (since for (since,) in rows)))

    def panel(self, tenant_id: UUID, key: LearnerKey, *, limit: int) -> list[UUID]:
        """Return other tenants with enough outcomes for a backtest, those with the most first. System scope."""
        values = _named(tenant_id, key) | {"least": WARM_UP + LEAST, "limit": limit}
        return [each for (each,) in self._driver.execute(PANEL, values)]

    def change(
        self,
        tenant_id: UUID,
        key: LearnerKey,
        *,
        step: Step,
        model: str,
        champion: str,
        outcomes: int,
        reason: str,
        report: Mapping[str, Any],
    ) -> None:
        """Let `model` score instead of the champion, and write down why. After a rollback there is no shadow to be
        judged by."""
        previous = champion if step == Step.PROMOTION else None
        values = _named(tenant_id, key) | {"outcomes": outcomes}
        self._driver.execute(CHANGE, values | {"champion": model, "previous": previous})
        self._record(values, step, model, reason, {**report, "from": champion}, applied=True)

    def decline(
        self, tenant_id: UUID, key: LearnerKey, *, model: str, outcomes: int, reason: str, report: Mapping[str, Any]
    ) -> None:
        """Write down that a model was proposed and does not score, and why not."""
        values = _named(tenant_id, key) | {"outcomes": outcomes}
        self._driver.execute(CHECKED, values)
        self._record(values, Step.PROMOTION, model, reason, report, applied=False)

    def _record(
        self,
        values: Mapping[str, Any],
        step: Step,
        model: str,
        reason: str,
        report: Mapping[str, Any],
        *,
        applied: bool,
    ) -> None:
        row = {"step": step, "model": model, "reason": reason, "report": to_json(dict(report)), "applied": applied}
        self._driver.execute(RECORD, {**values, **row})


def _named(tenant_id: UUID, key: LearnerKey) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "platform": key.platform,
        "horizon": key.horizon,
        "definition": key.definition,
    }

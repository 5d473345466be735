"""Which model scores for a learner, and what was decided about that: rows of `scoring_adjustments`.

Who writes has the learner locked (`tx.learners.lock`).
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.learner import LearnerKey
from domain.learning.promotion import LEAST, PAUSE, WARM_UP, Step
from domain.text.storable import to_json

THIS = "tenant_id = %(tenant_id)s AND platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s"

# A model that was proposed in vain, or that went back.
PAUSED = f"""
SELECT coalesce(report ->> 'from', model_version) AS model, max(sample_size) + {PAUSE} AS until
FROM scoring_adjustments
WHERE {THIS} AND (adjustment_type = '{Step.ROLLBACK}' OR adjustment_type = '{Step.PROMOTION}' AND applied_at IS NULL)
GROUP BY 1
"""

PANEL = """
SELECT tenant_id FROM learners
WHERE platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s AND tenant_id <> %(tenant_id)s
    AND outcomes >= %(least)s
ORDER BY outcomes DESC, tenant_id LIMIT %(limit)s
"""

CHANGE = f"""
UPDATE learners SET champion = %(champion)s, previous = %(previous)s, champion_since = now(),
    champion_since_outcomes = %(outcomes)s, checked_at_outcomes = %(outcomes)s
WHERE {THIS}
"""

CHECKED = f"UPDATE learners SET checked_at_outcomes = %(outcomes)s WHERE {THIS}"

RECORD = """
INSERT INTO scoring_adjustments (tenant_id, category, platform, horizon, definition, adjustment_type, reason,
    sample_size, model_version, report, applied_at)
VALUES (%(tenant_id)s, '', %(platform)s, %(horizon)s, %(definition)s, %(step)s, %(reason)s, %(outcomes)s, %(model)s,
    %(report)s, CASE WHEN %(applied)s THEN now() END)
"""


class GuardRails:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def paused(self, tenant_id: UUID, key: LearnerKey) -> dict[str, int]:
        """Return the models that are not proposed before so many outcomes, since they were found no better, or went
        back."""
        rows = rows_of(self._driver, PAUSED, _named(tenant_id, key))
        return {row["model"]: row["until"] for row in rows if row["model"] is not None}

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

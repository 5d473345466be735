"""What each tenant has learned, and what all tenants together have seen."""

from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.learner import Learner, LearnerKey, learner_of
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Prior
from domain.learning.scoring import Scoring, Standing
from domain.text.storable import to_json

STANDINGS = "SELECT platform, horizon, definition, state, champion FROM learners WHERE tenant_id = %s"

# The newest row of each learner's key: one step down the index for each, however many older ones there are.
NEWEST_PRIORS = """
WITH RECURSIVE newest AS (
    (SELECT id, platform, horizon, definition, value, categories FROM pooled_priors
    ORDER BY platform DESC, horizon DESC, definition DESC, id DESC LIMIT 1)
    UNION ALL
    SELECT next.* FROM newest CROSS JOIN LATERAL (
        SELECT p.id, p.platform, p.horizon, p.definition, p.value, p.categories FROM pooled_priors p
        WHERE (p.platform, p.horizon, p.definition) < (newest.platform, newest.horizon, newest.definition)
        ORDER BY p.platform DESC, p.horizon DESC, p.definition DESC, p.id DESC LIMIT 1
    ) AS next
)
SELECT * FROM newest
"""


SAVE = """
INSERT INTO learners (tenant_id, platform, horizon, definition, state, outcomes, champion)
VALUES (%(tenant_id)s, %(platform)s, %(horizon)s, %(definition)s, %(state)s, %(outcomes)s, %(champion)s)
ON CONFLICT (tenant_id, platform, horizon, definition)
DO UPDATE SET state = excluded.state, outcomes = excluded.outcomes, champion = excluded.champion, updated_at = now()
"""


class Learners:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def scoring(self, tenant_id: UUID) -> Scoring:
        """Return what the tenant's concepts and posts are scored with. A learner whose state another release made has
        learned nothing until it is folded anew."""
        standings = {
            _key(row): Standing(learner_of(row["state"]) or Learner(), row["champion"])
            for row in rows_of(self._driver, STANDINGS, (tenant_id,))
        }
        return Scoring(standings, self.newest_priors())

    def save(self, tenant_id: UUID, key: LearnerKey, learner: Learner, champion: str) -> None:
        """Keep what a learner has learned, and the model that scores for it."""
        named = {"tenant_id": tenant_id, "platform": key.platform, "horizon": key.horizon, "definition": key.definition}
        values = {**named, "state": to_json(learner.row()), "outcomes": learner.count, "champion": champion}
        self._driver.execute(SAVE, values)

    def newest_priors(self) -> dict[LearnerKey, Prior]:
        """Return the pooled prior of each learner's key that has one."""
        return {
            _key(row): Prior(row["value"], row["categories"], row["id"]) for row in rows_of(self._driver, NEWEST_PRIORS)
        }


def _key(row: dict[str, Any]) -> LearnerKey:
    return LearnerKey(row["platform"], Horizon(row["horizon"]), row["definition"])

"""What each tenant has learned, and what all tenants together have seen.

A learner's row is changed by whoever has it locked, after the outcomes (`db/postgres/locks.py`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.adjustments import SCORE, Recorded, ScoreMoved
from domain.learning.learner import CHAMPION, MODELS, VERSION, Learner, LearnerKey, learner_of
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Prior
from domain.learning.pool import Contribution, contributions
from domain.learning.scoring import Scoring, Standing
from domain.text.storable import to_json

THIS = "tenant_id = %(tenant_id)s AND platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s"

STANDINGS = "SELECT platform, horizon, definition, state, champion FROM learners WHERE tenant_id = %s"

# Whoever else is about to add the row is waited for.
ADD = f"""
INSERT INTO learners (tenant_id, platform, horizon, definition, champion)
VALUES (%(tenant_id)s, %(platform)s, %(horizon)s, %(definition)s, '{CHAMPION}') ON CONFLICT DO NOTHING
"""

LOCK = f"""
SELECT state, outcomes, champion, previous, checked_at_outcomes AS checked
FROM learners WHERE {THIS}
FOR NO KEY UPDATE
"""

STANDING = f"SELECT outcomes, champion FROM learners WHERE {THIS}"

SAVE = f"""
UPDATE learners SET state = %(state)s, outcomes = %(outcomes)s, updated_at = now(),
    checked_at_outcomes = coalesce(%(checked)s, checked_at_outcomes)
WHERE {THIS}
"""

# Of another release: nobody reads it before it is folded anew.
IS_STALE = f"""
outcomes > 0 AND (state ->> 'version' IS DISTINCT FROM '{VERSION}'
    OR NOT state -> 'models' ?& ARRAY[{", ".join(f"'{name}'" for name in MODELS)}])
"""
STALE = f"""
SELECT platform, horizon, definition FROM learners WHERE tenant_id = %s AND {IS_STALE}
ORDER BY platform, horizon, definition
"""

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

ADD_PRIOR = """
INSERT INTO pooled_priors (platform, horizon, definition, value, categories)
VALUES (%(platform)s, %(horizon)s, %(definition)s, %(value)s, %(categories)s)
"""

KEYS = "SELECT DISTINCT platform, horizon, definition FROM learners ORDER BY platform, horizon, definition"

# A state is some ten thousand bytes, of which the pool needs some hundred.
CONTRIBUTIONS = f"""
SELECT tenant_id, {IS_STALE} AS stale, (state #> '{{models,{CHAMPION}}}') - 'accounts' AS model
FROM learners
WHERE platform = %(platform)s AND horizon = %(horizon)s AND definition = %(definition)s AND tenant_id > %(after)s
ORDER BY tenant_id LIMIT %(limit)s
"""

RECORDED = f"""
SELECT wanted.category, last.new_value, last.report FROM unnest(%(categories)s::text[]) AS wanted (category)
CROSS JOIN LATERAL (
    SELECT a.new_value, a.report FROM scoring_adjustments a
    WHERE a.tenant_id = %(tenant_id)s AND a.category = wanted.category AND a.platform = %(platform)s
        AND a.horizon = %(horizon)s AND a.definition = %(definition)s AND a.adjustment_type = '{SCORE}'
        AND a.new_value IS NOT NULL
    ORDER BY a.applied_at DESC, a.id DESC LIMIT 1
) AS last
"""

# By the clock and not by when the transaction began: who waited for the lock comes after whom it waited for.
RECORD = f"""
INSERT INTO scoring_adjustments (tenant_id, category, platform, horizon, definition, adjustment_type, old_value,
    new_value, reason, sample_size, model_version, report, applied_at)
VALUES (%(tenant_id)s, %(category)s, %(platform)s, %(horizon)s, %(definition)s, '{SCORE}', %(old)s, %(new)s, %(reason)s,
    %(posts)s, %(model)s, %(report)s, clock_timestamp())
"""


@dataclass(frozen=True, slots=True)
class LockedLearner:
    """A row of `learners`. `learner` is None if another release made its state, so that it has to be folded anew."""

    key: LearnerKey
    learner: Learner | None
    outcomes: int
    champion: str
    previous: str | None
    checked: int


class PoolPage(NamedTuple):
    """What tenants add to the pool, the last tenant that was looked at (None: it was the last page), and those whose
    state is of another release, so that nothing of it can be read."""

    tenants: list[list[Contribution]]
    last: UUID | None
    stale: list[UUID]


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

    # --- what a tenant learns ----------------------------------------------------------------------------------------

    def lock(self, tenant_id: UUID, keys: Iterable[LearnerKey]) -> list[LockedLearner]:
        """Lock these learners, in the order of their keys, and return them; one that is not there yet is added."""
        named = [{"tenant_id": tenant_id} | _named(key) for key in sorted(keys, key=_order)]
        if named:
            with self._driver.cursor() as cursor:
                cursor.executemany(ADD, named)
        return [_locked(rows_of(self._driver, LOCK, values)[0], values) for values in named]

    def standing(self, tenant_id: UUID, key: LearnerKey) -> tuple[int, str]:
        """Return how many outcomes the learner has learned, and the model that scores for it."""
        found = self._driver.execute(STANDING, {"tenant_id": tenant_id} | _named(key)).fetchone()
        return (0, CHAMPION) if found is None else (found[0], found[1])

    def save(self, tenant_id: UUID, key: LearnerKey, learner: Learner, *, checked: int | None = None) -> None:
        """Keep what a learner that is locked has learned, and at how many outcomes its champion was looked at last, if
        it was."""
        values = {"state": to_json(learner.row()), "outcomes": learner.count, "tenant_id": tenant_id}
        self._driver.execute(SAVE, values | {"checked": checked} | _named(key))

    def stale(self, tenant_id: UUID) -> list[LearnerKey]:
        """Return the tenant's learners whose state another release made."""
        return [_key(row) for row in rows_of(self._driver, STALE, (tenant_id,))]

    # --- displayed scores --------------------------------------------------------------------------------------------

    def recorded(self, tenant_id: UUID, key: LearnerKey, categories: Collection[str]) -> dict[str, Recorded]:
        """Return the displayed score of each of these categories that was recorded last."""
        values = {"tenant_id": tenant_id, "categories": list(categories)} | _named(key)
        rows = rows_of(self._driver, RECORDED, values)
        return {row["category"]: Recorded(row["new_value"], _parts(row["report"])) for row in rows}

    def record(self, tenant_id: UUID, key: LearnerKey, moved: Sequence[ScoreMoved]) -> None:
        """Add a row of `scoring_adjustments` for each displayed score that has moved."""
        named = {"tenant_id": tenant_id} | _named(key)
        rows = [
            named
            | {name: getattr(each, name) for name in ("category", "old", "new", "model", "posts", "reason")}
            | {"report": to_json(each.report)}
            for each in moved
        ]
        if rows:
            with self._driver.cursor() as cursor:
                cursor.executemany(RECORD, rows)

    # --- the pool ----------------------------------------------------------------------------------------------------

    def newest_priors(self) -> dict[LearnerKey, Prior]:
        """Return the pooled prior of each learner's key that has one."""
        return {
            _key(row): Prior(row["value"], row["categories"], row["id"]) for row in rows_of(self._driver, NEWEST_PRIORS)
        }

    def keys(self) -> list[LearnerKey]:
        """Return the keys of all tenants' learners. System scope."""
        return [_key(row) for row in rows_of(self._driver, KEYS)]

    def contributions(self, key: LearnerKey, *, after: UUID, limit: int) -> PoolPage:
        """Return what the next tenants by their id add to the pool. System scope."""
        rows = rows_of(self._driver, CONTRIBUTIONS, _named(key) | {"after": after, "limit": limit})
        last = rows[-1]["tenant_id"] if len(rows) == limit else None
        stale = [row["tenant_id"] for row in rows if row["stale"]]
        return PoolPage([list(_contributions(row)) for row in rows if not row["stale"]], last, stale)

    def add_prior(self, key: LearnerKey, prior: Prior) -> None:
        """Add a row of `pooled_priors`, which the next predictions are made with. System scope."""
        values = _named(key) | {"value": prior.platform, "categories": to_json(dict(prior.categories))}
        self._driver.execute(ADD_PRIOR, values)


def _key(row: Mapping[str, Any]) -> LearnerKey:
    return LearnerKey(row["platform"], Horizon(row["horizon"]), row["definition"])


def _order(key: LearnerKey) -> tuple[str, str, str]:
    return key.platform, key.horizon, key.definition


def _named(key: LearnerKey) -> dict[str, Any]:
    return {"platform": key.platform, "horizon": key.horizon, "definition": key.definition}


def _locked(row: dict[str, Any], key: Mapping[str, Any]) -> LockedLearner:
    state = row.pop("state")
    learner = Learner() if not row["outcomes"] else learner_of(state)
    return LockedLearner(_key(key), learner, **row)


def _contributions(row: Mapping[str, Any]) -> Iterator[Contribution]:
    if row["model"] is not None:
        model = Shrinkage()
        model.load(row["model"] | {"accounts": {}})
        yield from contributions(model)


def _parts(report: Any) -> dict[str, float]:
    """Return the parts of a row's score; a row of the old app has none."""
    parts = report.get("after") if isinstance(report, dict) else None
    return parts if isinstance(parts, dict) else {}

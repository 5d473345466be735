"""Critiques of a tenant's outcomes and their lessons: what they are about, what they may cost, what they leave.

All that changes does so under the tenant's lock, so that a group has one critique, a concept one, and the budget holds,
however many jobs run at once.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.postgres.rows import rows_of
from domain.billing.tiers import Tier
from domain.errors import UnknownTenant
from domain.learning.critique.budget import DAY, MONTH, Spent
from domain.learning.critique.critiques import Evidence
from domain.learning.critique.groups import (
    LARGE_MISS,
    LOOKS_BACK,
    MISSED_LATELY,
    MOST_OUTCOMES,
    GroupKey,
    Judged,
)
from domain.learning.critique.lessons import ActiveLesson, Outcomes
from domain.text.storable import to_json

LOCK = "SELECT subscription_tier FROM tenants WHERE id = %s FOR NO KEY UPDATE"

# Outcomes at the horizon that is shown, with the prediction that was shown.
SHOWN = """
SELECT f.id, f.observed_at, w.features->>'category' AS category, f.platform, p.account_id,
    f.predicted_score::float8 AS predicted, f.actual_score::float8 AS actual, w.lessons, w.made_at
FROM performance_feedback f
JOIN social_posts p ON p.tenant_id = f.tenant_id AND p.id = f.post_id
JOIN post_predictions w ON w.tenant_id = f.tenant_id AND w.post_id = f.post_id AND w.horizon = f.horizon AND w.shown
WHERE f.tenant_id = %(tenant_id)s AND f.observed_at > %(since)s AND f.horizon = '24h' AND f.learned_at IS NOT NULL
    AND f.set_aside IS NULL AND f.predicted_score IS NOT NULL AND f.actual_score IS NOT NULL
    AND coalesce(w.features->>'category', '') <> ''
"""

OUTCOMES = f"""
SELECT id, observed_at, category, platform, account_id, predicted, actual FROM ({SHOWN}) AS shown
ORDER BY observed_at DESC, id LIMIT {MOST_OUTCOMES}
"""

# Of each group, when the newest outcome of its critiques was observed.
SEEN = """
SELECT c.category, c.platform, c.account_id, max((e->>'observed_at')::timestamptz)
FROM self_critiques c CROSS JOIN LATERAL jsonb_array_elements(c.evidence) AS e
WHERE c.tenant_id = %(tenant_id)s AND c.created_at > %(since)s AND c.job_id IS NOT NULL AND c.concept_id IS NULL
GROUP BY c.category, c.platform, c.account_id
"""

EVIDENCE = """
SELECT f.id AS outcome_id, f.concept_id, coalesce(concept->>'title', p.title, left(p.caption, 200), '') AS title,
    concept->>'format' AS format, f.predicted_score::float8 AS predicted, f.actual_score::float8 AS actual
FROM performance_feedback f
LEFT JOIN social_posts p ON p.tenant_id = f.tenant_id AND p.id = f.post_id
LEFT JOIN generations g ON g.tenant_id = f.tenant_id AND g.id = f.generation_id
CROSS JOIN LATERAL (SELECT jsonb_path_query_first(g.concepts, '$[*] ? (@.id == $id)',
    jsonb_build_object('id', f.concept_id)) AS concept) AS its
WHERE f.tenant_id = %s AND f.id = ANY(%s) ORDER BY f.observed_at, f.id
"""

# Large misses of concepts that have no critique yet: of posts at the horizon that is shown, and what was reported
# without a post.
MISSES = f"""
SELECT DISTINCT ON (f.concept_id) f.id, f.concept_id, f.platform, p.account_id,
    coalesce(w.features->>'category', jsonb_path_query_first(g.concepts, '$[*] ? (@.id == $id).category',
        jsonb_build_object('id', f.concept_id)) #>> '{{}}', '') AS category
FROM performance_feedback f
LEFT JOIN social_posts p ON p.tenant_id = f.tenant_id AND p.id = f.post_id
LEFT JOIN generations g ON g.tenant_id = f.tenant_id AND g.id = f.generation_id
LEFT JOIN post_predictions w ON w.tenant_id = f.tenant_id AND w.post_id = f.post_id AND w.horizon = f.horizon
    AND w.shown
WHERE f.tenant_id = %(tenant_id)s AND f.observed_at > %(since)s AND f.concept_id IS NOT NULL AND f.set_aside IS NULL
    AND (f.post_id IS NULL OR (f.horizon = '24h' AND f.learned_at IS NOT NULL))
    AND abs(f.actual_score - f.predicted_score) > {LARGE_MISS}
    AND (w.low IS NULL OR f.actual_score < w.low OR f.actual_score > w.high)
    AND NOT EXISTS (
        SELECT FROM self_critiques c WHERE c.tenant_id = f.tenant_id AND c.concept_id = f.concept_id
    )
ORDER BY f.concept_id, f.observed_at, f.id
"""

OBSERVED = "SELECT id, observed_at FROM performance_feedback WHERE tenant_id = %s AND id = ANY(%s)"

MISSES_TODAY = """
SELECT count(*) FROM self_critiques
WHERE tenant_id = %s AND created_at > %s AND job_id IS NOT NULL AND concept_id IS NOT NULL
"""

IS_CRITICISED = "SELECT EXISTS (SELECT FROM self_critiques WHERE tenant_id = %s AND concept_id = %s)"

FAILED = """
SELECT EXISTS (
    SELECT FROM job_queue WHERE tenant_id = %s AND job_type = 'reflexion.critique' AND status = 'failed'
        AND completed_at > %s
)
"""

# A critique that a model is asked for is a row of kind 'critique'; what its answers cost are rows of kind 'llm'. One
# that is not there after a day has failed, and costs no more than it has.
SPENT = """
SELECT count(*) FILTER (WHERE c.created_at > %(day)s) AS begun, coalesce(sum(l.usd), 0) AS usd,
    count(*) FILTER (WHERE c.created_at > %(day)s AND NOT EXISTS (
        SELECT FROM self_critiques s
        WHERE s.tenant_id = c.tenant_id AND s.created_at > %(day)s AND s.job_id = c.job_id
    )) AS open
FROM api_usage c CROSS JOIN LATERAL (
    SELECT sum(cost_usd) AS usd FROM api_usage WHERE job_id = c.job_id AND kind = 'llm'
) AS l
WHERE c.tenant_id = %(tenant_id)s AND c.created_at > %(month)s AND c.kind = 'critique' AND c.job_id <> %(job_id)s
"""
IS_BEGUN = "SELECT EXISTS (SELECT FROM api_usage WHERE job_id = %s AND kind = 'critique')"
BEGIN = "INSERT INTO api_usage (tenant_id, kind, name, job_id) VALUES (%s, 'critique', 'language-model', %s)"

ADD = """
INSERT INTO self_critiques (id, tenant_id, concept_id, category, platform, predicted_score, actual_score,
    performance_gap, critique, hypothesized_reasons, scoring_issues, adjustment_plan, confidence_level, model,
    account_id, evidence, job_id)
VALUES (%(id)s, %(tenant_id)s, %(concept_id)s, %(category)s, %(platform)s, %(predicted_score)s, %(actual_score)s,
    %(performance_gap)s, %(critique)s, %(hypothesized_reasons)s, %(scoring_issues)s, %(adjustment_plan)s,
    %(confidence_level)s, %(model)s, %(account_id)s, %(evidence)s, %(job_id)s)
ON CONFLICT (id) DO NOTHING
"""

# A lesson of the same words lives on with the newer evidence; a retired one, or an insight of others, stays as it is.
ADD_LESSON = """
INSERT INTO reflexion_insights (id, tenant_id, category, platform, pattern, impact, recommendation, evidence_count,
    evidence, expires_at, critique_id, account_id, formats)
VALUES (%(id)s, %(tenant_id)s, %(category)s, %(platform)s, %(pattern)s, %(impact)s, %(recommendation)s,
    %(evidence_count)s, %(evidence)s, %(expires_at)s, %(critique_id)s, %(account_id)s, %(formats)s)
ON CONFLICT (tenant_id, category, platform, md5(pattern)) DO UPDATE SET impact = excluded.impact,
    recommendation = excluded.recommendation, evidence_count = excluded.evidence_count, evidence = excluded.evidence,
    expires_at = excluded.expires_at, critique_id = excluded.critique_id, account_id = excluded.account_id,
    formats = excluded.formats, last_seen_at = now(), updated_at = now()
WHERE reflexion_insights.critique_id IS NOT NULL AND reflexion_insights.retired_at IS NULL
"""

LESSONS = """
SELECT id, category, platform, pattern, recommendation, formats FROM reflexion_insights
WHERE tenant_id = %s AND critique_id IS NOT NULL AND retired_at IS NULL AND expires_at > %s
ORDER BY last_seen_at DESC, id LIMIT %s
"""

LIVE = """
SELECT id, category, platform, account_id, discovered_at, expires_at FROM reflexion_insights
WHERE tenant_id = %s AND critique_id IS NOT NULL AND retired_at IS NULL ORDER BY id
"""

GAPS = f"""
SELECT actual - predicted AS gap, made_at >= %(began)s AS later, coalesce(%(lesson_id)s = ANY(lessons), false) AS used
FROM ({SHOWN}) AS shown
WHERE category = %(category)s AND platform = %(platform)s AND (%(account_id)s::uuid IS NULL
    OR account_id = %(account_id)s)
ORDER BY observed_at DESC, id LIMIT {MOST_OUTCOMES}
"""

RETIRE = """
UPDATE reflexion_insights SET retired_at = now(), retired_because = %s, updated_at = now()
WHERE tenant_id = %s AND id = %s AND retired_at IS NULL
"""


class Critiques:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock(self, tenant_id: UUID) -> Tier:
        """Lock the tenant; return its tier.

        Raises:
            UnknownTenant: there is none of this id.
        """
        row = self._driver.execute(LOCK, (tenant_id,)).fetchone()
        if row is None:
            raise UnknownTenant(f"no tenant has the id {tenant_id}")
        return Tier(row[0])

    def outcomes(self, tenant_id: UUID, now: datetime) -> list[Judged]:
        """Return the newest outcomes that groups are made of."""
        with self._driver.cursor(row_factory=class_row(Judged)) as cursor:
            values = {"tenant_id": tenant_id, "since": now - LOOKS_BACK}
            return cursor.execute(OUTCOMES.encode(), values).fetchall()

    def seen(self, tenant_id: UUID, now: datetime) -> dict[GroupKey, datetime]:
        """Return when the newest outcome of each group's critiques was observed."""
        values = {"tenant_id": tenant_id, "since": now - LOOKS_BACK}
        found = self._driver.execute(SEEN, values)
        return {GroupKey(category, platform, account_id): at for category, platform, account_id, at in found}

    def evidence(self, tenant_id: UUID, ids: Sequence[UUID]) -> list[Evidence]:
        """Return these outcomes with their titles and formats, by when they were observed."""
        with self._driver.cursor(row_factory=class_row(Evidence)) as cursor:
            return cursor.execute(EVIDENCE.encode(), (tenant_id, list(ids))).fetchall()

    def observed(self, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, datetime]:
        """Return when these outcomes were observed, whatever has become of them."""
        return dict(self._driver.execute(OBSERVED, (tenant_id, list(ids))).fetchall())

    def misses(self, tenant_id: UUID, now: datetime) -> list[dict[str, Any]]:
        """Return large misses of the last days that have no critique yet, one a concept."""
        return rows_of(self._driver, MISSES, {"tenant_id": tenant_id, "since": now - MISSED_LATELY})

    def misses_today(self, tenant_id: UUID, now: datetime) -> int:
        """Return how many critiques of single misses there are of the last day."""
        [[found]] = self._driver.execute(MISSES_TODAY, (tenant_id, now - DAY)).fetchall()
        return int(found)

    def is_criticised(self, tenant_id: UUID, concept_id: str) -> bool:
        """Whether there is a critique of the concept."""
        [[found]] = self._driver.execute(IS_CRITICISED, (tenant_id, concept_id)).fetchall()
        return bool(found)

    def has_failed(self, tenant_id: UUID, since: datetime) -> bool:
        """Whether a critique of the tenant has failed since then."""
        [[found]] = self._driver.execute(FAILED, (tenant_id, since)).fetchall()
        return bool(found)

    def spent(self, tenant_id: UUID, job_id: UUID, now: datetime) -> Spent:
        """Return what the tenant's other critiques have cost. The tenant is locked."""
        values = {"tenant_id": tenant_id, "job_id": job_id, "day": now - DAY, "month": now - MONTH}
        [row] = rows_of(self._driver, SPENT, values)
        return Spent(**row)

    def is_begun(self, job_id: UUID) -> bool:
        """Whether the job may ask a model."""
        [[found]] = self._driver.execute(IS_BEGUN, (job_id,)).fetchall()
        return bool(found)

    def begin(self, tenant_id: UUID, job_id: UUID) -> None:
        """Write down that the job may ask a model. The tenant is locked."""
        self._driver.execute(BEGIN, (tenant_id, job_id))

    def add(self, critique: dict[str, Any], lessons: Sequence[dict[str, Any]]) -> None:
        """Add a critique and its lessons, whose values are by the tables' columns. The tenant is locked."""
        self._driver.execute(ADD, _values(critique))
        for each in lessons:
            self._driver.execute(ADD_LESSON, _values(each))

    def lessons(self, tenant_id: UUID, now: datetime, *, limit: int) -> tuple[ActiveLesson, ...]:
        """Return the lessons that hold now, those with the newest evidence first."""
        found = rows_of(self._driver, LESSONS, (tenant_id, now, limit))
        return tuple(
            ActiveLesson(
                id=row["id"],
                category=row["category"],
                platform=row["platform"],
                pattern=row["pattern"],
                advice=row["recommendation"],
                prefer=tuple(row["formats"].get("prefer", ())),
                avoid=tuple(row["formats"].get("avoid", ())),
            )
            for row in found
        )

    def live_lessons(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the lessons that nobody has retired, expired or not."""
        return rows_of(self._driver, LIVE, (tenant_id,))

    def gaps(self, tenant_id: UUID, lesson: dict[str, Any], now: datetime) -> Outcomes:
        """Return the gaps of the lesson's group, by whether the post was planned with it, without it, or before it."""
        values = {name: lesson[name] for name in ("category", "platform", "account_id")}
        values |= {"tenant_id": tenant_id, "since": now - LOOKS_BACK}
        found = rows_of(self._driver, GAPS, values | {"lesson_id": lesson["id"], "began": lesson["discovered_at"]})
        return Outcomes(
            used=[row["gap"] for row in found if row["used"]],
            unused=[row["gap"] for row in found if row["later"] and not row["used"]],
            before=[row["gap"] for row in found if not row["later"]],
        )

    def retire(self, tenant_id: UUID, lesson_id: UUID, because: str) -> None:
        self._driver.execute(RETIRE, (because, tenant_id, lesson_id))


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {name: to_json(value) if isinstance(value, list | dict) else value for name, value in row.items()}

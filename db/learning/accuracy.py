"""Reports of how far predictions were off. Nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.accuracy import Accuracy, AccuracyBy, Change, Evidence, Group, Settled, skill
from domain.learning.learner import YARDSTICK
from domain.learning.numbers import Horizon
from domain.learning.performance import Week, week_label
from domain.videos.profiles import NAMES

KEYS: Mapping[AccuracyBy, str] = {
    AccuracyBy.WEEK: "(%(mondays)s::text[])[width_bucket(f.observed_at, %(begins)s::timestamptz[])]",
    AccuracyBy.PLATFORM: "p.platform",
    AccuracyBy.CATEGORY: "coalesce(p.features ->> 'category', '')",
    AccuracyBy.ACCOUNT: "coalesce(p.features ->> 'account', '')",
    AccuracyBy.MODEL: "p.model",
}
NAME_OF_ACCOUNT = "(SELECT a.username FROM social_accounts a WHERE a.tenant_id = %(tenant_id)s AND a.id::text = key)"

# The prediction that counts at any horizon is that of the model whose score was shown. What it says is of one
# definition, and so is the outcome: of two, nothing can be said. Scores are kept with four digits, bounds with all.
GROUPS = """
WITH judged AS MATERIALIZED (
    SELECT {key} AS key, p.platform, p.score, f.actual_score - p.score AS gap,
        f.actual_score BETWEEN p.low - 0.0001 AND p.high + 0.0001 AS covered, abs(f.actual_score - y.score) AS yardstick
    FROM performance_feedback f
    JOIN post_predictions s ON s.tenant_id = f.tenant_id AND s.post_id = f.post_id AND s.shown
    JOIN post_predictions p
        ON p.tenant_id = f.tenant_id AND p.post_id = f.post_id AND p.horizon = f.horizon AND p.model = s.model
    LEFT JOIN post_predictions y ON y.tenant_id = f.tenant_id AND y.post_id = f.post_id AND y.horizon = f.horizon
        AND y.model = %(yardstick)s AND y.definition = f.definition
    WHERE {scope} f.horizon = %(horizon)s AND f.horizon IN ('24h', '7d') AND f.post_id IS NOT NULL
        AND f.learned_at IS NOT NULL AND f.set_aside IS NULL AND f.definition = p.definition
        AND f.observed_at >= %(since)s AND f.observed_at < %(until)s
), groups AS (
    SELECT key, platform, count(*) AS outcomes, avg(abs(gap))::double precision AS gap,
        avg(gap)::double precision AS bias,
        avg((abs(gap) <= 0.2 * score)::int)::double precision AS within20,
        avg((abs(gap) <= 10)::int)::double precision AS within10,
        avg(covered::int)::double precision AS coverage, count(yardstick) AS compared,
        avg(yardstick)::double precision AS median_gap,
        (avg(abs(gap)) FILTER (WHERE yardstick IS NOT NULL))::double precision AS compared_gap
    FROM judged GROUP BY GROUPING SETS ((key, platform), ())
)
SELECT *, {name} AS username FROM groups
ORDER BY platform IS NOT NULL, outcomes DESC, key, platform LIMIT %(limit)s + 1
"""

EVIDENCE = """
SELECT coalesce(f.set_aside, CASE WHEN f.learned_at IS NULL THEN 'waiting' ELSE 'learned' END) AS state,
    f.set_aside IS NOT NULL AS is_reason, count(*) AS count
FROM performance_feedback f
WHERE {scope} f.horizon = %(horizon)s AND f.horizon IN ('24h', '7d') AND f.post_id IS NOT NULL
    AND f.observed_at >= %(since)s AND f.observed_at < %(until)s
GROUP BY 1, 2 ORDER BY count DESC, state
"""

CHANGES = """
SELECT f.applied_at AS at, f.adjustment_type AS kind, f.platform, f.horizon, f.model_version AS model, f.reason
FROM scoring_adjustments f
WHERE {scope} f.adjustment_type IN ('promotion', 'rollback') AND f.applied_at >= %(since)s AND f.applied_at < %(until)s
    AND f.horizon = %(horizon)s
ORDER BY f.applied_at DESC, f.id DESC LIMIT 100
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Outcomes at a horizon whose numbers were taken from `since` to before `until`; `tenant_id` None: of all tenants,
    in the system scope."""

    tenant_id: UUID | None
    horizon: Horizon
    since: datetime
    until: datetime

    @property
    def values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def scope(self) -> str:
        return "f.tenant_id = %(tenant_id)s AND" if self.tenant_id is not None else ""


OF_POST = """
SELECT p.horizon, p.model, p.score, p.low, p.high, f.actual_score, f.set_aside
FROM post_predictions s
JOIN post_predictions p ON p.tenant_id = s.tenant_id AND p.post_id = s.post_id AND p.model = s.model
LEFT JOIN performance_feedback f ON f.tenant_id = p.tenant_id AND f.post_id = p.post_id AND f.horizon = p.horizon
    AND f.learned_at IS NOT NULL AND f.definition = p.definition
WHERE s.tenant_id = %s AND s.post_id = %s AND s.shown
"""


class AccuracyReports:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def groups(
        self, asked: Asked, *, by: AccuracyBy, weeks: Sequence[Week], limit: int
    ) -> tuple[Accuracy, list[Group]]:
        """Return the accuracy over all, and of the `limit` groups with the most outcomes; weeks in their order."""
        values = {
            "limit": limit,
            "yardstick": YARDSTICK,
            "mondays": [week.monday.isoformat() for week in weeks],
            "begins": [week.begins for week in weeks],
        }
        named = by == AccuracyBy.ACCOUNT and asked.tenant_id is not None
        query = GROUPS.format(key=KEYS[by], scope=asked.scope, name=NAME_OF_ACCOUNT if named else "NULL")
        rows = rows_of(self._driver, query, asked.values | values)
        total = next((_accuracy(row) for row in rows if row["platform"] is None), Accuracy())
        groups = [
            Group(row["key"] or None, _label(by, row), row["platform"], _accuracy(row))
            for row in rows
            if row["platform"] is not None
        ]
        if by == AccuracyBy.WEEK:
            groups.sort(key=lambda each: (each.key or "", each.platform))
        return total, groups

    def evidence(self, asked: Asked) -> Evidence:
        """Return how many outcomes were learned, wait, and were set aside."""
        rows = rows_of(self._driver, EVIDENCE.format(scope=asked.scope), asked.values)
        counts = {row["state"]: row["count"] for row in rows if not row["is_reason"]}
        reasons = {row["state"]: row["count"] for row in rows if row["is_reason"]}
        return Evidence(counts.get("learned", 0), counts.get("waiting", 0), reasons)

    def of_post(self, tenant_id: UUID, post_id: UUID) -> dict[Horizon, Settled]:
        """Return what the champion had expected of a post at each learned horizon, and what came of it."""
        return {
            Horizon(row.pop("horizon")): Settled(**row) for row in rows_of(self._driver, OF_POST, (tenant_id, post_id))
        }

    def changes(self, asked: Asked) -> list[Change]:
        """Return promotions and rollbacks, newest first."""
        return [Change(**row) for row in rows_of(self._driver, CHANGES.format(scope=asked.scope), asked.values)]


def _accuracy(row: Mapping[str, Any]) -> Accuracy:
    names = ("outcomes", "gap", "bias", "within20", "within10", "coverage", "compared", "median_gap")
    return Accuracy(**{name: row[name] for name in names}, skill=skill(row["compared_gap"], row["median_gap"]))


def _label(by: AccuracyBy, row: Mapping[str, Any]) -> str:
    platform = NAMES[row["platform"]]
    match by:
        case AccuracyBy.PLATFORM:
            return platform
        case AccuracyBy.WEEK:
            return f"{week_label(datetime.fromisoformat(row['key']).date())}, {platform}"
        case AccuracyBy.CATEGORY:
            return f"{row['key'] or 'no category'}, {platform}"
    return f"{row['username'] or row['key'] or 'no account'}, {platform}"

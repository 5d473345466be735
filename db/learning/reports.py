"""Reports of numbers: one post's looks, and many posts group by group. Nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.numbers import Horizon, Numbers
from domain.learning.performance import MOST_CELLS, By, Cell, Figures, Look, Week, week_label
from domain.videos.profiles import NAMES

# The looks that met a horizon are five at most; of the others the newest is enough.
LOOKS = f"""
SELECT captured_at, age, views, likes, comments, shares, details, source, definition, horizon
FROM analytics_snapshots WHERE tenant_id = %s AND post_id = %s
ORDER BY (horizon IS NULL), captured_at DESC LIMIT {len(Horizon) + 1}
"""

MISSED = "SELECT horizon, reason FROM missed_horizons WHERE tenant_id = %s AND post_id = %s"

# What a post's group is, beside its platform, and what that needs. A category is that of the video's concept. The texts
# of concepts are large, so each is read once and not once a post. Categories, and platforms of accounts, are one object
# each: of a join the planner cannot tell how many rows it is among, and took nested loops, seconds for a tenant of
# 20,000 posts.
PLATFORMS = """, platforms AS MATERIALIZED (
    SELECT jsonb_object_agg(id, platform) AS by_account FROM social_accounts WHERE tenant_id = %(tenant_id)s
)"""
CATEGORIES = """, categories AS MATERIALIZED (
    SELECT jsonb_object_agg(asked.generation_id || ' ' || asked.concept_id, jsonb_path_query_first(
        g.concepts, '$[*] ? (@.id == $id).category', jsonb_build_object('id', asked.concept_id))) AS by_concept
    FROM (SELECT DISTINCT generation_id, concept_id FROM posts WHERE concept_id IS NOT NULL) AS asked
    JOIN generations g ON g.tenant_id = %(tenant_id)s AND g.id = asked.generation_id
)"""
PLATFORM = "(SELECT by_account FROM platforms) ->> posts.account_id::text"
KEYS: Mapping[By, tuple[str, str]] = {
    By.PLATFORM: (PLATFORM, ""),
    By.ACCOUNT: ("posts.account_id::text", ""),
    By.WEEK: ("(%(mondays)s::text[])[width_bucket(posts.published_at, %(begins)s::timestamptz[])]", ""),
    By.CATEGORY: (
        "coalesce((SELECT by_concept FROM categories) ->> (posts.generation_id || ' ' || posts.concept_id), '')",
        CATEGORIES,
    ),
}

# `whole` is summed exactly, `value` is ordered. A post without the number is in no figure. A like is another thing on
# each platform, so no cell is of two.
CELLS = f"""
WITH posts AS MATERIALIZED (
    SELECT p.id, p.status, p.account_id, p.published_at, v.generation_id, v.concept_id
    FROM social_posts p JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id
    WHERE p.tenant_id = %(tenant_id)s AND p.published_at >= %(since)s AND p.published_at < %(until)s
        AND p.status IN ('published', 'removed')
){PLATFORMS}{{further}}, looks AS MATERIALIZED (
    SELECT {{key}} AS key, {PLATFORM} AS platform, s.id IS NOT NULL AS measured,
        s.id IS NULL AND m.post_id IS NULL AND posts.status = 'published'
            AND posts.published_at >= %(still_open)s AS to_come,
        s.views, s.likes, s.comments, s.shares, coalesce(s.definition, '') AS definition,
        (s.likes + s.comments + s.shares) / nullif(s.views, 0)::double precision AS engagement
    FROM posts
    LEFT JOIN analytics_snapshots s
        ON s.tenant_id = %(tenant_id)s AND s.post_id = posts.id AND s.horizon = %(horizon)s
    LEFT JOIN missed_horizons m
        ON m.tenant_id = %(tenant_id)s AND m.post_id = posts.id AND m.horizon = %(horizon)s
), cells AS (
    SELECT key, platform, count(*) AS posts, count(*) FILTER (WHERE measured) AS measured,
        count(*) FILTER (WHERE to_come) AS to_come
    FROM looks GROUP BY key, platform ORDER BY posts DESC, key, platform LIMIT %(limit)s
), figures AS (
    SELECT key, platform, metric, each.definition, count(*) AS count, sum(whole) AS total,
        min(value) AS least, max(value) AS most,
        percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY value) AS quartiles
    FROM looks, LATERAL (VALUES
        ('views', looks.definition, looks.views, looks.views::double precision),
        ('likes', '', likes, likes), ('comments', '', comments, comments), ('shares', '', shares, shares),
        ('engagement', looks.definition, NULL, engagement)
    ) AS each (metric, definition, whole, value)
    WHERE value IS NOT NULL GROUP BY key, platform, metric, each.definition
)
SELECT cells.*, metric, definition, count, total, least, most, quartiles, a.username
FROM cells LEFT JOIN figures USING (key, platform)
LEFT JOIN social_accounts a ON %(by)s = 'account' AND a.tenant_id = %(tenant_id)s AND a.id::text = cells.key
ORDER BY posts DESC, key, platform, metric, definition
"""


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen of a post, and the horizons that are missed, with the reason."""

    looks: Sequence[Look]
    missed: Mapping[Horizon, str]


class Performance:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def looks(self, tenant_id: UUID, post_id: UUID) -> Looks:
        """Return the looks that met a horizon and the newest of the others."""
        rows = rows_of(self._driver, LOOKS, (tenant_id, post_id))
        missed = self._driver.execute(MISSED, (tenant_id, post_id)).fetchall()
        return Looks([_look(row) for row in rows], {Horizon(horizon): reason for horizon, reason in missed})

    def cells(
        self,
        tenant_id: UUID,
        *,
        by: By,
        horizon: Horizon,
        since: datetime,
        until: datetime,
        now: datetime,
        weeks: Sequence[Week] = (),
        limit: int = MOST_CELLS,
    ) -> list[Cell]:
        """Return how the posts published from `since` to before `until` did at this horizon: the `limit` groups with
        the most posts, each of one platform, weeks in their order. `weeks` are those that the period touches; the
        others need none."""
        key, further = KEYS[by]
        values = {
            **{"tenant_id": tenant_id, "by": by, "horizon": horizon, "since": since, "until": until, "limit": limit},
            "still_open": now - horizon.closes,
            "mondays": [week.monday.isoformat() for week in weeks],
            "begins": [week.begins for week in weeks],
        }
        query = CELLS.format(key=key, further=further)
        rows = rows_of(self._driver, query, values)
        grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            grouped.setdefault((row["key"], row["platform"]), []).append(row)
        keys = sorted(grouped) if by == By.WEEK else list(grouped)
        return [_cell(by, key, grouped[key, platform]) for key, platform in keys]


def _look(row: Mapping[str, Any]) -> Look:
    counts = {name: row[name] for name in ("views", "likes", "comments", "shares")}
    numbers = Numbers(**counts, details=row["details"], definition=row["definition"] or "")
    horizon = None if row["horizon"] is None else Horizon(row["horizon"])
    return Look(row["captured_at"], row["age"], numbers, row["source"], horizon)


def _cell(by: By, key: str, rows: Sequence[Mapping[str, Any]]) -> Cell:
    figures: dict[str, dict[str, Figures]] = {}
    for row in rows:
        if row["metric"] is not None:
            figures.setdefault(row["metric"], {})[row["definition"]] = _figures(row)
    return Cell(
        key=key or None,
        label=_label(by, key, rows[0]),
        **{name: rows[0][name] for name in ("platform", "posts", "measured", "to_come")},
        views=figures.get("views", {}),
        engagement=figures.get("engagement", {}),
        likes=figures.get("likes", {}).get("", Figures()),
        comments=figures.get("comments", {}).get("", Figures()),
        shares=figures.get("shares", {}).get("", Figures()),
    )


def _figures(row: Mapping[str, Any]) -> Figures:
    lower, median, upper = row["quartiles"]
    whole = row["total"] is not None
    least, most = (round(row[name]) if whole else row[name] for name in ("least", "most"))
    return Figures(row["count"], int(row["total"]) if whole else None, least, lower, median, upper, most)


def _label(by: By, key: str, row: Mapping[str, Any]) -> str:
    platform = NAMES[row["platform"]]
    match by:
        case By.PLATFORM:
            return platform
        case By.ACCOUNT:
            return f"{platform}, {row['username'] or key}"
        case By.WEEK:
            return f"{week_label(datetime.fromisoformat(key).date())}, {platform}"
    return f"{key or 'no category'}, {platform}"

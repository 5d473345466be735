"""Sounds and competitors' videos that were imported. Of two captures of one moment the one with the larger values
stays, so that it does not matter in which order they come."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from db.postgres.rows import row_of
from domain.concepts.imported import AudioTrend, CompetitorVideo

ADD_AUDIO = """
INSERT INTO audio_trends AS kept (platform, external_id, title, artist, region, usage_count, rank, captured_at)
VALUES (%(platform)s, %(external_id)s, %(title)s, %(artist)s, %(region)s, %(usage_count)s, %(rank)s, %(captured_at)s)
ON CONFLICT (platform, region, external_id, captured_at) DO UPDATE
SET title = excluded.title, artist = excluded.artist, usage_count = excluded.usage_count, rank = excluded.rank
WHERE ROW(coalesce(excluded.usage_count, -1), coalesce(excluded.rank, -1), excluded.title COLLATE "C",
          coalesce(excluded.artist, '') COLLATE "C")
    > ROW(coalesce(kept.usage_count, -1), coalesce(kept.rank, -1), kept.title COLLATE "C",
          coalesce(kept.artist, '') COLLATE "C")
RETURNING xmax = 0
"""

ADD_COMPETITOR = """
INSERT INTO competitor_videos AS kept
    (tenant_id, platform, external_id, url, channel, title, views, details, captured_at)
VALUES (%(tenant_id)s, %(platform)s, %(external_id)s, %(url)s, %(channel)s, %(title)s, %(views)s, %(details)s,
        %(captured_at)s)
ON CONFLICT (tenant_id, platform, external_id) DO UPDATE
SET url = excluded.url, channel = excluded.channel, title = excluded.title, views = excluded.views,
    details = excluded.details, captured_at = excluded.captured_at
WHERE ROW(excluded.captured_at, coalesce(excluded.views, -1), excluded.details::text COLLATE "C",
          coalesce(excluded.title, '') COLLATE "C", coalesce(excluded.channel, '') COLLATE "C",
          coalesce(excluded.url, '') COLLATE "C")
    > ROW(kept.captured_at, coalesce(kept.views, -1), kept.details::text COLLATE "C",
          coalesce(kept.title, '') COLLATE "C", coalesce(kept.channel, '') COLLATE "C",
          coalesce(kept.url, '') COLLATE "C")
RETURNING xmax = 0
"""

# The newest capture of each sound.
RECENT_AUDIO = """
SELECT platform, external_id, title, region, captured_at, artist, usage_count, rank FROM (
    SELECT DISTINCT ON (platform, external_id) *
    FROM audio_trends WHERE region = %(region)s AND captured_at > %(since)s AND captured_at <= %(until)s
    ORDER BY platform, external_id, captured_at DESC
) AS newest
ORDER BY rank NULLS LAST, usage_count DESC NULLS LAST, external_id LIMIT %(limit)s
"""

RECENT_COMPETITORS = """
SELECT platform, external_id, captured_at, coalesce(title, '') AS title, channel, url, views, details
FROM competitor_videos
WHERE tenant_id = %(tenant_id)s AND captured_at > %(since)s AND captured_at <= %(until)s
ORDER BY views DESC NULLS LAST, platform, external_id LIMIT %(limit)s
"""

LIST = """
SELECT id, platform, external_id, url, channel, title, views, details, captured_at
FROM competitor_videos
WHERE tenant_id = %(tenant_id)s AND (%(platform)s::text IS NULL OR platform = %(platform)s)
    AND (%(at)s::timestamptz IS NULL OR (captured_at, id) < (%(at)s, %(id)s::uuid))
ORDER BY captured_at DESC, id DESC LIMIT %(limit)s
"""

GET = """
SELECT id, platform, external_id, url, channel, title, views, details, captured_at
FROM competitor_videos WHERE tenant_id = %(tenant_id)s AND platform = %(platform)s AND external_id = %(external_id)s
"""


PRUNE_AUDIO = """
DELETE FROM audio_trends WHERE ctid = ANY(ARRAY(SELECT ctid FROM audio_trends WHERE captured_at < %s LIMIT %s))
"""


class Outcome(StrEnum):
    """What became of a row: it is new; it replaced an older capture; or what is there is as new, or newer."""

    ADDED = "added"
    REPLACED = "replaced"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is the moment and id of the page's last row; None if it is the last page."""

    rows: list[dict[str, Any]]
    next: tuple[datetime, UUID] | None


class ImportedTrends:
    """Query group. Sounds are of the system scope, competitors' videos of their tenant's."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def add_audio(self, rows: Sequence[AudioTrend]) -> list[Outcome]:
        """Add captures of sounds, and return what became of each. Locked in the order of their keys."""
        return self._add(ADD_AUDIO, [(row.key, asdict(row)) for row in rows])

    def add_competitors(self, tenant_id: UUID, rows: Sequence[CompetitorVideo]) -> list[Outcome]:
        """Keep the newest capture of each video, and return what became of these. Locked in the order of their keys."""
        values = [
            (row.key, {**asdict(row), "tenant_id": tenant_id, "details": Jsonb(dict(row.details))}) for row in rows
        ]
        return self._add(ADD_COMPETITOR, values)

    def recent_audio(self, region: str, since: datetime, until: datetime, limit: int) -> tuple[AudioTrend, ...]:
        """Return the most used sounds of a region, each as it was last seen between these moments."""
        values = {"region": region, "since": since, "until": until, "limit": limit}
        with self._driver.cursor(row_factory=class_row(AudioTrend)) as cursor:
            return tuple(cursor.execute(RECENT_AUDIO, values).fetchall())

    def recent_competitors(
        self, tenant_id: UUID, since: datetime, until: datetime, limit: int
    ) -> tuple[CompetitorVideo, ...]:
        """Return the most viewed videos of the tenant's competitors that were last seen between these moments."""
        values = {"tenant_id": tenant_id, "since": since, "until": until, "limit": limit}
        with self._driver.cursor(row_factory=class_row(CompetitorVideo)) as cursor:
            return tuple(cursor.execute(RECENT_COMPETITORS, values).fetchall())

    def competitors(
        self, tenant_id: UUID, *, platform: str | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Page:
        """Return competitors' videos, the newest capture first."""
        at, row_id = after or (None, None)
        values = {"tenant_id": tenant_id, "platform": platform, "at": at, "id": row_id, "limit": limit + 1}
        with self._driver.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(LIST, values).fetchall()
        last = rows[limit - 1] if len(rows) > limit else None
        return Page(rows[:limit], None if last is None else (last["captured_at"], last["id"]))

    def competitor(self, tenant_id: UUID, platform: str, external_id: str) -> dict[str, Any] | None:
        return row_of(self._driver, GET, {"tenant_id": tenant_id, "platform": platform, "external_id": external_id})

    def delete_competitor(self, tenant_id: UUID, video_id: UUID) -> bool:
        """Delete a video, and return whether there was one."""
        statement = "DELETE FROM competitor_videos WHERE tenant_id = %s AND id = %s"
        return bool(self._driver.execute(statement, (tenant_id, video_id)).rowcount)

    def count_competitors(self, tenant_id: UUID) -> int:
        statement = "SELECT count(*) FROM competitor_videos WHERE tenant_id = %s"
        [(count,)] = self._driver.execute(statement, (tenant_id,)).fetchall()
        return int(count)

    def prune_audio(self, before: datetime, limit: int) -> int:
        """Delete old captures of sounds; return how many there were."""
        return self._driver.execute(PRUNE_AUDIO, (before, limit)).rowcount

    def _add(self, statement: str, values: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[Outcome]:
        order = sorted(range(len(values)), key=lambda place: (values[place][0], place))
        outcomes = [Outcome.KEPT] * len(values)
        if not values:
            return outcomes
        with self._driver.cursor() as cursor:
            cursor.executemany(statement, [values[place][1] for place in order], returning=True)
            for place in order:
                row = cursor.fetchone()
                if row is not None:
                    outcomes[place] = Outcome.ADDED if row[0] else Outcome.REPLACED
                cursor.nextset()
        return outcomes

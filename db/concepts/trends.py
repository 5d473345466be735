"""The cache of trend sources: their last answers by region, shared by all tenants, and how each source is doing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from db.postgres.rows import rows_of

KEEP = """
INSERT INTO trend_sources (source, region) SELECT unnest(%(sources)s::text[]), unnest(%(regions)s::text[])
ON CONFLICT (source, region) DO NOTHING
"""

READ = """
SELECT source, region, sightings, etag, modified, answered_at, failures, error, retry_at, asked_until
FROM trend_sources
WHERE (source, region) IN (SELECT unnest(%(sources)s::text[]), unnest(%(regions)s::text[]))
ORDER BY source, region FOR NO KEY UPDATE
"""

ASKING = """
UPDATE trend_sources SET asked_until = %(until)s, tried_at = %(now)s
WHERE source = %(source)s AND region = %(region)s
"""

ANSWERED = """
UPDATE trend_sources
SET sightings = coalesce(%(sightings)s, sightings), etag = %(etag)s, modified = %(modified)s, answered_at = %(now)s,
    asked_until = NULL, failures = 0, error = NULL, retry_at = NULL
WHERE source = %(source)s AND region = %(region)s
"""

FAILED = """
UPDATE trend_sources SET asked_until = NULL, failures = %(failures)s, error = %(error)s, retry_at = %(retry_at)s
WHERE source = %(source)s AND region = %(region)s
"""

LAST_SEEN = """
SELECT seen FROM trend_sources, jsonb_array_elements(sightings) AS seen
WHERE region IN (%(region)s, 'world') AND answered_at > %(since)s
"""

ANSWERS = """
SELECT source, region, sightings, etag, modified, answered_at, failures, error, retry_at, asked_until
FROM trend_sources WHERE region IN (%(region)s, 'world') ORDER BY source, region
"""

STATUS = """
SELECT source, region, jsonb_array_length(sightings) AS count, answered_at, tried_at, failures, error, retry_at
FROM trend_sources ORDER BY source, region
"""


@dataclass(frozen=True, slots=True)
class CachedSource:
    """A source's row. It is not asked before `retry_at`, nor before `asked_until` if somebody is asking it."""

    source: str
    region: str
    sightings: list[dict[str, Any]]
    etag: str | None
    modified: str | None
    answered_at: datetime | None
    failures: int
    error: str | None
    retry_at: datetime | None
    asked_until: datetime | None


class TrendSources:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock(self, places: Sequence[tuple[str, str]]) -> list[CachedSource]:
        """Lock the rows of these (source, region), made if missing, until the transaction ends."""
        values = {"sources": [source for source, _ in places], "regions": [region for _, region in places]}
        self._driver.execute(KEEP, values)
        with self._driver.cursor(row_factory=class_row(CachedSource)) as cursor:
            return cursor.execute(READ, values).fetchall()

    def mark_asked(self, rows: Iterable[CachedSource], *, now: datetime, until: datetime) -> None:
        """Note that these are being asked."""
        for row in rows:
            self._driver.execute(ASKING, {"source": row.source, "region": row.region, "now": now, "until": until})

    def save_answer(
        self,
        row: CachedSource,
        *,
        now: datetime,
        sightings: list[dict[str, Any]] | None,
        etag: str | None,
        modified: str | None,
    ) -> None:
        """Keep the answer; without `sightings`, those of the last one stay."""
        values = {"source": row.source, "region": row.region, "now": now, "etag": etag, "modified": modified}
        self._driver.execute(ANSWERED, values | {"sightings": None if sightings is None else Jsonb(sightings)})

    def save_failure(self, row: CachedSource, *, failures: int, error: str, retry_at: datetime) -> None:
        values = {"source": row.source, "region": row.region, "failures": failures, "error": error}
        self._driver.execute(FAILED, values | {"retry_at": retry_at})

    def last_seen(self, region: str, since: datetime) -> list[dict[str, Any]]:
        """Return the sightings in answers later than `since`, for the region and for all regions."""
        found = self._driver.execute(LAST_SEEN, {"region": region, "since": since})
        return [sighting for (sighting,) in found]

    def answers(self, region: str) -> list[CachedSource]:
        """Return the last answers for the region and for all regions; nothing is locked."""
        with self._driver.cursor(row_factory=class_row(CachedSource)) as cursor:
            return cursor.execute(ANSWERS, {"region": region}).fetchall()

    def status(self) -> list[dict[str, Any]]:
        """Return how every source is doing, for people."""
        return rows_of(self._driver, STATUS)

"""What the trend sources last answered, by region, shared by all tenants; and how each source is doing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

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

STATUS = """
SELECT source, region, jsonb_array_length(sightings) AS count, answered_at, tried_at, failures, error, retry_at
FROM trend_sources ORDER BY source, region
"""


@dataclass(frozen=True, slots=True)
class CachedSource:
    """A source's row. `retry_at`: not to be asked before; `asked_until`: somebody is asking it, until then at most."""

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
        """The rows of these (source, region), made if missing, and locked until the transaction ends."""
        values = {"sources": [source for source, _ in places], "regions": [region for _, region in places]}
        self._driver.execute(KEEP, values)
        with self._driver.cursor(row_factory=class_row(CachedSource)) as cursor:
            return cursor.execute(READ, values).fetchall()

    def asking(self, rows: Iterable[CachedSource], *, now: datetime, until: datetime) -> None:
        """Let others know that these are being asked."""
        for row in rows:
            self._driver.execute(ASKING, {"source": row.source, "region": row.region, "now": now, "until": until})

    def answered(
        self,
        row: CachedSource,
        *,
        now: datetime,
        sightings: list[dict[str, Any]] | None,
        etag: str | None,
        modified: str | None,
    ) -> None:
        """Keep the answer; None: the sightings are as they were."""
        values = {"source": row.source, "region": row.region, "now": now, "etag": etag, "modified": modified}
        self._driver.execute(ANSWERED, values | {"sightings": None if sightings is None else Jsonb(sightings)})

    def failed(self, row: CachedSource, *, failures: int, error: str, retry_at: datetime) -> None:
        values = {"source": row.source, "region": row.region, "failures": failures, "error": error}
        self._driver.execute(FAILED, values | {"retry_at": retry_at})

    def last_seen(self, region: str, since: datetime) -> list[dict[str, Any]]:
        """What the sources of the region, and those of all regions, said in answers later than `since`."""
        found = self._driver.execute(LAST_SEEN, {"region": region, "since": since})
        return [sighting for (sighting,) in found]

    def status(self) -> list[dict[str, Any]]:
        """How every source is doing, for people."""
        with self._driver.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(STATUS).fetchall()

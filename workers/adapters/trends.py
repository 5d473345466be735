"""Collects trends: asks each source no more often than it changes, and lives with what it said before when it fails.

The cache is a row of `trend_sources` for each source and region, so all processes and tenants share it. One asks at a
time; the others use what there is.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from db.concepts.trends import CachedSource
from db.transaction import SYSTEM, Database
from domain.concepts.trends import STILL_USED, Collected, Report, Sighting, sighting_of, sighting_row
from domain.errors import Rejected, Unavailable
from workers.engine.failures import text_of

if TYPE_CHECKING:
    from integrations.http.client import Http
    from integrations.trends.source import Found, Source

WORLD = "world"
"""The region of lists that are the same everywhere."""
ASKING = timedelta(seconds=30)
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
"""Before a source that failed is asked again: doubled with each failure."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Outside:
    """Whom to ask, and with what."""

    http: "Http"
    sources: "Sequence[Source]"


class Collector:
    """The `TrendCollector` of the composition root. `make` is called when somebody first collects."""

    def __init__(self, db: Database, make: Callable[[], Outside]) -> None:
        self._db = db
        self._make = make

    @cached_property
    def _outside(self) -> Outside:
        return self._make()

    @cached_property
    def _sources(self) -> "dict[str, Source]":
        return {source.name: source for source in self._outside.sources}

    def close(self) -> None:
        if "_outside" in vars(self):
            self._outside.http.close()

    def collect(self, region: str, now: datetime) -> Collected:
        places = [(source.name, region if source.regional else WORLD) for source in self._sources.values()]
        if not places:
            return Collected(region, now, (), ())
        with self._db.transaction(SYSTEM) as tx:
            rows = tx.trends.lock(places)
            due = [row for row in rows if self._is_due(row, now)]
            tx.trends.asking(due, now=now, until=now + ASKING)
        outcomes = self._ask(due, region, now)
        seen: list[Sighting] = []
        reports = []
        with self._db.transaction(SYSTEM) as tx:
            for row in rows:
                outcome = outcomes.get(row.source)
                known = [sighting_of(each) for each in row.sightings]
                if outcome is not None and not isinstance(outcome, Exception):
                    fresh = None if outcome.sightings is None else [sighting_row(each) for each in outcome.sightings]
                    tx.trends.answered(row, now=now, sightings=fresh, etag=outcome.etag, modified=outcome.modified)
                    found = known if outcome.sightings is None else list(outcome.sightings)
                    report = Report(row.source, "live", len(found), now)
                else:
                    if outcome is not None:
                        retry_at = now + _wait(row, outcome)
                        tx.trends.failed(row, failures=row.failures + 1, error=_said(outcome), retry_at=retry_at)
                    found, report = self._without_asking(row, known, outcome, now)
                seen += found
                reports.append(report)
        return Collected(region, now, tuple(seen), tuple(reports))

    def _is_due(self, row: CachedSource, now: datetime) -> bool:
        fresh_for = self._sources[row.source].fresh_for
        if row.answered_at is not None and now < row.answered_at + fresh_for:
            return False
        if row.retry_at is not None and now < row.retry_at:
            return False
        # With nothing to use meanwhile, asking twice is better than having nothing.
        return row.asked_until is None or row.asked_until <= now or not row.sightings

    def _ask(self, due: Sequence[CachedSource], region: str, now: datetime) -> "dict[str, Found | Exception]":
        if not due:
            return {}

        def ask(row: CachedSource) -> "Found | Exception":
            # What was not kept cannot be left unchanged.
            etag, modified = (row.etag, row.modified) if row.sightings else (None, None)
            try:
                return self._sources[row.source].fetch(self._outside.http, region, now, etag=etag, modified=modified)
            except (Unavailable, Rejected) as error:
                log.warning("trends.source_failed", source=row.source, region=row.region, reason=str(error))
                return error
            except Exception as error:
                log.exception("trends.source_broken", source=row.source, region=row.region)
                return error

        with ThreadPoolExecutor(len(due), thread_name_prefix="trends") as pool:
            return dict(zip((row.source for row in due), pool.map(ask, due), strict=True))

    def _without_asking(
        self, row: CachedSource, known: list[Sighting], error: Exception | None, now: datetime
    ) -> tuple[list[Sighting], Report]:
        said = _said(error) if error is not None else row.error
        if row.answered_at is None or now >= row.answered_at + STILL_USED:
            return [], Report(row.source, "failed", 0, row.answered_at, said or "it has not answered yet")
        fresh = now < row.answered_at + self._sources[row.source].fresh_for
        return known, Report(row.source, "cached" if fresh else "stale", len(known), row.answered_at, said)


def _wait(row: CachedSource, error: Exception) -> timedelta:
    """Before it is asked again; never sooner than it asked for itself."""
    usual: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(row.failures, 10))
    asked = error.retry_after if isinstance(error, Unavailable) else None
    return max(usual, asked or usual)


def _said(error: Exception) -> str:
    return text_of(error) or type(error).__name__

"""The collector asks each trend source no more often than it changes, and uses the last answer when the source fails.

The cache is a row of `trend_sources` for each source and region, so all processes and tenants share it. One asks at a
time; the others use what there is.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta

import structlog

from db.concepts.trends import CachedSource
from db.transaction import SYSTEM, Database
from domain.concepts.trends import STILL_USED, Collected, Report, Sighting, sighting_of, sighting_row
from domain.errors import Rejected, Unavailable
from integrations.http.client import Http
from integrations.trends import gnews, google, hackernews, reddit, wikimedia, youtube
from integrations.trends.source import Source, SourceAnswer
from workers.adapters.requests import observing
from workers.runtime.error_text import text_of
from workers.runtime.metrics import Metrics
from workers.settings import Settings

WORLD = "world"
"""The region of lists that are the same everywhere."""
ASKING = timedelta(seconds=30)
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
"""The wait before a source that failed is asked again; each failure doubles it."""

log = structlog.get_logger()


def sources(settings: Settings) -> list[Source]:
    """The trend sources that are wanted, as far as there are keys for them."""
    secret = settings.reddit_client_secret
    found = {
        "google-trends": google.source(settings.google_trends_base_url),
        "wikimedia": wikimedia.source(settings.wikimedia_base_url),
        "hacker-news": hackernews.source(settings.hacker_news_base_url),
        "reddit": reddit.source(settings.reddit_base_url),
    }
    if settings.reddit_client_id and secret:
        found["reddit"] = reddit.source_with_key(
            settings.reddit_base_url, settings.reddit_api_base_url, settings.reddit_client_id, secret.get_secret_value()
        )
    if settings.youtube_api_key:
        found["youtube"] = youtube.source(settings.youtube_base_url, settings.youtube_api_key.get_secret_value())
    if settings.gnews_api_key:
        found["gnews"] = gnews.source(settings.gnews_base_url, settings.gnews_api_key.get_secret_value())
    return [source for name, source in found.items() if name in settings.trend_sources]


def http(settings: Settings, metrics: Metrics | None = None) -> Http:
    """The client that asks them."""
    observe = observing(metrics or Metrics())
    return Http(settings.trends_contact, private_hosts=settings.outbound_private_hosts, observe=observe)


class Collector:
    """The `TrendCollector` that asks `sources` by `http`."""

    def __init__(self, db: Database, http: Http, sources: Sequence[Source]) -> None:
        self._db = db
        self._http = http
        self._sources = {source.name: source for source in sources}

    def collect(self, region: str, now: datetime) -> Collected:
        places = [(source.name, region if source.regional else WORLD) for source in self._sources.values()]
        if not places:
            return Collected(region, now, (), ())
        with self._db.transaction(SYSTEM) as tx:
            rows = tx.trends.lock(places)
            due = [row for row in rows if self._is_due(row, now)]
            tx.trends.mark_asked(due, now=now, until=now + ASKING)
        outcomes = self._ask(due, region, now)
        seen: list[Sighting] = []
        reports = []
        with self._db.transaction(SYSTEM) as tx:
            for row in rows:
                outcome = outcomes.get(row.source)
                cached = [sighting_of(each) for each in row.sightings]
                if outcome is not None and not isinstance(outcome, Exception):
                    fresh = None if outcome.sightings is None else [sighting_row(each) for each in outcome.sightings]
                    tx.trends.save_answer(row, now=now, sightings=fresh, etag=outcome.etag, modified=outcome.modified)
                    found = cached if outcome.sightings is None else list(outcome.sightings)
                    report = Report(row.source, "live", len(found), now)
                else:
                    if outcome is not None:
                        retry_at = now + _wait(row, outcome)
                        tx.trends.save_failure(row, failures=row.failures + 1, error=_text(outcome), retry_at=retry_at)
                    found, report = self._without_asking(row, cached, outcome, now)
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

    def _ask(self, due: Sequence[CachedSource], region: str, now: datetime) -> dict[str, SourceAnswer | Exception]:
        if not due:
            return {}

        def ask(row: CachedSource) -> SourceAnswer | Exception:
            # Without a cached list, the answer "not modified" would be of no use.
            etag, modified = (row.etag, row.modified) if row.sightings else (None, None)
            try:
                return self._sources[row.source].fetch(self._http, region, now, etag=etag, modified=modified)
            except (Unavailable, Rejected) as error:
                log.warning("trends.source_failed", source=row.source, region=row.region, reason=str(error))
                return error
            except Exception as error:
                log.exception("trends.source_broken", source=row.source, region=row.region)
                return error

        with ThreadPoolExecutor(len(due), thread_name_prefix="trends") as pool:
            # Each in a copy of this thread's context: its lines name the job too.
            asked = [pool.submit(copy_context().run, ask, row) for row in due]
            return {row.source: each.result() for row, each in zip(due, asked, strict=True)}

    def _without_asking(
        self, row: CachedSource, cached: list[Sighting], error: Exception | None, now: datetime
    ) -> tuple[list[Sighting], Report]:
        reason = _text(error) if error is not None else row.error
        if row.answered_at is None or now >= row.answered_at + STILL_USED:
            return [], Report(row.source, "failed", 0, row.answered_at, reason or "it has not answered yet")
        fresh = now < row.answered_at + self._sources[row.source].fresh_for
        return cached, Report(row.source, "cached" if fresh else "stale", len(cached), row.answered_at, reason)


def _wait(row: CachedSource, error: Exception) -> timedelta:
    """Return the wait before the source is asked again: never less than it asked for itself."""
    usual: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(row.failures, 10))
    asked = error.retry_after if isinstance(error, Unavailable) else None
    return max(usual, asked or usual)


def _text(error: Exception) -> str:
    return text_of(error) or type(error).__name__

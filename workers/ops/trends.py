"""Imports trends, and shows what the sources say: for the API and the shell.

Sounds are shared by all tenants, so only operators import them. Competitors' videos are a tenant's own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from db.concepts.imported_trends import Outcome, Page
from db.concepts.trends import CachedSource
from db.transaction import SYSTEM, Tx
from domain.concepts import imported, trends
from domain.concepts.import_files import Fault, ReadFile, read_file
from domain.concepts.imported import MOST_COMPETITORS, AudioTrend, CompetitorVideo, Defaults, Kind
from domain.concepts.trends import STILL_USED, Report, Sighting, sighting_of
from domain.concepts.wording import counted
from domain.errors import Conflict, Rejected
from workers.app import App
from workers.jobs.generation import imported_trends

DEFAULT_REGION = "US"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A file to import. `tenant_id` is whose competitors they are; `region` and `captured_at` are of rows that do not
    say theirs. `strict`: one malformed row refuses the file."""

    data: bytes
    kind: Kind | None = None
    tenant_id: UUID | None = None
    region: str = DEFAULT_REGION
    format: str | None = None
    captured_at: datetime | None = None
    strict: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file's rows, by kind and outcome; those that could not be taken; columns that nobody reads."""

    counts: dict[Kind, dict[str, int]]
    faults: Sequence[Fault] = ()
    ignored: Sequence[str] = ()
    done: bool = field(default=True)
    """False: nothing was changed (a dry run, or a file that was refused)."""

    @property
    def refused(self) -> bool:
        """Whether the file was refused for its malformed rows."""
        return bool(self.faults) and not self.counts


class _Undo(Exception):
    """Rolls back what a dry run has done."""


class TooManyCompetitors(Conflict):
    def __init__(self) -> None:
        super().__init__(
            "TOO_MANY_COMPETITORS", f"more than {counted(MOST_COMPETITORS, 'video')} of competitors: delete some first"
        )


def import_trends(app: App, request: ImportRequest) -> Imported:
    """Import a file: all that can be taken in one commit. Importing it again changes nothing. With `strict`, and with
    nothing but malformed rows, nothing is done (`done` is False).

    Raises:
        FileRefused: it cannot be read.
        Rejected: it has competitors' videos, and no tenant is named.
        UnknownTenant: there is no such tenant.
        TooManyCompetitors: the tenant would have too many.
    """
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    defaults = Defaults(request.region, now, request.captured_at)
    file = read_file(request.data, kind=request.kind, format=request.format, defaults=defaults)
    if file.competitors and request.tenant_id is None:
        raise Rejected("competitors' videos are a tenant's: say --tenant ID; `viral tenants list` shows them")
    if file.faults and (request.strict or not (file.audio or file.competitors)):
        return Imported({}, file.faults, file.ignored, done=False)
    counts: dict[Kind, dict[str, int]] = {}
    try:
        with app.db.transaction(SYSTEM) as tx:
            counts = _add(tx, file, request.tenant_id)
            if request.dry_run:
                raise _Undo
    except _Undo:
        pass
    return Imported(counts, file.faults, file.ignored, done=not request.dry_run)


def put_competitors(app: App, tenant_id: UUID, rows: Sequence[CompetitorVideo]) -> list[tuple[dict[str, Any], Outcome]]:
    """Keep the newest capture of each video, and return what is kept now, and what became of each.

    Raises:
        TooManyCompetitors: the tenant would have too many.
    """
    with app.db.transaction(tenant_id) as tx:
        outcomes = _add_competitors(tx, tenant_id, rows)
        kept = [tx.imported_trends.competitor(tenant_id, row.platform, row.external_id) for row in rows]
    return [(row, outcome) for row, outcome in zip(kept, outcomes, strict=True) if row is not None]


def competitors(
    app: App, tenant_id: UUID, *, platform: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> Page:
    """Return the videos of the tenant's competitors, the newest capture first."""
    with app.db.transaction(tenant_id) as tx:
        return tx.imported_trends.competitors(tenant_id, platform=platform, after=after, limit=limit)


def delete_competitor(app: App, tenant_id: UUID, video_id: UUID) -> bool:
    """Delete a video, and return whether there was one."""
    with app.db.transaction(tenant_id) as tx:
        return tx.imported_trends.delete_competitor(tenant_id, video_id)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tenant's next generation would find without asking anybody."""

    region: str
    at: datetime
    trends: list[dict[str, Any]]
    audio: Sequence[AudioTrend]
    sources: list[dict[str, Any]]


def seen(app: App, tenant_id: UUID) -> Seen:
    """Return what the sources last said for the tenant's region, and what was imported."""
    with app.db.transaction(tenant_id) as tx:
        now = tx.now()
        region = tx.generating.preferences(tenant_id).region
        audio, others = imported_trends(tx, tenant_id, region, now)
        tx.work_as(SYSTEM)
        answers = tx.trends.answers(region)
    reports = [_report(row, now) for row in answers]
    sightings: list[Sighting] = [
        sighting_of(each)
        for row, report in zip(answers, reports, strict=True)
        if report.state != "failed"
        for each in row.sightings
    ]
    sightings += [*imported.audio_sightings(audio), *imported.competitor_sightings(others)]
    return Seen(
        region,
        now,
        [trends.as_row(trend) for trend in trends.merge(sightings, region=region, now=now)],
        audio,
        [trends.report_row(report) for report in (*reports, *imported.reports(audio, others))],
    )


def _report(row: CachedSource, now: datetime) -> Report:
    if row.answered_at is None or now >= row.answered_at + STILL_USED:
        return Report(row.source, "failed", 0, row.answered_at, row.error or "it has not answered lately")
    return Report(row.source, "stale" if row.error else "cached", len(row.sightings), row.answered_at, row.error)


def _add(tx: Tx, file: ReadFile, tenant_id: UUID | None) -> dict[Kind, dict[str, int]]:
    """Add what a file has. The transaction is in the system scope."""
    found: dict[Kind, dict[str, int]] = {}
    if file.competitors and tenant_id is not None:
        tx.plans.lock_one(tenant_id)
    if file.audio:
        found[Kind.AUDIO] = _counts(tx.imported_trends.add_audio(file.audio))
    if file.competitors and tenant_id is not None:
        tx.work_as(tenant_id)
        found[Kind.COMPETITORS] = _counts(_add_competitors(tx, tenant_id, file.competitors))
    return found


def _add_competitors(tx: Tx, tenant_id: UUID, rows: Sequence[CompetitorVideo]) -> list[Outcome]:
    """Add them one after another with all others who do: each counts what the ones before have added."""
    tx.plans.lock_one(tenant_id)
    outcomes = tx.imported_trends.add_competitors(tenant_id, rows)
    if Outcome.ADDED in outcomes and tx.imported_trends.count_competitors(tenant_id) > MOST_COMPETITORS:
        raise TooManyCompetitors
    return outcomes


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = Counter(outcomes)
    return {outcome.value: counts[outcome] for outcome in Outcome}

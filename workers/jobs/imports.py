"""Takes over an export of the old app that a tenant has uploaded.

`imports.check` reads the file whole, adds its records in transactions that are rolled back, a batch each, so that
nobody waits for it, and keeps the report: what `viral import-dexie --dry-run` says. `imports.apply` adds them for good,
a batch a transaction, which also keeps how far it is; a file that was checked is not damaged, so a part of it is never
taken alone unless somebody cancels. A later attempt passes over what is taken, and the report goes on as if there had
been one.

Of one tenant one file is worked on at a time. Neither the file's text nor its name is logged: the reasons stand on the
row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from uuid import UUID

from domain.concepts.wording import shorten
from domain.dexie.imports import KEPT, LISTED, MOST_RECORDS, FileRefused, Import, ImportStatus
from domain.dexie.reports import BoundedReport, batches
from domain.dexie.trials import Trial
from domain.errors import NotSetUp
from domain.ports import MediaStore, OldAppFiles
from domain.videos.media import MediaMissing, StoreUnavailable
from workers.engine.job import Context, FailedJob, Tx, job
from workers.jobs.media import Begin, sha256_of

LOOK_UP = 0.4
"""Seconds between two looks whether the job is still wanted."""

AGAIN = timedelta(seconds=5)
AT_ONCE = 200
ROWS_PER_TRANSACTION = 1000
LONGEST_ERROR = 500
GIVEN_UP = "it could not be finished, through no fault of the file: send it again, or ask us"


class _Tried(Exception):
    """Rolls back what a check has added."""


def _give_up(tx: Tx, failed: FailedJob) -> None:
    """End the import whose job has failed or was cancelled. Why it failed is for operators: it stands on the job."""
    if failed.tenant_id is None:
        return
    cancelled = failed.reason == "cancelled"
    status, error = (ImportStatus.CANCELLED, None) if cancelled else (ImportStatus.FAILED, GIVEN_UP)
    tx.imports.end(failed.tenant_id, UUID(str(failed.arguments["import_id"])), status, error=error)


@job(
    "imports.check",
    queue="media",
    unique=("import_id",),
    ordering="tenant_id",
    timeout=timedelta(minutes=20),
    on_failure=_give_up,
)
def check(ctx: Context, tenant_id: UUID, import_id: UUID, apply_too: bool = False) -> None:
    """Read an uploaded export, and report what would become of its records; with `apply_too` it is applied then."""
    upload = _look(ctx, tenant_id, import_id)
    report = None
    if upload is not None and upload.status == ImportStatus.CHECKING:
        with _ending_if_unusable(ctx, upload):
            report = _tried(ctx, upload)
    if report is None and upload is not None:
        _clear(ctx, tenant_id, import_id)
    with ctx.finish() as tx:
        if report is not None and tx.imports.checked(tenant_id, import_id, report) is not None and apply_too:
            begin(tx, tenant_id, import_id)


@job(
    "imports.apply",
    queue="media",
    unique=("import_id",),
    ordering="tenant_id",
    timeout=timedelta(hours=1),
    max_attempts=5,
    on_failure=_give_up,
)
def apply(ctx: Context, tenant_id: UUID, import_id: UUID) -> None:
    """Take over the records of an export that was checked, from where the last attempt ended."""
    upload = _look(ctx, tenant_id, import_id)
    if upload is not None and upload.status == ImportStatus.IMPORTING:
        with _ending_if_unusable(ctx, upload):
            _take_over(ctx, upload)
    if upload is not None:
        _clear(ctx, tenant_id, import_id)
    with ctx.finish():
        pass


def begin(tx: Tx, tenant_id: UUID, import_id: UUID) -> bool:
    """Have a checked import applied; False if it is not checked, or its time is over."""
    upload = tx.imports.lock(tenant_id, import_id)
    if upload is None or upload.status != ImportStatus.CHECKED or upload.expires_at <= tx.now():
        return False
    job_id = apply.enqueue(tx, tenant_id=tenant_id, import_id=import_id)
    started = tx.imports.begin_import(
        tenant_id, import_id, job_id, expires_at=tx.now() + KEPT, report=BoundedReport().as_json()
    )
    return started is not None


def discard(begin: Begin, store: MediaStore, tenant_id: UUID, import_id: UUID, object_key: str) -> None:
    """Delete the file of an import that is over.

    Raises:
        StoreUnavailable: `upkeep.media` will delete it.
    """
    store.delete(object_key)
    with begin() as tx:
        tx.imports.note_deleted(tenant_id, import_id)


def clear_overdue(ctx: Context) -> None:
    """End imports whose time is over, delete the files of all that are over, and forget those that ended long ago."""
    found = True
    while found:
        with ctx.begin() as tx:
            overdue = tx.imports.overdue(AT_ONCE)
        for each in overdue:
            discard(ctx.begin, ctx.ports.media, each.tenant_id, each.import_id, each.object_key)
            ctx.count(exports_deleted=1)
        found = len(overdue) == AT_ONCE
    with ctx.begin() as tx:
        tx.imports.prune(ctx.now() - LISTED, ROWS_PER_TRANSACTION)


def _look(ctx: Context, tenant_id: UUID, import_id: UUID) -> Import | None:
    with ctx.begin() as tx:
        return tx.imports.get(tenant_id, import_id)


@contextmanager
def _ending_if_unusable(ctx: Context, upload: Import) -> Iterator[None]:
    """End the import if its file turns out to be none, or is gone."""
    try:
        yield
    except FileRefused as error:
        reason = str(error)
    except MediaMissing:
        reason = "the file is not kept any more: send it again"
    else:
        return
    with ctx.begin() as tx:
        tx.imports.end(upload.tenant_id, upload.id, ImportStatus.FAILED, error=shorten(reason, LONGEST_ERROR))


def _tried(ctx: Context, upload: Import) -> dict[str, Any]:
    """Return the report of adding the file's records, of which none is added."""
    report, trial = BoundedReport(), Trial()
    with _file(ctx, upload) as path:
        for table, batch in batches(_files(ctx).records(path, _watching(ctx.check))):
            with suppress(_Tried), ctx.begin() as tx:
                _share(ctx, tx)
                for record, outcome in tx.dexie.take(upload.tenant_id, table, batch, trial):
                    report.note(record, outcome.outcome, outcome.reason)
                raise _Tried
            if report.taken > MOST_RECORDS:
                raise FileRefused(
                    f"the file has more than {MOST_RECORDS:,} records, too many for one: nothing was imported"
                )
    return report.as_json()


def _take_over(ctx: Context, upload: Import) -> None:
    """Add the records that are not in the row's report yet, and end the import."""
    report = BoundedReport(upload.report)
    reached = 0.0

    def note_position(fraction: float) -> None:
        nonlocal reached
        reached = fraction
        look(fraction)

    look = _watching(ctx.check)
    with _file(ctx, upload) as path:
        rest = islice(_files(ctx).records(path, note_position), report.taken, None)
        for table, batch in batches(rest):
            with ctx.begin() as tx:
                _share(ctx, tx)
                if not _is_wanted(tx, upload):
                    return
                for record, outcome in tx.dexie.take(upload.tenant_id, table, batch):
                    report.note(record, outcome.outcome, outcome.reason)
                percent = min(99, int(100 * reached))
                tx.imports.progress(upload.tenant_id, upload.id, percent=percent, report=report.as_json())
    with ctx.begin() as tx:
        tx.imports.end(upload.tenant_id, upload.id, ImportStatus.DONE)


def _is_wanted(tx: Tx, upload: Import) -> bool:
    """Return whether it is still to be applied; locks the row."""
    row = tx.imports.lock(upload.tenant_id, upload.id)
    return row is not None and row.status == ImportStatus.IMPORTING


def _share(ctx: Context, tx: Tx) -> None:
    """Come back later if an operator's import is under way: it holds what all of its records need until its end."""
    if not tx.dexie.try_shared_lock():
        ctx.snooze(AGAIN, "an import from the shell is under way")


def _clear(ctx: Context, tenant_id: UUID, import_id: UUID) -> None:
    """Delete the file of an import that is over; a store that is away leaves that to `upkeep.media`."""
    upload = _look(ctx, tenant_id, import_id)
    if upload is not None and not upload.is_open and upload.deleted_at is None:
        with suppress(StoreUnavailable):
            discard(ctx.begin, ctx.ports.media, tenant_id, import_id, upload.object_key)


@contextmanager
def _file(ctx: Context, upload: Import) -> Iterator[Path]:
    """Copy the file to this machine, for as long as the block runs.

    Raises:
        FileRefused: it is not the one that was sent.
        MediaMissing, StoreUnavailable: it cannot be had, ever or now.
    """
    store = ctx.ports.media
    store.check_room(upload.bytes)
    with TemporaryDirectory(prefix="import-", dir=store.incoming()) as folder:
        path = Path(folder) / "export.json"
        store.get(upload.object_key, path, watch=_watching(ctx.check))
        if sha256_of(path) != upload.sha256:
            raise FileRefused("the file that is kept is not the one that was sent: send it again; nothing was imported")
        yield path


def _watching(look: Callable[[], object]) -> Callable[[float], None]:
    """Return what long work calls, as often as it likes: it looks now and then."""
    looked = monotonic()

    def watch(fraction: float) -> None:
        nonlocal looked
        if monotonic() - looked >= LOOK_UP:
            look()
            looked = monotonic()

    return watch


def _files(ctx: Context) -> OldAppFiles:
    if ctx.ports.old_app is None:
        raise NotSetUp("exports of the old app cannot be read here")
    return ctx.ports.old_app

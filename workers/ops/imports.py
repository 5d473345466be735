"""Exports of the old app over the API: one is uploaded, checked, applied and cancelled; a tenant's data is written as
one. The jobs are in `workers/jobs/imports.py`."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from db.transaction import SYSTEM
from domain.dexie.imports import KEPT, ON_ITS_WAY, Import, ImportCursor, ImportStatus, file_key
from domain.dexie.records import TABLES
from domain.errors import Conflict, NotSetUp, Rejected, Unavailable
from domain.videos.media import StoreUnavailable
from workers.app import App
from workers.engine.outcomes import cancel as cancel_job
from workers.jobs.imports import begin, check, discard

MOST_EXPORTED = 512 * 1024 * 1024
"""Bytes of an export that waits on the disk for its reader."""

ROOM_FOR = 8 * 1024 * 1024
"""Bytes of an export after which the disk is asked whether it has room for as many more."""


class ExportTooLarge(Rejected):
    """The tenant's data is larger than one export over the API."""


class _TimeOver(Exception):
    """The import was ended while its file was stored."""


def check_room(app: App, tenant_id: UUID) -> None:
    """Do nothing if the tenant may begin another import.

    Raises:
        TooManyImports: it has too many that are not over.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.imports.check_room(tenant_id)


def receive(app: App, tenant_id: UUID, path: Path, *, size: int, sha256: bytes, apply_too: bool) -> Import:
    """Keep an uploaded file, and have it checked.

    Raises:
        TooManyImports: the tenant has too many that are not over.
        StoreUnavailable: the store is away or full; nothing of it remains but what `upkeep.media` deletes.
    """
    transaction = partial(app.db.transaction, tenant_id)
    with transaction() as tx:
        import_id, expires_at = tx.new_id(), tx.now() + ON_ITS_WAY
        key = file_key(tenant_id, import_id)
        tx.imports.begin(tenant_id, import_id, object_key=key, size=size, sha256=sha256, expires_at=expires_at)
    try:
        app.ports.media.put(key, path, content_type="application/json")
        with transaction() as tx:
            tx.imports.lock(tenant_id, import_id)
            job_id = check.enqueue(tx, tenant_id=tenant_id, import_id=import_id, apply_too=apply_too)
            started = tx.imports.begin_check(tenant_id, import_id, job_id, tx.now() + KEPT)
            if started is None:
                raise _TimeOver
    except StoreUnavailable:
        with transaction() as tx:
            tx.imports.end(tenant_id, import_id, ImportStatus.FAILED, error="the file could not be stored")
        with suppress(StoreUnavailable):
            discard(transaction, app.ports.media, tenant_id, import_id, key)
        raise
    except _TimeOver:
        discard(transaction, app.ports.media, tenant_id, import_id, key)
        raise Unavailable("the import was ended while its file was stored; send it again") from None
    return started


def find(app: App, tenant_id: UUID, import_id: UUID) -> Import | None:
    with app.db.transaction(tenant_id) as tx:
        return tx.imports.get(tenant_id, import_id)


def listed(app: App, tenant_id: UUID, *, limit: int, after: ImportCursor | None) -> Sequence[Import]:
    """Return the tenant's imports, newest first, without their reports."""
    with app.db.transaction(tenant_id) as tx:
        return tx.imports.listed(tenant_id, limit=limit, after=after)


def apply(app: App, tenant_id: UUID, import_id: UUID) -> Import | None:
    """Have a checked import applied; one that is being applied, or was, is left alone. None if there is none.

    Raises:
        Conflict: it is not checked (yet), or its time is over.
    """
    with app.db.transaction(tenant_id) as tx:
        started = begin(tx, tenant_id, import_id)
        upload = tx.imports.get(tenant_id, import_id)
    if upload is not None and not started and upload.status not in (ImportStatus.IMPORTING, ImportStatus.DONE):
        why = "its time is over" if upload.status == ImportStatus.CHECKED else f"it is {upload.status}"
        raise Conflict("NOT_CHECKED", f"{why}, and only a checked import can be applied")
    return upload


def cancel(app: App, tenant_id: UUID, import_id: UUID) -> bool:
    """End an import that is not over, and delete its file; False if there is none. What it has taken over stays."""
    with app.db.transaction(tenant_id) as tx:
        upload = tx.imports.end(tenant_id, import_id, ImportStatus.CANCELLED)
    if upload is None:
        return False
    # A transaction of its own: a job that fails locks itself before the import.
    if upload.job_id is not None:
        with app.db.transaction(SYSTEM) as tx:
            cancel_job(tx, app.job_types, upload.job_id)
    if upload.deleted_at is None:
        with suppress(StoreUnavailable):  # `upkeep.media` deletes it
            discard(partial(app.db.transaction, tenant_id), app.ports.media, tenant_id, import_id, upload.object_key)
    return True


def write_export(app: App, tenant_id: UUID, out: BinaryIO) -> int:
    """Write the tenant's data as the old app's export, as of one moment, and return how many bytes that are.

    Raises:
        ExportTooLarge: it would be more than `MOST_EXPORTED`.
        StoreFull: the disk for files on their way is full.
    """
    if app.ports.old_app is None:
        raise NotSetUp("exports of the old app cannot be written here")
    written, next_look = 0, 0
    with app.db.transaction(tenant_id) as tx:
        tx.dexie.freeze()
        tables = ((table, tx.dexie.records(tenant_id, table)) for table in TABLES)
        for piece in app.ports.old_app.write(tables):
            if written >= next_look:
                app.ports.media.check_room(ROOM_FOR)
                next_look = written + ROOM_FOR
            written += len(piece)
            if written > MOST_EXPORTED:
                raise ExportTooLarge(f"your data is more than {MOST_EXPORTED} bytes: ask us for it as a file")
            out.write(piece)
    return written

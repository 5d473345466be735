"""Exports of the old app that were uploaded, as rows: `domain/dexie/imports.py` has their states.

The file follows the row: the row is there before the file is put under its key, which no other row has; and a row whose
time is over (`expires_at`) is ended before its file is deleted. Whoever puts a file and finds that its row is gone or
over takes it away again (`begin_check`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, func, insert, null, select, tuple_, update
from sqlalchemy import delete as delete_from

from db.postgres.locks import against_changes, against_changes_where_free
from db.schema.concepts import imports
from db.schema.tenants import tenants
from domain.dexie.imports import MOST_OPEN, OPEN, Import, ImportCursor, ImportStatus, TooManyImports

COLUMNS: tuple[ColumnElement[Any], ...] = (
    *(imports.c.id, imports.c.tenant_id, imports.c.status, imports.c.object_key, imports.c.sha256, imports.c.bytes),
    *(imports.c.percent, imports.c.report, imports.c.error_message, imports.c.job_id, imports.c.created_at),
    *(imports.c.updated_at, imports.c.expires_at, imports.c.deleted_at),
)
EXPIRED = "its time was over before it was applied"
NOW = func.clock_timestamp()
IS_OPEN = imports.c.status.in_(OPEN)
WITHOUT_REPORT = tuple(null().label("report") if each is imports.c.report else each for each in COLUMNS)


class OverdueFile(NamedTuple):
    """The file of an import that is over."""

    tenant_id: UUID
    import_id: UUID
    object_key: str


class Imports:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def check_room(self, tenant_id: UUID) -> None:
        """Lock the tenant, so that imports of it begin one after another.

        Raises:
            TooManyImports: as many of it as may be are not over.
        """
        self._sql.execute(against_changes(select(tenants.c.id).where(tenants.c.id == tenant_id)))
        alive = (imports.c.tenant_id == tenant_id) & IS_OPEN & (imports.c.expires_at > NOW)
        if self._sql.execute(select(func.count()).where(alive)).scalar_one() >= MOST_OPEN:
            raise TooManyImports

    def begin(
        self, tenant_id: UUID, import_id: UUID, *, object_key: str, size: int, sha256: bytes, expires_at: datetime
    ) -> None:
        """Add a row for a file that is on its way to the store.

        Raises:
            TooManyImports: as `check_room` does.
        """
        self.check_room(tenant_id)
        values = {"id": import_id, "tenant_id": tenant_id, "object_key": object_key, "bytes": size}
        self._sql.execute(insert(imports).values(values | {"sha256": sha256, "expires_at": expires_at}))

    def begin_check(self, tenant_id: UUID, import_id: UUID, job_id: UUID, expires_at: datetime) -> Import | None:
        """Say that the store has the file, and which job checks it; None if its time was over."""
        waiting = (imports.c.status == ImportStatus.CHECKING) & imports.c.job_id.is_(None)
        values = {"job_id": job_id, "expires_at": expires_at}
        return self._change(tenant_id, import_id, waiting & imports.c.deleted_at.is_(None), values)

    def get(self, tenant_id: UUID, import_id: UUID) -> Import | None:
        row = self._sql.execute(_selected(tenant_id, import_id)).one_or_none()
        return None if row is None else Import(*row)

    def lock(self, tenant_id: UUID, import_id: UUID) -> Import | None:
        """`get`, and nobody else changes it before the transaction ends."""
        row = self._sql.execute(against_changes(_selected(tenant_id, import_id))).one_or_none()
        return None if row is None else Import(*row)

    def listed(self, tenant_id: UUID, *, limit: int, after: ImportCursor | None = None) -> Sequence[Import]:
        """Return the tenant's imports, newest first, `limit` at most, each without its report."""
        query = select(*WITHOUT_REPORT).where(imports.c.tenant_id == tenant_id)
        if after is not None:
            query = query.where(tuple_(imports.c.created_at, imports.c.id) < after)
        newest_first = query.order_by(imports.c.created_at.desc(), imports.c.id.desc()).limit(limit)
        return [Import(*row) for row in self._sql.execute(newest_first)]

    def checked(self, tenant_id: UUID, import_id: UUID, report: Mapping[str, Any]) -> Import | None:
        """Keep what would become of it; None if it is not being checked any more."""
        values = {"status": ImportStatus.CHECKED, "report": report, "job_id": None}
        return self._change(tenant_id, import_id, imports.c.status == ImportStatus.CHECKING, values)

    def begin_import(
        self, tenant_id: UUID, import_id: UUID, job_id: UUID, expires_at: datetime, report: Mapping[str, Any]
    ) -> Import | None:
        """Have it taken over by this job; None if it is not checked, or its time is over."""
        wanted = (imports.c.status == ImportStatus.CHECKED) & (imports.c.expires_at > NOW)
        values = {"status": ImportStatus.IMPORTING, "job_id": job_id, "percent": 0, "expires_at": expires_at}
        return self._change(tenant_id, import_id, wanted, values | {"report": report})

    def progress(self, tenant_id: UUID, import_id: UUID, *, percent: int, report: Mapping[str, Any]) -> None:
        """Keep what has become of the records so far; in the transaction that adds them."""
        values = {"percent": percent, "report": report}
        self._change(tenant_id, import_id, imports.c.status == ImportStatus.IMPORTING, values)

    def end(self, tenant_id: UUID, import_id: UUID, status: ImportStatus, *, error: str | None = None) -> Import | None:
        """End it, if it is not over: its file is due to be deleted. Returns the row as it is then."""
        values: dict[str, Any] = {"status": status, "error_message": error}
        values["expires_at"] = func.least(imports.c.expires_at, NOW)
        if status is ImportStatus.DONE:
            values["percent"] = 100
        return self._change(tenant_id, import_id, IS_OPEN, values) or self.get(tenant_id, import_id)

    def note_deleted(self, tenant_id: UUID, import_id: UUID) -> None:
        """Say that the store has the file no longer."""
        self._change(tenant_id, import_id, imports.c.deleted_at.is_(None), {"deleted_at": NOW})

    def overdue(self, limit: int) -> Sequence[OverdueFile]:
        """End imports whose time is over, and return the files of all that are over and still have one."""
        over = (imports.c.expires_at <= NOW) & imports.c.deleted_at.is_(None)
        due = select(imports.c.id).where(over).order_by(imports.c.expires_at).limit(limit)
        of_these = imports.c.id.in_(against_changes_where_free(due))
        values = {"status": ImportStatus.CANCELLED, "error_message": EXPIRED, "updated_at": NOW}
        self._sql.execute(update(imports).where(of_these, IS_OPEN).values(values))
        found = select(imports.c.tenant_id, imports.c.id, imports.c.object_key).where(over, ~IS_OPEN)
        rows = self._sql.execute(found.order_by(imports.c.expires_at).limit(limit))
        return [OverdueFile(*row) for row in rows]

    def prune(self, before: datetime, limit: int) -> int:
        """Delete rows that ended before then, and whose files are gone; return how many."""
        return self._sql.execute(delete_from(imports).where(imports.c.id.in_(old_ones(before, limit)))).rowcount

    def _change(
        self, tenant_id: UUID, import_id: UUID, condition: ColumnElement[bool], values: Mapping[str, Any]
    ) -> Import | None:
        statement = update(imports).where(_this(tenant_id, import_id), condition).values({**values, "updated_at": NOW})
        row = self._sql.execute(statement.returning(*COLUMNS)).one_or_none()
        return None if row is None else Import(*row)


def old_ones(before: datetime, limit: int) -> Select[Any]:
    return select(imports.c.id).where(~IS_OPEN & (imports.c.deleted_at < before)).limit(limit)


def _selected(tenant_id: UUID, import_id: UUID) -> Select[Any]:
    return select(*COLUMNS).where(_this(tenant_id, import_id))


def _this(tenant_id: UUID, import_id: UUID) -> ColumnElement[bool]:
    return (imports.c.tenant_id == tenant_id) & (imports.c.id == import_id)

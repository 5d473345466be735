"""`/api/import`, `/api/export`: moving in from the old app, and out again, without an operator.

A browser's export is the body itself. It is received like any file (`web/api/media.py`), kept in the media store, and
read by a job, which reports what would become of its records; nothing is written before somebody applies it. An export
is written to the disk first and sent from there (docs/decisions/0041): whoever reads slowly holds a file and not a
connection to Postgres.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from domain.dexie.imports import MOST_BYTES, Import, ImportCursor, ImportStatus
from domain.identity.access import ApiScope, Caller
from integrations.store.folder import in_words
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.media import Places, UploadRoute, check_head, receive_file
from web.api.validation import RequestBody
from web.error_responses import ApiError, documented, not_found
from web.media import FileInPieces
from workers.app import App
from workers.ops import imports

CONTENT_TYPES = ("application/json", "application/octet-stream")
FILE_NAME = "viral-dashboard-export.json"
LONGEST_READING = 3600.0
"""Seconds that an export may be read; its file has a place of the few meanwhile."""

MISSING = documented(_404="no such import of yours")

Reader = Annotated[Caller, requires(ApiScope.GENERATIONS_READ)]
Writer = Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)]


def importing() -> Places:
    """Return the places for exports that are received: each is a file of `MOST_BYTES` at most."""
    return Places(16, 2, 4)


def exporting() -> Places:
    """Return the places for exports that are written and read, each a file of 512 MB at most; two are written at once,
    on as many connections to Postgres."""
    return Places(8, 1, 2)


routes = APIRouter(tags=["moving"], route_class=AdmittedRoute)
files = APIRouter(tags=["moving"], route_class=UploadRoute)


class Outcomes(BaseModel):
    """How many records became rows as they were, became rows with a change, were there already, or cannot be rows."""

    imported: int
    coerced: int
    skipped: int
    rejected: int


class NotedRecord(BaseModel):
    """A record of the file that something is to be said of: the `index` is its place in the list of its table."""

    table: str
    index: int
    id: Any
    outcome: str
    reason: str


class Report(BaseModel):
    """`tables` are counts by the old app's names of tables; `records` the first that have a reason, of which `left_out`
    more are only counted."""

    tables: dict[str, Outcomes]
    records: list[NotedRecord]
    left_out: int


class ListedImport(BaseModel):
    """`checking` and `importing` go on: ask again in a second or two. `checked` waits to be applied until `expires_at`.
    `error` says why it failed."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: ImportStatus
    bytes: int
    sha256: str
    percent: int | None
    error: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


class ShownImport(ListedImport):
    """`report` is what would become of the records; of an import that is applied, what has become of them so far."""

    report: Report | None


class ImportList(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    imports: list[ListedImport]
    next: str | None


class UploadQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    apply: bool = Field(False, description="Apply it as soon as it is checked, whatever the report says.")


class ImportsQuery(RequestBody):
    model_config = ConfigDict(strict=False)

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
NOT_CHECKED = documented(_409="`NOT_CHECKED`: it is not checked yet, or it is over")


@files.post(
    "/import",
    status_code=202,
    openapi_extra=BODY,
    responses=documented(
        _409="`TOO_MANY_IMPORTS`: apply or delete one that is not over first",
        _413="the file is larger than 64 MiB: `viral import-dexie` takes it",
        _415="`TYPE_UNKNOWN`: its `Content-Type` is no JSON; `ENCODING_UNSUPPORTED`: it is compressed",
    ),
)
async def upload(
    request: Request, response: Response, caller: Writer, app: Running, query: Annotated[UploadQuery, Query()]
) -> ShownImport:
    """Send an export of the old app: the body is the file itself, as docs/export-dexie.html or dexie-export-import
    saved it. It is read, and reported on; nothing is taken over before it is applied. Quota is not consumed."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES:
        raise ApiError(415, f"send the file as one of {', '.join(CONTENT_TYPES)}", "TYPE_UNKNOWN")
    check_head(request, MOST_BYTES)
    state: Places = request.app.state.imports
    with state.place(caller.tenant_id):
        await state.in_thread(partial(imports.check_room, app, caller.tenant_id))
        folder = await state.in_thread(app.ports.media.incoming)
        path = folder / f"{token_hex(16)}.upload"
        try:
            digest, size = await receive_file(request, state, path, MOST_BYTES)
            keep = partial(imports.receive, sha256=digest, size=size, apply_too=query.apply)
            kept = await state.in_thread(partial(keep, app, caller.tenant_id, path))
        finally:
            await state.in_thread(partial(path.unlink, missing_ok=True))
    response.headers["Location"] = f"/api/import/{kept.id}"
    return _shown(kept)


@routes.get("/import")
def list_imports(caller: Reader, app: Running, query: Annotated[ImportsQuery, Query()]) -> ImportList:
    """List the tenant's imports, newest first, a page at a time; for 90 days after their end."""
    after = None if query.cursor is None else ImportCursor(*decode_cursor(query.cursor))
    found = imports.listed(app, caller.tenant_id, limit=query.limit + 1, after=after)
    page = found[: query.limit]
    more = ImportCursor(page[-1].created_at, page[-1].id) if len(found) > len(page) else None
    return ImportList(imports=[ListedImport(**_listed(each)) for each in page], next=more and encode_cursor(more))


@routes.get("/import/{import_id}", responses=MISSING)
def show_import(import_id: UUID, caller: Reader, app: Running) -> ShownImport:
    """Show how far an import is, and its report."""
    return _shown(_own(imports.find(app, caller.tenant_id, import_id), import_id))


@routes.post("/import/{import_id}/apply", status_code=202, responses=MISSING | NOT_CHECKED)
def apply_import(import_id: UUID, caller: Writer, app: Running, response: Response) -> ShownImport:
    """Take over the records of a checked export. What is there already stays as it is. Asking twice is asking once."""
    response.headers["Location"] = f"/api/import/{import_id}"
    return _shown(_own(imports.apply(app, caller.tenant_id, import_id), import_id))


@routes.delete("/import/{import_id}", status_code=204, responses=MISSING)
def cancel_import(import_id: UUID, caller: Writer, app: Running) -> None:
    """Stop an import, and delete its file. What it has taken over already stays. One that is over stays as it is."""
    if not imports.cancel(app, caller.tenant_id, import_id):
        raise not_found(f"import {import_id}")


@files.get(
    "/export",
    response_class=Response,
    responses=documented(_413="`EXPORT_TOO_LARGE`: it is more than can be sent at once")
    | {
        200: {
            "description": "All of the tenant's data, as the old app kept it: a list of records of each of its tables.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def export(request: Request, caller: Reader, app: Running) -> Response:
    """Return the tenant's data as an export of the old app, as of one moment. `POST /api/import` takes it back."""
    state: Places = request.app.state.exports
    with ExitStack() as stack:
        stack.enter_context(state.place(caller.tenant_id))
        file = stack.enter_context(await state.in_thread(partial(_unnamed, app)))
        size = await state.in_thread(partial(_written, app, caller.tenant_id, file))
        return SpooledFile(file, size, state, stack.pop_all().close)


class SpooledFile(FileInPieces):
    """A file of the disk without a name, which is gone when it is read, or its reader is gone; so is its place."""

    def __init__(self, file: BinaryIO, size: int, places: Places, close: Callable[[], None]) -> None:
        until = time.monotonic() + LONGEST_READING
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{FILE_NAME}"',
        }
        limiter, is_over = places.limiter, lambda: time.monotonic() > until
        super().__init__(file, range(size), headers, 200, limiter=limiter, is_over=is_over)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def _unnamed(app: App) -> BinaryIO:
    folder = app.ports.media.incoming()
    with in_words():
        return TemporaryFile(dir=folder)


def _written(app: App, tenant_id: UUID, file: BinaryIO) -> int:
    try:
        with in_words():
            size = imports.write_export(app, tenant_id, file)
            file.flush()
    except imports.ExportTooLarge as error:
        raise ApiError(413, str(error), "EXPORT_TOO_LARGE") from None
    return size


def _own(upload: Import | None, import_id: UUID) -> Import:
    if upload is None:
        raise not_found(f"import {import_id}")
    return upload


def _shown(upload: Import) -> ShownImport:
    return ShownImport(**_listed(upload), report=None if upload.report is None else Report(**upload.report))


def _listed(upload: Import) -> dict[str, Any]:
    return {
        "id": upload.id,
        "status": ImportStatus(upload.status),
        "bytes": upload.bytes,
        "sha256": upload.sha256.hex(),
        "percent": upload.percent,
        "error": upload.error_message,
        "created_at": upload.created_at,
        "updated_at": upload.updated_at,
        "expires_at": upload.expires_at,
    }

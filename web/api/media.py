"""`/api/media`: keep videos and pictures of one's own, list them, delete them.

A file is the body itself. It is written to the store's own disk while it comes, hashed, and looked at from its first
bytes on: what is too large, too slow, or neither a video nor a picture is refused as soon as that is clear, and nothing
of it stays. So many are received at once that no few tenants take all places; others are asked to come back.
Where files are kept in a bucket, a file can also be announced, and put there directly.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NamedTuple, TypeVar
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from domain.identity.access import ApiScope, Caller
from domain.ports import MediaStore
from domain.videos.containers import HEAD, extension_of
from domain.videos.media import (
    CONTENT_TYPES,
    Media,
    MediaCursor,
    MediaKind,
    MediaMissing,
    MediaUnusable,
    object_key,
)
from integrations.store.folder import in_words
from web.api.admission import CLIENT_CLOSED_REQUEST, Admission, AdmittedRoute, read_json
from web.api.authentication import Running, admit, credential_of, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.validation import RequestBody
from web.error_responses import ApiError, documented, not_found, retry_later
from workers.app import App
from workers.jobs.media import discard, keep

AT_ONCE, OF_ONE_TENANT, THREADS = 32, 4, 8
"""Files that are received at once: a slow sender holds a place, and a thread only while something is written."""
CHECKS_AT_ONCE, CHECKS_OF_ONE_TENANT = 8, 2
"""Files of a bucket that are read at once, to see whether they are what was announced; each has a thread."""
BUFFER = 1024 * 1024
"""Bytes that are held in memory of each file."""
ADDRESS_LIFETIME = timedelta(hours=1)
UPLOAD_LIFETIME = timedelta(hours=1)
EXTENSIONS = {content_type: extension for extension, content_type in CONTENT_TYPES.items()}
MISSING = documented(_404="no such file of yours")
T = TypeVar("T")

Reader = Annotated[Caller, requires(ApiScope.VIDEOS_READ)]
Writer = Annotated[Caller, requires(ApiScope.VIDEOS_WRITE)]


class Places:
    """Places for so many files at once, and of one tenant's, in one event loop, and threads for what waits for disks
    and stores."""

    def __init__(self, at_once: int, of_one_tenant: int, threads: int) -> None:
        self._at_once = at_once
        self._of_one_tenant = of_one_tenant
        self._threads = threads
        self._limiter: CapacityLimiter | None = None
        self._of: Counter[UUID] = Counter()

    @contextmanager
    def place(self, tenant_id: UUID) -> Iterator[None]:
        """Hold a place for one file.

        Raises:
            ApiError: there is none now.
        """
        if self._of.total() >= self._at_once or self._of[tenant_id] >= self._of_one_tenant:
            raise retry_later("too many files are being sent or checked at once; try again later", "OVERLOADED")
        self._of[tenant_id] += 1
        try:
            yield
        finally:
            self._of[tenant_id] -= 1
            self._of += Counter()

    async def in_thread(self, act: Callable[[], T]) -> T:
        """Have one of the threads do this: disks and stores may be slow, and no other request waits."""
        return await to_thread.run_sync(act, limiter=self.limiter)

    @property
    def limiter(self) -> CapacityLimiter:
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._threads)
        return self._limiter


def uploading() -> Places:
    return Places(AT_ONCE, OF_ONE_TENANT, THREADS)


def checking() -> Places:
    return Places(CHECKS_AT_ONCE, CHECKS_OF_ONE_TENANT, CHECKS_AT_ONCE)


class UploadRoute(AdmittedRoute):
    """A route whose handler reads the body itself. The caller is known before that, and holds no slot meanwhile."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = APIRoute.get_route_handler(self)

        async def admitted(request: Request) -> Response:
            credential = credential_of(request)
            async with _admission(request).slot():
                await admit(request, credential)
            try:
                return await handle(request)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)

        return admitted


routes = APIRouter(prefix="/media", tags=["media"], route_class=AdmittedRoute)
uploads = APIRouter(prefix="/media", tags=["media"], route_class=UploadRoute)


class MediaFile(BaseModel):
    """A file of the tenant's. The same content is one file, however often it is sent."""

    id: UUID
    kind: MediaKind
    content_type: str
    bytes: int
    sha256: str
    stored: bool
    created_at: datetime


class ReadableFile(MediaFile):
    """`url` can be read by anybody who has it, until `url_expires_at` at least; null while the file is not stored."""

    url: str | None
    url_expires_at: datetime | None


class UploadTo(BaseModel):
    """Send the file to `url` by one `method` with these `headers`, then `POST /api/media/{id}/complete`."""

    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime


class AnnouncedFile(MediaFile):
    """`upload` is null if the file is stored already, or if it was sent itself."""

    upload: UploadTo | None


class Announcement(RequestBody):
    """A file that is going to be put into the bucket."""

    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    content_type: str


class MediaQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")


class MediaList(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    media: list[MediaFile]
    next: str | None


BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Announcement.model_json_schema()},
            **{each: {"schema": {"type": "string", "format": "binary"}} for each in EXTENSIONS},
        },
    }
}


@uploads.post(
    "",
    status_code=201,
    openapi_extra=BODIES,
    response_model=AnnouncedFile,
    responses=documented(
        _409="`NO_DIRECT_UPLOADS`: files come through us here: send the file itself",
        _413="the file is larger than this installation takes; `STORAGE_FULL`: your files are, together",
        _415="`TYPE_UNKNOWN`: its `Content-Type` is none of these; `ENCODING_UNSUPPORTED`: it is compressed",
        _422="`NOT_MEDIA`: it is neither a video nor a picture that is kept here",
    )
    | {200: {"model": AnnouncedFile, "description": "The tenant has this file already."}},
)
async def upload(request: Request, response: Response, caller: Writer, app: Running) -> AnnouncedFile:
    """Keep a file: the body is the file itself, or, where files are kept in a bucket, JSON that announces one.

    Sending the same file again gives the same answer with 200.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        body = await read_json(request, AdmittedRoute.max_body)
        async with _admission(request).slot():
            announced = await run_in_threadpool(_announce, app, caller.tenant_id, body)
    elif content_type in EXTENSIONS:
        announced = await _receive(request, app, caller.tenant_id, content_type)
    else:
        raise ApiError(415, f"send a file as one of {', '.join(EXTENSIONS)}", "TYPE_UNKNOWN")
    file, had, to = announced
    response.status_code = 200 if had else 201
    return AnnouncedFile(**_shown(file), upload=to)


@uploads.post(
    "/{media_id}/complete", responses=MISSING | documented(_409="`NOT_UPLOADED`: it is not there, or it is another one")
)
async def complete_upload(media_id: UUID, request: Request, caller: Writer, app: Running) -> MediaFile:
    """Say that an announced file is in the bucket. It is read once, and its size, hash and kind are checked."""
    state: Places = request.app.state.checks
    with state.place(caller.tenant_id):
        return MediaFile(**_shown(await state.in_thread(partial(_completed, app, caller.tenant_id, media_id))))


@routes.get("")
def list_media(caller: Reader, app: Running, query: Annotated[MediaQuery, Query()]) -> MediaList:
    """List the tenant's files, newest first, a page at a time."""
    after = None if query.cursor is None else MediaCursor(*decode_cursor(query.cursor))
    with app.db.transaction(caller.tenant_id) as tx:
        found = tx.media.stored(caller.tenant_id, limit=query.limit + 1, after=after)
    page = found[: query.limit]
    more = MediaCursor(page[-1].created_at, page[-1].id) if len(found) > len(page) else None
    return MediaList(media=[MediaFile(**_shown(each)) for each in page], next=more and encode_cursor(more))


@routes.get("/{media_id}", responses=MISSING)
def show_media(media_id: UUID, caller: Reader, app: Running) -> ReadableFile:
    """Show a file, with an address at which it can be read for an hour."""
    with app.db.transaction(caller.tenant_id) as tx:
        file = tx.media.get(caller.tenant_id, media_id)
        now = tx.now()
    if file is None:
        raise not_found(f"file {media_id}")
    if file.stored_at is None:
        return ReadableFile(**_shown(file), url=None, url_expires_at=None)
    url = app.ports.media.address(file.key, lifetime=ADDRESS_LIFETIME)
    return ReadableFile(**_shown(file), url=url, url_expires_at=now + ADDRESS_LIFETIME)


@routes.delete(
    "/{media_id}", status_code=204, responses=MISSING | documented(_409="`STILL_USED`: a video uses the file")
)
def delete_media(media_id: UUID, caller: Writer, app: Running) -> None:
    """Delete a file that no video uses."""
    begin = partial(app.db.transaction, caller.tenant_id)
    if not discard(begin, app.ports.media, caller.tenant_id, media_id):
        raise not_found(f"file {media_id}")


class Announced(NamedTuple):
    """A file, whether the tenant had it already, and where it goes, if that is not through us."""

    file: Media
    had: bool
    to: UploadTo | None


class Received(NamedTuple):
    path: Path
    digest: bytes
    extension: str


async def _receive(request: Request, app: App, tenant_id: UUID, content_type: str) -> Announced:
    state: Places = request.app.state.uploads
    most = app.settings.media_most_bytes
    check_head(request, most)
    with state.place(tenant_id):
        folder = await state.in_thread(app.ports.media.incoming)
        path = folder / f"{token_hex(16)}.upload"
        try:
            digest, extension = await _written(request, state, path, most, content_type)
            return await state.in_thread(partial(_kept, app, tenant_id, path, digest, extension))
        finally:
            await state.in_thread(partial(path.unlink, missing_ok=True))


async def _written(request: Request, state: Places, path: Path, most: int, content_type: str) -> tuple[bytes, str]:
    """Write the body to a file, and return its hash and extension."""
    extension = ""

    def look(head: bytes) -> None:
        nonlocal extension
        extension = _extension(head, content_type)

    digest, _ = await receive_file(request, state, path, most, look)
    return digest, extension


def check_head(request: Request, most: int) -> None:
    """Raises:
    ApiError: the head of the request says that its file is compressed or too large.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "send the file as it is, without a Content-Encoding", "ENCODING_UNSUPPORTED")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(most)


async def receive_file(
    request: Request, state: Places, path: Path, most: int, look: Callable[[bytes], object] = lambda head: None
) -> tuple[bytes, int]:
    """Write the body to a file while it comes, and return its hash and size. `look` gets the first bytes.

    Raises:
        ApiError: it has more than `most` bytes.
        StoreUnavailable: the disk is full.
    """
    digest, buffer, size, looked = sha256(), bytearray(), 0, False

    def write() -> None:
        with in_words(), path.open("ab") as file:
            file.write(buffer)
        digest.update(buffer)
        buffer.clear()

    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        buffer += chunk
        if not looked and len(buffer) >= HEAD:
            look(bytes(buffer[:HEAD]))
            looked = True
        if len(buffer) >= BUFFER:
            await state.in_thread(write)
    if not looked:
        look(bytes(buffer[:HEAD]))
    await state.in_thread(write)
    return digest.digest(), size


def _extension(head: bytes, content_type: str) -> str:
    try:
        found = extension_of(head)
    except MediaUnusable as error:
        raise ApiError(422, str(error), "NOT_MEDIA") from None
    if not _passes_for(found, EXTENSIONS[content_type]):
        raise ApiError(422, f"the file is {CONTENT_TYPES[found]} and not {content_type}", "NOT_MEDIA")
    return found


def _passes_for(found: str, announced: str) -> bool:
    """Return whether a file of this kind may be announced as that one: cameras call their MOV an MP4."""
    return found == announced or {found, announced} <= {"mp4", "mov"}


def _kept(app: App, tenant_id: UUID, path: Path, digest: bytes, extension: str) -> Announced:
    begin = partial(app.db.transaction, tenant_id)
    with begin() as tx:
        had = tx.media.of_content(tenant_id, digest)
    most = app.settings.media_tenant_bytes
    file = keep(begin, app.ports.media, tenant_id, path, extension=extension, sha256=digest, most_bytes=most)
    return Announced(file, had is not None and had.stored_at is not None, None)


def _announce(app: App, tenant_id: UUID, body: bytes) -> Announced:
    asked = _announcement(body)
    if asked.bytes > app.settings.media_most_bytes:
        raise _too_large(app.settings.media_most_bytes)
    if asked.content_type not in EXTENSIONS:
        raise ApiError(415, f"content_type: should be one of {', '.join(EXTENSIONS)}", "TYPE_UNKNOWN")
    digest, extension = bytes.fromhex(asked.sha256), EXTENSIONS[asked.content_type]
    place = partial(app.ports.media.upload, lifetime=UPLOAD_LIFETIME)
    key = object_key(tenant_id, digest, extension)
    if place(key, bytes=asked.bytes, content_type=asked.content_type) is None:
        raise _no_direct_uploads()  # before there is a row
    most = app.settings.media_tenant_bytes
    with app.db.transaction(tenant_id) as tx:
        now = tx.now()
        file = tx.media.begin(tenant_id, sha256=digest, size=asked.bytes, extension=extension, most_bytes=most)
    if file.stored_at is not None and app.ports.media.has(file.key):
        return Announced(file, True, None)
    to = place(file.key, bytes=file.bytes, content_type=file.content_type)
    if to is None:
        raise _no_direct_uploads()
    upload_to = UploadTo(method="PUT", url=to.url, headers=dict(to.headers), expires_at=now + UPLOAD_LIFETIME)
    return Announced(file, False, upload_to)


def _no_direct_uploads() -> ApiError:
    return ApiError(409, "files come through us here: send the file itself, not JSON", "NO_DIRECT_UPLOADS")


def _announcement(body: bytes) -> Announcement:
    try:
        return Announcement.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ApiError(422, f"{where or 'body'}: {fault['msg']}", "INVALID") from None


def _completed(app: App, tenant_id: UUID, media_id: UUID) -> Media:
    with app.db.transaction(tenant_id) as tx:
        file = tx.media.get(tenant_id, media_id)
    if file is not None and file.stored_at is None:
        if not _is_right(app.ports.media, file):
            begin, later = partial(app.db.transaction, tenant_id), file.last_used_at + UPLOAD_LIFETIME
            discard(begin, app.ports.media, tenant_id, media_id, unfinished_before=later)
            text = "the file in the bucket is not what was announced, and is deleted: announce it again"
            raise ApiError(409, text, "NOT_UPLOADED")
        with app.db.transaction(tenant_id) as tx:
            file = tx.media.mark_stored(tenant_id, media_id)
    if file is None:
        raise not_found(f"file {media_id}")
    return file


def _is_right(store: MediaStore, file: Media) -> bool:
    """Read a file in the store, and return whether it is what was announced.

    Raises:
        ApiError: there is none yet.
    """
    digest, size, head = sha256(), 0, b""
    try:
        for piece in store.read(file.key, 0, file.bytes + 1):
            head = head or bytes(piece[:HEAD])
            size += len(piece)
            digest.update(piece)
    except MediaMissing:
        text = "the file is not in the bucket yet: put it at the address that you were given"
        raise ApiError(409, text, "NOT_UPLOADED") from None
    try:
        found = extension_of(head)
    except MediaUnusable:
        return False
    return size == file.bytes and digest.digest() == file.sha256 and _passes_for(found, file.extension)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the file is larger than {most} bytes", "BODY_TOO_LARGE")


def _shown(file: Media) -> dict[str, Any]:
    return {
        "id": file.id,
        "kind": MediaKind(file.kind),
        "content_type": file.content_type,
        "bytes": file.bytes,
        "sha256": file.sha256.hex(),
        "stored": file.stored_at is not None,
        "created_at": file.created_at,
    }


def _admission(request: Request) -> Admission:
    admission: Admission = request.app.state.admission
    return admission

"""`GET /media/{tenant}/{name}`: hands out a file of the folder store to whoever has an address that we signed.

The signature is checked before anything is opened, and every address that is not as we make them gets the same answer.
A file is read in small pieces, on threads of its own, and only as fast as its reader takes them; a reader who hangs up,
is much too slow, or still reads long after the address has expired is let go. The readers of one tenant's files have a
quarter of the places, so that whoever has an address does not keep out the readers of all others.
"""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO, Final

import structlog
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from domain.errors import Unavailable
from domain.videos.media import CONTENT_TYPES, MediaMissing, is_key
from integrations.store.folder import FolderStore, KeptFile
from web.error_responses import error_response, overloaded, retry_later

PIECE = 64 * 1024
AT_ONCE = 64
"""Files that are handed out at once: each has a connection and an open file."""
OF_ONE_TENANT = AT_ONCE // 4
THREADS = 8
GRACE, SLOWEST = 60.0, 16 * 1024
"""A reader has a minute, and then takes so many bytes a second."""
AFTER_EXPIRY = 600.0
"""Seconds in which a file that was begun in time may be read to its end."""

RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
DIGITS: Final = re.compile(r"[0-9]{1,11}")

NOT_SIGNED: Final = error_response(403, "this address was not made by us: ask for a new one", "SIGNATURE_INVALID")
EXPIRED: Final = error_response(403, "this address has expired: ask for a new one", "ADDRESS_EXPIRED")
GONE: Final = error_response(404, "this file is not kept any more", "NOT_FOUND")
POLICY: Final = "default-src 'none'; media-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"

log = structlog.get_logger()


class MediaFiles:
    """The endpoint. `clock` is Unix seconds."""

    def __init__(self, store: FolderStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._limiter: CapacityLimiter | None = None
        self._at_work = 0
        self._of: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._at_work >= AT_ONCE:
            busy = overloaded("too many files are being read at once; try again later").response()
            return await busy(scope, receive, send)
        self._at_work += 1
        try:
            response = await self._answer(Request(scope))
            if isinstance(response, FileInPieces):
                return await self._send(response, scope, receive, send)
            await response(scope, receive, send)
        finally:
            self._at_work -= 1

    async def _send(self, response: "FileInPieces", scope: Scope, receive: Receive, send: Send) -> None:
        """Hand out a file, if its tenant has a place. It is counted now that we know that we signed the address:
        others take nobody's place."""
        tenant = scope["path_params"]["tenant"]
        if self._of[tenant] >= OF_ONE_TENANT:
            response.close()
            busy = overloaded("too many files of one tenant are being read at once; try again later").response()
            return await busy(scope, receive, send)
        self._of[tenant] += 1
        try:
            await response(scope, receive, send)
        finally:
            self._of[tenant] -= 1
            self._of += Counter()

    async def _answer(self, request: Request) -> Response:
        limiter = self._limiter = self._limiter or CapacityLimiter(THREADS)
        key = f"{request.path_params['tenant']}/{request.path_params['name']}"
        expires, signature = request.query_params.get("expires", ""), request.query_params.get("signature", "")
        try:
            kept = await to_thread.run_sync(self._open, key, expires, signature, limiter=limiter)
        except MediaMissing:
            return GONE
        except Unavailable as error:
            log.error("media.unavailable", reason=str(error), seldom=True)
            return retry_later("the file cannot be read now; try again later", "UNAVAILABLE").response()
        if isinstance(kept, Response):
            return kept
        return self._response(request, key, int(expires), kept, limiter)

    def _open(self, key: str, expires: str, signature: str) -> KeptFile | Response:
        if not (is_key(key) and DIGITS.fullmatch(expires) and self._store.is_signed(key, expires, signature)):
            return NOT_SIGNED
        if int(expires) <= self._clock():
            return EXPIRED
        return self._store.open(key)

    def _response(self, request: Request, key: str, expires: int, kept: KeptFile, limiter: CapacityLimiter) -> Response:
        name = key.partition("/")[2]
        digest, _, extension = name.partition(".")
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
            "Cache-Control": f"public, immutable, max-age={max(0, expires - int(self._clock()))}",
            "Content-Disposition": f'inline; filename="{name}"',
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            kept.file.close()
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = CONTENT_TYPES[extension]
        same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
        part = _part(request.headers.get("range", ""), kept.size) if same else None
        start, end = part or (0, kept.size)
        if part is not None and start >= end:
            kept.file.close()
            size = {"Content-Range": f"bytes */{kept.size}"}
            return error_response(416, f"the file has {kept.size} bytes", "RANGE_INVALID", headers=size)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{kept.size}"
        headers["Content-Length"] = str(end - start)
        status, until = 200 if part is None else 206, expires + AFTER_EXPIRY
        wanted = range(start, end)
        return FileInPieces(kept.file, wanted, headers, status, limiter=limiter, is_over=lambda: self._clock() > until)


class FileInPieces(Response):
    """A response that reads an open file while it is sent, and closes it in every case."""

    def __init__(
        self,
        file: BinaryIO,
        part: range,
        headers: dict[str, str],
        status: int,
        *,
        limiter: CapacityLimiter,
        is_over: Callable[[], bool],
    ) -> None:
        self.status_code = status
        self.background = None
        self.init_headers(headers)
        self._file = file
        self._part = part
        self._limiter = limiter
        self._is_over = is_over

    def close(self) -> None:
        self._file.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at, began = self._part.start, time.monotonic()
            while scope["method"] != "HEAD" and at < self._part.stop and not gone.done():
                if self._is_over() or time.monotonic() - began > GRACE + (at - self._part.start) / SLOWEST:
                    return
                size = min(PIECE, self._part.stop - at)
                piece = await to_thread.run_sync(os.pread, self._file.fileno(), size, at, limiter=self._limiter)
                if not piece:
                    return  # the disk has less than it said: what is missing is missing
                at += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self.close()


async def _hung_up(receive: Receive) -> None:
    """Return when the reader is gone; what they send is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """Return which part of a file of this size is asked for, from start to before end; there is none if the end is not
    after the start.

    None is the whole file, also for several ranges, or for what cannot be read: RFC 9110 allows that.
    """
    found = RANGE.fullmatch(asked)
    first, last = found.groups() if found else ("", "")
    if not first and not last:
        return None
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size

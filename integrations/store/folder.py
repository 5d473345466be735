"""Keeps files in a folder of this machine, and signs the addresses at which our web server hands them out.

A file gets its name when all of it is on the disk: it is written beside, in `.incoming`, and renamed. The secret that
signs lives in the folder too, so whoever sees the same files signs with the same secret, and nothing has to be set.
"""

import errno
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode
from uuid import UUID

from domain.ports import UploadAddress, Watch
from domain.videos.media import MediaMissing, StoreFull, StoreUnavailable, is_key
from integrations.store import incoming

INCOMING = ".incoming"
SECRET = ".secret"  # noqa: S105 - the name of its file
SECRET_BYTES = 32
MARKERS = ".seen-by"
MARKERS_KEPT = 3600.0
"""Seconds since a process last touched its marker."""
PIECE = 1024 * 1024
MB = 1_000_000
SPARE = 16 * MB
"""Bytes that stay free on the disk beside a file that is asked room for."""
HOUR = 3600
FULL = {errno.ENOSPC: "there is no space left", errno.EDQUOT: "the quota of its disk is used up"}


@dataclass(frozen=True)
class KeptFile:
    """An open file of the store."""

    file: BinaryIO
    size: int


class FolderStore:
    """`web` is where our web server is reached (or a CDN before it). `clock` is Unix seconds."""

    def __init__(self, folder: Path, *, web: str, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._web = web.rstrip("/")
        self._clock = clock
        self._secret: tuple[tuple[int, ...], bytes] = ((), b"")

    def put(self, key: str, source: Path, *, content_type: str) -> None:
        """Keep the file; one that is in `incoming` is not copied again."""
        target = self._path(key)
        with in_words():
            if _size(target) == source.stat().st_size:
                _sync(target.parent)  # whoever put it may not have got so far
                return
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            written = self.incoming() / f"{secrets.token_hex(16)}.part"
            try:
                if not (source.is_relative_to(written.parent) and _linked(source, written)):
                    with source.open("rb") as read, written.open("xb") as out:
                        shutil.copyfileobj(read, out, PIECE)
                _sync(written)
                written.replace(target)
            finally:
                written.unlink(missing_ok=True)
            _sync(target.parent)
            _sync(self.folder)

    def has(self, key: str) -> bool:
        with in_words():
            return _size(self._path(key)) is not None

    def get(self, key: str, target: Path, *, watch: Watch) -> None:
        kept = self.open(key)
        done = 0
        with in_words("the folder that a file is copied to"), kept.file, target.open("wb") as out:
            while piece := kept.file.read(PIECE):
                out.write(piece)
                done += len(piece)
                watch(done / max(kept.size, 1))

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        with self.open(key).file as file, in_words():
            file.seek(start)
            left = end - start
            while left > 0 and (piece := file.read(min(left, PIECE))):
                left -= len(piece)
                yield piece

    def open(self, key: str) -> KeptFile:
        """Open a file for reading.

        Raises:
            MediaMissing: nothing is kept under this key.
        """
        path = self._path(key)
        with in_words():
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise MediaMissing(f"the media store has no {key}") from None
            return KeptFile(file, os.fstat(file.fileno()).st_size)

    def delete(self, key: str) -> None:
        with in_words():
            self._path(key).unlink(missing_ok=True)

    def address(self, key: str, *, lifetime: timedelta) -> str:
        """Return an address that ends at a full hour, so that all of an hour are one, and a cache finds it again."""
        self._path(key)
        expires = ceil((self._clock() + lifetime.total_seconds()) / HOUR) * HOUR
        query = urlencode({"expires": expires, "signature": self._signature(key, str(expires))})
        return f"{self._web}/media/{key}?{query}"

    def upload(self, key: str, *, bytes: int, content_type: str, lifetime: timedelta) -> UploadAddress | None:
        return None

    def is_signed(self, key: str, expires: str, signature: str) -> bool:
        """Return whether we signed this address; one that has expired was signed too."""
        expected = self._signature(key, expires)
        return signature.isascii() and hmac.compare_digest(signature, expected)

    def check_room(self, bytes: int) -> None:
        with in_words():
            disk = shutil.disk_usage(self.incoming())
        if disk.free < bytes + SPARE:
            left, total, needed = (f"{count / MB:.1f}" for count in (disk.free, disk.total, bytes + SPARE))
            raise StoreFull(f"the media store is full: {left} MB are left of {total}, and {needed} are needed")

    def incoming(self) -> Path:
        with in_words():
            folder = self.folder / INCOMING
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder

    def sweep(self, before: datetime) -> int:
        with in_words():
            return incoming.sweep(self.incoming(), before)

    def mark(self, process_id: UUID) -> list[UUID]:
        """Leave the marker of a process here, and return those of all whose markers are not old."""
        with in_words():
            folder = self.folder / MARKERS
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            (folder / str(process_id)).touch()
            found = []
            for marker in folder.iterdir():
                with suppress(FileNotFoundError, ValueError):  # taken away, or none of ours
                    if self._clock() - marker.stat().st_mtime > MARKERS_KEPT:
                        marker.unlink()
                    else:
                        found.append(UUID(marker.name))
        return found

    def unmark(self, process_id: UUID) -> None:
        with in_words():
            (self.folder / MARKERS / str(process_id)).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise MediaMissing("this is no key of a media file")
        return self.folder / key

    def _signature(self, key: str, expires: str) -> str:
        return hmac.new(self.secret(), f"{key}\n{expires}".encode(), sha256).hexdigest()

    def secret(self) -> bytes:
        """Return the secret of the folder as it is now; whoever asks first makes it, and all others find that one.

        Raises:
            StoreUnavailable: its file holds none.
        """
        path = self.folder / SECRET
        with in_words():
            if not path.exists():
                self._make_secret(path)
            found = path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            read, secret = self._secret
            if read != version:
                secret = path.read_bytes()
        if len(secret) < SECRET_BYTES:
            raise StoreUnavailable(f"{path} holds no secret of {SECRET_BYTES} bytes: delete it, and another is made")
        self._secret = (version, secret)
        return secret

    def _make_secret(self, path: Path) -> None:
        made = self.incoming() / f"{secrets.token_hex(16)}.part"
        try:
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
            _sync(made)
            with suppress(FileExistsError):  # another process was first
                path.hardlink_to(made)
            _sync(self.folder)
        finally:
            made.unlink(missing_ok=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _linked(source: Path, target: Path) -> bool:
    """Give the file another name, if its disk can."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    """Wait until the disk has the file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def in_words(what: str = "the media store") -> Iterator[None]:
    """Have errors of the disk say what is wrong, and that it may get better (`StoreUnavailable`)."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull(f"{what} is full: {FULL[error.errno]}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreUnavailable(f"{what} cannot be written: {_why(error)}") from error
        raise StoreUnavailable(f"{what} does not work: {_why(error)}") from error


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()

"""Media files: where they are kept, and what a probe found in them."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.errors import Rejected, Unavailable


class MediaKind(StrEnum):
    VIDEO = "video"
    IMAGE = "image"


CONTENT_TYPES = {
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "jpg": "image/jpeg",
    "png": "image/png",
}
"""The content type of each file extension that is kept."""

EXPORTS = "json"
"""The extension of uploaded exports (`domain/dexie/imports.py`), which are no media and have no address."""

_EXTENSIONS = "|".join((*CONTENT_TYPES, EXPORTS))
KEY = re.compile(rf"[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}/[0-9a-f]{{64}}\.({_EXTENSIONS})")


CLIP_ROOM = 64_000_000
"""Bytes that a clip of a provider may take: they have up to 50 MB."""


class MediaUnusable(Rejected):
    """The file is not what a post can be made of; the text says why."""


class MediaMissing(Rejected):
    """The store keeps no file of this name."""


class StoreUnavailable(Unavailable):
    """The media store does not answer, or is full. The text is for operators: it names settings and folders."""


class StoreFull(StoreUnavailable):
    """The media store has no space left."""


class TenantFull(Rejected):
    """The tenant's files would be more bytes than a tenant may keep; `details` are the figures."""

    code = "STORAGE_FULL"

    def __init__(self, message: str, details: dict[str, int]) -> None:
        super().__init__(message)
        self.details = details


class StudioUnavailable(Unavailable):
    """ffmpeg or ffprobe is missing here, or was killed; the text says what to do."""


def object_key(tenant_id: UUID, sha256: bytes, extension: str) -> str:
    """Return where the file of this content is kept: each tenant has its own copy."""
    return f"{tenant_id}/{sha256.hex()}.{extension}"


def is_key(text: str) -> bool:
    """Return whether the text is a key as `object_key` makes them: nothing else is ever opened."""
    return KEY.fullmatch(text) is not None


def kind_of(extension: str) -> MediaKind:
    return MediaKind(CONTENT_TYPES[extension].partition("/")[0])


class MediaCursor(NamedTuple):
    """The last file of a page of the list."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Media:
    """One file of a tenant. `stored_at` is None while it is on its way to the store: it must not be used yet."""

    id: UUID
    tenant_id: UUID
    sha256: bytes
    bytes: int
    kind: str
    extension: str
    stored_at: datetime | None
    created_at: datetime
    last_used_at: datetime

    @property
    def key(self) -> str:
        return object_key(self.tenant_id, self.sha256, self.extension)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES.get(self.extension, "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Probe:
    """What ffprobe and a look at the file's boxes and pictures found. Durations are in seconds, times from the start.

    `edit_lists` and `moov_first` are None for files that are no MP4; `black`, `silent` and `frozen` are how many
    seconds of it show or sound nothing, or do not move, and `cover_at` is a time at which it shows something: None
    where that was not looked for.
    """

    bytes: int
    container: str
    seconds: float
    width: int
    height: int
    video_codec: str
    pixel_format: str
    fps: float
    constant_rate: bool
    rotation: int
    video_streams: int
    audio_streams: int
    audio_codec: str | None = None
    audio_rate: int | None = None
    audio_channels: int | None = None
    edit_lists: int | None = None
    moov_first: bool | None = None
    black: float | None = None
    silent: float | None = None
    frozen: float | None = None
    cover_at: float | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A file that the studio made. `left_out` are the characters that no font here has, in the order in which they
    appear."""

    probe: Probe
    cover_at: float
    left_out: tuple[str, ...] = field(default=())

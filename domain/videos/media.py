"""Media files: where they are kept, and what a probe found in them."""

from dataclasses import dataclass, field
from enum import StrEnum
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


class MediaUnusable(Rejected):
    """The file is not what a post can be made of; the text says why."""


class MediaMissing(Rejected):
    """The store keeps no file of this name."""


class StoreUnavailable(Unavailable):
    """The media store does not answer, or is full."""


class StudioUnavailable(Unavailable):
    """ffmpeg or ffprobe is missing here, or was killed; the text says what to do."""


def object_key(tenant_id: UUID, sha256: bytes, extension: str) -> str:
    """Return where the file of this content is kept: each tenant has its own copy."""
    return f"{tenant_id}/{sha256.hex()}.{extension}"


@dataclass(frozen=True, slots=True)
class Probe:
    """What ffprobe and a look at the file's boxes and pictures found. Durations are in seconds, times from the start.

    `edit_lists` and `moov_first` are None for files that are no MP4; `black`, `silent` and `frozen` are how many
    seconds of it show or sound nothing, or do not move, and None where that was not looked for.
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """A file that the studio made. `left_out` are the characters that no font here has, in the order in which they
    appear."""

    probe: Probe
    cover_at: float
    left_out: tuple[str, ...] = field(default=())

"""The boxes of an MP4 or QuickTime file, as far as a platform cares for them. Only their headers are read, never media.

ffprobe does not say where the index lies, nor how many edit lists there are, and it is content with a file that ends
in the middle of its media.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from struct import iter_unpack, unpack
from typing import BinaryIO

from domain.videos.media import MediaUnusable

MOST_BOXES = 50_000
"""A recording of many hours in fragments of two seconds has fewer."""
MOST_TRACKS = 50
"""A real file has a few."""

NEEDED = (b"ftyp", b"moov", b"mdat")
CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")
TOP = (
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid", b"meta"),
    *(b"udta", b"pnot", b"pdin", b"emsg", b"prft", b"ssix"),
)
MOST_OF_A_HEADER = 24
"""Bytes of a track's `hdlr` and `mdhd` that say its kind and its ticks a second."""
MOST_OF_TIMES = 256 * 1024
"""Bytes of a table of times: 32,000 changes of the frame rate."""
CUT_OFF = "its recording or its upload was cut off"


@dataclass(frozen=True, slots=True)
class Boxes:
    """`moov_first`: the index comes before all media, so that playing can begin while the file comes. `fps` is how many
    pictures a second most of the first film has, and `constant_rate` whether all have, but for the first and the last:
    both None if the index does not say."""

    moov_first: bool
    edit_lists: int
    fps: float | None = None
    constant_rate: bool | None = None


def read_boxes(file: BinaryIO, size: int) -> Boxes:
    """Look at the boxes of a file of this size. It takes a few megabytes of memory, whatever the file holds.

    Raises:
        MediaUnusable: it ends early, has no index, or is built of more parts than any real file.
    """
    walk = _Walk(file)
    seen: list[bytes] = []
    edit_lists, tracks = 0, list[dict[bytes, _Box]]()
    for top in walk.boxes(0, size):
        if top.kind not in TOP:
            break  # what follows the last box is ignored by everybody
        if top.end > size:
            raise MediaUnusable(f"the file ends {top.end - size:,} bytes too early: {CUT_OFF}")
        if top.kind not in seen:
            seen.append(top.kind)
        for part in walk.within(top) if top.kind == b"moov" else ():
            edit_lists += part.kind == b"elst"
            if part.kind == b"trak":
                if len(tracks) == MOST_TRACKS:
                    raise MediaUnusable(f"the file has more than {MOST_TRACKS} tracks, as no real video has")
                tracks.append({})
            elif tracks and part.kind in {b"mdhd", b"hdlr", b"stts"}:
                tracks[-1][part.kind] = part
    if b"moov" not in seen:
        raise MediaUnusable(f"the file has no index (moov): {CUT_OFF}")
    media = [n for n, kind in enumerate(seen) if kind in {b"mdat", b"moof"}]
    moov_first = not media or seen.index(b"moov") < media[0]
    film = next((each for each in tracks if walk.read(each.get(b"hdlr"), MOST_OF_A_HEADER)[8:12] == b"vide"), {})
    header, times = walk.read(film.get(b"mdhd"), MOST_OF_A_HEADER), walk.read(film.get(b"stts"), MOST_OF_TIMES)
    return Boxes(moov_first, edit_lists, *_rate(header, times[8:]))


def why_not_whole(file: BinaryIO, size: int) -> str | None:
    """Return what is wrong with a file of this size, in words; None if its boxes fill it exactly, as those of an MP4
    do. That is enough to know a transfer that was cut short, or a page of text."""
    found, reached = set(), 0
    try:
        for box in _Walk(file).boxes(0, size):
            if box.start == 0 and box.kind != b"ftyp":
                return "it is no MP4"
            if box.end > size:
                return f"it breaks off: {box.end - size:,} of {box.end:,} bytes are missing"
            found.add(box.kind)
            reached = box.end
    except MediaUnusable as error:
        return str(error)
    if reached + 8 <= size:
        return f"its box at byte {reached:,} cannot be read" if found else "it is no MP4"
    if reached < size:
        return f"it breaks off at byte {size:,}"
    missing = [kind.decode() for kind in NEEDED if kind not in found]
    return f"it has no {' and no '.join(missing)} box: it is no playable MP4" if missing else None


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a box is in its file: its header, its content and its end."""

    kind: bytes
    start: int
    body: int
    end: int


class _Walk:
    """Reads headers, and no more of them than a real file has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_BOXES

    def boxes(self, start: int, end: int) -> Iterator[_Box]:
        """Yield each box until one whose header cannot be. The last may claim to end after `end`."""
        while start + 8 <= end:
            self._left -= 1
            if self._left < 0:
                raise MediaUnusable(f"the file has more than {MOST_BOXES:,} boxes, as no real video has")
            self._file.seek(start)
            header = self._file.read(16)
            if len(header) < 8:
                return
            size, kind = unpack(">I4s", header[:8])
            body = start + 8
            if size == 1:  # its size did not fit
                if len(header) < 16:
                    return
                size, body = unpack(">Q", header[8:])[0], start + 16
            elif size == 0:  # it lasts until the end
                size = end - start
            if size < body - start:
                return
            yield _Box(kind, start, body, start + size)
            start += size

    def within(self, box: _Box, depth: int = 1) -> Iterator[_Box]:
        """Yield the boxes in all that holds others, each after the one that holds it, and none beyond its end."""
        for each in self.boxes(box.body, box.end):
            inner = _Box(each.kind, each.start, each.body, min(each.end, box.end))
            yield inner
            if inner.kind in CONTAINERS and depth < len(CONTAINERS):
                yield from self.within(inner, depth + 1)

    def read(self, box: _Box | None, most: int) -> bytes:
        """Return what is in the box, of a long one the beginning."""
        if box is None:
            return b""
        self._file.seek(box.body)
        return self._file.read(max(0, min(box.end - box.body, most)))


def _rate(header: bytes, table: bytes) -> tuple[float | None, bool | None]:
    """Return the usual rate, and whether it is the only one. The first picture may wait for the sound, the last has no
    next one to end it."""
    scale = header[20:24] if header[:1] == b"\1" else header[12:16]
    runs = [each for each in iter_unpack(">II", table[: len(table) // 8 * 8]) if each[0]]
    if len(scale) < 4 or not runs:
        return None, None
    counts = Counter[int]()
    for count, ticks in runs:
        counts[ticks] += count
    usual = counts.most_common(1)[0][0]
    odd = [run for n, run in enumerate(runs) if run[1] != usual and not (n in {0, len(runs) - 1} and run[0] == 1)]
    return (unpack(">I", scale)[0] / usual or None, not odd) if usual else (None, None)

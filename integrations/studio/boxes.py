"""The boxes of an MP4 or QuickTime file, as far as a platform cares for them. Only their headers are read, never media.

ffprobe does not say where the index lies, nor how many edit lists there are, and it is content with a file that ends
in the middle of its media.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import iter_unpack, unpack
from typing import BinaryIO

from domain.videos.media import MediaUnusable

MOST_BOXES = 50_000
"""A recording of many hours in fragments of two seconds has fewer."""

CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")
TOP = (
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid", b"meta"),
    *(b"udta", b"pnot", b"pdin", b"emsg", b"prft", b"ssix"),
)
MOST_READ = 1024 * 1024
"""Bytes of a table of times: 130,000 changes of the frame rate."""
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


def read_boxes(path: Path) -> Boxes:
    """Look at the file's boxes.

    Raises:
        MediaUnusable: it ends early, has no index, or is built of more parts than any real file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        reader = _Reader(file)
        seen: list[bytes] = []
        edit_lists, tracks = 0, list[dict[bytes, bytes]]()
        for kind, start, end in reader.boxes(0, size):
            if kind not in TOP:
                break  # what follows the last box is ignored by everybody
            if end > size:
                raise MediaUnusable(f"the file ends {end - size:,} bytes too early: {CUT_OFF}")
            seen.append(kind)
            for part, begin, ends in reader.within(start, end) if kind == b"moov" else ():
                edit_lists += part == b"elst"
                if part == b"trak":
                    tracks.append({})
                elif tracks and part in {b"mdhd", b"hdlr", b"stts"}:
                    tracks[-1][part] = reader.read(begin, ends)
    if b"moov" not in seen:
        raise MediaUnusable(f"the file has no index (moov): {CUT_OFF}")
    media = [n for n, kind in enumerate(seen) if kind in {b"mdat", b"moof"}]
    moov_first = not media or seen.index(b"moov") < media[0]
    films = [each for each in tracks if each.get(b"hdlr", b"")[8:12] == b"vide"]
    return Boxes(moov_first, edit_lists, *(_rate(films[0]) if films else (None, None)))


class _Reader:
    """Reads headers, and no more of them than a real file has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_BOXES

    def boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield type, begin of the content, and end of each box. A last one may claim to end after `end`."""
        while start + 8 <= end:
            self._left -= 1
            if self._left < 0:
                raise MediaUnusable(f"the file has more than {MOST_BOXES:,} boxes, as no real video has")
            self._file.seek(start)
            header = self._file.read(16)
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
            yield kind, body, start + size
            start += size

    def within(self, start: int, end: int, depth: int = 1) -> Iterator[tuple[bytes, int, int]]:
        """Yield the boxes in all that holds others, each after the one that holds it."""
        for kind, body, ends in self.boxes(start, end):
            yield kind, body, min(ends, end)
            if kind in CONTAINERS and depth < len(CONTAINERS):
                yield from self.within(body, min(ends, end), depth + 1)

    def read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(min(end - start, MOST_READ))


def _rate(film: Mapping[bytes, bytes]) -> tuple[float | None, bool | None]:
    """Return the usual rate, and whether it is the only one. The first picture may wait for the sound, the last has no
    next one to end it."""
    header, table = film.get(b"mdhd", b""), film.get(b"stts", b"")[8:]
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

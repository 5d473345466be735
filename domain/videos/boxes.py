"""Whether a file is a whole MP4, as far as its outermost boxes tell: enough to know a transfer that was cut short, or a
page of text, without a decoder."""

from typing import BinaryIO

NEEDED = (b"ftyp", b"moov", b"mdat")
MOST = 10_000
"""Boxes that are looked at: a file has a handful, a fragmented one some for each second."""


def why_not_whole(file: BinaryIO, size: int) -> str | None:
    """Return what is wrong with a file of this size, in words; None if its boxes fill it exactly."""
    found = set()
    at = 0
    for _ in range(MOST):
        if at == size:
            missing = [kind.decode() for kind in NEEDED if kind not in found]
            return f"it has no {' and no '.join(missing)} box: it is no playable MP4" if missing else None
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return f"it breaks off at byte {size:,}"
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if at == 0 and kind != b"ftyp":
            return "it is no MP4"
        if length == 1:
            length = int.from_bytes(head[8:16])
        elif length == 0:
            length = size - at
        if length < 8:
            return f"its box at byte {at:,} cannot be read"
        found.add(kind)
        at += length
        if at > size:
            return f"it breaks off: {at - size:,} of {at:,} bytes are missing"
    return "it has too many boxes"

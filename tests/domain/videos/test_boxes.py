"""A whole MP4 is distinguished from one that was cut short; and no file costs much to be looked at."""

import struct
import tracemalloc
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.videos.boxes import Boxes, read_boxes, why_not_whole
from domain.videos.media import MediaUnusable
from tests.video_stage import MP4, box


def fault(content: bytes) -> str | None:
    return why_not_whole(BytesIO(content), len(content))


def test_a_whole_file_has_no_fault() -> None:
    assert fault(MP4) is None
    large = (1).to_bytes(4) + b"mdat" + (16 + 9).to_bytes(8) + bytes(9)
    to_the_end = (0).to_bytes(4) + b"mdat" + bytes(20)
    for last in (large, to_the_end):
        assert fault(box(b"ftyp") + box(b"moov") + last) is None


@given(st.integers(1, len(MP4) - 1))
def test_a_file_that_was_cut_anywhere_is_not_whole(at: int) -> None:
    assert fault(MP4[:at]) is not None


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error_of_ours(content: bytes) -> None:
    assert fault(content) is not None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!doctype html><title>Sorry</title>", "it is no MP4"),
        (MP4[:40_000], "it breaks off: 10,"),
        (box(b"ftyp") + box(b"moov"), "it has no mdat box"),
        (box(b"ftyp") + (3).to_bytes(4) + b"moov", "its box at byte 8 cannot be read"),
    ],
)
def test_a_fault_is_said_in_words(content: bytes, says: str) -> None:
    assert says in (fault(content) or "")


FTYP = box(b"ftyp", b"isom\0\0\2\0")
MB = 1024 * 1024


def looked_at(content: bytes) -> Boxes:
    return read_boxes(BytesIO(content), len(content))


def a_track(kind: bytes, scale: int, *runs: tuple[int, int], times_first: bool = False) -> bytes:
    head = box(b"mdhd", bytes(12) + struct.pack(">I", scale)), box(b"hdlr", bytes(8) + kind)
    table = struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs)
    times = box(b"minf", box(b"stbl", box(b"stts", table)))
    parts = (times, *head) if times_first else (*head, times)
    return box(b"trak", box(b"mdia", b"".join(parts)))


@pytest.mark.parametrize("times_first", [True, False])
def test_the_rate_is_that_of_the_first_film(times_first: bool) -> None:
    sound, other = a_track(b"soun", 48_000, (90, 1024)), a_track(b"vide", 600, (5, 100))
    for runs, rate in (
        ([(90, 512)], (30, True)),
        ([(1, 700), (89, 512)], (30, True)),
        ([(60, 512), (9, 2)], (30, False)),
    ):
        film = a_track(b"vide", 15_360, *runs, times_first=times_first)
        found = looked_at(FTYP + box(b"moov", sound + film + other) + box(b"mdat"))
        assert (found.fps, found.constant_rate) == rate


def a_large_box(kind: bytes, content: bytes, size: int) -> bytes:
    return struct.pack(">I4s", size, kind) + content


def test_a_file_of_large_tables_costs_little_memory(tmp_path: Path) -> None:
    """Forty tracks, each with three boxes of a megabyte, and 64 MB of times in one: zeros."""
    path = tmp_path / "hostile.mp4"
    size = 8 + 3 * MB
    tables = 64 * MB
    with path.open("wb") as file:
        file.write(FTYP)
        moov = file.tell()
        file.write(a_large_box(b"moov", b"", 8 + 40 * size + tables))
        for number in range(40):
            at = moov + 8 + number * size
            file.seek(at)
            file.write(a_large_box(b"trak", b"", size + (tables if number == 39 else 0)))
            for n, kind in enumerate((b"mdhd", b"hdlr")):
                file.seek(at + 8 + n * MB)
                file.write(a_large_box(kind, bytes(8) + b"vide", MB))
            file.seek(at + 8 + 2 * MB)
            file.write(a_large_box(b"stts", bytes(8), MB + (tables if number == 39 else 0)))
        file.truncate(moov + 8 + 40 * size + tables)
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            read_boxes(file, path.stat().st_size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MB


def test_a_table_of_many_rates_costs_little_memory() -> None:
    times = [(1, ticks) for ticks in range(100_000)]
    content = FTYP + box(b"moov", a_track(b"vide", 600, *times))
    tracemalloc.start()
    try:
        assert looked_at(content).constant_rate is not True
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MB


def test_more_tracks_than_a_video_has_are_refused() -> None:
    assert looked_at(FTYP + box(b"moov", box(b"trak") * 50)).edit_lists == 0
    with pytest.raises(MediaUnusable, match="more than 50 tracks"):
        looked_at(FTYP + box(b"moov", box(b"trak") * 51))


def test_a_file_of_nothing_but_boxes_is_refused_by_both() -> None:
    many = FTYP + box(b"free") * 60_000
    assert "more than 50,000 boxes" in (fault(many) or "")
    with pytest.raises(MediaUnusable, match="more than 50,000 boxes"):
        looked_at(many)


def test_boxes_are_read_without_their_media(tmp_path: Path) -> None:
    path = tmp_path / "sparse.mp4"
    elst = box(b"elst", bytes(8))
    moov = box(b"moov", box(b"mvhd", bytes(100)) + 2 * box(b"trak", box(b"edts", elst)) + box(b"udta", elst))
    media = 6 * 1024**3
    with path.open("wb") as file:
        file.write(FTYP + struct.pack(">I4sQ", 1, b"mdat", media))
        file.truncate(len(FTYP) + media)
    with path.open("ab") as file:
        file.write(moov)
    with path.open("rb") as file:
        found = read_boxes(file, path.stat().st_size)
    assert (found.moov_first, found.edit_lists) == (False, 2)


@given(st.binary(max_size=200))
def test_boxes_of_any_bytes_are_something_or_refused(content: bytes) -> None:
    for start in (b"", FTYP, FTYP + (8 + len(content)).to_bytes(4) + b"moov"):
        with suppress(MediaUnusable):
            assert looked_at(start + content).edit_lists >= 0

"""A whole MP4 is told from one that was cut short, and from anything else."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.videos.boxes import why_not_whole
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

"""What a file is by its first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.videos.containers import extension_of, video_extension_of
from domain.videos.media import CONTENT_TYPES, MediaUnusable


def ftyp(brand: bytes) -> bytes:
    return b"\0\0\0\x20ftyp" + brand + b"\0\0\2\0isomiso2avc1mp41"


def ebml(document: bytes) -> bytes:
    return (
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82"
        + bytes([0x80 | len(document)])
        + document
    )


@pytest.mark.parametrize(
    ("head", "extension"),
    [
        (ftyp(b"isom"), "mp4"),
        (ftyp(b"mp42"), "mp4"),
        (ftyp(b"qt  "), "mov"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mov"),
        (ebml(b"webm"), "webm"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpg"),
    ],
)
def test_what_is_taken(head: bytes, extension: str) -> None:
    assert extension_of(head) == extension
    assert extension in CONTENT_TYPES


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"", "empty"),
        (bytes(100), "zeros"),
        (ebml(b"matroska"), "Matroska"),
        (ftyp(b"heic"), "HEIC"),
        (ftyp(b"avif"), "AVIF"),
        (ftyp(b"M4A "), "M4A"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "zip"),
        (b"#EXTM3U\n", "playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        (b"ffconcat version 1.0", "playlist"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'{"error": "not found"}', "JSON"),
        (b"Hello, \xc3\xa4 world", "a text"),
        (b"\x01\x02\x03\x04", "no format"),
        (b"\xfe\xfe\xfe\xfe\xfe", "no format"),
    ],
)
def test_what_is_not_taken_is_named(head: bytes, says: str) -> None:
    with pytest.raises(MediaUnusable, match=says):
        extension_of(head)


@given(
    st.binary(max_size=200)
    | st.sampled_from([b"\x1aE\xdf\xa3", b"\0\0\0 ftyp", b"RIFF"]).flatmap(
        lambda start: st.binary(max_size=60).map(lambda rest: start + rest)
    )
)
def test_any_bytes_are_something_or_refused_in_one_line(head: bytes) -> None:
    try:
        assert extension_of(head) in CONTENT_TYPES
    except MediaUnusable as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_a_picture_is_no_video() -> None:
    with pytest.raises(MediaUnusable, match="PNG picture, and no video"):
        video_extension_of(b"\x89PNG\r\n\x1a\n")
    assert video_extension_of(ftyp(b"isom")) == "mp4"

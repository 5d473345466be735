"""The kind of a file by its first bytes, since its name and a header say only what somebody claims."""

from domain.videos.media import MediaUnusable

HEAD = 4096
"""As many first bytes are enough."""

VIDEOS = ("mp4", "mov", "webm")

_PICTURE_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"crx "}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_QUICKTIME = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
"""The first box of QuickTime files that are older than `ftyp`."""

_OTHERS = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"ID3", "an MP3 sound file"),
    (b"\xff\xfb", "an MP3 sound file"),
    (b"OggS", "an Ogg file"),
    (b"fLaC", "a FLAC sound file"),
    (b"FLV\x01", "a Flash video"),
    (b"\x30\x26\xb2\x75", "a Windows Media file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"\x47", "an MPEG transport stream"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"<?xml", "an XML or SVG text"),
    (b"<svg", "an SVG text"),
    (b"<", "a web page or other markup"),
    (b"{", "a JSON text"),
)


def extension_of(head: bytes) -> str:
    """Return the extension that a file which begins like this is kept under, one of those in `media.CONTENT_TYPES`.

    Raises:
        MediaUnusable: it is something else; the text names what it looks like.
    """
    extension, looks_like = _look(head)
    if extension is None:
        raise MediaUnusable(f"the file is {looks_like}; MP4, MOV and WebM videos, JPEG and PNG pictures are taken")
    return extension


def video_extension_of(head: bytes) -> str:
    """Return the extension of a video that begins like this.

    Raises:
        MediaUnusable: it is a picture, or something else; the text names what it looks like.
    """
    extension, looks_like = _look(head)
    if extension not in VIDEOS:
        raise MediaUnusable(f"the file is {looks_like}; MP4, MOV and WebM videos are taken")
    return extension


def _look(head: bytes) -> tuple[str | None, str]:
    """Return the extension, None if it is nothing that is kept, and what it looks like."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURE_BRANDS:
            return None, "a HEIC, AVIF or raw picture"
        if brand in _SOUND_BRANDS:
            return None, "an M4A sound file"
        return ("mov", "a QuickTime video") if brand == b"qt  " else ("mp4", "an MP4 video")
    if head[4:8] in _QUICKTIME:
        return "mov", "a QuickTime video"
    if head.startswith(b"\x1aE\xdf\xa3"):
        is_webm = _document_type(head) == b"webm"
        return ("webm", "a WebM video") if is_webm else (None, "a Matroska video (.mkv), which can be saved as MP4")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", "a PNG picture, and no video"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg", "a JPEG picture, and no video"
    return None, _other(head)


def _document_type(head: bytes) -> bytes:
    """Read the EBML element DocType (4282), whose size is one byte in all that is written."""
    place = head.find(b"\x42\x82", 4, 128)
    if place < 0 or len(head) < place + 3:
        return b""
    return head[place + 3 : place + 3 + (head[place + 2] & 0x7F)].rstrip(b"\0")


def _other(head: bytes) -> str:
    if not head:
        return "empty"
    if not head.strip(b"\0"):
        return "nothing but zeros at its beginning"
    if head.startswith(b"RIFF"):
        return {b"AVI ": "an AVI video", b"WAVE": "a WAV sound file", b"WEBP": "a WebP picture"}.get(
            head[8:12], "a RIFF file"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for first, name in _OTHERS:
        if (start if first.isascii() else head).startswith(first):
            return name
    try:
        head[:512].decode("utf-8", "strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return "no format that is known here"
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head[:512])
    return "a text" if printable == len(head[:512]) else "no format that is known here"

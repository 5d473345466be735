"""What is in a file: of good ones, damaged ones, and ones that mean harm."""

import json
import os
import re
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from domain.videos.boxes import Boxes
from domain.videos.media import MediaUnusable, Probe, StudioUnavailable
from domain.videos.profiles import why_nowhere
from integrations.studio.ffmpeg import Program, find, reads, run
from integrations.studio.probe import MOST_DEEP, QUICK, look, look_at_pictures, patience, probe_of, write_thumbnail
from integrations.studio.studio import FfmpegStudio
from workers.jobs.videos import DRAWING_TIME

Video = Callable[[str], Path]
TURN = ("-loglevel", "error", "-y", "-display_rotation")
STUDIO = FfmpegStudio()


def probed(path: Path, *, deep: bool = False) -> Probe:
    return STUDIO.probe(path, watch=lambda done: None, deep=deep)


def refused(path: Path) -> str:
    """Return why the file is refused, in one line."""
    with pytest.raises(MediaUnusable) as caught:
        probed(path)
    says = str(caught.value)
    assert "\n" not in says
    assert str(path.parent) not in says
    return says


def a_file(folder: Path, content: bytes, name: str = "upload.mp4") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I4s", len(content) + 8 if size is None else size, kind) + content


def long_box(kind: bytes, size: int) -> bytes:
    return struct.pack(">I4sQ", 1, kind, size)


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")


def test_a_good_file(video: Video) -> None:
    path = video("good.mp4")
    found = probed(path)
    assert 1.9 < found.seconds < 2.1
    assert found == Probe(
        bytes=path.stat().st_size,
        container="mp4",
        seconds=found.seconds,
        width=180,
        height=320,
        video_codec="h264",
        pixel_format="yuv420p",
        fps=30.0,
        constant_rate=True,
        rotation=0,
        video_streams=1,
        audio_streams=1,
        audio_codec="aac",
        audio_rate=48000,
        audio_channels=1,
        edit_lists=0,
        moov_first=True,
    )


def test_ffmpegs_usual_file_has_edit_lists_and_its_index_at_the_end(video: Video) -> None:
    assert (probed(video("plain.mp4")).edit_lists, probed(video("plain.mp4")).moov_first) == (2, False)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("good.mov", "container", "mov"),
        ("good.webm", "container", "webm"),
        ("good.webm", "video_codec", "vp8"),
        ("good.webm", "edit_lists", None),
        ("good.webm", "moov_first", None),
        ("fragments.mp4", "moov_first", True),
        ("mute.mp4", "audio_streams", 0),
        ("mute.mp4", "audio_codec", None),
        ("two.mp4", "video_streams", 2),
        ("varying.mp4", "constant_rate", False),
        ("fragments.mp4", "constant_rate", True),
        ("plain.mp4", "constant_rate", True),
        ("plain.mp4", "fps", 30),
        ("short.mp4", "fps", 30),
    ],
)
def test_each_kind_of_file(video: Video, name: str, field: str, value: object) -> None:
    assert getattr(probed(video(name)), field) == value


def test_a_film_that_is_to_be_turned(program: Program, video: Video, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    for degrees in (90, 180, 270):
        run(
            program,
            [*TURN, str(degrees), *reads(video("good.mp4")), "-c", "copy", f"file:{turned}"],
            watch=int,
        )
        assert probed(turned).rotation == degrees
    STUDIO.thumbnail(turned, tmp_path / "turned.jpg", at=1, watch=lambda done: None)
    with Image.open(tmp_path / "turned.jpg") as picture:
        assert picture.size == (320, 180)


def test_a_film_that_is_to_be_turned_by_no_number_is_not_turned(program: Program, video: Video, tmp_path: Path) -> None:
    turned = tmp_path / "turned.webm"
    for degrees in ("inf", "nan", "-1e400", "1e30", "a bit"):
        tag = ["-c", "copy", "-metadata:s:v:0", f"rotate={degrees}"]
        run(program, [*TURN[:3], *reads(video("good.webm")), *tag, f"file:{turned}"], watch=int)
        turned.write_bytes(turned.read_bytes().replace(b"ROTATE", b"rotate"))  # as others write it
        assert probed(turned).rotation == 0
    turned.write_bytes(turned.read_bytes().replace(b"a bit", b"90.00"))
    assert probed(turned).rotation == 90


def test_a_picture_in_the_file_is_no_second_film(program: Program, video: Video, tmp_path: Path) -> None:
    cover = tmp_path / "cover.jpg"
    STUDIO.thumbnail(video("good.mp4"), cover, at=1, watch=lambda done: None)
    with_cover = tmp_path / "cover.mp4"
    attach = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic"]
    subprocess.run(
        [program.path, "-loglevel", "error", "-i", video("good.mp4"), "-i", cover, *attach, with_cover], check=True
    )
    assert probed(with_cover).video_streams == 1


def test_black_silent_and_still(video: Video) -> None:
    black = probed(video("black.mp4"), deep=True)
    assert [black.black, black.silent, black.frozen] == pytest.approx([2, 2, 2], abs=0.1)
    still = probed(video("still.mp4"), deep=True)
    assert [still.black, still.frozen] == pytest.approx([0, 3], abs=0.1)
    assert still.silent is None
    good = probed(video("good.mp4"), deep=True)
    assert (good.black, good.silent, good.frozen) == (0, 0, 0)


def test_the_cover_is_not_black(video: Video, tmp_path: Path) -> None:
    at = probed(video("intro.mp4"), deep=True).cover_at
    assert at is not None
    assert 2 < at < 3
    STUDIO.thumbnail(video("intro.mp4"), tmp_path / "cover.jpg", at=at, watch=lambda done: None)
    with Image.open(tmp_path / "cover.jpg") as picture:
        assert picture.convert("L").histogram()[200:] != [0] * 56
    assert probed(video("good.mp4"), deep=True).cover_at == 1


def test_progress_is_told_and_a_cancel_ends_it(video: Video, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: float) -> None:
        fractions.append(done)
        if len(fractions) == 2:
            raise Cancelled

    fractions: list[float] = []
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\necho out_time_us=500000 >&2\nexec sleep 60\n")
    slow.chmod(0o755)
    path = video("still.mp4")
    with pytest.raises(Cancelled):
        look_at_pictures(Program("ffmpeg", slow, "test", "1"), path, probed(path), watch=cancel)
    assert fractions == [pytest.approx(1 / 6, abs=0.01)] * 2


def test_a_thumbnail_is_a_jpeg_no_wider_than_1080_and_the_same_each_time(video: Video, tmp_path: Path) -> None:
    for name, size in (("wide.mp4", (1080, 608)), ("good.mp4", (180, 320))):
        STUDIO.thumbnail(video(name), tmp_path / "1.jpg", at=0.1, watch=lambda done: None)
        STUDIO.thumbnail(video(name), tmp_path / "2.jpg", at=0.1, watch=lambda done: None)
        with Image.open(tmp_path / "1.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", size)
        assert (tmp_path / "1.jpg").read_bytes() == (tmp_path / "2.jpg").read_bytes()


@pytest.mark.parametrize("name", ["video.avi", "sound.mp4"])
def test_no_thumbnail_of_what_is_no_video(video: Video, tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaUnusable):
        STUDIO.thumbnail(video(name), tmp_path / "none.jpg", at=0, watch=lambda done: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [-5, 1.99, 3600])
def test_a_thumbnail_after_the_end_is_the_nearest_picture(video: Video, tmp_path: Path, at: float) -> None:
    target = tmp_path / "100%d 'x': [a].jpg"
    STUDIO.thumbnail(video("good.mp4"), target, at=at, watch=lambda done: None)
    with Image.open(target) as picture:
        assert picture.size == (180, 320)


def test_a_file_of_any_name_is_read(video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-y", "http:x.mp4", "a%03d.mp4", "concat:a|b", "'; rm -rf x", "日本 ü\n.mp4"):
        path = a_file(tmp_path, video("good.mp4").read_bytes(), name)
        assert probed(path).width == 180
        assert probed(Path(name)).width == 180


@pytest.mark.parametrize(
    ("name", "says"),
    [("video.mkv", "Matroska"), ("video.avi", "AVI"), ("sound.mp4", "no picture")],
)
def test_other_kinds_are_named(video: Video, name: str, says: str) -> None:
    assert says in refused(video(name))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (bytes(1000), "zeros"),
        (b"hello, world", "a text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG picture, and no video"),
        (os.urandom(4096).replace(b"\0", b"\1"), "no format|looks|is a"),
        (FTYP, "no index"),
        (FTYP + box(b"mdat", bytes(100)), "no index"),
        (FTYP + box(b"moov", b"", size=4_000_000_000), "too early"),
        (FTYP + long_box(b"mdat", 2**63), "too early"),
        (FTYP + long_box(b"mdat", 2**64 - 1), "too early"),
        (FTYP + long_box(b"mdat", 0), "no index"),
        (FTYP + box(b"mdat", b"", size=7), "no index"),
        (FTYP + box(b"moov"), "."),
        (FTYP + box(b"moov", box(b"trak", box(b"trak", box(b"trak", box(b"trak", box(b"trak")))))), "."),
        (FTYP + box(b"free") * 60_000, "more than 50,000 boxes"),
        (FTYP + box(b"moov", box(b"udta") * 60_000), "more than 50,000 boxes"),
        (FTYP + box(b"moov", box(b"trak") * 60_000), "more than 50 tracks"),
    ],
)
def test_a_damaged_file_gets_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    assert re.search(says, refused(a_file(tmp_path, content)))


def test_a_file_that_was_cut_off(video: Video, tmp_path: Path) -> None:
    """ffprobe is content with the first of them: its headers are whole."""
    for name in ("good.mp4", "plain.mp4", "good.mov"):
        whole = video(name).read_bytes()
        for share in (0.3, 0.6, 0.98):
            assert "cut off" in refused(a_file(tmp_path, whole[: int(len(whole) * share)]))


def test_a_file_whose_media_are_gone_is_found_by_its_pictures(video: Video, tmp_path: Path) -> None:
    whole = bytearray(video("good.mp4").read_bytes())
    start = whole.index(b"mdat") + 4
    whole[start + (len(whole) - start) // 4 :] = bytes(len(whole) - start - (len(whole) - start) // 4)
    path = a_file(tmp_path, bytes(whole))
    found = probed(path)
    with pytest.raises(MediaUnusable, match=r"can be decoded|cannot use"):
        look_at_pictures(find("ffmpeg"), path, found, watch=lambda done: None)


def test_four_gigabytes_of_nothing_cost_nothing(video: Video, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    with empty.open("wb") as file:
        file.truncate(4 * 1024**3 + 1)
    assert "zeros" in refused(empty)
    large = tmp_path / "large.mp4"
    whole = video("good.mp4").read_bytes()
    with large.open("wb") as file:
        file.write(whole + long_box(b"mdat", 4 * 1024**3))
        file.truncate(len(whole) + 4 * 1024**3)
    began = time.monotonic()
    assert probed(large).bytes == len(whole) + 4 * 1024**3
    assert time.monotonic() - began < 10


def test_a_duration_that_cannot_be_is_refused(video: Video, tmp_path: Path) -> None:
    whole = bytearray(video("mute.mp4").read_bytes())
    ticks = whole.index(b"stts") + 16
    whole[ticks : ticks + 4] = struct.pack(">I", 0x3FFFFFF)
    for header, place in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"elst", 8)):
        at = whole.index(header) + 4 + place
        whole[at : at + 4] = b"\x7f\xff\xff\xff"
    assert "says to last" in refused(a_file(tmp_path, bytes(whole)))


def test_bytes_turned_at_random_never_escape(video: Video, tmp_path: Path) -> None:
    """Each gives a probe or a clear refusal."""
    whole = video("good.mp4").read_bytes()
    end_of_index = whole.index(b"mdat")
    for seed in range(8):
        turned = bytearray(whole)
        for step in range(6):
            turned[(seed * 7919 + step * 104_729) % end_of_index] = (seed * 31 + step * 17) % 256
        path = a_file(tmp_path, bytes(turned))
        with suppress(MediaUnusable):
            assert probed(path, deep=True).seconds > 0


NUMBERS = ["inf", "-inf", "nan", "1e999", "1/0", "0/0", "30000/1001", "90000/1", "-90", "12", "9" * 400, "", "x", "N/A"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NUMBERS) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rotation", "rotate"]), inner),
    max_leaves=3,
)
FIELDS = [
    *("codec_name", "width", "height", "pix_fmt", "avg_frame_rate", "r_frame_rate", "duration", "sample_rate"),
    *("channels", "disposition", "tags", "side_data_list"),
]
OF_A_FILM = {"codec_type": "video", "width": 180, "height": 320, "avg_frame_rate": "30/1", "r_frame_rate": "30/1"}
streams = st.builds(
    lambda kind, film, odd: OF_A_FILM | {"codec_type": kind} | film | odd,
    st.sampled_from(["video", "audio", "data"]),
    st.just({"duration": "2.0"}),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
)


@given(
    st.lists(streams | values, max_size=3) | values,
    st.fixed_dictionaries({"duration": st.just("2.0") | values}) | values,
    st.sampled_from([None, Boxes(True, 0), Boxes(False, 2, 30.0, False)]),
)
@example([OF_A_FILM | {"tags": {"rotate": "inf"}}], {"duration": "2.0"}, None)
@example([OF_A_FILM | {"width": "nan"}], {"duration": "2.0"}, None)
@example([OF_A_FILM, {"codec_type": "audio", "sample_rate": "inf", "channels": -1}], {"duration": "2.0"}, None)
@example([OF_A_FILM], {"duration": "1e-320"}, None)
def test_whatever_ffprobe_says_is_a_probe_or_a_refusal(heard: Any, container: Any, boxes: Boxes | None) -> None:
    output = json.dumps({"streams": heard, "format": container}).encode()
    try:
        found = probe_of(output, "webm", 1000, boxes)
    except MediaUnusable:
        return
    assert found.rotation in (0, 90, 180, 270)
    assert 0 < found.seconds <= 86_400
    assert min(found.width, found.height, found.audio_rate or 1, found.audio_channels or 1) > 0
    assert 0 <= found.fps <= 2**31
    words = {found.video_codec, found.pixel_format, found.audio_codec or "none"}
    assert all(word.isascii() and word.isprintable() for word in words)
    json.dumps([getattr(found, name) for name in Probe.__dataclass_fields__], allow_nan=False)


@pytest.mark.parametrize("output", [b"", b"nothing", b"[" * 100_000, b"9" * 5000, b"\xff", b'"streams"', b"null"])
def test_an_answer_that_is_no_object_is_a_refusal(output: bytes) -> None:
    with pytest.raises(MediaUnusable):
        probe_of(output, "mp4", 1000, None)


def test_more_tracks_than_a_video_has_are_refused() -> None:
    output = json.dumps({"streams": [OF_A_FILM | {"duration": "2.0"}] * 51}).encode()
    with pytest.raises(MediaUnusable, match="more than 50 tracks"):
        probe_of(output, "webm", 1000, None)


A_FILM = Probe(1000, "mp4", 15.0, 1080, 1920, "h264", "yuv420p", 30.0, True, 0, 1, 1)


@pytest.mark.parametrize("changes", [{"seconds": 901.0}, {"width": 4320, "height": 7680}])
def test_what_no_platform_takes_is_not_decoded(tmp_path: Path, changes: dict[str, Any]) -> None:
    nothing = Program("ffmpeg", tmp_path / "nothing", "test", "1")
    with pytest.raises(StudioUnavailable, match="cannot be started"):
        look_at_pictures(nothing, tmp_path / "film.mp4", A_FILM, watch=lambda done: None)
    too_much = replace(A_FILM, **changes)
    with pytest.raises(MediaUnusable, match="that a platform names") as caught:
        look_at_pictures(nothing, tmp_path / "film.mp4", too_much, watch=lambda done: None)
    assert str(caught.value) == why_nowhere(too_much)


def test_a_look_that_takes_too_long_is_not_tried_again(tmp_path: Path) -> None:
    spins = tmp_path / "spins"
    spins.write_text("#!/bin/sh\nkill -XCPU $$\n")
    spins.chmod(0o755)
    with pytest.raises(MediaUnusable, match="takes too long"):
        look_at_pictures(Program("ffmpeg", spins, "test", "1"), tmp_path, A_FILM, watch=lambda done: None)


def test_looking_takes_as_long_as_the_file_is_worth() -> None:
    assert patience(A_FILM) == 45
    assert patience(replace(A_FILM, width=2160, height=3840)) == 90
    assert patience(replace(A_FILM, seconds=86_400.0)) == MOST_DEEP
    thumbnails = 4 * QUICK
    assert QUICK + MOST_DEEP + thumbnails < DRAWING_TIME.total_seconds()


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def server(asked: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{to}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{to}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{to}</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_that_calls_itself_mp4_leads_nowhere(
    video: Video, tmp_path: Path, kind: str, server: str, asked: list[str]
) -> None:
    for to in (f"{server}/secret.mp4", str(video("good.mp4")), "file:///etc/passwd"):
        refused(a_file(tmp_path, PLAYLISTS[kind].format(to=to).encode()))
    assert asked == []


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_ffmpeg_itself_would_not_follow_one(
    video: Video, tmp_path: Path, kind: str, server: str, asked: list[str], program: Program, prober: Program
) -> None:
    """The whitelists hold without the look at the first bytes, and do it for a file next to it, too."""
    target = a_file(tmp_path, video("good.mp4").read_bytes(), "other.mp4")
    for to in (f"{server}/secret.mp4", str(target), "other.mp4"):
        path = a_file(tmp_path, PLAYLISTS[kind].format(to=to).encode())
        with pytest.raises(MediaUnusable):
            run(prober, ["-show_format", *reads(path)], watch=int, limit=20)
        with pytest.raises(MediaUnusable):
            run(program, [*reads(path), "-f", "null", "-"], watch=int, limit=20)
    assert asked == []


def test_the_test_of_playlists_can_fail(tmp_path: Path, server: str, asked: list[str], prober: Program) -> None:
    """Without whitelists the server is asked."""
    path = a_file(tmp_path, PLAYLISTS["hls"].format(to=f"{server}/secret.ts").encode(), "list.m3u8")
    with pytest.raises(MediaUnusable):
        run(prober, ["-show_format", "-protocol_whitelist", "file,http,tcp", str(path)], watch=int, limit=20)
    assert asked


def an_alias(name: bytes) -> bytes:
    """The record by which a QuickTime file names another one that has its media: here one in the same folder."""
    path = name + b"\0" * (len(name) % 2)
    head = bytes(10) + bytes(28) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    return head + struct.pack(">HH", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"


def a_file_without_media(folder: Path, whole: bytes) -> Path:
    """A copy whose media are zeros and are values to be in `other.mp4`."""
    entries = struct.pack(">II", 0, 1)
    old = box(b"dref", entries + box(b"url ", b"\0\0\0\1"))
    new = box(b"dref", entries + box(b"alis", bytes(4) + an_alias(b"/other.mp4")))
    assert old in whole
    hostile = bytearray(whole.replace(old, new))
    for kind in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = hostile.index(kind) - 4
        size = struct.unpack(">I", hostile[at : at + 4])[0]
        hostile[at : at + 4] = struct.pack(">I", size + len(new) - len(old))
    start = hostile.index(b"mdat") + 4
    size = struct.unpack(">I", hostile[start - 8 : start - 4])[0]
    hostile[start : start + size - 8] = bytes(size - 8)
    return a_file(folder, bytes(hostile))


def test_media_in_another_file_are_not_read(video: Video, tmp_path: Path, program: Program) -> None:
    whole = video("mute.mp4").read_bytes()
    a_file(tmp_path, whole, "other.mp4")
    path = a_file_without_media(tmp_path, whole)
    stolen = tmp_path / "stolen.jpg"
    picture = ["-loglevel", "error", "-frames:v", "1", "-pix_fmt", "yuvj420p", "-f", "mjpeg", f"file:{stolen}"]
    run(program, ["-enable_drefs", "1", *reads(path), *picture], watch=int)
    with Image.open(stolen) as taken:  # so the file is what this test takes it for
        assert taken.size == (180, 320)
    stolen.unlink()
    found = look(find("ffprobe"), path, watch=lambda done: None)
    with pytest.raises(MediaUnusable):
        look_at_pictures(program, path, found, watch=lambda done: None)
    with pytest.raises(MediaUnusable):
        write_thumbnail(program, path, stolen, at=0, watch=lambda done: None)
    assert not stolen.exists()

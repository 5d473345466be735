"""The simulated TikTok and YouTube take what the real ones document, and nothing else."""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from simulators.loopback import Reply, Request
from simulators.platforms.tiktok import MB, TikTokSimulator, tiktok_simulator
from simulators.platforms.youtube import YouTubeSimulator, youtube_simulator

ADA = "ada"
FILE = b"a video"
POST: dict[str, Any] = {"title": "A fox", "privacy_level": "SELF_ONLY"}
SOURCE: dict[str, Any] = {"source": "FILE_UPLOAD", "video_size": 7, "chunk_size": 7, "total_chunk_count": 1}
RESOURCE: dict[str, Any] = {
    "snippet": {"title": "A fox", "description": "in the snow", "tags": ["fox"], "categoryId": "22"},
    "status": {"privacyStatus": "public", "selfDeclaredMadeForKids": False, "containsSyntheticMedia": True},
}
VIDEOS = "/resumable/upload/youtube/v3/videos"


@pytest.fixture
def tiktok() -> Iterator[TikTokSimulator]:
    with tiktok_simulator() as simulator:
        simulator.add_account(ADA)
        yield simulator


@pytest.fixture
def youtube() -> Iterator[YouTubeSimulator]:
    with youtube_simulator() as simulator:
        simulator.add_account(ADA)
        yield simulator


def init(tiktok: TikTokSimulator, *, inbox: bool = False, **parts: Any) -> tuple[str, Any]:
    """Open an upload; return the error's code and the data."""
    path = "/v2/post/publish/inbox/video/init/" if inbox else "/v2/post/publish/video/init/"
    reply = tiktok._reply(Request("POST", path, "", headers(tiktok), json.dumps(parts).encode()))
    body = json.loads(reply.body)
    return body["error"]["code"], body["data"]


def headers(simulator: TikTokSimulator | YouTubeSimulator) -> dict[str, str]:
    return {"authorization": f"Bearer {simulator.token_of(ADA)}", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"post_info": POST, "source_info": SOURCE}, "ok"),
        ({"post_info": POST | {"is_aigc": True}, "source_info": SOURCE}, "ok"),
        ({"post_info": POST | {"is_aigc": "true"}, "source_info": SOURCE}, "invalid_params"),
        ({"post_info": POST | {"description": "x"}, "source_info": SOURCE}, "invalid_params"),
        ({"post_info": {"title": "A fox"}, "source_info": SOURCE}, "invalid_params"),
        ({"post_info": POST | {"title": "🦊" * 1101}, "source_info": SOURCE}, "invalid_params"),
        ({"post_info": POST | {"privacy_level": "PUBLIC"}, "source_info": SOURCE}, "privacy_level_option_mismatch"),
        ({"post_info": POST}, "invalid_params"),
        ({"post_info": POST, "source_info": SOURCE, "mode": "DIRECT"}, "invalid_params"),
        ({"post_info": POST, "source_info": SOURCE | {"source": "PULL_FROM_URL"}}, "invalid_params"),
    ],
    ids=range(10),
)
def test_tiktok_takes_no_field_too_many(tiktok: TikTokSimulator, parts: dict[str, Any], code: str) -> None:
    assert init(tiktok, **parts)[0] == code


def test_an_inbox_upload_takes_no_settings(tiktok: TikTokSimulator) -> None:
    assert init(tiktok, inbox=True, source_info=SOURCE)[0] == "ok"
    assert init(tiktok, inbox=True, source_info=SOURCE, post_info=POST)[0] == "invalid_params"


@pytest.mark.parametrize(
    ("size", "chunk", "count", "good"),
    [
        (4 * MB, 4 * MB, 1, True),
        (4 * MB, 2 * MB, 2, False),
        (64 * MB, 64 * MB, 1, True),
        (65 * MB, 65 * MB, 1, False),
        (65 * MB, 10 * MB, 6, True),
        (65 * MB, 10 * MB, 7, False),
        (65 * MB, 4 * MB, 16, False),
        (128 * MB, 64 * MB, 2, True),
        (127 * MB, 64 * MB, 1, True),
        (4001 * MB, 50 * MB, 80, False),
        (0, 0, 1, False),
    ],
)
def test_tiktok_keeps_its_rules_of_chunks(
    tiktok: TikTokSimulator, size: int, chunk: int, count: int, good: bool
) -> None:
    source = {"source": "FILE_UPLOAD", "video_size": size, "chunk_size": chunk, "total_chunk_count": count}
    assert init(tiktok, post_info=POST, source_info=source)[0] == ("ok" if good else "invalid_params")


@pytest.mark.parametrize(
    ("content_range", "body", "status"),
    [
        ("bytes 0-6/7", FILE, 201),
        ("bytes 0-5/7", FILE[:6], 416),
        ("bytes 1-6/7", FILE[1:], 416),
        ("bytes 0-6/8", FILE, 416),
        ("bytes 0-6/7", FILE[:6], 400),
        ("", FILE, 400),
    ],
)
def test_tiktok_takes_whole_chunks_in_their_order(
    tiktok: TikTokSimulator, content_range: str, body: bytes, status: int
) -> None:
    _, data = init(tiktok, post_info=POST, source_info=SOURCE)
    query = data["upload_url"].partition("?")[2]
    sent = {"content-range": content_range, "content-type": "video/mp4"}
    assert tiktok._reply(Request("PUT", "/video/", query, sent, body)).status == status
    assert [post.sha256 for post in tiktok.posts] == ([hashlib.sha256(FILE).hexdigest()] if status == 201 else [])


def opened(youtube: YouTubeSimulator, resource: Any, query: str = "", **more: str) -> Reply:
    query = query or "uploadType=resumable&part=snippet,status&notifySubscribers=false"
    sent = {"x-upload-content-length": "7", "x-upload-content-type": "video/mp4", **more}
    return youtube._reply(Request("POST", VIDEOS, query, headers(youtube) | sent, json.dumps(resource).encode()))


@pytest.mark.parametrize(
    ("part", "changes", "status"),
    [
        ("snippet", {}, 200),
        ("snippet", {"catgoryId": "22"}, 400),
        ("snippet", {"title": "<fox>"}, 400),
        ("snippet", {"title": ""}, 400),
        ("snippet", {"description": "é" * 2501}, 400),
        ("snippet", {"tags": ["x" * 501]}, 400),
        ("status", {"privacyStatus": "PUBLIC"}, 400),
        ("status", {"containsSyntheticMedia": "true"}, 400),
        ("status", {"publishAt": "2026-11-27T12:00:00Z"}, 400),
    ],
    ids=range(9),
)
def test_youtube_takes_no_field_too_many(
    youtube: YouTubeSimulator, part: str, changes: dict[str, Any], status: int
) -> None:
    assert opened(youtube, RESOURCE | {part: RESOURCE[part] | changes}).status == status


@pytest.mark.parametrize("query", ["uploadType=media&part=snippet,status", "uploadType=resumable&part=snippet", "x=1"])
def test_youtube_takes_no_parameter_too_many(youtube: YouTubeSimulator, query: str) -> None:
    assert opened(youtube, RESOURCE, query).status == 400


@pytest.mark.parametrize(
    ("content_range", "body", "status"),
    [
        ("bytes 0-6/7", FILE, 200),
        ("bytes 0-3/7", FILE[:4], 308),
        ("bytes 1-6/7", FILE[1:], 308),
        ("bytes 0-6/8", FILE, 400),
        ("bytes 0-6/7", FILE[:6], 400),
        ("bytes */7", b"", 308),
        ("bytes */8", b"", 400),
        ("", FILE, 400),
    ],
)
def test_youtube_takes_bytes_from_where_it_is(
    youtube: YouTubeSimulator, content_range: str, body: bytes, status: int
) -> None:
    session = opened(youtube, RESOURCE).headers["Location"].partition("?")[2]
    sent = headers(youtube) | {"content-range": content_range}
    assert youtube._reply(Request("PUT", VIDEOS, session, sent, body)).status == status
    assert len(youtube.posts) == (status == 200)


@pytest.mark.parametrize("platform", ["tiktok", "youtube"])
def test_a_login_that_is_not_as_documented_cannot_be_begun(
    platform: str, tiktok: TikTokSimulator, youtube: YouTubeSimulator
) -> None:
    digest = hashlib.sha256(b"v" * 64).digest()
    common = {"redirect_uri": "http://127.0.0.1/", "response_type": "code", "state": "s"}
    simulator: TikTokSimulator | YouTubeSimulator
    if platform == "tiktok":
        simulator, path = tiktok, "/v2/auth/authorize/"
        right = common | {"client_key": simulator.client_id, "scope": "user.info.basic"}
        right |= {"code_challenge": digest.hex(), "code_challenge_method": "S256"}
    else:
        simulator, path = youtube, "/o/oauth2/v2/auth"
        right = common | {"client_id": simulator.client_id, "scope": simulator.scopes[0], "prompt": "consent"}
        right |= {"code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(), "code_challenge_method": "S256"}
        right |= {"access_type": "offline"}

    def status(params: dict[str, str]) -> int:
        return simulator._reply(Request("GET", path, urlencode(params), {}, b"")).status

    assert status(right) == 302
    for wrong in ({"scope": "everything"}, {"code_challenge": "short"}, {"response_type": "token"}, {"more": "x"}):
        assert status(right | wrong) == 400
    for name in right:
        assert status({each: value for each, value in right.items() if each != name}) == 400

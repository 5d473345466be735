"""Files that are uploaded and handed out again: over real sockets, onto a real disk."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any, Self
from uuid import uuid4

import httpx
import psutil
import pytest
from sqlalchemy import insert
from starlette.types import Message

from db.schema.videos import videos
from domain.videos.media import object_key
from integrations.store.folder import FolderStore
from tests.attack.wire import Wire, head
from tests.builders import a_tenant
from tests.integrations.store.conftest import KEYS, moto, small_disk
from tests.wait import until
from tests.web.api.test_api import a_key, refused
from web.api.app import create_api
from web.api.media import OF_ONE_TENANT as OF_ONE_UPLOADER
from web.main import WebDeps, create_app
from web.media import OF_ONE_TENANT, MediaFiles
from web.server.connections import ConnectionLimits, Server
from workers.adapters.ports import media_folder
from workers.app import App, build
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.settings import Settings

__all__ = ["moto", "small_disk"]

MP4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
MOST = 3 * 1024 * 1024
LONG = 600.0


def a_video(size: int, seed: bytes = b"") -> bytes:
    return (MP4 + seed + b"moov" * (size // 4))[:size]


class Web:
    """The web application on a socket of this machine, with a folder for its files. Its wires end with it."""

    def __init__(self, app: App, base: str, folder: Path) -> None:
        self.app = app
        self.base = base
        self.folder = folder
        self._wires = ExitStack()
        # One for all requests: each client reads the certificates of the world first, which takes longer than they do.
        self.client = self._wires.enter_context(
            httpx.Client(base_url=base, timeout=60, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._wires.close()

    def files(self) -> list[str]:
        """Every file of the store, but its secret; also what is on its way."""
        found = (each for each in self.folder.rglob("*") if each.is_file() and each.name != ".secret")
        return sorted(str(each.relative_to(self.folder)) for each in found)

    def wire(self, window: int | None = None) -> Wire:
        return self._wires.enter_context(Wire("127.0.0.1", int(self.base.rpartition(":")[2]), 60, window))

    def begin_upload(self, tenant: "Tenant") -> Wire:
        """Begin to send a file of most bytes, of which none has come when this returns, and whose place is taken."""
        wire = self.wire()
        lines = [f"Authorization: Bearer {tenant.key}", "Content-Type: video/mp4", f"Content-Length: {MOST}"]
        wire.send(head("POST", "/api/media", *lines, "Expect: 100-continue"))
        assert wire.answer() == "100", "the body is asked for by whoever has taken a place for it"
        return wire


class Tenant:
    def __init__(self, web: Web, *scopes: str) -> None:
        self.id = a_tenant(web.app)
        self.key = a_key(web.app, self.id, *(scopes or ("videos:read", "videos:write")))
        self._client = web.client

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self._client.request(method, path, headers=headers, **options)

    def upload(self, content: Any, content_type: str = "video/mp4") -> httpx.Response:
        return self("POST", "/api/media", content=content, headers={"Content-Type": content_type})


@contextmanager
def serving(settings: Settings, **limits: Any) -> Iterator[Web]:
    """Serve with limits that no test reaches but by naming its own: who holds a place may be slow."""
    limits = {"head": LONG, "body": LONG, "longest": LONG} | limits
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        app = build(Settings.model_validate(settings.model_dump() | {"port": listener.getsockname()[1]}), name="tests")
        stack.callback(app.close)
        folder = media_folder(app.settings)
        deps = WebDeps(
            stripe_secrets=(),
            clerk_secrets=(),
            connect=app.db.connect,
            notify=lambda notifications: None,
            redis_ping=lambda: None,
            clock=lambda: 0.0,
            make_id=uuid4,
            stripe_job=apply_stripe_event,
            clerk_job=apply_clerk_event,
            api=create_api(app, sessions=None, clock=lambda: datetime.now(UTC).timestamp()),
            media=MediaFiles(folder),
        )
        server = Server(create_app(deps), ConnectionLimits(**limits), port=app.settings.port)
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        stack.callback(thread.join, 60)
        stack.callback(setattr, server, "should_exit", True)
        until(lambda: server.started, "the server to start")
        yield stack.enter_context(Web(app, app.settings.web_url, folder.folder))


@pytest.fixture
def of_files(settings: Settings, tmp_path: Path) -> Settings:
    changed = {"media_dir": tmp_path / "media", "media_most_bytes": MOST, "host": "127.0.0.1"}
    return Settings.model_validate(settings.model_dump() | changed)


@pytest.fixture
def web(of_files: Settings) -> Iterator[Web]:
    with serving(of_files) as served:
        yield served


@pytest.fixture
def ada(web: Web) -> Tenant:
    return Tenant(web)


# --- uploading ----------------------------------------------------------------------------------------------


def test_a_file_is_kept_listed_read_and_deleted(web: Web, ada: Tenant) -> None:
    content = a_video(2_500_000)
    answer = ada.upload(content)
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert (file["kind"], file["bytes"], file["sha256"]) == ("video", len(content), sha256(content).hexdigest())
    assert [each["id"] for each in ada("GET", "/api/media").json()["media"]] == [file["id"]]
    url = ada("GET", f"/api/media/{file['id']}").json()["url"]
    assert url.startswith(web.base)
    read = httpx.get(url)
    assert (read.status_code, read.content, read.headers["content-type"]) == (200, content, "video/mp4")
    assert ada("DELETE", f"/api/media/{file['id']}").status_code == 204
    assert refused(httpx.get(url)) == (404, "NOT_FOUND")
    assert refused(ada("GET", f"/api/media/{file['id']}")) == (404, "NOT_FOUND")
    assert web.files() == []


def test_the_same_file_twice_is_one(web: Web, ada: Tenant) -> None:
    first, second = ada.upload(a_video(5000)), ada.upload(a_video(5000))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(web.files()) == 1


def test_a_file_that_the_store_has_lost_is_kept_when_it_is_sent_again(web: Web, ada: Tenant) -> None:
    first = ada.upload(a_video(5000))
    [name] = web.files()
    (web.folder / name).unlink()
    again = ada.upload(a_video(5000))
    assert (first.status_code, again.status_code, web.files()) == (201, 200, [name])
    assert again.json() == first.json()


def test_the_list_comes_in_pages(ada: Tenant) -> None:
    ids = [ada.upload(a_video(5000, bytes([number]))).json()["id"] for number in range(5)]
    found, path = [], "/api/media?limit=2"
    while path:
        page = ada("GET", path).json()
        found += [each["id"] for each in page["media"]]
        path = page["next"] and f"/api/media?limit=2&cursor={page['next']}"
    assert found == ids[::-1]


def test_pictures_are_told_apart_by_their_bytes(ada: Tenant) -> None:
    assert ada.upload(PNG + b"x" * 100, "image/png").json()["kind"] == "image"
    assert ada.upload(JPEG + b"x" * 100, "image/jpeg").json()["content_type"] == "image/jpeg"
    quicktime = b"\0\0\0\x14ftypqt  " + b"x" * 100
    assert ada.upload(quicktime, "video/mp4").json()["content_type"] == "video/quicktime"


@pytest.mark.parametrize(
    ("content", "content_type", "refusal"),
    [
        (b"<html>" * 100, "video/mp4", (422, "NOT_MEDIA")),
        (b"", "video/mp4", (422, "NOT_MEDIA")),
        (b"x", "image/png", (422, "NOT_MEDIA")),
        (b"\0\0\0\x1cftypavif" + b"x" * 100, "video/mp4", (422, "NOT_MEDIA")),
        (JPEG + b"x" * 100, "video/mp4", (422, "NOT_MEDIA")),
        (MP4, "application/x-www-form-urlencoded", (415, "TYPE_UNKNOWN")),
        (MP4, "", (415, "TYPE_UNKNOWN")),
        (b"{", "application/json", (422, "INVALID")),
        (b"{}", "application/json", (422, "INVALID")),
        (
            b'{"bytes": 5, "sha256": "%s", "content_type": "video/mp4"}' % (b"a" * 64),
            "application/json",
            (409, "NO_DIRECT_UPLOADS"),
        ),
    ],
)
def test_what_is_no_file_that_we_keep_is_refused_and_nothing_stays(
    web: Web, ada: Tenant, content: bytes, content_type: str, refusal: tuple[int, str]
) -> None:
    assert refused(ada.upload(content, content_type)) == refusal
    assert web.files() == []
    with web.app.db.transaction(ada.id) as tx:
        assert tx.media.bytes_of(ada.id) == 0
    assert ada("GET", "/api/media").json()["media"] == []


def test_what_is_too_large_is_refused_before_it_is_sent_or_as_soon_as_it_is(web: Web, ada: Tenant) -> None:
    with web.wire() as wire:
        announced = [f"Authorization: Bearer {ada.key}", "Content-Type: video/mp4", f"Content-Length: {MOST + 1}"]
        wire.send(head("POST", "/api/media", *announced))
        assert wire.answer() == "413"

    def chunks() -> Iterator[bytes]:
        sent = a_video(MOST)
        yield sent
        yield b"x"

    assert refused(ada.upload(chunks())) == (413, "BODY_TOO_LARGE")
    assert web.files() == []
    assert ada.upload(a_video(MOST)).status_code == 201


def test_a_caller_without_the_scope_sends_nothing(web: Web) -> None:
    reader = Tenant(web, "videos:read")
    assert refused(reader.upload(a_video(5000))) == (403, "SCOPE_MISSING")
    assert httpx.post(f"{web.base}/api/media", content=b"x").status_code == 401


def test_whoever_hangs_up_leaves_nothing(web: Web, ada: Tenant) -> None:
    with web.wire() as wire:
        lines = [f"Authorization: Bearer {ada.key}", "Content-Type: video/mp4", "Content-Length: 2500000"]
        wire.send(head("POST", "/api/media", *lines) + a_video(1_500_000))
        until(web.files, "the file to come")
        wire.abort()
    until(lambda: web.files() == [], "what had come to be deleted")


def test_a_drip_is_cut_and_leaves_nothing(of_files: Settings) -> None:
    with serving(of_files, body=0.3, upload_rate=1_000_000) as web:
        ada = Tenant(web)
        with web.wire() as wire:
            lines = [f"Authorization: Bearer {ada.key}", "Content-Type: video/mp4", "Content-Length: 2500000"]
            wire.send(head("POST", "/api/media", *lines))
            wire.drip(a_video(100_000), 0.01, for_seconds=60)
            assert wire.answer() == "408"
        until(lambda: web.files() == [], "what had come to be deleted")


def test_an_upload_may_take_longer_than_another_body(of_files: Settings) -> None:
    with serving(of_files, body=0.2, rate=10**9, longest=0.2, upload_rate=1, longest_upload=60.0) as web:
        ada = Tenant(web)
        content = a_video(60)
        with web.wire() as wire:
            lines = [f"Authorization: Bearer {ada.key}", "Content-Type: video/mp4", f"Content-Length: {len(content)}"]
            wire.send(head("POST", "/api/media", *lines))
            wire.drip(content, 0.02, for_seconds=60)
            assert wire.answer() == "201"


def test_so_many_at_once_and_no_more(web: Web, ada: Tenant) -> None:
    wires = [web.begin_upload(ada) for _ in range(OF_ONE_UPLOADER)]
    answer = ada.upload(a_video(5000))
    assert refused(answer) == (503, "OVERLOADED")
    assert "retry-after" in answer.headers
    bob = Tenant(web)
    wires += [web.begin_upload(bob) for _ in range(OF_ONE_UPLOADER)]
    for wire in wires:
        wire.send(a_video(1_100_000))
    until(lambda: len(web.files()) == len(wires), "all files to come")
    assert Tenant(web).upload(a_video(5000)).status_code == 201
    for wire in wires:
        wire.abort()
    until(lambda: ada.upload(a_video(5000)).status_code == 201, "a place to be free again")


def test_a_store_that_is_full_says_so_and_keeps_nothing(of_files: Settings, small_disk: Path) -> None:
    with serving(Settings.model_validate(of_files.model_dump() | {"media_dir": small_disk})) as web:
        ada = Tenant(web)
        answer = ada.upload(a_video(MOST))
        assert refused(answer) == (503, "STORE_UNAVAILABLE")
        assert answer.json()["error"] == "there is no space left to keep files in; try again later"
        assert web.files() == []
        assert ada.upload(a_video(5000)).status_code == 201


def test_what_is_wrong_with_the_store_is_for_operators(of_files: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(Settings.model_validate(of_files.model_dump() | {"media_dir": tmp_path / "file"})) as web:
        answer = Tenant(web).upload(a_video(5000))
        assert refused(answer) == (503, "STORE_UNAVAILABLE")
        assert answer.json()["error"] == "files can be neither kept nor read now; try again later"


def test_a_tenant_keeps_so_many_bytes_and_no_more(of_files: Settings) -> None:
    """Also of many that come at once; what is there already is not refused."""
    some = 400_000
    with serving(Settings.model_validate(of_files.model_dump() | {"media_tenant_bytes": 1024**2})) as web:
        ada, bob = Tenant(web), Tenant(web)
        answers: list[httpx.Response] = []
        threads = [
            Thread(target=lambda each=number: answers.append(ada.upload(a_video(some, bytes([each])))))
            for number in range(4)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        too_much = [each for each in answers if each.status_code != 201]
        assert [refused(each) for each in too_much] == [(413, "STORAGE_FULL")] * 2
        assert too_much[0].json()["details"] == {"bytes": some, "used": 2 * some, "allowed": 1024**2}
        listed = ada("GET", "/api/media").json()["media"]
        assert len(web.files()) == len(listed) == 2
        [again] = [each for each in range(4) if sha256(a_video(some, bytes([each]))).hexdigest() == listed[0]["sha256"]]
        assert ada.upload(a_video(some, bytes([again]))).status_code == 200
        assert bob.upload(a_video(some)).status_code == 201
        assert ada("DELETE", f"/api/media/{listed[0]['id']}").status_code == 204
        assert ada.upload(a_video(some, b"other")).status_code == 201


def test_many_send_and_delete_one_content_and_no_row_is_without_its_file(web: Web, ada: Tenant) -> None:
    content = a_video(200_000)
    odd: list[str] = []

    def act(number: int) -> None:
        for _ in range(6):
            if number % 2:
                for each in ada("GET", "/api/media").json()["media"]:
                    answer = ada("DELETE", f"/api/media/{each['id']}")
                    if answer.status_code not in (204, 404):
                        odd.append(answer.text)
            else:
                answer = ada.upload(content)
                if answer.status_code not in (200, 201, 503):
                    odd.append(answer.text)

    threads = [Thread(target=act, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert odd == []
    listed = ada("GET", "/api/media").json()["media"]
    assert [name for name in web.files() if name.startswith(str(ada.id))] == [
        object_key(ada.id, bytes.fromhex(each["sha256"]), "mp4") for each in listed
    ]


def test_a_file_that_a_video_uses_is_not_deleted(web: Web, ada: Tenant) -> None:
    file = ada.upload(a_video(5000)).json()
    with web.app.db.transaction(ada.id) as tx:
        tx.sql.execute(insert(videos).values(tenant_id=ada.id, status="completed", media_id=file["id"]))
    assert refused(ada("DELETE", f"/api/media/{file['id']}")) == (409, "STILL_USED")
    assert len(web.files()) == 1


def test_two_tenants_with_one_file_have_two(web: Web, ada: Tenant) -> None:
    bob = Tenant(web)
    first, second = ada.upload(a_video(5000)).json(), bob.upload(a_video(5000)).json()
    assert len(web.files()) == 2
    for method in ("GET", "DELETE"):
        assert refused(bob(method, f"/api/media/{first['id']}")) == (404, "NOT_FOUND")
    assert [each["id"] for each in bob("GET", "/api/media").json()["media"]] == [second["id"]]
    mine = bob("GET", f"/api/media/{second['id']}").json()["url"]
    assert httpx.get(mine).status_code == 200
    assert refused(httpx.get(mine.replace(str(bob.id), str(ada.id)))) == (403, "SIGNATURE_INVALID")


# --- reading ------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(web: Web, ada: Tenant) -> tuple[str, bytes]:
    """An address, and what is to be read there."""
    content = bytes(MP4 + os.urandom(300_000))
    file = ada.upload(content).json()
    return ada("GET", f"/api/media/{file['id']}").json()["url"], content


def test_an_address_that_is_changed_or_too_old_opens_nothing(web: Web, kept: tuple[str, bytes]) -> None:
    url = kept[0]
    path, _, query = url.partition("?")
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    wrong = [
        path,
        f"{path}?expires={int(expires) + 1}&signature={signature}",
        f"{path}?expires={expires}&signature={signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{path}?expires={expires}&signature=",
        f"{path}?expires={expires}&signature=ä",
        f"{path}?expires=0{expires}&signature={signature}",
        f"{path}?expires=x&signature={signature}",
        f"{web.base}/media/{uuid4()}/..%2f.secret?{query}",
        f"{web.base}/media/x/.secret?{query}",
    ]
    for each in wrong:
        answer = httpx.get(each)
        assert refused(answer) in ((403, "SIGNATURE_INVALID"), (404, "NOT_FOUND")), each
        assert answer.status_code == 403 or "%2f" in each
    two_hours_ago = time.time() - 7200
    store = FolderStore(web.folder, web=web.base, clock=lambda: two_hours_ago)
    old = store.address(path.partition("/media/")[2], lifetime=timedelta(hours=1))
    assert refused(httpx.get(old)) == (403, "ADDRESS_EXPIRED")
    for folder in ("/media/", "/media", f"/media/{uuid4()}", f"/media/{uuid4()}/"):
        assert httpx.get(f"{web.base}{folder}").status_code in (403, 404)
    assert httpx.post(url).status_code == 405


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=0-99999999", 0, None),
        ("bytes=299000-299999", 299_000, 300_000),
    ],
)
def test_a_part_is_read(kept: tuple[str, bytes], asked: str, start: int, end: int | None) -> None:
    url, content = kept
    answer = httpx.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, content[start:end])
    first = start % len(content)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(content)}"


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=x-"])
def test_a_part_that_makes_no_sense_is_the_whole(kept: tuple[str, bytes], asked: str) -> None:
    answer = httpx.get(kept[0], headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, kept[1])


def test_a_part_beyond_the_end_is_refused(kept: tuple[str, bytes]) -> None:
    answer = httpx.get(kept[0], headers={"Range": "bytes=9999999-"})
    assert refused(answer) == (416, "RANGE_INVALID")
    assert answer.headers["content-range"] == f"bytes */{len(kept[1])}"


def test_head_tells_all_and_sends_nothing(kept: tuple[str, bytes]) -> None:
    url, content = kept
    answer = httpx.head(url)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["etag"] == f'"{sha256(content).hexdigest()}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("inline; filename=")
    assert httpx.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    changed = httpx.get(url, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, content)


def opened(web: Web) -> list[str]:
    """The files of the store that this process has open."""
    return [each.path for each in psutil.Process().open_files() if each.path.startswith(str(web.folder))]


def test_whoever_hangs_up_leaves_no_file_open(web: Web, ada: Tenant) -> None:
    file = ada.upload(a_video(MOST)).json()
    url = ada("GET", f"/api/media/{file['id']}").json()["url"]

    wires = [web.wire(window=4096) for _ in range(3)]
    for wire in wires:
        wire.send(head("GET", url.removeprefix(web.base), host="x"))
    until(lambda: len(opened(web)) == 3, "three to read")
    for wire in wires:
        wire.abort()
    until(lambda: not opened(web), "their files to be closed")


def test_readers_of_one_tenant_keep_nobody_else_out(web: Web, ada: Tenant) -> None:
    bob = Tenant(web)
    urls = []
    for each in (ada, bob):
        file = each.upload(a_video(MOST)).json()
        urls.append(each("GET", f"/api/media/{file['id']}").json()["url"])
    wires = [web.wire(window=4096) for _ in range(OF_ONE_TENANT)]
    for wire in wires:
        wire.send(head("GET", urls[0].removeprefix(web.base), host="x"))
    until(lambda: len(opened(web)) == OF_ONE_TENANT, "all of them to read")
    assert refused(httpx.get(urls[0])) == (503, "OVERLOADED")
    assert refused(httpx.get(urls[1].replace(str(bob.id), str(ada.id)))) == (403, "SIGNATURE_INVALID")
    assert httpx.get(urls[1]).status_code == 200
    for wire in wires:
        wire.abort()
    until(lambda: httpx.get(urls[0]).status_code == 200, "a place to be free again")
    until(lambda: not opened(web), "all files to be closed")


def test_a_reader_is_let_go_some_time_after_the_address_has_expired(tmp_path: Path) -> None:
    content = a_video(1_000_000)
    (tmp_path / "file").write_bytes(content)
    now = [3600.0]
    store = FolderStore(tmp_path / "media", web="", clock=lambda: now[0])
    key = object_key(uuid4(), sha256(content).digest(), "mp4")
    store.put(key, tmp_path / "file", content_type="video/mp4")
    query = store.address(key, lifetime=timedelta(hours=1)).partition("?")[2]
    got: list[int] = []

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        got.append(len(message.get("body", b"")))
        now[0] += 1800  # a slow reader

    tenant, _, name = key.partition("/")
    scope = {"type": "http", "method": "GET", "path": f"/media/{key}", "headers": [], "query_string": query.encode()}
    endpoint = MediaFiles(store, clock=lambda: now[0])
    asyncio.run(endpoint({**scope, "path_params": {"tenant": tenant, "name": name}}, receive, send))
    assert 0 < sum(got) < len(content)


def test_a_long_file_is_read_for_as_long_as_somebody_reads(of_files: Settings, tmp_path: Path) -> None:
    """The seconds that are allowed are over long before the end; it is only whoever stands still that is let go."""
    content = os.urandom(24_000_000)  # more than the kernel takes at once
    (tmp_path / "long").write_bytes(content)
    with serving(of_files, body=2, rate=10**9, longest=2) as web:
        store, key = media_folder(web.app.settings), object_key(uuid4(), sha256(content).digest(), "mp4")
        store.put(key, tmp_path / "long", content_type="video/mp4")
        path = store.address(key, lifetime=timedelta(hours=1)).removeprefix(web.base)
        reads, stands = web.wire(window=32768), web.wire(window=32768)
        for each in (reads, stands):
            each.send(head("GET", path, host="x"))
        began, got = time.monotonic(), bytearray()
        while more := reads.socket.recv(65536):
            got += more
            if got.endswith(content[-8:]):
                break
            time.sleep(max(0.0, began + len(got) / 6_000_000 - time.monotonic()))  # a slow reader
        assert time.monotonic() - began > 3
        assert got.endswith(content)
        until(lambda: not opened(web), "who stands still to be let go")


# --- a bucket -----------------------------------------------------------------------------------------------


@pytest.fixture
def bucket_web(of_files: Settings, moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    changed = {"s3_bucket": "videos", "s3_endpoint_url": moto}
    with serving(Settings.model_validate(of_files.model_dump() | changed)) as served:
        yield served


def refused_as_busy(tenant: Tenant) -> bool:
    """Whether the tenant has all places taken. Asking takes one that is free for a moment: nobody else may want it."""
    return tenant.upload(b"x", "image/png").status_code == 503


def announcement(content: bytes, **changed: Any) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": sha256(content).hexdigest(), "content_type": "video/mp4"} | changed


def test_a_file_is_announced_put_into_the_bucket_and_completed(bucket_web: Web) -> None:
    ada, bob = Tenant(bucket_web), Tenant(bucket_web)
    content = a_video(300_000)
    answer = ada("POST", "/api/media", json=announcement(content))
    assert answer.status_code == 201, answer.text
    file = answer.json()
    complete = f"/api/media/{file['id']}/complete"
    assert not file["stored"]
    assert ada("GET", "/api/media").json()["media"] == []
    assert ada("GET", f"/api/media/{file['id']}").json()["url"] is None
    assert refused(ada("POST", complete)) == (409, "NOT_UPLOADED")
    held = [bucket_web.begin_upload(ada) for _ in range(OF_ONE_UPLOADER)]
    assert refused_as_busy(ada)  # and what follows takes no place of these
    to = file["upload"]
    assert httpx.request(to["method"], to["url"], headers=to["headers"], content=content).status_code == 200
    assert refused(bob("POST", complete)) == (404, "NOT_FOUND")
    assert ada("POST", complete).json()["stored"]
    assert ada("POST", complete).json()["stored"]
    for wire in held:
        wire.abort()
    until(lambda: not refused_as_busy(ada), "the places to be free again")
    url = ada("GET", f"/api/media/{file['id']}").json()["url"]
    assert httpx.get(url).content == content
    again = ada("POST", "/api/media", json=announcement(content))
    assert (again.status_code, again.json()["upload"]) == (200, None)
    assert ada.upload(content).status_code == 200
    assert ada("DELETE", f"/api/media/{file['id']}").status_code == 204
    assert httpx.get(url).status_code == 404


def test_what_is_put_and_is_another_file_is_not_completed(bucket_web: Web) -> None:
    """moto does not look at checksums; we do."""
    ada = Tenant(bucket_web)
    content = a_video(5000)
    file = ada("POST", "/api/media", json=announcement(content)).json()
    other = content[:-1] + b"x"
    assert httpx.put(file["upload"]["url"], content=other).status_code == 200
    assert refused(ada("POST", f"/api/media/{file['id']}/complete")) == (409, "NOT_UPLOADED")
    assert refused(ada("POST", f"/api/media/{file['id']}/complete")) == (404, "NOT_FOUND")
    file = ada("POST", "/api/media", json=announcement(content)).json()
    assert httpx.put(file["upload"]["url"], content=other).status_code == 200
    sent = ada.upload(content).json()
    assert httpx.get(ada("GET", f"/api/media/{sent['id']}").json()["url"]).content == content
    text = b"plain text" * 10
    file = ada("POST", "/api/media", json=announcement(text)).json()
    assert httpx.put(file["upload"]["url"], content=text).status_code == 200
    assert refused(ada("POST", f"/api/media/{file['id']}/complete")) == (409, "NOT_UPLOADED")


def test_what_a_camera_calls_an_mp4_is_kept_either_way(bucket_web: Web) -> None:
    ada = Tenant(bucket_web)
    quicktime = b"\0\0\0\x14ftypqt  " + b"x" * 5000
    file = ada("POST", "/api/media", json=announcement(quicktime)).json()
    to = file["upload"]
    assert httpx.put(to["url"], headers=to["headers"], content=quicktime).status_code == 200
    assert ada("POST", f"/api/media/{file['id']}/complete").json()["stored"]


def test_an_announcement_counts_and_is_refused_where_it_is_too_much(bucket_web: Web) -> None:
    ada = Tenant(bucket_web)
    content = a_video(5000)
    with bucket_web.app.db.transaction(ada.id) as tx:
        tx.media.begin(
            ada.id, sha256=bytes(32), size=bucket_web.app.settings.media_tenant_bytes - 4999, extension="mp4"
        )
    assert refused(ada("POST", "/api/media", json=announcement(content))) == (413, "STORAGE_FULL")
    assert ada("POST", "/api/media", json=announcement(content, bytes=4999)).status_code == 201


def test_a_file_may_come_through_us_to_the_bucket_too(bucket_web: Web) -> None:
    ada = Tenant(bucket_web)
    content = a_video(MOST)
    file = ada.upload(content).json()
    assert httpx.get(ada("GET", f"/api/media/{file['id']}").json()["url"]).content == content
    assert httpx.get(f"{bucket_web.base}/media/x/y").status_code in (403, 404)


def test_an_announcement_of_the_same_content_in_other_words_begins_again(bucket_web: Web) -> None:
    ada = Tenant(bucket_web)
    content = a_video(5000)
    wrong = ada("POST", "/api/media", json=announcement(content, bytes=17, content_type="image/png")).json()
    right = ada("POST", "/api/media", json=announcement(content)).json()
    assert wrong["id"] != right["id"]
    assert ada.upload(content).json()["content_type"] == "video/mp4"
    assert refused(ada("POST", f"/api/media/{wrong['id']}/complete")) == (404, "NOT_FOUND")
    too_large = ada("POST", "/api/media", json=announcement(content, bytes=MOST + 1))
    assert refused(too_large) == (413, "BODY_TOO_LARGE")

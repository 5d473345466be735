"""How `viral web|worker|scheduler` begin where the database does not serve them: they wait and say why, or refuse, in
one line."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest

from local.spawn import free_port
from tests.cli.shell import Shell, a_process
from tests.conftest import Servers
from tests.outages import commits_hang, locked, refusing
from tests.wait import until

ROLES = ("web", "worker", "scheduler")


class Started:
    """The three processes, and what they have written so far."""

    def __init__(self, environment: dict[str, str], stack: ExitStack) -> None:
        self._folder = Path(stack.enter_context(TemporaryDirectory()))
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for role in ROLES:
            log = stack.enter_context((self._folder / role).open("w"))
            self.processes[role] = stack.enter_context(a_process(environment, role, stdout=log, stderr=log))
            stack.callback(self.processes[role].kill)

    def written(self, role: str) -> list[str]:
        return (self._folder / role).read_text().splitlines()

    def events(self, role: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written(role) if line.startswith("{")]

    def has_logged(self, role: str, event: str, reason: str = "") -> bool:
        return any(line["event"] == event and reason in line.get("reason", "") for line in self.events(role))


@contextmanager
def started(environment: dict[str, str]) -> Iterator[Started]:
    with ExitStack() as stack:
        yield Started(environment, stack)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environment(environment: dict[str, str], port: int, tmp_path: Path) -> dict[str, str]:
    sizes = {"PORT": str(port), "WORKER_PROCESSES": "1", "WORKER_THREADS": "2", "LOG_FORMAT": "json"}
    return environment | sizes


@pytest.mark.proof
def test_on_a_server_that_only_reads_they_wait_say_why_and_begin_when_it_writes(
    environment: dict[str, str], owner_url: str, database: str, port: int
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with started(environment) as them:
            for role in ROLES:
                until(
                    lambda role=role: them.has_logged(role, f"{role}.waits", "read-only"),  # type: ignore[misc]
                    f"{role} to say why it waits",
                )
            until(lambda: them.has_logged("web", "web.ready"), "web to listen all the same")
            ready = httpx.get(f"http://127.0.0.1:{port}/readyz")
            assert (ready.status_code, ready.json()["postgres"]) == (503, "read-only")
            owner.execute("SET default_transaction_read_only = off")
            owner.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
            for role in ("worker", "scheduler"):
                until(lambda role=role: them.has_logged(role, f"{role}.ready"), f"{role} to begin")  # type: ignore[misc]
            until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200, "readiness", every=0.2)
            assert not any("Traceback" in str(them.written(role)) for role in ROLES)


@pytest.mark.proof
def test_on_a_schema_of_a_newer_release_they_refuse_to_begin_until_somebody_goes_back(
    environment: dict[str, str], viral: Shell, owner_url: str
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("UPDATE alembic_version SET version_num = '9999'")
    with started(environment) as them:
        for role in ROLES:
            assert them.processes[role].wait(60) == 1
        for role in ROLES:
            # The number alone may also stand in a time of the log.
            [line] = [line for line in them.written(role) if line.startswith("viral") and "9999" in line]
            assert line.endswith("run `viral migrate --allow-newer`")
            assert "Traceback" not in str(them.written(role))
    viral.done("migrate", "--allow-newer")
    with started(environment) as them:
        for role in ROLES:
            until(lambda role=role: them.has_logged(role, f"{role}.ready"), f"{role} to begin")  # type: ignore[misc]


def test_commands_say_in_one_line_that_the_database_takes_no_writes(viral: Shell, owner_url: str) -> None:
    with refusing(owner_url, "job_queue", "25006"):
        line = viral.refused("jobs", "enqueue", "upkeep.prune")
    assert line.startswith("viral: Postgres cannot serve us now (read-only): could not extend file")


# --- the doctor ---------------------------------------------------------------------------------------------


def writes(viral: Shell) -> tuple[int, str]:
    result = viral("doctor", "--json")
    return result.code, next((each["says"] for each in json.loads(result.out) if each["check"] == "writes"), "")


@pytest.mark.proof
def test_the_doctor_names_what_keeps_an_event_from_being_stored(viral: Shell, servers: Servers, owner_url: str) -> None:
    # Each has two seconds to show itself: on a machine that stops meanwhile, it is looked at again.
    until(lambda: writes(viral) == (0, "an event would be stored"), "all to be well")
    refused = "an event is not stored (disk full): webhooks are refused with 503, and no job can be finished"
    with refusing(owner_url, "webhook_events", "53100"):
        until(lambda: writes(viral) == (1, refused), "the full disk to be named")
    with locked(owner_url, "webhook_events"):
        until(lambda: "(locked)" in writes(viral)[1], "the lock to be named")
    says = "(no answer to COMMIT: is a synchronous standby missing?)"
    with commits_hang(servers.postgres):
        until(lambda: says in (found := writes(viral))[1] and found[0] == 1, "the commit that hangs to be named")

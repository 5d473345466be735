"""Real worker processes, a real Redis, a real Postgres, and signals at chosen moments."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pytest

from db.transaction import SYSTEM
from domain.learning.numbers import Horizon
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from scheduler.main import Ticker
from tests.builders import a_tenant, job_row
from tests.chaos.fork_server import ROOT, ForkServer
from tests.chaos.jobs.paid import paid
from tests.chaos.jobs.slow import poison, quick, slow
from tests.conftest import Servers
from tests.number_stage import curve, feedback, live, missed, snapshots
from tests.post_stage import post_stage
from tests.proxy import proxied
from tests.wait import until
from workers.app import App
from workers.engine.outcomes import rescue
from workers.jobs.analytics import collect
from workers.runtime.redis_client import connect


@dataclass(frozen=True)
class Forked:
    """A dyno of the fork server, asked and told as if it were a child of this process."""

    server: ForkServer
    pid: int

    def poll(self) -> int | None:
        return self.server.ended.get(self.pid)

    def wait(self, timeout: float = 90) -> int:
        until(lambda: self.poll() is not None, f"the process {self.pid} to end", seconds=timeout)
        return self.server.ended[self.pid]

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


Dyno = Forked | subprocess.Popen[bytes]


class Fleet:
    """Worker dynos, and a scheduler in this process."""

    def __init__(self, app: App, folder: Path, fork_server: ForkServer) -> None:
        self.app = app
        self.folder = folder
        self.dynos: list[Dyno] = []
        self._fork_server = fork_server

    def start(self, *, processes: int = 1, grace: int = 20, cold: bool = False, **env: str) -> Dyno:
        """Start a dyno, which is forked from what has imported everything; a `cold` one begins from nothing."""
        settings = self.app.settings
        environment = {
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url,
            "LOG_FORMAT": "console",
            "WORKER_PROCESSES": str(processes),
            "WORKER_THREADS": "2",
            "WORKER_GRACE_SECONDS": str(grace),
            "PYTHONPATH": str(ROOT),
            **env,
        }
        arguments, path = ["tests.chaos.worker:start"], self.folder / "workers.log"
        if not cold:
            return self.fork("workers.__main__:begin", arguments, environment, path)
        with path.open("ab") as log:
            dyno = subprocess.Popen(
                [sys.executable, "-m", "workers", *arguments],
                cwd=ROOT,
                env=os.environ | environment | {"PYTHONWARNINGS": "default"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.dynos.append(dyno)
        return dyno

    def fork(self, call: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Dyno:
        log.touch()
        dyno = Forked(self._fork_server, self._fork_server.fork(call, arguments, env, log))
        self.dynos.append(dyno)
        return dyno

    def start_and_sign_on(self, **options: Any) -> Dyno:
        before = len(self.alive())
        dyno = self.start(**options)
        expected = before + options.get("processes", 1)
        until(lambda: len(self.alive()) == expected, "the worker processes to sign on")
        return dyno

    def alive(self) -> list[int]:
        """Pids of worker processes that have signed on and run still."""
        with self.app.db.transaction(SYSTEM) as tx:
            return [row["pid"] for row in tx.workers.all() if psutil.pid_exists(row["pid"])]

    def reap(self) -> None:
        """Thirty seconds pass for every process that does not beat, and the reaper comes by."""
        with self.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE workers SET lease_until = now()")
        rescue(self.app.db, self.app.job_types)

    def enqueue(self, name: str) -> UUID:
        with self.app.db.transaction(SYSTEM) as tx:
            return slow.enqueue(tx, folder=str(self.folder), name=name)

    def let(self, *files: str) -> None:
        for file in files:
            (self.folder / file).touch()

    def await_file(self, file: str) -> None:
        until(lambda: (self.folder / file).exists(), f"the handler to reach {file}")

    def await_status(self, job_id: UUID, status: str) -> dict[str, object]:
        try:
            until(lambda: job_row(self.app, job_id)["status"] == status, f"the job to be {status}", seconds=90)
        except AssertionError as error:
            error.add_note(f"{job_row(self.app, job_id)}\nalive: {self.alive()}\n{self.log()[-4000:]}")
            raise
        return job_row(self.app, job_id)

    def marks(self) -> list[str]:
        with self.app.db.transaction(SYSTEM) as tx:
            rows = tx.driver.execute("SELECT name FROM system_metrics WHERE name <> 'sampled' ORDER BY id")
            return [name for (name,) in rows if not name.startswith("viral_")]

    def log(self) -> str:
        return (self.folder / "workers.log").read_text()

    def end(self) -> None:
        for dyno in self.dynos:
            if dyno.poll() is None:
                os.killpg(dyno.pid, signal.SIGKILL)
            dyno.wait()
            until(lambda dyno=dyno: not _session_lives(dyno.pid), "the dyno's processes to be gone")


def _session_lives(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    return any(
        process.info["status"] != psutil.STATUS_ZOMBIE and _group_of(process.pid) == pgid
        for process in psutil.process_iter(["status"])
    )


def _group_of(pid: int) -> int | None:
    """None: it has ended meanwhile."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def fleet(app: App, tmp_path: Path, fork_server: ForkServer) -> Iterator[Fleet]:
    fleet = Fleet(app, tmp_path, fork_server)
    ticker = Ticker(app)
    ticker.start()
    try:
        yield fleet
    finally:
        ticker.stop()
        fleet.end()


Strike = Callable[[Fleet], None]


@pytest.mark.proof(but=["effect"])
@pytest.mark.parametrize("moment", ["begun", "effect"])
def test_a_worker_killed_in_the_middle_of_a_handler_has_its_job_finished_once_by_another(
    fleet: Fleet, moment: str
) -> None:
    """Before its effects, and after they were written but not committed."""
    victim = fleet.start_and_sign_on()
    job_id = fleet.enqueue("job")
    if moment == "effect":
        fleet.let("job.go")
    fleet.await_file(f"job.{moment}.1")
    [pid] = fleet.alive()
    os.kill(pid, signal.SIGKILL)
    assert victim.wait(timeout=90) != 0
    assert fleet.marks() == []
    fleet.reap()
    fleet.start_and_sign_on()
    fleet.await_file("job.begun.2")
    fleet.let("job.go", "job.commit")
    row = fleet.await_status(job_id, "completed")
    assert (row["attempts"], row["crashes"]) == (2, 1)
    assert fleet.marks() == ["job"]


@pytest.mark.proof
@pytest.mark.parametrize("moment", ["held", "settled"])
def test_a_worker_killed_after_it_took_concepts_has_them_taken_and_paid_once(fleet: Fleet, moment: str) -> None:
    """Between hold and settlement, and after the settlement was written but not committed."""
    ada = a_tenant(fleet.app)

    def entries() -> list[tuple[str, int]]:
        with fleet.app.db.transaction(ada) as tx:
            return [(entry["kind"], entry["amount"]) for entry in reversed(tx.quota.ledger(ada))]

    victim = fleet.start_and_sign_on()
    with fleet.app.db.transaction(ada) as tx:
        job_id = paid.enqueue(tx, tenant_id=ada, folder=str(fleet.folder), count=5)
    if moment == "settled":
        fleet.let("go")
    fleet.await_file(f"{moment}.1")
    [pid] = fleet.alive()
    os.kill(pid, signal.SIGKILL)
    assert victim.wait(timeout=90) != 0
    fleet.reap()
    assert entries() == [("hold", 5)]
    fleet.start_and_sign_on()
    fleet.await_file("held.2")
    fleet.let("go", "commit")
    fleet.await_status(job_id, "completed")
    assert entries() == [("hold", 5), ("settle", -1)]


@pytest.mark.proof
def test_a_worker_killed_while_a_platform_answers_has_each_horizon_met_once(fleet: Fleet, tmp_path: Path) -> None:
    with post_stage(fleet.app.settings, tmp_path / "stage", "tiktok") as here:
        tenant_id, tiktok = here.tenant(), here.platforms["tiktok"]
        account_id = here.account(tenant_id, "tiktok")
        posts = [live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(3)]
        settings = here.app.settings
        key = settings.token_encryption_keys[0].get_secret_value()
        outside = {"TIKTOK_BASE_URL": tiktok.url, "TOKEN_ENCRYPTION_KEYS": key}
        outside |= {"TIKTOK_CLIENT_KEY": tiktok.client_id, "TIKTOK_CLIENT_SECRET": tiktok.client_secret}
        tiktok.fault("query", "held after")
        victim = fleet.start_and_sign_on(**outside)
        with fleet.app.db.transaction(tenant_id) as tx:
            job_id = collect.enqueue(tx, tenant_id=tenant_id, account_id=account_id)
        until(lambda: tiktok.received == ["query"], "the platform to be asked")
        [pid] = fleet.alive()
        os.kill(pid, signal.SIGKILL)
        assert victim.wait(timeout=90) != 0
        fleet.reap()
        fleet.start_and_sign_on(**outside)
        row = fleet.await_status(job_id, "completed")
        assert (row["attempts"], row["crashes"]) == (2, 1)
        for post_id in posts:
            [snapshot], [fed] = snapshots(here, post_id), feedback(here, post_id)
            assert (snapshot["horizon"], fed["horizon"], missed(here, post_id)) == ("1h", "1h", {})
            assert snapshot["views"] == curve(here, post_id, snapshot["age"]).views


def test_a_zombie_that_wakes_up_after_its_lease_commits_nothing(fleet: Fleet) -> None:
    fleet.start_and_sign_on()
    job_id = fleet.enqueue("job")
    fleet.let("job.go")
    fleet.await_file("job.effect.1")
    [zombie] = fleet.alive()
    os.kill(zombie, signal.SIGSTOP)
    fleet.reap()
    fleet.start_and_sign_on()
    fleet.await_file("job.begun.2")
    fleet.let("job.commit")
    fleet.await_status(job_id, "completed")
    os.kill(zombie, signal.SIGCONT)
    until(lambda: "job.lease_lost" in fleet.log(), "the zombie to be refused")
    assert fleet.marks() == ["job"]


def test_a_poison_job_is_quarantined_and_the_others_run(fleet: Fleet) -> None:
    with fleet.app.db.transaction(SYSTEM) as tx:
        job_id = poison.enqueue(tx)
    for _ in range(CRASHES_BEFORE_QUARANTINE):
        dyno = fleet.start()
        assert dyno.wait(timeout=90) != 0
        fleet.reap()
    row = fleet.await_status(job_id, "failed")
    assert row["error_message"] == "quarantined: its worker process died 2 times while running it"
    fleet.start_and_sign_on()
    with fleet.app.db.transaction(SYSTEM) as tx:
        other = quick.enqueue(tx, name="other")
    fleet.await_status(other, "completed")


def test_redis_emptied_while_jobs_wait_loses_none(fleet: Fleet) -> None:
    with fleet.app.db.transaction(SYSTEM) as tx:
        job_ids = [quick.enqueue(tx, name=str(n)) for n in range(50)]
    client = connect(fleet.app.settings.redis_url)
    client.flushall()
    client.close()
    fleet.start_and_sign_on()
    for job_id in job_ids:
        fleet.await_status(job_id, "completed")
    assert sorted(fleet.marks(), key=int) == [str(n) for n in range(50)]


def test_a_worker_whose_database_is_away_waits_for_it_and_claims_nothing_before_it_has_signed_on(
    fleet: Fleet, servers: Servers
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        there = urlsplit(fleet.app.settings.database_url)
        away = there._replace(netloc=f"{there.netloc.rpartition('@')[0]}@127.0.0.1:{bound.getsockname()[1]}").geturl()
        with fleet.app.db.transaction(SYSTEM) as tx:
            job_id = quick.enqueue(tx, name="job")
        dyno = fleet.start(DATABASE_URL=away)
        until(lambda: "worker.waits" in fleet.log(), "the worker to find its database away")
        with proxied("127.0.0.1", servers.postgres.port, bound):
            fleet.await_status(job_id, "completed")
            dyno.terminate()
            assert dyno.wait(timeout=90) == 0
    assert fleet.log().index("worker.waits") < fleet.log().index("worker.ready")


@pytest.mark.proof
def test_repeated_sigterms_to_every_process_drain_and_do_not_kill(fleet: Fleet) -> None:
    """What a dyno manager does: every process is signalled, and the parent passes its own signal on as well."""
    dyno = fleet.start_and_sign_on(processes=2, cold=True)
    job_id = fleet.enqueue("job")
    fleet.await_file("job.begun.1")
    for _ in range(3):
        os.killpg(dyno.pid, signal.SIGTERM)
    until(lambda: "worker.draining" in fleet.log(), "the drain to begin")
    os.killpg(dyno.pid, signal.SIGTERM)
    fleet.let("job.go", "job.commit")
    assert dyno.wait(timeout=90) == 0
    row = job_row(fleet.app, job_id)
    assert (row["status"], row["attempts"], row["crashes"]) == ("completed", 1, 0)
    assert fleet.alive() == []


@pytest.mark.proof
def test_a_job_that_outlasts_the_grace_is_given_back_with_its_attempt(fleet: Fleet) -> None:
    dyno = fleet.start_and_sign_on(grace=1)
    job_id = fleet.enqueue("job")
    fleet.await_file("job.begun.1")
    dyno.terminate()
    assert dyno.wait(timeout=90) == 0
    row = job_row(fleet.app, job_id)
    assert (row["status"], row["attempts"], row["crashes"]) == ("pending", 0, 0)
    fleet.let("job.go", "job.commit")
    fleet.start_and_sign_on()
    assert fleet.await_status(job_id, "completed")["attempts"] == 1
    assert fleet.marks() == ["job"]

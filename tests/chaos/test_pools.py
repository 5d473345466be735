"""Few connections to Postgres: work goes on with one a process, and a fleet holds no more than was summed up for it."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg
import pytest

from db.transaction import SYSTEM
from domain.identity.access import KEY_BYTES, new_key
from domain.ops.connections import Role, of_fleet, of_process
from integrations.stripe import webhooks as stripe
from local.spawn import answers, free_port
from tests.builders import a_tenant, new_id, tenant
from tests.chaos.fork_server import ForkServer
from tests.chaos.jobs import varied
from tests.chaos.test_kill import Fleet
from tests.wait import until
from workers.app import App

GRACE = 10
CALLERS = 16


class WholeFleet(Fleet):
    """Web and scheduler are processes too."""

    def run(self, *command: str, **env: str) -> None:
        settings = self.app.settings
        environment = {
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url,
            "STRIPE_WEBHOOK_SECRET": "whsec_stripe",
            "LOG_FORMAT": "console",
            **env,
        }
        self.fork("cli.main:main", command, environment, self.folder / f"{command[0]}.log")

    def web(self, **env: str) -> str:
        port = free_port()
        self.run("web", PORT=str(port), **env)
        return f"http://127.0.0.1:{port}"


@pytest.fixture
def fleet(app: App, tmp_path: Path, fork_server: ForkServer) -> Iterator[WholeFleet]:
    fleet = WholeFleet(app, tmp_path, fork_server)
    try:
        yield fleet
    finally:
        fleet.end()


def enqueue(app: App, rounds: int, buyers: list[UUID]) -> None:
    """Eight jobs a round, one of each kind; one of them enqueues two more."""
    for n in range(rounds):
        with app.db.transaction(SYSTEM) as tx:
            varied.stepping.enqueue(tx, name=f"stepping {n}")
            varied.chunked.enqueue(tx, name=f"chunked {n}", key=str(n % 3))
            varied.shared.enqueue(tx, name=f"shared {n}")
            varied.nothing.enqueue(tx)
            varied.branching.enqueue(tx, name=f"batch {n}")
            varied.snoozing.enqueue(tx, name=f"snoozing {n}")
            varied.refused.enqueue(tx, name=f"refused {n}")
            varied.buying.enqueue(tx, tenant_id=buyers[n % len(buyers)])


def marked(rounds: int) -> list[str]:
    """What `rounds` rounds leave behind, once each."""
    kinds = (
        "stepping {}",
        "chunked {}",
        "shared {}",
        "batch {}",
        "batch {}/0",
        "batch {}/1",
        "snoozing {}",
        "refused {}",
    )
    return sorted(kind.format(n) for kind in kinds for n in range(rounds))


def states(app: App) -> Counter[str]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT status, count(*) FROM job_queue GROUP BY 1")
        return Counter({str(status): int(count) for status, count in rows})


def test_jobs_of_every_kind_get_done_with_one_connection_for_eight_threads_and_a_drain_is_in_time(
    fleet: WholeFleet,
) -> None:
    app, buyers = fleet.app, [a_tenant(fleet.app, monthly_quota=1000) for _ in range(2)]
    few, rounds = {"DB_POOL_SIZE": "1", "WORKER_THREADS": "8"}, 20
    enqueue(app, rounds, buyers)
    fleet.run("scheduler", **few)
    first = fleet.start(grace=GRACE, **few)
    until(lambda: states(app)["completed"] > rounds, "some of the jobs to be done", seconds=60)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=GRACE + 20) == 0, fleet.log()
    assert fleet.alive() == []
    assert states(app)["running"] == 0, "what was running is done, or given back"
    fleet.start(grace=GRACE, **few)
    until(lambda: states(app)["completed"] >= 9 * rounds, "all to be done", seconds=90)
    assert states(app)["failed"] == rounds
    assert sorted(fleet.marks()) == marked(rounds)
    assert sum(tenant(app, buyer)["used_quota"] for buyer in buyers) == rounds
    with app.db.transaction(SYSTEM) as tx:
        worst = tx.driver.execute("SELECT max(crashes), max(attempts) FROM job_queue").fetchone()
    assert worst == (0, 1), "none was lost, and none had to be tried again"
    assert not {"job.postponed", "worker.heartbeat_missed"} & set(fleet.log().split())


@pytest.mark.proof
@pytest.mark.parametrize(
    ("env", "server"),
    [({}, 60), ({"WORKER_PROCESSES": "1", "DB_POOL_SIZE": "1"}, 20)],
    ids=["as it ships", "by the settings that the docs name"],
)
def test_a_fleet_holds_no_more_connections_than_its_sum(fleet: WholeFleet, env: dict[str, str], server: int) -> None:
    """Three of a server's are kept for superusers."""
    app, rounds = fleet.app, 5
    processes, pool = int(env.get("WORKER_PROCESSES", 2)), int(env.get("DB_POOL_SIZE", 0))
    most = of_fleet(web=2, workers=4, processes=processes, pool=pool)
    assert most <= server - 3
    buyers = [a_tenant(app, monthly_quota=1000) for _ in range(4)]
    with watched(app) as peaks:
        for _ in range(4):
            fleet.start(processes=processes, **{"WORKER_THREADS": "8"} | env)
        fleet.run("scheduler", **env)
        webs = [fleet.web(**env) for _ in range(2)]
        until(lambda: all(answers(urlsplit(web).port or 0) for web in webs), "web to listen", seconds=60)
        until(lambda: len(fleet.alive()) == 4 * processes, "the worker processes to sign on", seconds=60)
        enqueue(app, rounds, buyers)
        with ThreadPoolExecutor(CALLERS) as callers:
            asked = [callers.submit(call, webs[n % 2], keys, 6) for n, keys in enumerate(keys_of(app, buyers))]
            answered: Counter[int] = sum((each.result() for each in asked), Counter())
        until(lambda: sorted(fleet.marks()) == marked(rounds), "all to be done", seconds=90)
    assert answered == {200: CALLERS * 6 * 2, 202: CALLERS}
    assert 0 < peaks["all"] <= most, peaks
    assert peaks["web"] <= 2 * of_process(Role.WEB, pool=pool), peaks
    assert peaks["worker"] <= 4 * processes * of_process(Role.WORKER, pool=pool), peaks
    assert peaks["scheduler"] <= of_process(Role.SCHEDULER, pool=pool), peaks


@contextmanager
def watched(app: App) -> Iterator[Counter[str]]:
    """The most connections that there were at once, of each kind of process and of all."""
    peaks: Counter[str] = Counter()
    stop = threading.Event()
    query = """
        SELECT split_part(application_name, ' ', 2), count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'viral %' GROUP BY 1
    """

    def watch() -> None:
        with psycopg.connect(app.settings.database_url, autocommit=True) as connection:
            while not stop.wait(0.02):
                now = {str(role): int(count) for role, count in connection.execute(query)}
                peaks.update(
                    {role: max(0, count - peaks[role]) for role, count in {**now, "all": sum(now.values())}.items()}
                )

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        stop.set()
        watcher.join()


def keys_of(app: App, tenants: list[UUID]) -> list[str]:
    """A key for each caller."""
    texts = []
    for n in range(CALLERS):
        key = new_key(
            os.urandom(KEY_BYTES),
            name=str(n),
            scopes=["account:read", "generations:write"],
            expires_at=None,
            now=datetime.now(UTC),
            others=0,
        )
        with app.db.transaction(SYSTEM) as tx:
            tx.access.add_key(new_id(), tenants[n % len(tenants)], key)
        texts.append(key.text)
    return texts


def call(origin: str, key: str, times: int) -> Counter[int]:
    """Ask the API and deliver events; ask for a concept once."""
    answered: Counter[int] = Counter()
    with httpx.Client(base_url=origin, timeout=60, headers={"Authorization": f"Bearer {key}"}) as client:
        for n in range(times):
            answered[client.get("/api/user/usage").status_code] += 1
            body = json.dumps(
                {"id": f"evt_{key[-8:]}_{n}", "object": "event", "type": "product.created", "data": {"object": {}}}
            ).encode()
            headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, "whsec_stripe", int(time.time()))}
            answered[client.post("/webhooks/stripe", content=body, headers=headers).status_code] += 1
        answered[client.post("/api/generate", json={"count": 1}).status_code] += 1
    return answered

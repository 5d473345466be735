"""Few connections to Postgres: work goes on with one a process, and a fleet holds no more than was summed up for it."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from scheduler.main import Ticker
from tests.builders import a_tenant, tenant
from tests.chaos.jobs import varied
from tests.chaos.test_kill import Fleet
from tests.wait import until
from workers.app import App

GRACE = 10


@pytest.fixture
def fleet(app: App, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(app, tmp_path)
    ticker = Ticker(app)
    ticker.start()
    try:
        yield fleet
    finally:
        ticker.stop()
        fleet.end()


def enqueue(app: App, rounds: int, buyers: list[UUID]) -> None:
    """Nine jobs a round, one of each kind; they enqueue two, one of which follows the other's batch of two."""
    for n in range(rounds):
        with app.db.transaction(SYSTEM) as tx:
            varied.stepping.enqueue(tx, name=f"stepping {n}")
            varied.chunked.enqueue(tx, name=f"chunked {n}", key=str(n % 3))
            varied.shared.enqueue(tx, name=f"shared {n}")
            varied.nothing.enqueue(tx)
            varied.batching.enqueue(tx, name=f"batch {n}")
            varied.snoozing.enqueue(tx, name=f"snoozing {n}")
            varied.refused.enqueue(tx, name=f"refused {n}")
            varied.buying.enqueue(tx, tenant_id=buyers[n % len(buyers)])


def states(app: App) -> Counter[str]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT status, count(*) FROM job_queue WHERE job_type LIKE 'chaos.%' GROUP BY 1")
        return Counter({str(status): int(count) for status, count in rows})


def test_jobs_of_every_kind_get_done_with_one_connection_for_eight_threads_and_a_drain_is_in_time(fleet: Fleet) -> None:
    app, buyers = fleet.app, [a_tenant(fleet.app, monthly_quota=1000) for _ in range(2)]
    few = {"DB_POOL_SIZE": "1", "WORKER_THREADS": "8"}
    rounds = 20
    enqueue(app, rounds, buyers)
    first = fleet.start(grace=GRACE, **few)
    until(lambda: states(app)["completed"] > rounds, "some of the jobs to be done")
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=GRACE + 20) == 0, fleet.log()
    assert states(app)["running"] == 0, "what was running is done or given back"
    assert fleet.alive() == []
    fleet.start(grace=GRACE, **few)
    until(lambda: states(app)["completed"] == 10 * rounds, "all to be done", seconds=90)
    assert states(app) == {"completed": 10 * rounds, "failed": rounds}
    kinds = ("stepping", "chunked", "shared", "batch", "snoozing", "refused")
    names = [f"{kind} {n}" for kind in kinds for n in range(rounds)] + [
        f"batch {n}/{m}" for n in range(rounds) for m in (0, 1)
    ]
    assert sorted(fleet.marks()) == sorted(names)
    assert sum(tenant(app, buyer)["used_quota"] for buyer in buyers) == rounds
    with app.db.transaction(SYSTEM) as tx:
        worst = tx.driver.execute("SELECT max(crashes), max(attempts) FROM job_queue").fetchone()
    assert worst == (0, 1), "none was lost, none had to be tried again"
    assert not [line for line in fleet.log().splitlines() if "postponed" in line or "heartbeat_missed" in line]

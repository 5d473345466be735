"""One worker process with a hundred jobs that wait for somebody outside."""

import threading
from queue import SimpleQueue
from typing import Any

import tests.chaos.jobs
import workers.jobs
from db.transaction import SYSTEM
from domain.ops.connections import Role, of_process
from scheduler.dispatcher import Dispatcher
from tests.builders import a_tenant, job_row
from tests.chaos.jobs import varied, waiting
from tests.wait import until
from workers.app import App
from workers.main import WorkerProcess
from workers.settings import Settings

PLACES, LIMIT, OTHERS = 100, 60, 4

STATES = """
SELECT state, count(*) FROM pg_stat_activity WHERE application_name = 'viral worker' AND datname = current_database()
GROUP BY state
"""
RUNNING = """
SELECT tenant_id, count(*) FROM job_queue WHERE job_type = 'chaos.answered' AND status = 'running' GROUP BY tenant_id
"""
GIVEN_BACK = """
SELECT count(*) FROM job_queue
WHERE job_type = 'chaos.answered' AND status = 'pending' AND attempts = 0 AND crashes = 0
"""


def test_a_hundred_wait_outside_and_hold_no_connection_no_limit_and_no_stop(app: App, settings: Settings) -> None:
    """A crowd of one tenant that is limited, and a few others; then another queue's job, and a stop that comes before
    any answer: everything is given back as if it had not begun."""
    sizes = {"worker_waiting": PLACES, "worker_grace_seconds": 1, "log_format": "console", "log_level": "ERROR"}
    process = WorkerProcess(settings.model_copy(update=sizes), (workers.jobs, tests.chaos.jobs))
    stop: SimpleQueue[Any] = SimpleQueue()
    running = threading.Thread(target=process.run, args=(stop,))
    crowd, *others = (a_tenant(app, name=f"tenant {n}") for n in range(1 + OTHERS))

    def rows(query: str) -> dict[Any, Any]:
        with app.db.transaction(SYSTEM) as tx:
            return dict(tx.driver.execute(query.encode()).fetchall())

    with app.db.transaction(SYSTEM) as tx:
        tx.queues.limit("llm", max_running=LIMIT, tenant_id=crowd)
        for tenant_id, count in ((crowd, LIMIT + 20), *((each, (PLACES - LIMIT) // OTHERS) for each in others)):
            waiting.answered.enqueue_many(tx, [{"tenant_id": tenant_id}] * count)
    waiting.go_on.clear()
    over = threading.Event()
    dispatching = threading.Thread(target=Dispatcher(app.db, app.notifier).run, args=(over,))
    dispatching.start()
    running.start()
    try:
        admitted = {crowd: LIMIT} | dict.fromkeys(others, (PLACES - LIMIT) // OTHERS)
        until(lambda: rows(RUNNING) == admitted, "all places to be taken", seconds=40)
        until(lambda: set(rows(STATES)) == {"idle"}, "every connection to be returned")
        assert sum(rows(STATES).values()) <= of_process(Role.WORKER)
        with app.db.transaction(SYSTEM) as tx:
            other = varied.nothing.enqueue(tx)
        until(lambda: job_row(app, other)["status"] == "completed", "a job of another queue to run")
        assert rows(RUNNING) == admitted
        stop.put(None)
        running.join(30)
        assert not running.is_alive()
        with app.db.transaction(SYSTEM) as tx:
            assert tx.driver.execute(GIVEN_BACK).fetchone() == (PLACES + 20,)
    finally:
        waiting.go_on.set()
        over.set()
        stop.put(None)
        running.join(60)
        dispatching.join()

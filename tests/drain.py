"""Runs due jobs in the caller's own thread: no Redis, no workers, no waiting."""

from db.transaction import SYSTEM
from workers.app import App
from workers.engine.heartbeat import LEASE


def drain(app: App, *, limit: int = 10_000) -> int:
    """Run pending jobs that are due, and those that they enqueue, in their order. Returns the number of attempts."""
    runner = app.runner()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
    attempts = 0
    while attempts < limit:
        with app.db.transaction(SYSTEM) as tx:
            due = tx.jobs.due_now(limit=100)
        ran = sum(runner.run_one(job_id) for job_id in due)
        if not ran:
            return attempts
        attempts += ran
    raise AssertionError(f"still not drained after {attempts} attempts")

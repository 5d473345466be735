"""Runs due jobs in the caller's own thread: no Redis, no workers, no waiting."""

from db.transaction import SYSTEM
from workers.app import App
from workers.engine.heartbeat import LEASE


def drain(app: App, *, limit: int = 10_000, together: int = 1) -> int:
    """Run pending jobs that are due, and those that they enqueue, in their order. Returns the number of attempts.

    `together`: so many are claimed at once, and handled together where their type does that.
    """
    runner = app.runner() if together == 1 else app.runner(batch_size=together, put_back=lambda *_: None)
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
    attempts = 0
    while attempts < limit:
        with app.db.transaction(SYSTEM) as tx:
            due = tx.jobs.due_now(limit=100)
        if together == 1:
            ran = sum(runner.run_one(job_id) for job_id in due)
        else:
            runner.run("events", [str(job_id) for job_id in due])
            ran = len(due)
        if not ran:
            return attempts
        attempts += ran
    raise AssertionError(f"still not drained after {attempts} attempts")

"""Old jobs that finished well are deleted; what may still matter to somebody stays."""

from collections.abc import Callable
from uuid import UUID

from db.transaction import SYSTEM
from tests.builders import job_row
from workers.app import App
from workers.jobs.upkeep import prune


def a_job(app: App, status: str, days_ago: int) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute(
            "INSERT INTO job_queue (job_type, status, created_at, scheduled_for) "
            "VALUES ('gone', %s, now() - %s * interval '1 day', '2999-01-01') RETURNING id",
            (status, days_ago),
        ).fetchone()
    assert row is not None
    job_id: UUID = row[0]
    return job_id


def test_old_jobs_that_finished_well_are_deleted(app: App, drain: Callable[[], int]) -> None:
    gone = [a_job(app, status, 31) for status in ("completed", "cancelled")]
    kept = [a_job(app, status, 31) for status in ("failed", "pending")] + [a_job(app, "completed", 29)]
    with app.db.transaction(SYSTEM) as tx:
        job_id = prune.enqueue(tx)
    drain()
    assert job_row(app, job_id)["result"] == {"deleted": 2}
    with app.db.transaction(SYSTEM) as tx:
        assert [tx.jobs.get(each) is None for each in gone + kept] == [True, True, False, False, False]

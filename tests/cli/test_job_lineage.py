"""What somebody in the shell enqueues names them, and a job's way is printed from its root to what came of it."""

from getpass import getuser
from uuid import UUID

from db.transaction import SYSTEM
from tests.builders import job_row
from tests.cli.shell import Shell
from workers.app import App


def test_somebody_in_the_shell_is_named(viral: Shell, app: App) -> None:
    job_id = UUID(viral.done("jobs", "enqueue", "quota.reset_due").out.strip())
    assert job_row(app, job_id)["cause"] == f"person:{getuser()}"
    fired = viral.done("schedules", "fire", "quota.reset_due")
    assert fired.code == 0
    with app.db.transaction(SYSTEM) as tx:
        [(causes,)] = tx.driver.execute("SELECT array_agg(DISTINCT cause) FROM job_queue").fetchall()
    assert causes == [f"person:{getuser()}"]

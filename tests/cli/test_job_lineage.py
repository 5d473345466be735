"""What somebody in the shell enqueues names them, and a job's way is printed from its root to what came of it."""

from getpass import getuser
from uuid import UUID, uuid4

from db.queue.enqueue import NewJob, Origin
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


def test_the_way_of_a_job_is_printed_and_is_in_the_json(viral: Shell, app: App) -> None:
    parent = UUID(viral.done("jobs", "enqueue", "quota.reset_due").out.strip())
    with app.db.transaction(SYSTEM) as tx:
        child = uuid4()
        tx.enqueue(NewJob(child, "<b>x</b>", "default", origin=Origin(f"job:{parent}")))
    shown = viral.done("jobs", "show", parent).out
    assert f"{getuser()}, in the shell" in shown
    assert f"job  {child}  <b>x</b>  pending" in " ".join(shown.split("\n"))
    found = viral.json("jobs", "show", child)["lineage"]
    assert [each["kind"] for each in found["above"]] == ["person", "job"]
    assert (found["node"]["id"], found["node"]["children"]) == (str(child), [])

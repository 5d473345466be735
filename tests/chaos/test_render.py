"""Jobs that have a child process draw for them, whose own child encodes, and jobs that only wait: what a signal, a
cancellation or a crowd of them does to the processes, with real ones of all."""

import os
import signal
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from db.transaction import SYSTEM
from tests.builders import job_row
from tests.chaos.jobs.drawn import drawn
from tests.chaos.jobs.slow import polling, quick
from tests.chaos.test_kill import Fleet, fleet
from tests.wait import until
from workers.engine.outcomes import cancel

__all__ = ["fleet"]


def drawing(folder: Path) -> list[int]:
    """Pids of the processes whose command line names the folder: the one that draws, and its ffmpeg."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


def begin(fleet: Fleet, name: str) -> UUID:
    with fleet.app.db.transaction(SYSTEM) as tx:
        job_id = drawn.enqueue(tx, folder=str(fleet.folder), name=name)
    until(lambda: len(drawing(fleet.folder)) == 2, "ffmpeg to run")
    return job_id


@pytest.mark.proof
@pytest.mark.parametrize("killed", ["process", "dyno"])
def test_a_worker_killed_while_it_draws_takes_ffmpeg_along(fleet: Fleet, killed: str) -> None:
    """The kernel kills each child with its parent, and the death of the dyno's first process ends the worker."""
    dyno = fleet.start_and_sign_on(grace=1)
    job_id = begin(fleet, "video")
    [pid] = fleet.alive()
    os.kill(pid if killed == "process" else dyno.pid, signal.SIGKILL)
    until(lambda: not drawing(fleet.folder), "ffmpeg to be gone")
    until(lambda: not psutil.pid_exists(pid), "the process to be gone")
    fleet.reap()
    fleet.start_and_sign_on()
    row = fleet.await_status(job_id, "completed")
    assert row["crashes"] == (1 if killed == "process" else 0)
    assert fleet.marks() == ["video"]


@pytest.mark.proof
def test_a_worker_that_is_stopped_while_it_draws_gives_the_job_back(fleet: Fleet) -> None:
    dyno = fleet.start_and_sign_on(grace=1)
    job_id = begin(fleet, "video")
    dyno.send_signal(signal.SIGTERM)
    until(lambda: not drawing(fleet.folder), "ffmpeg to be gone")
    assert dyno.wait(timeout=90) == 0
    row = job_row(fleet.app, job_id)
    assert (row["status"], row["attempts"], row["crashes"]) == ("pending", 0, 0)
    fleet.start_and_sign_on()
    assert fleet.await_status(job_id, "completed")["attempts"] == 1
    assert fleet.marks() == ["video"]


def test_a_job_that_is_cancelled_while_it_draws_ends_without_its_video(fleet: Fleet) -> None:
    fleet.start_and_sign_on()
    job_id = begin(fleet, "video")
    with fleet.app.db.transaction(SYSTEM) as tx:
        assert cancel(tx, fleet.app.job_types, job_id) == "running"
    until(lambda: job_row(fleet.app, job_id)["status"] == "cancelled", "the job to be cancelled")
    assert drawing(fleet.folder) == []
    assert fleet.marks() == []


def test_a_process_draws_as_many_as_it_may_and_runs_other_jobs_meanwhile(fleet: Fleet) -> None:
    fleet.start_and_sign_on(RENDER_AT_ONCE="1")
    begun = begin(fleet, "first")
    with fleet.app.db.transaction(SYSTEM) as tx:
        second = drawn.enqueue(tx, folder=str(fleet.folder), name="second")
        others = [quick.enqueue(tx, name=f"other {n}") for n in range(20)]
    for job_id in others:
        fleet.await_status(job_id, "completed")
    assert [job_row(fleet.app, job_id)["status"] for job_id in (begun, second)] == ["running", "pending"]
    until(lambda: len(drawing(fleet.folder)) == 2, "one to be drawn still")


@pytest.mark.proof
def test_hundreds_of_jobs_wait_for_others_without_holding_anybody_up(fleet: Fleet) -> None:
    """Each comes back three times. A poll takes milliseconds, and what waits between two of them is a row."""
    fleet.start_and_sign_on()
    with fleet.app.db.transaction(SYSTEM) as tx:
        polls = polling.enqueue_many(tx, [{"times": 3, "every_ms": 300}] * 200)
    for n in range(3):
        with fleet.app.db.transaction(SYSTEM) as tx:
            other = quick.enqueue(tx, name=f"other {n}")
        until(lambda other=other: job_row(fleet.app, other)["status"] == "completed", "another job")
    with fleet.app.db.transaction(SYSTEM) as tx:
        count = "SELECT count(*) FROM job_queue WHERE job_type = 'chaos.polling' AND status = 'completed'"
        assert tx.driver.execute(count).fetchone() != (200,), "the other jobs ended before the polls"

    def all_done() -> bool:
        return all(job_row(fleet.app, job_id)["status"] == "completed" for job_id in polls)

    until(all_done, "all to have what they waited for", every=0.5)

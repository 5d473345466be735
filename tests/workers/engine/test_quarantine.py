"""Jobs during which a process died. Whichever was the cause is kept away; those that were only near it are not."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from db.transaction import SYSTEM
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from tests.builders import job_row
from workers.app import App
from workers.engine.job import Context, JobType, job
from workers.engine.outcomes import rescue
from workers.engine.runner import Runner

Act = Callable[[Context], None]


class Killed(BaseException):
    """What SIGKILL leaves of a process: nothing is written any more."""


def die(ctx: Context) -> None:
    raise Killed


class Fleet:
    """Worker processes one after another; a job, one a name, does as it is told while it runs."""

    def __init__(self, app: App) -> None:
        self.acts: dict[str, Act] = {}
        self.ran: list[str] = []
        self.type: JobType[[str]] = job("testing.job", system=True, max_attempts=20)(self._handle)
        self.app = replace(app, job_types={self.type.name: self.type})

    def _handle(self, ctx: Context, name: str) -> None:
        self.ran.append(name)
        self.acts.get(name, lambda ctx: None)(ctx)
        with ctx.finish():
            pass

    def boot(self) -> Runner:
        # However busy the machine is, no quarantined job takes its time.
        runner = self.app.runner(stopwatch=lambda: 0.0, batch_size=100)
        lease = timedelta(minutes=1)
        with self.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=lease)
        return runner

    def enqueue(self, names: str, *, crashes: int = 0) -> dict[str, UUID]:
        """A job for each letter, during which so many processes have died."""
        with self.app.db.transaction(SYSTEM) as tx:
            ids = self.type.enqueue_many(tx, [{"name": name} for name in names])
            tx.driver.execute("UPDATE job_queue SET crashes = %s WHERE id = ANY(%s)", (crashes, ids))
        return dict(zip(names, ids, strict=True))

    def reap(self) -> None:
        """Every process that is there is given up for dead."""
        with self.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE workers SET lease_until = now()")
        rescue(self.app.db, self.app.job_types)

    def column(self, name: str, jobs: dict[str, UUID]) -> dict[str, object]:
        return {letter: job_row(self.app, job_id)[name] for letter, job_id in jobs.items()}


def notify(runner: Runner, jobs: dict[str, UUID]) -> None:
    runner.run("default", [str(job_id) for job_id in jobs.values()])


def test_only_the_poison_of_many_is_kept_and_it_kills_two_processes_at_most(app: App) -> None:
    """They are claimed together, so after the first death all of them are in quarantine; after the next, one is."""
    fleet = Fleet(app)
    fleet.acts["h"] = die
    jobs = fleet.enqueue("abcdefghijklmnop")
    deaths = 0
    while "pending" in fleet.column("status", jobs).values():
        try:
            notify(fleet.boot(), jobs)
        except Killed:
            deaths += 1
            fleet.reap()
    assert deaths == CRASHES_BEFORE_QUARANTINE == 2
    status, crashes = fleet.column("status", jobs), fleet.column("crashes", jobs)
    assert (status.pop("h"), crashes.pop("h")) == ("failed", 2)
    assert set(status.values()) == {"completed"}
    assert max(crashes.values()) == 1  # type: ignore[type-var]
    assert job_row(app, jobs["h"])["error_message"] == "quarantined: its worker process died 2 times while running it"


def test_a_quarantined_is_claimed_when_it_is_its_turn_and_completed_before_the_next(app: App) -> None:
    """So the table names one of them as running, at whatever moment the process dies; though their completions are
    of the kind that is written later, together."""
    fleet = Fleet(app)
    quarantined = fleet.enqueue("abc", crashes=1)
    seen: list[dict[str, object]] = []
    for name in quarantined:
        fleet.acts[name] = lambda ctx: seen.append(fleet.column("status", quarantined))
    runner = fleet.boot()
    runner.start()
    notify(runner, quarantined)
    runner.close()
    assert [list(each.values()) for each in seen] == [
        ["running", "pending", "pending"],
        ["completed", "running", "pending"],
        ["completed", "completed", "running"],
    ]


def test_beside_a_quarantined_others_run_and_a_second_quarantined_waits(app: App) -> None:
    fleet = Fleet(app)
    begun, go_on = threading.Event(), threading.Event()

    def stand_still(ctx: Context) -> None:
        begun.set()
        assert go_on.wait(30)

    fleet.acts["a"] = stand_still
    first, second, innocent = fleet.enqueue("a", crashes=1), fleet.enqueue("b", crashes=1), fleet.enqueue("c")
    runner = fleet.boot()
    thread = threading.Thread(target=notify, args=(runner, first))
    thread.start()
    assert begun.wait(30)
    notify(runner, second | innocent)
    assert fleet.column("status", first | second | innocent) == {"a": "running", "b": "pending", "c": "completed"}
    assert job_row(app, second["b"])["attempts"] == 0
    assert job_row(app, second["b"])["wake_at"] is not None, "it asks again a little later, not all the time"
    go_on.set()
    thread.join()
    notify(runner, second)
    assert fleet.column("status", first | second) == {"a": "completed", "b": "completed"}


def test_a_quarantined_that_fails_makes_room_for_the_next(app: App) -> None:
    fleet = Fleet(app)

    def fail(ctx: Context) -> None:
        raise RuntimeError

    fleet.acts |= {"a": fail, "b": die}
    runner = fleet.boot()
    with suppress(Killed):
        notify(runner, fleet.enqueue("ab", crashes=1))
    notify(runner, fleet.enqueue("c", crashes=1))
    assert fleet.ran == ["a", "b", "c"]

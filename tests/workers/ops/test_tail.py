"""`viral jobs tail`: no end is missed and none is shown twice, in whichever order transactions commit."""

import random
import threading
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from db.queue import tail as tail_queries
from db.transaction import SYSTEM, DatabaseUnavailable
from tests.builders import a_tenant
from workers.app import App
from workers.ops import tail as tails
from workers.ops.tail import JobEvent, Tail, TailFilter, follow

BEGIN = """
UPDATE job_queue SET status = 'running', started_at = now(), worker_id = gen_random_uuid(), attempts = attempts + 1,
    lease_token = nextval('job_lease_token') WHERE id = %s
"""
END = "UPDATE job_queue SET status = %s, completed_at = now(), error_message = %s WHERE id = %s"


def jobs(app: App, count: int) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute(
            "INSERT INTO job_queue (job_type) SELECT 't' FROM generate_series(1, %s) RETURNING id", (count,)
        )
        return [row[0] for row in rows]


@pytest.mark.proof
def test_many_threads_end_jobs_and_each_end_is_seen_once(
    app: App, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions of very different lengths: what ends first often commits last. A look reads few at a time."""
    monkeypatch.setattr(tail_queries, "ENDED", tail_queries.ENDED.replace("LIMIT 5000", "LIMIT 7"))
    monkeypatch.setattr(tails, "AT_ONCE", 7)
    ids, done = jobs(app, 400), threading.Event()
    tail, seen = Tail(app), list[JobEvent]()
    tail.look()

    def look() -> None:
        while True:
            last = done.is_set()
            seen.extend(tail.look())
            if last and not tail.behind:
                return

    def work(mine: list[UUID], seed: int) -> None:
        rng = random.Random(seed)
        with psycopg.connect(owner_url) as connection:
            while mine:
                some = [mine.pop() for _ in range(min(len(mine), rng.randrange(1, 8)))]
                for job_id in some:
                    connection.execute(BEGIN, (job_id,))
                connection.commit()
                status = rng.choice(["completed", "completed", "failed"])
                connection.execute("SELECT now(), pg_sleep(%s)", (rng.choice([0, 0, 0.05, 1.5]),))
                for job_id in some:
                    connection.execute(END, (status, "it broke", job_id))
                connection.commit()

    looking = threading.Thread(target=look)
    workers = [threading.Thread(target=work, args=(ids[n::8], n)) for n in range(8)]
    for thread in (looking, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    looking.join()
    ends = Counter(event.id for event in seen if event.status in ("completed", "failed"))
    assert ends == Counter(ids)
    begun = Counter(event.id for event in seen if event.status == tails.BEGAN)
    assert max(begun.values()) == 1
    assert all(event.took is not None and event.took >= timedelta(0) for event in seen if event.status == "completed")


def test_what_ended_before_the_first_look_is_not_shown_and_what_is_cancelled_unbegun_is(app: App) -> None:
    before, waiting = jobs(app, 2)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(END, ("completed", None, before))
    tail = Tail(app)
    assert tail.look() == []
    with app.db.transaction(SYSTEM) as tx:
        tx.transitions.cancel(waiting)
    [event] = tail.look()
    assert (event.id, event.status, event.took) == (waiting, "cancelled", None)
    assert tail.look() == []


def test_an_attempt_that_fails_is_pending_again_with_its_error(app: App) -> None:
    [job_id] = jobs(app, 1)
    tail = Tail(app)
    tail.look()
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(BEGIN, (job_id,))
    [begun] = tail.look()
    assert (begun.status, begun.id, begun.attempt) == ("running", job_id, 1)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO job_attempts (job_id, attempt, outcome, error_message, started_at)"
            " SELECT id, 1, 'failed', 'it broke', started_at FROM job_queue"
        )
        tx.driver.execute("UPDATE job_queue SET status = 'pending', scheduled_for = now() + interval '1 minute'")
    [again] = tail.look()
    assert (again.status, again.outcome, again.error, again.attempt) == ("pending", "failed", "it broke", 1)
    assert again.took is not None
    wanted = TailFilter(failed=True)
    assert wanted.fits(again)
    assert not wanted.fits(begun)
    assert tail.look() == []


def test_filters_are_combined(app: App, drain: object) -> None:
    event = JobEvent(
        at=None, status="failed", id=uuid4(), job_type="t", queue="llm", tenant_id=a_tenant(app), attempt=1,  # type: ignore[arg-type]
        waited=None, took=None, outcome=None, error=None,
    )  # fmt: skip
    assert TailFilter("failed", "t", "llm", event.tenant_id, failed=True).fits(event)
    for other in (
        TailFilter("completed"),
        TailFilter(job_type="u"),
        TailFilter(queue="x"),
        TailFilter(tenant_id=uuid4()),
    ):
        assert not other.fits(event)


def test_an_outage_is_said_once_and_what_ended_meanwhile_is_shown(app: App, owner_url: str) -> None:
    ids = jobs(app, 3)
    tail, lines, shown, pauses = Tail(app), list[str](), list[UUID](), list[float]()

    def cut() -> None:
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    real, away = tail.look, [False, True, True, False, False]

    class Cut:
        behind = False

        def look(self) -> list[JobEvent]:
            if away.pop(0):
                raise DatabaseUnavailable("Postgres does not answer")
            cut()
            with psycopg.connect(owner_url, autocommit=True) as owner:
                if tail_began:
                    owner.execute(END, ("completed", None, ids.pop()))
            tail_began.append(True)
            try:
                return real()
            except DatabaseUnavailable:
                return real()

    tail_began: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        follow(Cut(), lambda events: shown.extend(e.id for e in events), pause=pause, say=lines.append)  # type: ignore[arg-type]
    assert lines == ["Postgres does not answer: waiting for it", "Postgres answers again"]
    assert len(shown) == 1


def test_a_tail_that_cannot_look_at_all_says_so(app: App) -> None:
    class Away:
        behind = False

        def look(self) -> list[JobEvent]:
            raise DatabaseUnavailable("Postgres does not answer")

    with pytest.raises(DatabaseUnavailable):
        follow(Away(), print, pause=print, say=print)  # type: ignore[arg-type]

"""Jobs as rows: identity, what people may do by hand, and lists. What a runner does is told in tests/workers."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db.postgres.rows import LISTED_BYTES
from db.queue.claim import Terms, known_types
from db.queue.enqueue import PART, NewJob, insert_one
from db.queue.notifications import DEFERRED
from db.queue.transitions import Done, FailedAttempt
from db.transaction import SYSTEM, DatabaseUnavailable, Scope
from domain.errors import PayloadInvalid
from tests.builders import a_tenant, job_row, new_id
from tests.wait import until
from workers.app import App

TYPES = known_types({"t": Terms(), "u": Terms()})


def a_job(**options: Any) -> NewJob:
    return NewJob(**{"id": new_id(), "job_type": "t", "queue": "default", **options})


def add(app: App, *, scope: Scope = SYSTEM, **options: Any) -> UUID:
    with app.db.transaction(scope) as tx:
        return tx.enqueue(a_job(**options))


def brought_to(app: App, status: str, **options: Any) -> UUID:
    """A job that reached this state the way jobs do."""
    job_id = add(app, **options)
    with app.db.transaction(SYSTEM) as tx:
        if status == "cancelled":
            assert tx.transitions.cancel(job_id) == "cancelled"
        if status in ("running", "completed", "failed"):
            [claimed] = tx.claims.claim([job_id], uuid4(), TYPES)
            if status == "completed":
                assert tx.transitions.complete([Done(claimed, None)]) == {job_id}
            if status == "failed":
                assert tx.transitions.end(claimed, "failed", FailedAttempt("failed", "E", "broken"))
    assert job_row(app, job_id)["status"] == status
    return job_id


ALL = ("pending", "running", "completed", "failed", "cancelled")

# --- by hand ------------------------------------------------------------------------------------------------


def test_a_pending_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(app: App) -> None:
    before = {status: job_row(app, brought_to(app, status)) for status in ALL}
    with app.db.transaction(SYSTEM) as tx:
        answers = {status: tx.transitions.cancel(row["id"]) for status, row in before.items()}
    assert answers == dict.fromkeys(ALL) | {"pending": "cancelled", "running": "running"}
    after = {status: job_row(app, row["id"]) for status, row in before.items()}
    assert after["pending"]["status"] == "cancelled"
    assert after["pending"]["completed_at"] is not None
    assert (after["running"]["status"], after["running"]["completed_at"]) == ("running", None)
    assert [status for status in ALL if after[status]["cancel_requested_at"]] == ["pending", "running", "cancelled"]
    assert [status for status in ALL if after[status] != before[status]] == ["pending", "running"]


def test_only_a_failed_or_cancelled_job_can_be_retried(app: App) -> None:
    before = {status: job_row(app, brought_to(app, status)) for status in ALL}
    with app.db.transaction(SYSTEM) as tx:
        retried = [status for status, row in before.items() if tx.transitions.retry(row["id"])]
    assert retried == ["failed", "cancelled"]
    after = {status: job_row(app, row["id"]) for status, row in before.items()}
    assert {after[status]["status"] for status in retried} == {"pending"}
    assert [status for status in ALL if after[status] != before[status]] == retried


def test_a_retried_job_is_due_at_once_and_is_notified_for(app: App) -> None:
    job_id = brought_to(app, "failed", queue="llm")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.retry(job_id)
        assert tx.notifications == {"llm": {job_id: 5}}
        assert tx.jobs.due_now() == [job_id]
        now = tx.now()
    row = job_row(app, job_id)
    assert (row["completed_at"], row["worker_id"], row["lease_token"], row["wake_count"]) == (None, None, None, 0)
    assert (row["scheduled_for"], row["wake_at"]) == (now, None)


def test_a_retry_gives_one_attempt_more_than_there_were_and_forgives_crashes(app: App) -> None:
    worn, fresh = brought_to(app, "failed", max_attempts=1), brought_to(app, "failed", max_attempts=5)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET crashes = 2")
        assert tx.transitions.retry(worn)
        assert tx.transitions.retry(fresh)
    rows = [job_row(app, worn), job_row(app, fresh)]
    assert [(row["attempts"], row["max_attempts"], row["crashes"]) for row in rows] == [(1, 2, 0), (1, 5, 0)]


def test_a_job_cannot_be_retried_while_its_twin_lives(app: App) -> None:
    failed = brought_to(app, "failed", unique_key="k")
    twin = add(app, unique_key="k")
    with pytest.raises(psycopg.errors.UniqueViolation), app.db.transaction(SYSTEM) as tx:
        tx.transitions.retry(failed)
    assert job_row(app, failed)["status"] == "failed"
    assert job_row(app, twin)["status"] == "pending"


def test_a_job_that_is_not_there_cannot_be_cancelled_or_retried(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert not tx.transitions.cancel(uuid4())
        assert not tx.transitions.retry(uuid4())
        assert tx.jobs.get(uuid4()) is None


# --- identity -----------------------------------------------------------------------------------------------


def test_a_key_is_taken_while_its_job_lives_and_free_when_it_has_ended(app: App) -> None:
    taken = {}
    for status in ALL:
        first = brought_to(app, status, unique_key=status)
        taken[status] = add(app, unique_key=status, payload={"other": 1}) == first
        assert job_row(app, first)["payload"] == {}
    assert [status for status in ALL if taken[status]] == ["pending", "running"]


def test_a_key_belongs_to_its_job_type_and_its_tenant(app: App) -> None:
    owners = [{"tenant_id": a_tenant(app)}, {"tenant_id": a_tenant(app)}, {}, {"job_type": "u"}]
    first = [add(app, unique_key="k", **owner) for owner in owners]
    assert len(set(first)) == len(owners)
    assert [add(app, unique_key="k", **owner) for owner in owners] == first
    assert add(app) != add(app)


def test_of_many_that_enqueue_the_same_at_once_one_does_and_all_are_told_its_id(app: App) -> None:
    together = threading.Barrier(4)
    found: list[UUID] = []

    def enqueue() -> None:
        for n in range(10):
            together.wait()
            found.append(add(app, unique_key=f"k{n}"))

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert len(set(found)) == 10
    with app.db.transaction(SYSTEM) as tx:
        assert {row["id"] for row in tx.jobs.list_recent().rows} == set(found)


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_an_enqueuer_waits_for_what_becomes_of_the_twin(app: App, outcome: str) -> None:
    found: list[UUID] = []
    second = threading.Thread(target=lambda: found.append(add(app, unique_key="k")))
    try:
        with app.db.transaction(SYSTEM) as tx:
            first = tx.enqueue(a_job(unique_key="k"))
            second.start()
            until(lambda: waiting_for_a_lock(app), "the second enqueuer to wait for the first")
            if outcome == "rollback":
                raise _RollBack
    except _RollBack:
        pass
    second.join()
    assert (found == [first]) == (outcome == "commit")
    with app.db.transaction(SYSTEM) as tx:
        assert [row["id"] for row in tx.jobs.list_recent().rows] == found


class _RollBack(Exception):
    pass


def waiting_for_a_lock(app: App) -> bool:
    with psycopg.connect(app.settings.owner_url, autocommit=True) as other:
        row = other.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = current_database()"
        ).fetchone()
    return row is not None and row[0] > 0


class Meddled:
    """A connection; `before` is called before its statements, with their number, from 1."""

    def __init__(self, driver: psycopg.Connection[Any], before: Callable[[int], object]) -> None:
        self._driver = driver
        self._before = before
        self._statements = 0

    def execute(self, *args: Any, **options: Any) -> psycopg.Cursor[Any]:
        self._statements += 1
        self._before(self._statements)
        return self._driver.execute(*args, **options)


def test_a_twin_that_ends_while_it_is_looked_for_does_not_swallow_the_job(app: App) -> None:
    twin = add(app, unique_key="k")

    def twin_ends(statement: int) -> None:
        if statement == 2:
            with app.db.separate().transaction(SYSTEM) as tx:
                assert tx.transitions.cancel(twin) == "cancelled"

    with app.db.transaction(SYSTEM) as tx:
        driver: Any = Meddled(tx.driver, twin_ends)
        job = a_job(unique_key="k")
        assert insert_one(driver, tx.notifications, job) == job.id
        assert tx.notifications == {"default": {job.id: 5}}
    assert job_row(app, job.id)["status"] == "pending"


def test_two_tenants_may_use_the_same_key(app: App) -> None:
    """In her scope, Ada cannot see Bob's job: she must neither be given its id nor look for it for ever."""
    ada, bob = a_tenant(app), a_tenant(app, name="Bob")
    bobs = add(app, tenant_id=bob, unique_key="k")

    def lose_patience(statement: int) -> None:
        assert statement <= 10, "still looking for a twin that this tenant cannot see"

    with app.db.transaction(ada) as tx:
        driver: Any = Meddled(tx.driver, lose_patience)
        found = insert_one(driver, tx.notifications, a_job(tenant_id=ada, unique_key="k"))
    assert found != bobs
    assert job_row(app, found)["tenant_id"] == ada


# --- times --------------------------------------------------------------------------------------------------


def test_a_delay_is_counted_from_the_moment_given_or_from_now(app: App) -> None:
    hour, noon = timedelta(hours=1), datetime(2199, 11, 22, 12, tzinfo=UTC)
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        jobs = [a_job(), a_job(delay=hour), a_job(scheduled_for=noon), a_job(scheduled_for=noon, delay=hour)]
        ids = [tx.enqueue(job) for job in jobs]
        assert tx.notifications == {"default": {ids[0]: 5}, DEFERRED: {}}
    rows = [job_row(app, job_id) for job_id in ids]
    assert [row["scheduled_for"] for row in rows] == [now, now + hour, noon, noon + hour]
    assert [row["wake_at"] for row in rows] == [None, now + hour, noon, noon + hour]


def test_due_jobs_come_by_priority_and_then_by_time(app: App) -> None:
    hours = timedelta(hours=1)
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        late = tx.enqueue(a_job(scheduled_for=now - hours))
        first = tx.enqueue(a_job(priority=1, scheduled_for=now))
        older = tx.enqueue(a_job(scheduled_for=now - 2 * hours))
        tx.enqueue(a_job(priority=0, delay=hours))
        assert tx.jobs.due_now() == [first, older, late]
        assert tx.jobs.due_now(limit=1) == [first]


# --- lists --------------------------------------------------------------------------------------------------


def test_in_bulk_jobs_keep_their_order_and_all_are_notified_for(app: App) -> None:
    keys = [None if n % 3 else f"k{n % 2}" for n in range(2 * PART + 1)]
    jobs = [a_job(payload={"n": n}, unique_key=key) for n, key in enumerate(keys)]
    first = {key: job.id for key, job in reversed(list(zip(keys, jobs, strict=True)))}
    with app.db.transaction(SYSTEM) as tx:
        ids = tx.enqueue_many(iter(jobs))
        assert ids == [job.id if key is None else first[key] for key, job in zip(keys, jobs, strict=True)]
        assert tx.notifications == {"default": dict.fromkeys(ids, 5)}
        assert tx.enqueue_many([]) == []


@pytest.mark.parametrize("unlucky", [0, PART + 1, 2 * PART])
def test_in_bulk_one_that_is_refused_takes_all_with_it(app: App, unlucky: int) -> None:
    jobs = [a_job(tenant_id=uuid4() if n == unlucky else None) for n in range(2 * PART + 1)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation), app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many(jobs)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.jobs.list_recent().rows == []


def test_in_bulk_a_connection_that_is_lost_is_told_as_such(app: App) -> None:
    def until_cut_off(backend: int) -> Iterator[NewJob]:
        yield from (a_job() for _ in range(PART))
        with app.db.connect(autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
        yield from (a_job() for _ in range(PART))

    with pytest.raises(DatabaseUnavailable), app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many(until_cut_off(tx.driver.info.backend_pid))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.jobs.list_recent().rows == []


def test_lists_are_newest_first_and_filtered(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app, name="Bob")
    jobs = {
        "plain": add(app),
        "ada's": add(app, tenant_id=ada, queue="llm"),
        "bob's": add(app, tenant_id=bob, job_type="u", queue="llm"),
        "failed": brought_to(app, "failed", tenant_id=ada),
    }

    def listed(**wanted: Any) -> list[str]:
        names = {job_id: name for name, job_id in jobs.items()}
        with app.db.transaction(SYSTEM) as tx:
            return [names[row["id"]] for row in tx.jobs.list_recent(**wanted).rows]

    assert listed() == ["failed", "bob's", "ada's", "plain"]
    assert listed(limit=2) == ["failed", "bob's"]
    assert listed(status="failed") == ["failed"]
    assert listed(job_type="u") == ["bob's"]
    assert listed(queue="llm") == ["bob's", "ada's"]
    assert listed(tenant_id=ada) == ["failed", "ada's"]
    assert listed(tenant_id=ada, status="pending", queue="llm", job_type="t") == ["ada's"]
    assert listed(job_type="none") == []


def test_a_tenant_lists_only_their_own_jobs(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app, name="Bob")
    add(app)
    hers, his = add(app, tenant_id=ada), add(app, tenant_id=bob)
    with app.db.transaction(ada) as tx:
        assert [row["id"] for row in tx.jobs.list_recent().rows] == [hers]
        assert tx.jobs.get(his) is None
        assert not tx.transitions.cancel(his)
    assert job_row(app, his)["status"] == "pending"


def test_a_list_ends_where_it_would_be_too_much_at_once(app: App) -> None:
    """Results have no bound of their own; one job is shown at least."""
    ids = [add(app) for _ in range(6)]
    result = "UPDATE job_queue SET result = jsonb_build_object('text', repeat('y', %s))"
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(result, (LISTED_BYTES // 4,))
        rows, left_out = tx.jobs.list_recent(limit=5)
        assert [row["id"] for row in rows] == ids[::-1][:4]
        assert left_out == 1
        assert rows[0] == tx.jobs.get(ids[-1])
        tx.driver.execute(result, (LISTED_BYTES,))
        rows, left_out = tx.jobs.list_recent(limit=5)
        assert (len(rows), left_out) == (1, 4)
        assert tx.jobs.list_recent(status="running") == ([], 0)


@pytest.mark.parametrize("payload", [{"text": "x" * 262_144}, {"lists": [[]] * 40_000}])
def test_a_payload_that_would_make_a_claim_large_is_no_job(app: App, payload: dict[str, Any]) -> None:
    """However well it would shrink on disk. What is just small enough is claimed."""
    with pytest.raises(psycopg.errors.CheckViolation, match="payload_size"), app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO job_queue (job_type, payload) VALUES ('t', %s)", (Jsonb(payload),))
    if "text" in payload:
        with pytest.raises(PayloadInvalid, match="the payload has 262,156 characters; at most 262,144 can be claimed"):
            add(app, payload=payload)
    job_id = add(app, payload={"text": "x" * 262_000})
    with app.db.transaction(SYSTEM) as tx:
        [claimed] = tx.claims.claim([job_id], uuid4(), TYPES)
    assert len(dict(claimed.payload)["text"]) == 262_000  # type: ignore[arg-type]


# --- one job, in one round trip with its commit --------------------------------------------------------------


def test_a_job_that_is_sent_with_its_commit_is_the_row_that_any_other_way_makes(app: App) -> None:
    tenant_id = a_tenant(app)
    odd = "it's 100 % \\ 'odd'; -- \x00 \ud800 \N{SNOWMAN} $1 %s"
    fields: dict[str, Any] = {"tenant_id": tenant_id, "payload": {odd: [odd, 1.5, None]}, "ordering_key": odd}
    fields |= {"job_type": odd, "queue": odd, "priority": 2, "max_attempts": 7, "cost": 11, "payload_version": 3}
    for options in ({}, fields):
        plain = job_row(app, add(app, **options))
        with app.db.transaction(SYSTEM) as tx:
            assert tx.driver.execute("SELECT 1").fetchone() == (1,)
            other = tx.enqueue(a_job(**options))
        moments = {"id", "created_at", "scheduled_for"}
        expected = {name: value for name, value in job_row(app, other).items() if name not in moments}
        assert {name: plain[name] for name in expected} == expected
        assert plain["created_at"] == plain["scheduled_for"]

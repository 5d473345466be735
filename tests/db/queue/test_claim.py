"""Who may run now: orders, batches, limits, pauses, versions; under the eyes of many claimers at once."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.queue.claim import CLAIM, Terms, known_types
from db.queue.enqueue import NewJob
from db.queue.transitions import COMPLETE, GIVE_BACK, RETURNED, ClaimedJob, Done, FailedAttempt
from db.transaction import SYSTEM
from tests.builders import a_tenant, beside, job_row, new_id
from tests.wait import until
from workers.app import App

TYPES = known_types({"t": Terms(), "u": Terms(payload_version=2, timeout=timedelta(minutes=1))})
WORKER = uuid4()


def add(app: App, count: int = 1, **options: Any) -> list[UUID]:
    jobs = [NewJob(**{"id": new_id(), "job_type": "t", "queue": "default", **options}) for _ in range(count)]
    with app.db.transaction(SYSTEM) as tx:
        return tx.enqueue_many(jobs)


def claim(app: App, job_ids: list[UUID]) -> list[ClaimedJob]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.claims.claim(job_ids, WORKER, TYPES)


def claimed_ids(app: App, job_ids: list[UUID]) -> list[UUID]:
    return [job.id for job in claim(app, job_ids)]


def complete(app: App, *jobs: ClaimedJob) -> dict[str, dict[UUID, int]]:
    """Return the notifications of the commit."""
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.complete([Done(job, None) for job in jobs]) == {job.id for job in jobs}
        return tx.notifications


# --- order --------------------------------------------------------------------------------------------------


def test_jobs_of_one_order_run_one_after_another_each_woken_by_the_one_before(app: App) -> None:
    jobs = add(app, 4, ordering_key="cus_1")
    others = add(app, 2, ordering_key="cus_2") + add(app, 1)
    first, *more = claim(app, jobs + others)
    assert [job.id for job in (first, *more)] == [jobs[0], others[0], others[2]]
    assert claimed_ids(app, jobs) == []
    assert all(job_row(app, job_id)["wake_at"] is not None for job_id in jobs[1:])
    assert complete(app, first) == {"default": {jobs[1]: 5}}
    assert job_row(app, jobs[1])["wake_at"] is None
    [second] = claim(app, jobs)
    assert second.id == jobs[1]
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.end(second, "failed", FailedAttempt("failed", "E", "broken"))
        assert tx.notifications == {"default": {jobs[2]: 5}}, "a dead letter holds nobody up"
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.cancel(jobs[2]) == "cancelled"
        assert tx.notifications == {"default": {jobs[3]: 5}}


def test_a_retry_keeps_its_place_in_the_order(app: App) -> None:
    jobs = add(app, 2, ordering_key="k")
    [first] = claim(app, jobs)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.reschedule(first, FailedAttempt("failed", "E", "x"), timedelta(hours=1))
    assert claimed_ids(app, jobs) == []


def test_tenants_do_not_share_an_order(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app)
    jobs = add(app, ordering_key="k", tenant_id=ada) + add(app, ordering_key="k", tenant_id=bob)
    assert claimed_ids(app, jobs) == jobs


def at_once(count: int, act: Callable[[int], None]) -> None:
    together = threading.Barrier(count)
    failures: list[BaseException] = []

    def one(n: int) -> None:
        together.wait()
        try:
            act(n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_however_many_claim_and_finish_at_once_an_order_is_kept(app: App) -> None:
    """Every one of the claimers asks for all jobs, over and over, until all are done."""
    jobs = {key: add(app, 15, ordering_key=key) for key in ("a", "b")}
    everything = [job_id for ids in jobs.values() for job_id in ids]
    ran: list[UUID] = []
    overlaps: list[int] = []

    def work(n: int) -> None:
        for _ in range(400):
            if len(ran) == len(everything):
                return
            for job in claim(app, everything):
                with app.db.transaction(SYSTEM) as tx:
                    query = "SELECT count(*) FROM job_queue WHERE status = 'running' AND ordering_key = %s"
                    overlaps.append(tx.driver.execute(query, (job.ordering_key,)).fetchall()[0][0])
                ran.append(job.id)
                complete(app, job)

    at_once(4, work)
    assert {key: [job_id for job_id in ran if job_id in ids] for key, ids in jobs.items()} == jobs
    assert set(overlaps) == {1}


# --- limits -------------------------------------------------------------------------------------------------


def limit(app: App, queue: str = "default", tenant_id: UUID | None = None, **limits: int) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.limit(queue, tenant_id, **limits)


def test_a_limit_lets_so_many_run_and_a_place_that_is_left_is_told_of(app: App) -> None:
    limit(app, max_running=3)
    jobs = add(app, 5)
    running = claim(app, jobs)
    assert [job.id for job in running] == jobs[:3]
    assert all(job.limited for job in running)
    assert claim(app, jobs) == []
    assert complete(app, running[0]) == {"default": {}}, "the dispatcher is to look at the queue"
    assert claimed_ids(app, jobs) == [jobs[3]]


def test_each_tenant_has_its_own_limit_and_one_may_have_another(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app)
    limit(app, per_tenant=1)
    limit(app, tenant_id=bob, max_running=2)
    adas, bobs, systems = add(app, 3, tenant_id=ada), add(app, 3, tenant_id=bob), add(app, 3)
    assert claimed_ids(app, adas + bobs + systems) == adas[:1] + bobs[:2] + systems
    assert claimed_ids(app, add(app, 2, tenant_id=ada, queue="llm"))


def test_however_many_claim_at_once_a_limit_is_never_exceeded(app: App) -> None:
    tenants = [a_tenant(app) for _ in range(3)]
    limit(app, max_running=5, per_tenant=2)
    jobs = [job_id for tenant_id in tenants for job_id in add(app, 15, tenant_id=tenant_id)]
    running: list[tuple[int, int]] = []
    done: list[UUID] = []

    def work(n: int) -> None:
        for _ in range(400):
            if len(done) == len(jobs):
                return
            claimed = claim(app, jobs[n:] + jobs[:n])
            with app.db.transaction(SYSTEM) as tx:
                query = """
                    SELECT sum(n)::int, max(n)::int FROM (
                        SELECT count(*) AS n FROM job_queue WHERE status = 'running' GROUP BY tenant_id
                    ) AS tenants
                """
                running.append(tuple(tx.driver.execute(query).fetchall()[0]))
            for job in claimed:
                complete(app, job)
                done.append(job.id)

    at_once(4, work)
    assert sorted(done) == sorted(jobs)
    assert max(total or 0 for total, _ in running) == 5
    assert max(most or 0 for _, most in running) == 2


def test_what_is_paused_does_not_begin_and_what_runs_goes_on(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app)
    adas, bobs = add(app, 2, tenant_id=ada), add(app, 2, tenant_id=bob)
    [running] = claim(app, adas[:1])
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default", ada)
        tx.queues.pause("default", ada)
    assert claimed_ids(app, adas + bobs[:1]) == bobs[:1]
    complete(app, running)
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default")
        assert tx.queues.resume("default", ada)
        assert not tx.queues.resume("default", ada)
    assert claim(app, adas + bobs) == []
    with app.db.transaction(SYSTEM) as tx:
        assert tx.queues.resume("default")
        assert tx.queues.policies() == []
    assert claimed_ids(app, adas + bobs) == [adas[1], bobs[1]]


def waits_for_a_lock(app: App) -> bool:
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(tx.driver.execute(query).fetchall()[0][0])


@pytest.mark.parametrize("bound_by", ["queue", "tenant", "order"])
def test_a_claim_that_is_not_committed_yet_counts_already(app: App, bound_by: str) -> None:
    """The other claimer waits for its outcome instead of overlooking it."""
    tenant_id = a_tenant(app)
    if bound_by != "order":
        limit(app, **{"max_running" if bound_by == "queue" else "per_tenant": 1})
    options = {"tenant_id": tenant_id, "ordering_key": "k" if bound_by == "order" else None}
    latecomer = new_id()
    [first] = add(app, **options)
    answers: list[list[UUID]] = []
    others = beside(app)
    with app.db.transaction(SYSTEM) as tx:
        assert [job.id for job in tx.claims.claim([first], WORKER, TYPES)] == [first]
        # Older by its id, and committed only now: its order must see what runs, not only what is ahead of it.
        [second] = add(others, id=latecomer, **options)
        other = threading.Thread(target=lambda: answers.append(claimed_ids(app, [second])))
        other.start()
        until(lambda: waits_for_a_lock(others), "the other claimer to wait")
    other.join(30)
    assert answers == [[]]
    assert [job_row(app, job_id)["status"] for job_id in (first, second)] == ["running", "pending"]


# --- what a process knows -----------------------------------------------------------------------------------


def test_a_type_or_a_version_that_this_release_does_not_know_waits(app: App) -> None:
    unknown, newer = add(app, job_type="v") + add(app, payload_version=2)
    assert claim(app, [unknown, newer]) == []
    [job] = claim(app, add(app, job_type="u", payload_version=2))
    assert (job.payload_version, job.deadline_at) == (2, job.started_at + timedelta(minutes=1))


# --- how it is done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("analysed", [False, True])
def test_a_claim_probes_the_primary_key_whatever_the_statistics_say(app: App, owner_url: str, analysed: bool) -> None:
    jobs = add(app, 5000)
    claim(app, jobs[:2500])
    with psycopg.connect(owner_url, autocommit=True) as owner:
        if analysed:
            owner.execute("ANALYZE job_queue")
    with app.db.transaction(SYSTEM) as tx:
        values = {"ids": jobs[:20], "worker_id": WORKER, "job_types": TYPES, "tokens": list(range(20)), "results": "{}"}
        values |= RETURNED | {"quarantined": False}
        for statement in (CLAIM, COMPLETE, GIVE_BACK):
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {statement}".encode(), values))
            assert set(re.findall(r"(?:using|on) (job_queue_\w+)", plan)) == {"job_queue_pkey"}
            assert "Seq Scan on job_queue" not in plan


def test_many_jobs_are_added_in_one_statement_and_known_ones_are_found(app: App) -> None:
    [twin] = add(app, unique_key="k")
    keys = ["a", "k", "b", "a"]
    jobs = [NewJob(new_id(), "t", "default", payload={"n": n}, unique_key=key) for n, key in enumerate(keys)]
    with app.db.transaction(SYSTEM) as tx:
        ids = tx.enqueue_many(jobs)
        assert set(tx.notifications["default"]) == {jobs[0].id, jobs[2].id}
    assert ids == [jobs[0].id, twin, jobs[2].id, jobs[0].id]
    assert [job_row(app, job_id)["payload"] for job_id in ids] == [{"n": 0}, {}, {"n": 2}, {"n": 0}]

"""Lists of jobs: every filter, every page, while jobs are enqueued, begin and end; and what a page costs."""

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.queue import job_lists, queue_views
from db.queue.job_lists import Found, JobLists
from db.transaction import SYSTEM
from domain.queue.job_filters import STATES, JobFilter, job_filter
from tests.builders import a_tenant
from workers.app import App

MAKE = """
INSERT INTO job_queue (id, job_type, queue, tenant_id, status, created_at, scheduled_for, wake_at, completed_at,
    worker_id, lease_token, attempts, error_message, cause)
SELECT {id}, 't' || n %% 3, (ARRAY['default', 'llm'])[1 + n %% 2],
    CASE WHEN n %% 4 = 0 THEN %(tenant)s::uuid END, status,
    now() - n * interval '1 minute',
    CASE WHEN status = 'pending' AND n %% 3 = 0 THEN now() + interval '1 hour' ELSE now() - n * interval '1 minute' END,
    CASE WHEN status = 'pending' AND n %% 3 = 0 THEN now() + interval '1 hour' END,
    CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN now() - (n / 5) * interval '1 minute' END,
    CASE WHEN status = 'running' THEN gen_random_uuid() END, CASE WHEN status = 'running' THEN n END,
    n %% 2, CASE WHEN status = 'failed' THEN 'ValueError: It broke 1%% of ' || n END,
    CASE WHEN n %% 7 = 0 THEN 'person:ada' END
FROM generate_series(%(first)s::int, %(last)s) AS n,
LATERAL (SELECT (ARRAY['pending', 'running', 'completed', 'failed', 'cancelled'])[1 + n %% 5]) AS states (status)
ORDER BY n DESC
"""


def make(app: App, first: int, last: int, tenant_id: UUID | None = None) -> None:
    statement = MAKE.format(id="new_job_id()")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), {"first": first, "last": last, "tenant": tenant_id})
        tx.driver.execute(b"""
            INSERT INTO job_attempts (job_id, attempt, outcome, error_message)
            SELECT id, 1, CASE WHEN job_type = 't0' THEN 'failed' ELSE 'snoozed' END, 'it broke' FROM job_queue
            WHERE status = 'pending' AND attempts > 0
              AND NOT EXISTS (SELECT FROM job_attempts WHERE job_id = job_queue.id)
        """)


def page(app: App, wanted: JobFilter, limit: int = 1000) -> Found:
    with app.db.transaction(SYSTEM) as tx:
        tx.explain.use_one_snapshot()
        return tx.job_lists.page(wanted, limit=limit)


def every(app: App) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        cursor = tx.driver.execute("SELECT *, scheduled_for <= now() AS due FROM job_queue ORDER BY id DESC")
        names = [each.name for each in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def fits(row: dict[str, Any], query: dict[str, str]) -> bool:
    """What `db/queue/job_lists.py` should find, said once more, in Python."""
    state = query.get("status")
    pending = row["status"] == "pending"
    states = {
        None: True,
        "waiting": pending and row["due"],
        "scheduled": pending and not row["due"],
        "backoff": pending and not row["due"] and row["attempts"] > 0 and row["job_type"] == "t0",
    }
    text = query.get("text", "").lower()
    return (
        states.get(state, row["status"] == state)
        and query.get("type") in (None, row["job_type"])
        and query.get("queue") in (None, row["queue"])
        and query.get("tenant") in (None, str(row["tenant_id"]))
        and query.get("cause") in (None, row["cause"])
        and any(text in (row[name] or "").lower() for name in job_lists.TEXT_FIELDS)
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few hundred jobs reach."""
    monkeypatch.setattr(job_lists, "WALKED", 40)
    monkeypatch.setattr(job_lists, "SMALL_SET", 15)


@pytest.mark.parametrize("most_pending", [0, 150_000])
def test_every_combination_of_filters_finds_what_fits_page_by_page(
    app: App, small: None, monkeypatch: pytest.MonkeyPatch, most_pending: int
) -> None:
    """By walks that are too short, sets that are too large, and by those that are not: in the end, all that fits, each
    once, in the order of the list."""
    monkeypatch.setattr(job_lists, "MOST_PENDING", most_pending - 1)
    ada = a_tenant(app)
    make(app, 1, 300, ada)
    jobs, rng = every(app), random.Random(3)
    for _ in range(60):
        choices = {
            "status": rng.choice([None, *STATES]),
            "type": rng.choice([None, None, "t0", "t2"]),
            "queue": rng.choice([None, None, "llm"]),
            "tenant": rng.choice([None, None, str(ada)]),
            "cause": rng.choice([None, None, "person:ada"]),
            "text": rng.choice([None, None, "IT BROKE 1%", "ada"]),
        }
        query = {name: value for name, value in choices.items() if value is not None}
        wanted, found, pages = job_filter(query), [], 0
        while True:
            got = page(app, wanted, limit=rng.choice([1, 3, 50]))
            found += got.rows
            pages += 1
            if got.further is None:
                break
            wanted = job_filter(query | {"after": str(got.further)})
            assert pages < 500
        expected = [row["id"] for row in jobs if fits(row, query)]
        assert sorted(row["id"] for row in found) == sorted(expected), query
        key = (lambda row: (row["completed_at"], row["id"])) if wanted.by_end else (lambda row: row["id"])
        assert all(key(one) > key(other) for one, other in pairwise(found)), query


def test_no_row_is_missed_or_shown_twice_while_jobs_move(app: App, small: None) -> None:
    """Jobs are enqueued, begin and end between the pages. Whatever fitted all the time is found once; nothing twice."""
    for query in (
        {},
        {"status": "pending"},
        {"status": "failed"},
        {"queue": "llm"},
        {"status": "failed", "type": "t1"},
    ):
        make(app, 1, 200)
        rng = random.Random(len(query))
        stayed = {row["id"] for row in every(app) if fits(row, query)}
        seen: list[UUID] = []
        wanted: JobFilter | None = job_filter(query)
        while wanted is not None:
            got = page(app, wanted, limit=7)
            seen += [row["id"] for row in got.rows]
            make(app, 1, rng.randrange(1, 20))
            with app.db.transaction(SYSTEM) as tx:
                tx.driver.execute(b"""
                    UPDATE job_queue SET status = 'failed', completed_at = clock_timestamp() WHERE id = ANY(ARRAY(
                        SELECT id FROM job_queue WHERE status IN ('pending', 'running') ORDER BY random() LIMIT 3))
                """)
                tx.driver.execute(b"""
                    UPDATE job_queue SET status = 'pending', completed_at = NULL WHERE id = ANY(ARRAY(
                        SELECT id FROM job_queue WHERE status = 'failed' ORDER BY random() LIMIT 1))
                """)
            stayed &= {row["id"] for row in every(app) if fits(row, query)}
            wanted = None if got.further is None else job_filter(query | {"after": str(got.further)})
        if "status" not in query:
            assert len(seen) == len(set(seen)), query
        # One that failed, was retried and failed again between two pages stands where it ended last.
        assert (
            stayed - set(seen) <= again_failed(app, stayed) if query.get("status") == "failed" else stayed <= set(seen)
        )
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("DELETE FROM job_attempts")
            tx.driver.execute("DELETE FROM job_queue")


def again_failed(app: App, ids: set[UUID]) -> set[UUID]:
    """Those that ended within the last minute: after the list began."""
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute(
            "SELECT id FROM job_queue WHERE id = ANY(%s) AND completed_at > now() - interval '1 minute'", (list(ids),)
        )
        return {row[0] for row in rows}


def test_since_and_until_are_about_the_end_of_what_has_ended_and_else_about_the_enqueueing(app: App) -> None:
    make(app, 1, 100)
    jobs = every(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET id = id")  # ids are of now, though the rows say that they are old
        now = tx.now()
    since, until = now - timedelta(minutes=15), now - timedelta(minutes=5)
    found = page(app, job_filter({"status": "failed", "since": since.isoformat(), "until": until.isoformat()})).rows
    expected = [row for row in jobs if row["status"] == "failed" and since <= row["completed_at"] < until]
    assert sorted(row["id"] for row in found) == sorted(row["id"] for row in expected)
    found = page(app, job_filter({"since": since.isoformat()})).rows
    assert {row["id"] for row in found} == {row["id"] for row in jobs if row["created_at"] >= since}


def test_the_archive_is_listed_by_the_same_filters(app: App, small: None) -> None:
    make(app, 1, 200)
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now() + timedelta(hours=1)
        for status in ("completed", "failed", "cancelled"):
            while tx.archive.move(status, now - timedelta(days=1), now, 1000).count:
                pass
    for query in (
        {},
        {"status": "failed"},
        {"status": "completed"},
        {"type": "t1"},
        {"status": "failed", "text": "broke"},
    ):
        wanted, found = job_filter(query | {"archive": "yes"}), []
        while True:
            got = page(app, wanted, limit=9)
            found += [row["id"] for row in got.rows]
            if got.further is None:
                break
            wanted = job_filter(query | {"archive": "yes", "after": str(got.further)})
        with app.db.transaction(SYSTEM) as tx:
            rows = tx.driver.execute(b"SELECT id, status, job_type FROM job_archive").fetchall()
        expected = [r[0] for r in rows if query.get("status") in (None, r[1]) and query.get("type") in (None, r[2])]
        assert sorted(found) == sorted(expected) != [], query


# --- what it costs


def plan(lists: JobLists, statement: str, values: dict[str, Any], driver: Any) -> str:
    return "\n".join(row[0] for row in driver.execute(f"EXPLAIN {statement}".encode(), values))


@pytest.fixture
def many(app: App, owner_url: str) -> None:
    """A table that is mostly what has ended, with and without statistics, on a disk that the planner fears."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("""
            INSERT INTO job_queue (job_type, status, created_at, completed_at, tenant_id)
            SELECT 't', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'completed' END, done, done, NULL
            FROM generate_series(1, 20000) AS n, LATERAL (SELECT now() - n * interval '1 second') AS times (done)
            ORDER BY md5(n::text)
        """)
        owner.execute("SELECT make_job_archive_week(now())")
        owner.execute("ANALYZE job_queue")
    make(app, 1, 200, a_tenant(app))


QUERIES: list[dict[str, str]] = [
    {},
    {"type": "nothing"},
    {"queue": "llm", "text": "x"},
    *({"status": state} for state in ("completed", "failed", "cancelled", "pending", "backoff")),
    {"status": "failed", "type": "nothing", "text": "x"},
    {"status": "completed", "since": "2026-01-01", "until": "2027-01-01"},
    {"since": "2026-01-01", "until": "2027-01-01"},
    {"archive": "yes"},
    {"archive": "yes", "status": "failed"},
]


def test_a_walk_follows_the_index_of_its_order_and_sorts_nothing_but_equals(app: App, many: None) -> None:
    for query in QUERIES:
        wanted = job_filter(query)
        parts = job_lists.Query(wanted, 50, whole=False)
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("SET LOCAL random_page_cost = 100")
            tx.driver.execute(job_lists.ALONG_INDEXES)
            tx.driver.execute(job_lists.SORT, ("off",))
            walk = parts.over(f"{parts.walked()} LIMIT {job_lists.WALKED}")
            found = plan(tx.job_lists, walk, parts.values, tx.driver)
        assert "Seq Scan on job" not in found, (query, found)
        sorted_by = [line for line in found.splitlines() if "Sort Key: " in line and "a.id" not in line]
        assert found.count("Incremental Sort  (") == len(sorted_by) <= 1, (query, found)
        if not wanted.archived:
            assert f"using job_queue_{'ended_idx' if wanted.by_end else 'pkey'}" in found, (query, found)


def test_small_sets_are_found_by_their_indexes(app: App, many: None) -> None:
    sets = {
        "job_queue_running_idx": {"status": "running"},
        "job_queue_tenant_idx": {"tenant": str(uuid4())},
        "job_queue_cause_idx": {"cause": f"job:{uuid4()}"},
    }
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(job_lists.ALONG_INDEXES)
        for index, query in sets.items():
            parts = job_lists.Query(job_filter(query), 50, whole=False)
            [rows] = parts.small_sets()
            assert f"using {index}" in plan(tx.job_lists, parts.over(f"{rows} OFFSET 0"), parts.values, tx.driver)
        parts = job_lists.Query(job_filter({"status": "backoff"}), 50, whole=False)
        waiting = job_lists.PENDING_SET.format(fitting=parts.fitting())
        found = plan(tx.job_lists, parts.over(f"{waiting} OFFSET 0"), parts.values, tx.driver)
        assert "job_queue_ready_idx" in found
        assert "job_queue_deferred_idx" in found
        assert "job_attempts_job_id_idx" in found
        assert "Seq Scan on job" not in found


def test_counts_of_queues_read_no_finished_job_and_no_more_than_their_bounds(
    app: App, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(job_lists.ALONG_INDEXES)
        for statement in (queue_views.READY, queue_views.DEFERRED, queue_views.RUNNING, queue_views.FAILED):
            found = plan(tx.job_lists, statement, {}, tx.driver)
            assert "Seq Scan on job" not in found, found
        # A backlog is counted without its rows.
        for index in ("ready", "deferred"):
            statement = {"ready": queue_views.READY, "deferred": queue_views.DEFERRED}[index]
            assert f"Index Only Scan using job_queue_{index}_idx" in plan(tx.job_lists, statement, {}, tx.driver)
        counts = tx.queue_views.counts()
    jobs = [row for row in every(app) if row["queue"] == "llm"]
    due = [row for row in jobs if row["status"] == "pending" and row["due"]]
    assert counts["llm"].waiting == len(due)
    assert counts["llm"].oldest == min(row["scheduled_for"] for row in due)
    assert counts["llm"].running == sum(row["status"] == "running" for row in jobs)
    assert counts["llm"].failed == sum(row["status"] == "failed" for row in jobs)
    assert counts["llm"].backoff == sum(fits(row, {"status": "backoff"}) for row in jobs)
    assert counts["llm"].cut == ()


def test_what_was_not_counted_to_the_end_is_said(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    make(app, 1, 100)
    monkeypatch.setattr(queue_views, "MOST_COUNTED", 3)
    with app.db.transaction(SYSTEM) as tx:
        counts = tx.queue_views.counts()["llm"]
    assert (counts.waiting, counts.running, counts.failed) == (3, 3, 3)
    assert {"waiting", "running", "failed"} <= set(counts.cut)

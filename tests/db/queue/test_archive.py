"""The archive: what goes there and how, who may look, and the weeks that it consists of."""

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.queue.archive import MOVE, Moved
from db.queue.claim import Terms, known_types
from db.queue.enqueue import NewJob, Origin
from db.queue.transitions import Done, FailedAttempt
from db.transaction import SYSTEM, DatabaseUnavailable
from tests.builders import a_tenant, an_ended_job, beside, job_row, where
from tests.wait import until
from workers.app import App
from workers.jobs.upkeep import BEGINNING

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
ALL_OVER = MONDAY + 52 * WEEK


def move(app: App, *, status: str = "completed", before: datetime = ALL_OVER, limit: int = 100) -> Moved:
    with app.db.transaction(SYSTEM) as tx:
        return tx.archive.move(status, BEGINNING, before, limit)


def ids(app: App, table: str) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        return [job_id for (job_id,) in tx.driver.execute(f"SELECT id FROM {table}".encode())]


def weeks(app: App) -> list[str]:
    with psycopg.connect(app.settings.owner_url) as owner:
        query = "SELECT relid::text FROM pg_partition_tree('job_archive') WHERE isleaf ORDER BY 1"
        return [name.removeprefix("job_archive_") for (name,) in owner.execute(query)]


def waiting_for_a_lock(app: App) -> bool:
    with psycopg.connect(app.settings.owner_url, autocommit=True) as other:
        query = """
            SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()
        """
        return other.execute(query).fetchone() is not None


def at_once(*acts: Callable[[], object]) -> None:
    together = threading.Barrier(len(acts))

    def begin(act: Callable[[], object]) -> None:
        together.wait()
        act()

    threads = [threading.Thread(target=begin, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- what goes ----------------------------------------------------------------------------------------------


def test_an_archived_job_is_whole_with_its_attempts_and_steps(app: App) -> None:
    tenant_id, worker = a_tenant(app), uuid4()
    origin = Origin(f"job:{uuid4()}")
    job = NewJob(uuid4(), "t", "llm", tenant_id, {"a": [1, "ü"]}, 3, unique_key="k", ordering_key="o", origin=origin)
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(job)
    for number in (1, 2, 3):
        with app.db.transaction(SYSTEM) as tx:
            [claimed] = tx.claims.claim([job.id], worker, known_types({"t": Terms()}))
            if number < 3:
                attempt = FailedAttempt("failed", "Broken", f"broken {number}", "Traceback …")
                assert tx.transitions.reschedule(claimed, attempt, timedelta(0))
            else:
                tx.steps.intend(job.id, "upload")
                tx.steps.record(job.id, "upload", "confirmed", '{"post": 7}')
                assert tx.transitions.complete([Done(claimed, '{"done": true}')]) == {job.id}
    with app.db.transaction(SYSTEM) as tx:
        row, attempts = tx.jobs.get(job.id), tx.jobs.attempts(job.id)
        now = tx.now()
    assert row is not None
    assert move(app, before=now).count == 1
    with app.db.transaction(SYSTEM) as tx:
        archived = tx.archive.get(job.id)
        left = tx.driver.execute(
            "SELECT (SELECT count(*) FROM job_queue), (SELECT count(*) FROM job_attempts), count(*) FROM job_steps"
        ).fetchone()
    assert archived is not None
    assert left == (0, 0, 0)
    history, [step] = archived.pop("attempt_history"), archived.pop("steps")
    assert archived == {name: row[name] for name in archived if name != "archived"} | {"archived": True}
    assert archived.keys() >= set(job._fields) - {"delay", "cost", "payload_version", "origin"}
    assert archived["cause"] == origin.cause
    assert [each["error_message"] for each in history] == ["broken 1", "broken 2"]
    assert [read(each) for each in history] == [
        {name: value for name, value in each.items() if name != "job_id"} for each in attempts
    ]
    assert (step["step"], step["status"], step["result"]) == ("upload", "confirmed", {"post": 7})
    assert step["idempotency_key"] == f"{job.id}:upload"


def read(attempt: dict[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at")}
    return attempt | times | {"worker_id": UUID(attempt["worker_id"])}


def test_nothing_that_lives_is_moved_and_nothing_that_ended_otherwise_or_later(app: App) -> None:
    lease: dict[str, Any] = {"worker_id": uuid4(), "lease_token": 1}
    kept = [
        an_ended_job(app, "pending", ended=MONDAY, completed_at=None),
        an_ended_job(app, "running", ended=MONDAY, completed_at=None, **lease),
        an_ended_job(app, "failed", ended=MONDAY),
        an_ended_job(app, "cancelled", ended=MONDAY),
        an_ended_job(app, ended=MONDAY + DAY),
        an_ended_job(app, ended=MONDAY + DAY + DAY, created_at=MONDAY),
    ]
    gone = an_ended_job(app, ended=MONDAY + DAY - timedelta(microseconds=1))
    assert move(app, before=MONDAY + DAY) == Moved(1, MONDAY + DAY)
    assert where(app, gone, *kept) == ["archived"] + ["hot"] * 6


def test_a_batch_is_of_one_week_and_the_next_begins_where_it_ended(app: App) -> None:
    sunday = MONDAY - timedelta(microseconds=1)
    ended = [sunday - DAY, sunday, MONDAY, MONDAY, MONDAY + DAY, MONDAY + 2 * DAY]
    jobs = [an_ended_job(app, ended=moment) for moment in ended]
    moved = []
    reached, before = BEGINNING, MONDAY + 3 * DAY
    while reached < before:
        with app.db.transaction(SYSTEM) as tx:
            moved.append(tx.archive.move("completed", reached, before, 3))
        reached = moved[-1].until
    assert moved == [Moved(2, MONDAY), Moved(3, MONDAY + DAY), Moved(1, before)]
    assert where(app, *jobs) == ["archived"] * 6
    assert weeks(app) == ["2026_02_23", "2026_03_02"]


def test_a_job_that_somebody_is_just_retrying_is_left_to_them(app: App) -> None:
    retried, other = (an_ended_job(app, "failed", ended=MONDAY) for _ in range(2))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.retry(retried)
        assert move(beside(app), status="failed").count == 1
    assert where(app, retried, other) == ["hot", "archived"]
    assert job_row(app, retried)["status"] == "pending"


def test_of_two_who_move_at_once_each_moves_some_and_nothing_is_moved_twice(app: App) -> None:
    jobs = [an_ended_job(app, ended=MONDAY + n * timedelta(hours=3)) for n in range(200)]
    moved: list[int] = []

    def mover() -> None:
        reached = BEGINNING
        while reached < ALL_OVER:
            with app.db.transaction(SYSTEM) as tx:
                batch = tx.archive.move("completed", reached, ALL_OVER, 7)
            moved.append(batch.count)
            reached = batch.until

    at_once(mover, mover)
    assert sum(moved) == 200
    assert sorted(ids(app, "job_archive")) == sorted(jobs)
    assert ids(app, "job_queue") == []


def test_a_move_that_dies_has_not_happened(app: App, owner_url: str) -> None:
    jobs = [an_ended_job(app, ended=MONDAY) for _ in range(30)]
    assert move(app, limit=10).count == 10
    with pytest.raises(DatabaseUnavailable), app.db.transaction(SYSTEM) as tx:
        assert tx.archive.move("completed", BEGINNING, ALL_OVER, 10).count == 10
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (tx.driver.info.backend_pid,))
        tx.now()
    assert (len(ids(app, "job_queue")), len(ids(app, "job_archive"))) == (20, 10)
    assert sorted(ids(app, "job_queue") + ids(app, "job_archive")) == sorted(jobs)
    assert move(app).count == 20


@pytest.mark.proof
def test_fifty_thousand_are_moved_along_the_index_and_claims_do_not_wait(app: App, owner_url: str) -> None:
    """Past what was scheduled long ago for much later, whatever the statistics say."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("INSERT INTO job_queue (job_type) SELECT 't' FROM generate_series(1, 5000)")
        owner.execute("""
            INSERT INTO job_queue (job_type, created_at, scheduled_for, wake_at)
            SELECT 't', now() - interval '1 year', now() + interval '1 year', now() FROM generate_series(1, 5000)
        """)
        owner.execute("""
            INSERT INTO job_queue (job_type, status, created_at, completed_at)
            SELECT 't', 'completed', done, done FROM generate_series(1, 50000) AS n,
            LATERAL (SELECT now() - interval '6 days' + n * interval '1 second') AS times (done)
            ORDER BY md5(n::text)
        """)
        for statement in ("SELECT 1", "ANALYZE job_queue"):
            owner.execute(statement.encode())
            with app.db.transaction(SYSTEM) as tx:
                now = tx.now()
                values = {"status": "completed", "since": BEGINNING, "before": now, "limit": 1000}
                # A planner that is afraid of indexes; what `move` tells it holds to the end of the transaction.
                tx.driver.execute("SET LOCAL random_page_cost = 100")
                tx.archive.move("completed", BEGINNING, now, 1)
                plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {MOVE}".encode(), values))
                picked = MOVE.partition("(")[2].partition("), gone AS")[0]
                explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {picked}"
                read = "\n".join(row[0] for row in tx.driver.execute(explain.encode(), values))
                tx.driver.rollback()
            assert "Seq Scan" not in plan
            assert "Index Scan using job_queue_ended_idx" in read
            assert "Sort" not in read
            # The thousand rows lie scattered, and locking each touches its page once or twice more.
            assert int(re.findall(r"Buffers: shared hit=(\d+)", read)[0]) < 4000
    with app.db.transaction(SYSTEM) as tx:
        due = tx.jobs.due_now(100)
    moved, reached, others = 0, BEGINNING, app.db.separate()
    while reached < now:
        with app.db.transaction(SYSTEM) as tx:
            batch = tx.archive.move("completed", reached, now, 1000)
            with others.transaction(SYSTEM, timeout=timedelta(seconds=10)) as other:
                assert len(other.claims.claim(due[:1], uuid4(), known_types({"t": Terms()}))) == 1
        moved, reached, due = moved + batch.count, batch.until, due[1:]
    assert moved == 50_000
    assert len(ids(app, "job_queue")) == 10_000


# --- who may look -------------------------------------------------------------------------------------------


def test_a_tenant_finds_their_own_archived_jobs_and_no_others(app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app, name="Bob")
    hers, his, nobodys = (an_ended_job(app, ended=MONDAY, tenant_id=each) for each in (ada, bob, None))
    assert move(app).count == 3
    with app.db.transaction(ada) as tx:
        assert [tx.archive.get(each) is not None for each in (hers, his, nobodys)] == [True, False, False]
        assert tx.driver.execute("SELECT id FROM job_archive").fetchall() == [(hers,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {week}",
        "INSERT INTO {week} SELECT * FROM job_archive",
        "UPDATE {week} SET result = NULL",
        "DELETE FROM {week}",
        "TRUNCATE {week}",
        "DROP TABLE {week}",
        "ALTER TABLE job_archive DETACH PARTITION {week}",
        "ALTER TABLE {week} DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY open ON {week} USING (true)",
    ],
)
def test_a_week_cannot_be_reached_past_the_archive(app: App, statement: str) -> None:
    an_ended_job(app, ended=MONDAY)
    assert move(app).count == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege), app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.format(week="job_archive_2026_03_02").encode())


def test_a_week_is_under_row_level_security_and_nobody_but_its_owner_has_rights(app: App, owner_url: str) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.archive.make_week(MONDAY)
    with psycopg.connect(owner_url) as owner:
        found = owner.execute("""
            SELECT relrowsecurity AND relforcerowsecurity,
                   (SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'job_archive'::regclass)
                   = (SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = c.oid),
                   ARRAY(SELECT DISTINCT grantee::regrole::text FROM aclexplode(relacl)), relowner::regrole::text
            FROM pg_class c WHERE relname = 'job_archive_2026_03_02'
        """).fetchone()
        indexed = owner.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'job_archive_2026_03_02'").fetchone()
    assert found == (True, True, ["viral_owner"], "viral_owner")
    assert indexed == (4,), "the archive's own, and each once"


def test_the_callers_own_tables_and_settings_are_not_mistaken_for_the_archive(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("CREATE TEMP TABLE job_archive (completed_at timestamptz) ON COMMIT DROP")
        tx.driver.execute("SET LOCAL search_path = pg_temp, public")
        tx.driver.execute("SET LOCAL timezone = 'Pacific/Auckland'")
        tx.driver.execute("SET LOCAL datestyle = 'SQL, DMY'")
        assert tx.archive.make_week(MONDAY - timedelta(microseconds=1))
        assert tx.archive.drop_weeks(MONDAY - timedelta(microseconds=1)) == 0
        assert tx.archive.make_week(MONDAY)
    assert weeks(app) == ["2026_02_23", "2026_03_02"]


def test_an_event_whose_job_is_archived_is_no_fault(app: App) -> None:
    """Somebody cancelled it: the event was received, and nothing came of it."""
    job_id = an_ended_job(app, "cancelled", ended=MONDAY)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO webhook_events (source, external_id, type, job_id, received_at) "
            "VALUES ('stripe', 'evt_1', 'x', %s, now() - interval '1 week')",
            (job_id,),
        )
    assert move(app, status="cancelled").count == 1
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("a stored event has its job") == 0
        tx.driver.execute("DELETE FROM job_archive")
        assert tx.health.violations("a stored event has its job") == 1


# --- weeks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_who_wants_a_week_that_somebody_is_making_waits_and_it_is_made_once(app: App, outcome: str) -> None:
    made: list[bool] = []

    def second() -> None:
        with app.db.transaction(SYSTEM) as tx:
            made.append(tx.archive.make_week(MONDAY + DAY))

    thread = threading.Thread(target=second)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.make_week(MONDAY)
        thread.start()
        until(lambda: waiting_for_a_lock(app), "the second to wait for the first")
        if outcome == "rollback":
            tx.driver.rollback()
            tx.driver.execute("SET app.tenant_id = '*'")
    thread.join()
    assert made == [outcome == "rollback"]
    assert weeks(app) == ["2026_03_02"]


def test_of_many_who_want_the_same_weeks_at_once_one_makes_each(app: App) -> None:
    made: list[bool] = []

    def maker() -> None:
        for n in range(5):
            with app.db.transaction(SYSTEM) as tx:
                made.append(tx.archive.make_week(MONDAY + n * WEEK))

    at_once(*[maker] * 4)
    assert (made.count(True), made.count(False)) == (5, 15)
    assert len(weeks(app)) == 5


def test_weeks_that_are_over_are_dropped_and_younger_ones_stay(app: App) -> None:
    jobs = [an_ended_job(app, ended=MONDAY + n * WEEK + DAY) for n in range(4)]
    for _ in jobs:
        move(app)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.drop_weeks(MONDAY) == 0
        assert tx.archive.drop_weeks(MONDAY + 2 * WEEK - timedelta(microseconds=1)) == 1
        assert tx.archive.drop_weeks(MONDAY + 3 * WEEK) == 2
        assert tx.archive.drop_weeks(MONDAY + 3 * WEEK) == 0
    assert weeks(app) == ["2026_03_23"]
    assert where(app, *jobs) == ["", "", "", "archived"]


def test_who_drops_what_somebody_is_dropping_waits_and_each_week_is_dropped_once(app: App) -> None:
    dropped: list[int] = []
    with app.db.transaction(SYSTEM) as tx:
        for n in range(6):
            tx.archive.make_week(MONDAY + n * WEEK)

    def second() -> None:
        with app.db.transaction(SYSTEM) as tx:
            dropped.append(tx.archive.drop_weeks(MONDAY + 5 * WEEK))

    thread = threading.Thread(target=second)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.drop_weeks(MONDAY + 5 * WEEK) == 5
        thread.start()
        until(lambda: waiting_for_a_lock(app), "the second to wait for the first")
    thread.join()
    assert dropped == [0]
    assert weeks(app) == ["2026_04_06"]


def test_a_reader_of_the_archive_is_in_nobodys_way_but_droppings(app: App) -> None:
    an_ended_job(app, ended=MONDAY)
    assert move(app).count == 1
    an_ended_job(app, ended=MONDAY + WEEK)
    with app.db.transaction(SYSTEM) as reader:
        assert reader.driver.execute("SELECT count(*) FROM job_archive").fetchone() == (1,)
        others = beside(app)
        assert move(others).count == 1, "into a week that was missing"
        with others.db.transaction(SYSTEM) as tx:
            assert tx.archive.drop_weeks(ALL_OVER) == 0
            assert tx.now(), "the transaction goes on"
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.drop_weeks(ALL_OVER) == 2

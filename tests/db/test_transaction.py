"""`Database`: what is kept, what is notified afterwards, and what a lost server looks like from here.

A COMMIT whose answer is lost is tested in tests/workers/engine/test_lost_answers.py.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.postgres.connection import IDLE_BEFORE_TRIAL, TransactionSettings
from db.postgres.errors import AWAY, CommitUnknown, LeaseMissing, UniqueViolation
from db.queue.enqueue import NewJob
from db.queue.notifications import DEFERRED
from db.queue.transitions import ClaimedJob, Done
from db.transaction import SYSTEM, Contended, Database, DatabaseUnavailable, Notifications, SecondConnection, Tx
from domain.errors import TenantContextNotSet, Unavailable
from tests.outages import refusing
from tests.ports import closed_port
from tests.wait import until

Open = Callable[..., Database]


@pytest.fixture
def opened(database_url: str) -> Iterator[Open]:
    """Opens a `Database` on this test's database, with one connection unless `pool_size` says otherwise."""
    databases: list[Database] = []

    def open_database(**options: Any) -> Database:
        databases.append(Database(database_url, **{"pool_size": 1, "new_id": uuid4, **options}))
        return databases[-1]

    yield open_database
    for database in databases:
        database.close()


def leave_mark(tx: Tx) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value, at) VALUES ('mark', 1, clock_timestamp())")


def marks(database: Database) -> int:
    with database.transaction(SYSTEM) as tx:
        row = tx.driver.execute("SELECT count(*) FROM system_metrics").fetchone()
    assert row is not None
    return int(row[0])


def a_job(**options: Any) -> NewJob:
    return NewJob(**{"id": uuid4(), "job_type": "t", "queue": "default", **options})


def kill(owner_url: str, *pids: int) -> None:
    """End these server processes, and return when they are gone."""
    with psycopg.connect(owner_url, autocommit=True) as other:
        for pid in pids:
            assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


def backends(database: Database, count: int) -> list[int]:
    """The server processes behind so many connections, held at once by as many threads."""
    together = threading.Barrier(count)

    def hold(n: int) -> int:
        with database.transaction(SYSTEM) as tx:
            pid = tx.driver.info.backend_pid
            together.wait(30)
        return pid

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(hold, range(count)))


def living(database: Database) -> set[int]:
    with database.transaction(SYSTEM) as tx:
        return {row[0] for row in tx.driver.execute("SELECT pid FROM pg_stat_activity")}


def backend(database: Database) -> int:
    """The server process behind the connection that the next transaction gets."""
    with database.transaction(SYSTEM) as tx:
        return tx.driver.info.backend_pid


# --- what is kept -------------------------------------------------------------------------------------------


def test_both_ways_to_speak_to_it_share_one_transaction(opened: Open) -> None:
    database = opened()
    with database.transaction(SYSTEM) as tx:
        leave_mark(tx)
        assert tx.sql.execute(text("SELECT count(*) FROM system_metrics")).scalar_one() == 1
    assert marks(database) == 1


def test_any_error_undoes_everything_and_is_passed_on(opened: Open) -> None:
    database = opened()
    for error in (RuntimeError("broken"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, database.transaction(SYSTEM) as tx:
            leave_mark(tx)
            raise error
        assert raised.value is error
    assert marks(database) == 0


def test_a_statement_that_fails_undoes_everything_and_the_connection_goes_on(opened: Open) -> None:
    database = opened()
    with pytest.raises(psycopg.errors.DivisionByZero), database.transaction(SYSTEM) as tx:
        leave_mark(tx)
        tx.driver.execute("SELECT 1 / 0")
    with pytest.raises(IntegrityError), database.transaction(SYSTEM) as tx:
        leave_mark(tx)
        tx.sql.execute(text("INSERT INTO job_queue (job_type, status) VALUES ('t', 'no such')"))
    assert marks(database) == 0


def test_an_error_that_was_swallowed_inside_cannot_pass_for_a_commit(opened: Open) -> None:
    notified: list[Notifications] = []
    database = opened(on_commit=notified.append)
    with pytest.raises(psycopg.Error), database.transaction(SYSTEM) as tx:
        tx.enqueue(a_job())
        with pytest.raises(psycopg.errors.DivisionByZero):
            tx.driver.execute("SELECT 1 / 0")
    assert notified == []


# --- a transaction that is sent in parts ----------------------------------------------------------------------


@pytest.mark.parametrize("swallowed", [False, True])
def test_of_a_pipelined_transaction_too_nothing_is_kept_after_an_error(opened: Open, swallowed: bool) -> None:
    notified: list[Notifications] = []
    database = opened(on_commit=notified.append)
    with pytest.raises(psycopg.Error) as raised, database.transaction(SYSTEM, pipelined=True) as tx:
        leave_mark(tx)
        tx.enqueue(a_job())
        wrong = tx.driver.execute("SELECT 1 / 0")
        if swallowed:
            with pytest.raises(psycopg.errors.DivisionByZero):
                wrong.fetchall()
            leave_mark(tx)
    assert isinstance(raised.value, psycopg.errors.DivisionByZero) is not swallowed
    assert (marks(database), notified) == (0, [])
    with database.transaction(SYSTEM, pipelined=True) as tx:
        leave_mark(tx)
        assert tx.sql.execute(text("SELECT count(*) FROM system_metrics")).scalar_one() == 1
        leave_mark(tx)
    assert marks(database) == 2


def test_a_pipelined_commit_shows_its_lease_too(opened: Open) -> None:
    now = datetime.now(UTC)
    with pytest.raises(LeaseMissing), opened().transaction(SYSTEM, pipelined=True) as tx:
        tx.complete(Done(ClaimedJob(uuid4(), None, "t", "default", {}, 1, 3, now, now, 7, now), None))


def test_a_server_that_goes_away_before_a_pipelined_commit_leaves_it_open_what_became_of_it(
    opened: Open, owner_url: str
) -> None:
    database = opened()
    with pytest.raises(CommitUnknown), database.transaction(SYSTEM, pipelined=True) as tx:
        [(pid,)] = tx.driver.execute("SELECT pg_backend_pid()").fetchall()
        leave_mark(tx)
        kill(owner_url, pid)
    assert marks(database) == 0


def test_a_twin_is_an_error_of_a_pipelined_transaction(opened: Open) -> None:
    database, job = opened(), a_job(unique_key="mine")
    with database.transaction(SYSTEM, pipelined=True) as tx:
        assert tx.enqueue(job) == job.id
    with pytest.raises(UniqueViolation), database.transaction(SYSTEM, pipelined=True) as tx:
        tx.enqueue(a_job(unique_key="mine"))
    assert marks(database) == 0


def test_a_transaction_must_name_its_scope(opened: Open) -> None:
    with pytest.raises(TenantContextNotSet, match="must name its tenant, or SYSTEM"):
        with opened().transaction(None):  # type: ignore[arg-type]
            pytest.fail("a transaction without a scope was begun")


def test_a_scope_can_be_changed_on_the_way(opened: Open) -> None:
    tenant_id = uuid4()
    with opened().transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO tenants (id, name) VALUES (%s, 'Ada'), (DEFAULT, 'Bob')", (tenant_id,))
        seen = [len(tx.tenants.recent())]
        tx.work_as(tenant_id)
        seen.append(len(tx.tenants.recent()))
        tx.work_as(SYSTEM)
        seen.append(len(tx.tenants.recent()))
    assert seen == [2, 1, 2]


def test_times_are_the_databases_and_utc(opened: Open) -> None:
    with opened().transaction(SYSTEM) as tx:
        first = tx.now()
        assert first == tx.now()
        assert first.utcoffset() == timedelta(0)
        assert tx.driver.execute("SHOW timezone").fetchone() == ("UTC",)


def test_a_statement_that_takes_too_long_is_ended(opened: Open) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        with opened(settings=TransactionSettings(statement_timeout=timedelta(milliseconds=50))).transaction(
            SYSTEM
        ) as tx:
            tx.driver.execute("SELECT pg_sleep(30)")


# --- what is notified afterwards --------------------------------------------------------------------------------


def test_due_jobs_are_notified_after_the_commit_by_queue(opened: Open) -> None:
    reader, notified, seen = opened(), [], []

    def on_commit(notifications: Notifications) -> None:
        notified.append({queue: list(job_ids) for queue, job_ids in notifications.items()})
        with reader.transaction(SYSTEM) as tx:
            seen.extend(tx.jobs.due_now())

    database = opened(on_commit=on_commit)
    first, second, third, later = a_job(), a_job(queue="llm"), a_job(), a_job(delay=timedelta(hours=1))
    with database.transaction(SYSTEM) as tx:
        for job in (first, second, third, later):
            tx.enqueue(job)
        assert notified == []
    assert notified == [{"default": [first.id, third.id], "llm": [second.id], DEFERRED: []}]
    assert set(seen) == {first.id, second.id, third.id}


def test_jobs_that_are_enqueued_are_there_for_whoever_asks_in_the_same_transaction(opened: Open) -> None:
    """The first one is sent together with the commit, unless something else is asked before."""
    notified: list[Notifications] = []
    jobs = [a_job(payload={"n": [n, "it's"]}, priority=n) for n in (1, 2)]
    with opened(on_commit=notified.append).transaction(SYSTEM) as tx:
        for job in jobs:
            assert tx.enqueue(job) == job.id
        assert [row and row["payload"] for row in (tx.jobs.get(job.id) for job in jobs)] == [
            job.payload for job in jobs
        ]
    assert notified == [{"default": {job.id: job.priority for job in jobs}}]


def test_a_job_that_is_sent_with_the_commit_is_added_once_or_not_at_all(opened: Open) -> None:
    notified: list[Notifications] = []
    database = opened(on_commit=notified.append)
    tenant_id = uuid4()
    with pytest.raises(psycopg.errors.ForeignKeyViolation), database.transaction(SYSTEM) as tx:
        tx.enqueue(a_job(tenant_id=tenant_id))
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction(tenant_id) as tx:
        tx.enqueue(a_job())
    with pytest.raises(KeyError), database.transaction(SYSTEM) as tx:
        tx.enqueue(a_job())
        raise KeyError
    assert notified == []
    with database.transaction(SYSTEM) as tx:
        tx.enqueue(job := a_job(payload={"n": "it's \\"}))
    assert notified == [{"default": {job.id: 5}}]
    with database.transaction(SYSTEM) as tx:
        [row] = tx.jobs.list_recent().rows
    assert (row["id"], row["payload"], row["wake_at"]) == (job.id, job.payload, None)


def test_nothing_is_notified_of_what_did_not_happen(opened: Open) -> None:
    notified: list[Notifications] = []
    database = opened(on_commit=notified.append)
    with database.transaction(SYSTEM):
        pass
    with pytest.raises(RuntimeError), database.transaction(SYSTEM) as tx:
        tx.enqueue(a_job())
        raise RuntimeError
    assert notified == []


def test_a_job_that_was_there_already_is_not_notified_again(opened: Open) -> None:
    notified: list[Notifications] = []
    database = opened(on_commit=notified.append)
    for _ in range(2):
        with database.transaction(SYSTEM) as tx:
            tx.enqueue(a_job(unique_key="k"))
    assert len(notified) == 1


# --- a server that goes away --------------------------------------------------------------------------------


def test_a_closed_port_is_database_unavailable() -> None:
    with closed_port() as port:
        database = Database(f"postgresql://nobody:hush@127.0.0.1:{port}/none", pool_size=1, new_id=uuid4)
        for attempt in (lambda: marks(database), database.connect):
            with pytest.raises(DatabaseUnavailable, match="Postgres does not answer") as outage:
                attempt()
            assert isinstance(outage.value, Unavailable)
            assert "hush" not in str(outage.value)
        database.close()


def test_a_server_that_goes_away_in_the_middle_is_database_unavailable(opened: Open, owner_url: str) -> None:
    database = opened()
    speak: list[Callable[[Tx], object]] = [leave_mark, lambda tx: tx.sql.execute(text("SELECT 1"))]
    for say in speak:
        with pytest.raises(DatabaseUnavailable, match="Postgres went away"), database.transaction(SYSTEM) as tx:
            leave_mark(tx)
            kill(owner_url, tx.driver.info.backend_pid)
            say(tx)
    assert marks(database) == 0


def test_an_error_of_ones_own_is_not_hidden_by_a_connection_that_died_meanwhile(opened: Open, owner_url: str) -> None:
    """Nor is the connection lost to the pool, which has only this one."""
    database = opened()
    with pytest.raises(RuntimeError, match="mine"), database.transaction(SYSTEM) as tx:
        kill(owner_url, tx.driver.info.backend_pid)
        raise RuntimeError("mine")
    assert marks(database) == 0


def test_a_restart_while_the_pool_rested_is_not_noticed(opened: Open, owner_url: str) -> None:
    database = opened(pool_size=2)
    pids = set(backends(database, 2))
    rested_at = time.monotonic()
    kill(owner_url, *pids)
    until(lambda: time.monotonic() > rested_at + IDLE_BEFORE_TRIAL, "the pool's connections to have rested")
    assert pids.isdisjoint(backends(database, 2))
    with database.transaction(SYSTEM) as tx:
        leave_mark(tx)
    assert marks(database) == 1


def test_before_that_it_costs_one_error_that_says_so(opened: Open, owner_url: str) -> None:
    database = opened()
    kill(owner_url, backend(database))
    with pytest.raises(DatabaseUnavailable), database.transaction(SYSTEM) as tx:
        leave_mark(tx)
    with database.transaction(SYSTEM) as tx:
        leave_mark(tx)
    assert marks(database) == 1


def test_a_connection_is_used_again(opened: Open) -> None:
    database = opened()
    assert backend(database) == backend(database)


def test_a_connection_of_ones_own_is_the_applications_and_outside_the_pool(opened: Open) -> None:
    database = opened(application_name="viral tests")
    with database.transaction(SYSTEM) as tx, database.connect(autocommit=True) as own:
        assert own.info.backend_pid != tx.driver.info.backend_pid
        assert own.autocommit
        query = "SELECT current_user, current_setting('application_name')"
        assert own.execute(query).fetchone() == ("viral_app", "viral tests")


def test_a_transaction_that_is_not_used_asks_nothing_of_the_server() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", pool_size=1, new_id=uuid4)
    with database.transaction(SYSTEM) as tx:
        assert not tx.used
    database.close()


def test_only_a_commit_that_says_so_may_be_forgotten_by_a_crash_of_the_server(opened: Open) -> None:
    database, settings = opened(), []
    for durable in (True, False, True):
        with database.transaction(SYSTEM, durable=durable) as tx:
            settings.append(tx.driver.execute("SHOW synchronous_commit").fetchone())
    assert settings == [("on",), ("off",), ("on",)]


def test_a_pool_that_is_used_up_is_database_unavailable(opened: Open) -> None:
    database = opened(pool_timeout=0.05)
    with database.transaction(SYSTEM) as first, ThreadPoolExecutor(1) as another:
        leave_mark(first)
        with pytest.raises(DatabaseUnavailable, match="DB_POOL_SIZE"):
            another.submit(backend, database).result()


# --- one connection a thread --------------------------------------------------------------------------------


def test_a_thread_that_is_in_a_transaction_gets_no_second_connection_however_many_there_are(opened: Open) -> None:
    """It is told at once: with enough connections it would work, until as many threads do so as there are."""
    database = opened(pool_size=4)
    with database.transaction(SYSTEM) as tx:
        leave_mark(tx)
        with pytest.raises(SecondConnection), database.transaction(SYSTEM) as nested:
            leave_mark(nested)
        with pytest.raises(SecondConnection), database.transaction(SYSTEM) as nested:
            nested.enqueue(a_job())
    assert marks(database) == 1, "what the thread was at is not disturbed"


def test_a_transaction_that_is_begun_and_not_used_holds_nothing(opened: Open) -> None:
    database = opened()
    with database.transaction(SYSTEM), database.transaction(SYSTEM) as used:
        leave_mark(used)
    assert marks(database) == 1


@pytest.mark.parametrize("trouble", ["an error", "a lost connection", "no server"])
def test_after_any_trouble_the_thread_is_free(opened: Open, owner_url: str, trouble: str) -> None:
    database = opened() if trouble != "no server" else Database("postgresql://127.0.0.1:1/d", pool_size=1, new_id=uuid4)
    with contextlib.suppress(DatabaseUnavailable, KeyError), database.transaction(SYSTEM) as tx:
        if trouble == "a lost connection":
            kill(owner_url, tx.driver.info.backend_pid)
        leave_mark(tx)
        raise KeyError
    if trouble == "no server":
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            marks(database)
        database.close()
    else:
        assert marks(database) == 0


def test_a_separate_pool_does_not_wait_for_this_one_and_is_closed_with_it(opened: Open) -> None:
    database = opened()
    separate = database.separate()
    with database.transaction(SYSTEM) as tx, separate.transaction(SYSTEM) as other:
        pids = {tx.driver.info.backend_pid, other.driver.info.backend_pid}
    assert len(pids) == 2
    database.close()
    until(lambda: pids.isdisjoint(living(opened())), "the connections of both to be closed")


def test_many_threads_take_dispatch_with_one_connection(opened: Open) -> None:
    database = opened()

    def work(n: int) -> int:
        with database.transaction(SYSTEM) as tx:
            leave_mark(tx)
            tx.sql.execute(text("SELECT 1"))
        with database.transaction(SYSTEM) as tx:
            tx.enqueue(a_job())
        return n

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(work, range(200))) == sum(range(200))
    assert marks(database) == 200


# --- a server that answers and does not serve ---------------------------------------------------------------


def lead_to_a_read_only_server(tx: Tx) -> None:
    """The connection of the transaction, for as long as it lives; it will be in the pool again."""
    tx.driver.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")


def test_a_connection_that_leads_to_a_read_only_server_is_replaced(opened: Open) -> None:
    database = opened()
    with database.transaction(SYSTEM) as tx:
        lead_to_a_read_only_server(tx)
    with (
        pytest.raises(DatabaseUnavailable, match=r"cannot serve us now \(read-only\)"),
        database.transaction(SYSTEM) as tx,
    ):
        leave_mark(tx)
    with database.transaction(SYSTEM) as tx:
        leave_mark(tx)
    assert marks(database) == 1


def test_with_one_such_connection_all_that_are_as_old_are_replaced(opened: Open) -> None:
    """Else the last of them would be met in a busy hour, days later."""
    database = opened(pool_size=5)
    together = threading.Barrier(5)

    def on_five_connections(act: Callable[[Tx], object]) -> None:
        def one(n: int) -> None:
            with database.transaction(SYSTEM) as tx:
                act(tx)
                together.wait(10)

        with ThreadPoolExecutor(5) as threads:
            list(threads.map(one, range(5)))

    on_five_connections(lead_to_a_read_only_server)
    with pytest.raises(DatabaseUnavailable), database.transaction(SYSTEM) as tx:
        leave_mark(tx)
    on_five_connections(leave_mark)
    assert marks(database) == 5


def test_of_the_errors_only_those_of_an_outage_cost_the_connection(opened: Open, owner_url: str) -> None:
    database = opened()
    kept = backend(database)
    for sqlstate in ("23505", "22001", "42P01", "57014", "P0001"):
        with refusing(owner_url, "system_metrics", sqlstate):
            with pytest.raises(psycopg.Error) as raised, database.transaction(SYSTEM) as tx:
                leave_mark(tx)
            assert raised.value.sqlstate == sqlstate
    for sqlstate in ("40001", "40P01", "55P03"):
        with refusing(owner_url, "system_metrics", sqlstate):
            with pytest.raises(Contended), database.transaction(SYSTEM) as tx:
                leave_mark(tx)
    assert backend(database) == kept
    for sqlstate, why in AWAY.items():
        with refusing(owner_url, "system_metrics", sqlstate):
            speak: list[Callable[[Tx], object]] = [leave_mark, leave_mark_by_sqlalchemy]
            for say in speak:
                with pytest.raises(DatabaseUnavailable, match=why), database.transaction(SYSTEM) as tx:
                    say(tx)
        assert backend(database) != kept
        kept = backend(database)


def leave_mark_by_sqlalchemy(tx: Tx) -> None:
    tx.sql.execute(text("INSERT INTO system_metrics (name, value, at) VALUES ('mark', 1, clock_timestamp())"))


def test_a_commit_that_is_refused_is_an_outage_too(opened: Open, owner_url: str) -> None:
    """A deferred check stands for the disk that is full only when all is written."""
    with refusing(owner_url, "system_metrics", "53100"), psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("DROP TRIGGER refusing ON system_metrics")
        owner.execute(
            "CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON system_metrics DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        with pytest.raises(DatabaseUnavailable, match="disk full"), opened().transaction(SYSTEM) as tx:
            leave_mark(tx)


def test_a_read_only_server_is_refused_when_one_connects(opened: Open, owner_url: str, database: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        waiting = opened()
        with pytest.raises(DatabaseUnavailable, match="session is read-only"):
            marks(waiting)
        with pytest.raises(DatabaseUnavailable, match="session is read-only"):
            waiting.connect()
        owner.execute("SET default_transaction_read_only = off")
        owner.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    assert marks(waiting) == 0

"""Jobs that ended a while ago are archived, old archives dropped; what may still matter to somebody stays."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.dialects import postgresql

from db.autopilot.chains import PRUNE_EVENTS
from db.concepts.imported_trends import PRUNE_AUDIO
from db.concepts.imports import old_ones
from db.events.writer import store_and_commit
from db.posting.posts import PRUNE as PRUNE_POSTS
from db.posting.posts import PRUNED
from db.posting.reservations import PRUNE as PRUNE_PLACES
from db.transaction import SYSTEM
from domain.concepts.imported import AudioTrend
from integrations.clerk import webhooks as clerk
from simulators.personas import Body
from tests.builders import a_clerk_event, a_stripe_event, an_ended_job, job_row, new_id, where
from tests.wait import until
from web.webhooks import new_event
from workers.app import App
from workers.jobs.identity import apply_clerk_event
from workers.jobs.upkeep import (
    BODIES_PER_TRANSACTION,
    JOBS_PER_TRANSACTION,
    KEEP_ARCHIVED,
    KEEP_ENDED,
    KEEP_SETTLED,
    KEEP_SOUNDS,
    ROWS_PER_TRANSACTION,
    drop_bodies,
    prune,
)

DAY = timedelta(days=1)


@pytest.fixture
def now(app: App) -> datetime:
    with app.db.transaction(SYSTEM) as tx:
        return tx.now()


def pruned(app: App, drain: Callable[[], int], older_than: timedelta | None = None) -> object:
    with app.db.transaction(SYSTEM) as tx:
        job_id = prune.enqueue(tx, older_than=older_than)
    drain()
    return job_row(app, job_id)["result"]


def test_what_ended_a_while_ago_is_archived_and_dead_letters_wait_longer(
    app: App, drain: Callable[[], int], now: datetime
) -> None:
    gone = [an_ended_job(app, status, ended=now - 2 * DAY) for status in ("completed", "cancelled")]
    gone += [an_ended_job(app, "failed", ended=now - 90 * DAY)]
    later = now + DAY
    kept = [
        an_ended_job(app, "completed", ended=now - 1.9 * DAY),
        an_ended_job(app, "completed", ended=now - 1.9 * DAY, created_at=now - 40 * DAY),
        an_ended_job(app, "failed", ended=now - 89 * DAY),
        an_ended_job(app, "pending", ended=now - 40 * DAY, completed_at=None, scheduled_for=later, wake_at=later),
    ]
    assert pruned(app, drain) == {"moved": 3, "dropped": 0}
    assert where(app, *gone, *kept) == ["archived"] * 3 + ["hot"] * 4


def test_what_is_old_is_found_by_an_index(app: App, now: datetime) -> None:
    """Each hour, in tables that may have millions of rows."""
    old = old_ones(now, 9).compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    statements = [PRUNE_AUDIO, PRUNE_EVENTS, PRUNE_PLACES]
    statements += [PRUNE_POSTS.format(table=table, moment=moment) for table, moment in PRUNED.items()]
    queries = [(each, (now, 9)) for each in statements] + [(str(old), None)]
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        for query, values in queries:
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {query}".encode(), values))
            assert "Seq Scan" not in plan, plan


def test_sounds_that_were_imported_go_after_90_days_however_many_there_are(
    app: App, drain: Callable[[], int], now: datetime
) -> None:
    def a_sound(number: int, age: timedelta) -> AudioTrend:
        return AudioTrend("tiktok", str(number), "Espresso", "US", now - age)

    old = [a_sound(number, KEEP_SOUNDS + timedelta(hours=1)) for number in range(ROWS_PER_TRANSACTION + 1)]
    with app.db.transaction(SYSTEM) as tx:
        tx.imported_trends.add_audio([*old, a_sound(0, KEEP_SOUNDS - timedelta(hours=1))])
    pruned(app, drain)
    with app.db.transaction(SYSTEM) as tx:
        kept = tx.driver.execute("SELECT external_id, captured_at FROM audio_trends").fetchall()
    assert kept == [("0", now - KEEP_SOUNDS + timedelta(hours=1))]


def test_another_age_can_be_given_and_dead_letters_still_wait(
    app: App, drain: Callable[[], int], now: datetime
) -> None:
    gone = an_ended_job(app, "completed", ended=now - timedelta(hours=2))
    kept = [an_ended_job(app, status, ended=now - timedelta(minutes=50)) for status in ("completed", "cancelled")]
    kept += [an_ended_job(app, "failed", ended=now - timedelta(days=3))]
    assert pruned(app, drain, older_than=timedelta(hours=1)) == {"moved": 1, "dropped": 0}
    assert where(app, gone, *kept) == ["archived"] + ["hot"] * 3


def test_every_old_job_goes_however_many_there_are(
    app: App, drain: Callable[[], int], now: datetime, owner_url: str
) -> None:
    many = 2 * JOBS_PER_TRANSACTION + 500
    with psycopg.connect(owner_url) as owner:
        owner.execute(
            "INSERT INTO job_queue (job_type, status, completed_at) SELECT 'gone', 'completed', %s - n * interval '1s' "
            "FROM generate_series(1, %s) AS n",
            (now - 10 * DAY, many),
        )
    assert pruned(app, drain) == {"moved": many, "dropped": 0}


def test_archives_that_are_past_keeping_are_dropped_week_by_week(
    app: App, drain: Callable[[], int], now: datetime
) -> None:
    past, young = now - KEEP_ARCHIVED - 7 * DAY, now - KEEP_ARCHIVED + DAY
    jobs = [an_ended_job(app, ended=moment) for moment in (past - 70 * DAY, past, young)]
    assert pruned(app, drain) == {"moved": 3, "dropped": 2}
    assert where(app, *jobs) == ["", "", "archived"]
    assert pruned(app, drain) == {"moved": 0, "dropped": 0}


def test_the_archive_keeps_what_the_queue_kept_longest() -> None:
    assert max(KEEP_ENDED.values()) + timedelta(weeks=1) < KEEP_ARCHIVED


def test_the_week_to_come_is_there_before_it_comes(app: App, drain: Callable[[], int], now: datetime) -> None:
    pruned(app, drain)
    with app.db.transaction(SYSTEM) as tx:
        assert not tx.archive.make_week(now + timedelta(weeks=1))


# --- stopped in between -------------------------------------------------------------------------------------


@contextmanager
def between_batches(
    app: App, owner_url: str, drain: Callable[[], int], now: datetime
) -> Iterator[tuple[UUID, list[UUID]]]:
    """Prune, up to its second batch, which is of another week and held up; then go on."""
    weeks = (now - 30 * DAY, now - 20 * DAY)
    jobs = [an_ended_job(app, ended=moment) for moment in weeks]
    with app.db.transaction(SYSTEM) as tx:
        tx.archive.make_week(weeks[1])
        job_id = prune.enqueue(tx)
    run = threading.Thread(target=drain)
    with psycopg.connect(owner_url) as owner:
        second = owner.execute(
            "SELECT 'job_archive_' || to_char(date_trunc('week', %s AT TIME ZONE 'UTC'), 'YYYY_MM_DD')", (weeks[1],)
        ).fetchall()[0][0]
        owner.execute(f"LOCK TABLE {second}".encode())
        run.start()
        until(lambda: held_up(owner_url), "the second batch to be held up")
        yield job_id, jobs
        owner.rollback()
        run.join()


def held_up(owner_url: str) -> int | None:
    """The server process that waits for a lock."""
    with psycopg.connect(owner_url, autocommit=True) as other:
        row = other.execute(
            "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = current_database()"
        ).fetchone()
    return row and int(row[0])


def test_cancelled_between_batches_it_stops_and_each_job_is_in_one_place(
    app: App, owner_url: str, drain: Callable[[], int], now: datetime
) -> None:
    with between_batches(app, owner_url, drain, now) as (job_id, jobs), app.db.transaction(SYSTEM) as tx:
        assert tx.transitions.cancel(job_id) == "running"
    assert job_row(app, job_id)["status"] == "cancelled"
    assert where(app, *jobs) == ["archived", "hot"]


def test_killed_between_batches_it_goes_on_where_it_was(
    app: App, owner_url: str, drain: Callable[[], int], now: datetime
) -> None:
    with between_batches(app, owner_url, drain, now) as (job_id, jobs):
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (held_up(owner_url),))
    assert where(app, *jobs) == ["archived", "hot"]
    assert job_row(app, job_id)["status"] == "pending"
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() WHERE id = %s", (job_id,))
    drain()
    assert where(app, *jobs) == ["archived", "archived"]
    assert job_row(app, job_id)["result"] == {"moved": 1, "dropped": 0}


# --- what events said


def dropped(app: App, drain: Callable[[], int]) -> object:
    with app.db.transaction(SYSTEM) as tx:
        job_id = drop_bodies.enqueue(tx)
    drain()
    return job_row(app, job_id)["result"]


def event_row(app: App, name: str) -> dict[str, object]:
    with app.db.transaction(SYSTEM) as tx:
        row = tx.events.find(name)
    assert row is not None
    return row


def aged(owner_url: str, days: float, name: str = "%") -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute(
            "UPDATE webhook_events SET received_at = now() - %s WHERE external_id LIKE %s", (days * DAY, name)
        )


SESSION = {"type": "session.ended", "data": {"id": "sess_1", "user_id": "user_ada", "client_ip": "192.0.2.7"}}
ADA = {
    "type": "user.created",
    "data": {
        "id": "user_ada",
        "updated_at": 1_790_000_000_000,
        "primary_email_address_id": "idn_1",
        "email_addresses": [{"id": "idn_1", "email_address": "ada@example.com"}],
    },
}
GONE = {"type": "user.deleted", "data": {"id": "user_ada"}, "timestamp": 1_790_000_001_000}
CUSTOMER = {"id": "evt_1", "object": "event", "type": "customer.created", "created": 1, "data": {"object": {"id": "c"}}}


@pytest.mark.parametrize(
    ("source", "body", "days"),
    [("clerk", SESSION, 30), ("stripe", CUSTOMER, 30), ("clerk", ADA, KEEP_SETTLED["clerk"].days)],
)
def test_what_an_event_said_is_dropped_when_its_time_is_over_and_the_id_stays(
    app: App, drain: Callable[[], int], owner_url: str, source: str, body: Body, days: int
) -> None:
    name = "evt_1" if source == "stripe" else "msg_1"

    def deliver() -> UUID:
        return a_stripe_event(app, body) if source == "stripe" else a_clerk_event(app, body, name)

    job_id = deliver()
    drain()
    status = event_row(app, name)["status"]
    aged(owner_url, days - 0.1)
    dropped(app, drain)
    assert event_row(app, name)["body"] is not None
    aged(owner_url, days + 0.1)
    kind = "settled" if status == "applied" else "ignored"
    assert dropped(app, drain) == {"of_deleted": 0, "ignored": 0, "settled": 0} | {kind: 1}
    row = event_row(app, name)
    assert (row["body"], row["payload"], row["status"]) == (None, {}, status)
    assert deliver() == job_id, "a duplicate"
    assert drain() == 0


def test_what_waits_for_something_keeps_what_it_said(app: App, drain: Callable[[], int], owner_url: str) -> None:
    lone = {"type": "session.created", "data": {"id": "sess_1", "user_id": "user_x", "created_at": 1}}
    a_clerk_event(app, lone, "msg_1")
    drain()
    a_clerk_event(app, ADA, "msg_2")
    aged(owner_url, 5000)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() + interval '1 day' WHERE status = 'pending'")
    assert dropped(app, drain) == {"of_deleted": 0, "ignored": 0, "settled": 0}
    assert [event_row(app, name)["status"] for name in ("msg_1", "msg_2")] == ["parked:unknown_user", "received"]


def test_what_ignored_events_said_of_a_person_goes_when_the_person_is_gone(app: App, drain: Callable[[], int]) -> None:
    for body, name in ((ADA, "msg_1"), (GONE, "msg_2")):
        a_clerk_event(app, body, name)
        drain()
    envelope = clerk.parse_event(json.dumps(SESSION).encode(), "msg_3")
    event = new_event("clerk", envelope, apply_clerk_event, new_id)
    other = event._replace(id=new_id(), external_id="msg_4", subject="user_bob")
    with app.db.connect(autocommit=True) as connection:
        store_and_commit(connection, [event, other])
    assert dropped(app, drain) == {"of_deleted": 1, "ignored": 0, "settled": 0}
    assert "192.0.2.7" not in str(event_row(app, "msg_3"))
    assert "192.0.2.7" in str(event_row(app, "msg_4"))


def test_every_old_body_goes_however_many_there_are(app: App, drain: Callable[[], int], owner_url: str) -> None:
    many = 2 * BODIES_PER_TRANSACTION + 500
    with psycopg.connect(owner_url) as owner:
        owner.execute(
            "INSERT INTO webhook_events (source, external_id, type, status, processed_at, received_at) SELECT "
            "'stripe', n::text, 'a', 'ignored:type', now(), now() - interval '31 days' FROM generate_series(1, %s) n",
            (many,),
        )
    assert dropped(app, drain) == {"of_deleted": 0, "ignored": many, "settled": 0}
    assert dropped(app, drain) == {"of_deleted": 0, "ignored": 0, "settled": 0}


def test_minutes_are_summed_up_into_hours_before_they_are_deleted(app: App, drain: Callable[[], int]) -> None:
    """Minutes are kept for two days and hours for thirteen months; of dead processes nothing, and no total changes."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            """
            INSERT INTO system_metrics (name, labels, value, step, at)
            SELECT name, '{}', 2, 'minute', date_trunc('hour', now()) - ago
            FROM unnest(ARRAY['viral_fence_refusals_total', 'sampled']) AS name,
                 unnest(ARRAY['50 hours', '30 hours', '1740 minutes', '1 minute']::interval[]) AS ago
            """
        )
        tx.driver.execute(
            "INSERT INTO system_metrics (name, value, step, at)"
            " VALUES ('viral_fence_refusals_total', 9, 'hour', now() - interval '400 days')"
        )
        tx.driver.execute("INSERT INTO metric_totals (name, value) VALUES ('viral_fence_refusals_total', 17)")
        tx.driver.execute(
            "INSERT INTO process_metrics (role, hostname, pid, release, reported_at)"
            " SELECT 'worker', 'h', 1, '1', now() - ago FROM unnest(ARRAY['2 days', '1 hour']::interval[]) AS ago"
        )
    for _ in range(2):
        with app.db.transaction(SYSTEM) as tx:
            prune.enqueue(tx)
        assert drain() == 1
        with app.db.transaction(SYSTEM) as tx:
            kept = tx.driver.execute(
                "SELECT step, value::int, count(*) FROM system_metrics WHERE name LIKE 'viral%' GROUP BY 1, 2"
            ).fetchall()
            processes = tx.driver.execute("SELECT count(*) FROM process_metrics").fetchall()
            [total] = tx.series.totals()["viral_fence_refusals_total"]
        assert sorted(kept) == [("hour", 2, 3), ("minute", 2, 3)]
        assert (processes, total.value) == ([(1,)], 17)


def test_changes_go_after_13_months_but_for_what_is_in_force(app: App, drain: Callable[[], int]) -> None:
    """Also settings that were changed long ago, and not since: without them a start would record them anew."""
    rows = [
        ("deploy", "web", 500, {"release": "1"}),
        ("deploy", "web", 450, {"release": "2"}),
        ("setting", "web", 500, {"log_level": "INFO", "port": "1"}),
        ("setting", "web", 450, {"log_level": "DEBUG"}),
        ("setting", "web", 10, {"log_level": "INFO"}),
        ("pause", "llm", 400, {"paused": True}),
        ("pause", "llm", 399, {"paused": False}),
        ("pause", "llm", 390, {"paused": True}),
    ]
    with app.db.transaction(SYSTEM) as tx:
        for kind, subject, days, after in rows:
            tx.driver.execute(
                "INSERT INTO changes (kind, subject, after, at) VALUES (%s, %s, %s, now() - %s * interval '1 day')",
                (kind, subject, json.dumps(after), days),
            )
        prune.enqueue(tx)
    assert drain() == 1
    with app.db.transaction(SYSTEM) as tx:
        left = [(row.kind, row.after) for row in reversed(tx.changes.listed(limit=100))]
        in_force, _ = tx.changes.settings("web")
    assert left == [
        (kind, after) for kind, _, days, after in rows if days in (10, 390) or (kind, days) in KEPT_FOR_EVER
    ]
    assert in_force == {"log_level": "INFO", "port": "1"}


KEPT_FOR_EVER = {("deploy", 450), ("setting", 500)}
"""The release that runs, and the only row with the port."""

"""An event is stored once, together with its job, whatever is delivered how often by how many at once."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from db.events.writer import NewEvent, Stored, store_and_commit
from db.postgres.connection import AppConnection
from db.postgres.errors import DatabaseUnavailable
from domain.errors import Unavailable
from tests.conftest import Servers, connection_to
from tests.proxy import proxied
from tests.wait import until

Connection = AppConnection
Connect = Callable[[], Connection]


def an_event(external_id: str = "evt_1", **fields: Any) -> NewEvent:
    values: dict[str, Any] = {
        "id": uuid4(),
        "source": "stripe",
        "external_id": external_id,
        "type": "invoice.paid",
        "api_version": None,
        "livemode": None,
        "occurred_at": None,
        "subject": None,
        "payload": "{}",
        "body": b"{}",
        "job_id": uuid4(),
        "job_type": "billing.apply_stripe_event",
        "queue": "events",
    }
    return NewEvent(**values | fields)


def rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SELECT set_config('app.tenant_id', '*', true)")
        found = cursor.execute(f"SELECT * FROM {table}").fetchall()
    connection.commit()
    return found


def test_an_event_is_stored_with_its_job(connection: Connection) -> None:
    event = an_event(
        api_version="2026-09-30.endive",
        livemode=True,
        occurred_at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
        subject="cus_1",
        payload='{"id":"evt_1","note":"Zoë 🎬"}',
        body=b"\x00\xff raw",
        max_attempts=10,
    )
    assert store_and_commit(connection, [event]) == [Stored(event.id, event.job_id, "events", duplicate=False)]
    [row], [job] = rows(connection, "webhook_events"), rows(connection, "job_queue")
    assert row["payload"] == {"id": "evt_1", "note": "Zoë 🎬"}
    assert (row["id"], row["job_id"], row["body"]) == (event.id, event.job_id, b"\x00\xff raw")
    assert (row["source"], row["external_id"], row["type"]) == ("stripe", "evt_1", "invoice.paid")
    assert (row["api_version"], row["livemode"], row["subject"]) == ("2026-09-30.endive", True, "cus_1")
    assert (row["occurred_at"], row["status"]) == (event.occurred_at, "received")
    assert (job["id"], job["job_type"], job["queue"]) == (event.job_id, "billing.apply_stripe_event", "events")
    assert job["payload"] == {"event_id": str(event.id)}
    assert (job["status"], job["tenant_id"], job["max_attempts"]) == ("pending", None, 10)
    assert (job["unique_key"], job["wake_at"]) == (str(event.id), None)


def test_what_an_event_says_is_not_written_again_with_its_status(connection: Connection) -> None:
    says = Random(0).randbytes(750).hex() + "x" * 1500  # half of it is left when it is compressed
    store_and_commit(connection, [an_event(f"evt_{n}", payload=f'{{"note":"{says}"}}') for n in range(40)])
    [(pages,)] = connection.execute("SELECT pg_relation_size('webhook_events') / 8192").fetchall()
    assert pages <= 2
    with connection.transaction():
        connection.execute("SELECT set_config('app.tenant_id', '*', true)")
        connection.execute("UPDATE webhook_events SET status = 'applied', processed_at = now()")
    [(pages,)] = connection.execute("SELECT pg_relation_size('webhook_events') / 8192").fetchall()
    assert pages <= 4
    assert rows(connection, "webhook_events")[0]["payload"] == {"note": says}


def test_events_are_compressed_by_the_fastest_method_of_the_server(connection: Connection) -> None:
    with_lz4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    [(has_lz4,)] = connection.execute(with_lz4).fetchall()
    found = connection.execute(
        "SELECT attcompression FROM pg_attribute WHERE attrelid = 'webhook_events'::regclass"
        " AND attname IN ('body', 'payload')"
    ).fetchall()
    assert found == [("l" if has_lz4 else "",)] * 2


def test_an_ignored_event_is_kept_and_gets_no_job(connection: Connection) -> None:
    ignored = an_event("no", job_id=None)
    batch = [ignored, an_event("yes", priority=3), an_event("no", job_id=None)]
    expected = [(None, False), (batch[1].job_id, False), (None, True)]
    assert [(each.job_id, each.duplicate) for each in store_and_commit(connection, batch)] == expected
    first, second = sorted(rows(connection, "webhook_events"), key=lambda row: str(row["external_id"]))
    assert (first["status"], first["job_id"]) == ("ignored:type", None)
    assert first["processed_at"] == first["received_at"]
    assert (first["duplicates"], second["processed_at"], second["status"]) == (1, None, "received")
    [job] = rows(connection, "job_queue")
    assert (job["id"], job["priority"]) == (batch[1].job_id, 3)
    [again] = store_and_commit(connection, [ignored])
    assert again == Stored(ignored.id, None, "events", duplicate=False), "our own earlier try"


def test_what_is_not_known_of_any_event_of_a_batch_is_null(connection: Connection) -> None:
    store_and_commit(connection, [an_event("a", body=None), an_event("b", body=None)])
    assert [(row["body"], row["livemode"], row["subject"]) for row in rows(connection, "webhook_events")] == [
        (None, None, None)
    ] * 2


def test_a_duplicate_makes_no_job_and_names_the_first_delivery(connection: Connection) -> None:
    first, again = an_event(), an_event(type="something.else")
    store_and_commit(connection, [first])
    assert store_and_commit(connection, [again]) == [Stored(first.id, first.job_id, "events", duplicate=True)]
    assert len(rows(connection, "webhook_events")) == len(rows(connection, "job_queue")) == 1


def test_a_batch_may_hold_new_known_and_repeated_events_in_any_order(connection: Connection) -> None:
    stored_before = an_event("known")
    store_and_commit(connection, [stored_before])
    batch = [an_event(name) for name in ("z", "known", "a", "z", "m", "a")]
    stored = store_and_commit(connection, batch)
    assert [each.duplicate for each in stored] == [False, True, False, True, False, True]
    assert [each.event_id for each in stored] == [
        *(batch[0].id, stored_before.id, batch[2].id, batch[0].id, batch[4].id, batch[2].id)
    ]
    events = rows(connection, "webhook_events")
    assert len(events) == len(rows(connection, "job_queue")) == 4
    assert {row["external_id"]: row["duplicates"] for row in events} == {"known": 1, "z": 1, "a": 1, "m": 0}
    assert {row["duplicates"]: row["duplicate_at"] is not None for row in events} == {0: False, 1: True}


def test_a_duplicate_of_an_event_that_is_being_applied_waits_for_nobody(connect: Connect) -> None:
    """Whoever applies it may have been stopped in the middle of it."""
    first, again = an_event(), an_event()
    ours, theirs = connect(), connect()
    store_and_commit(ours, [first])
    ours.execute("SET statement_timeout = '10s'")
    with theirs.transaction():
        theirs.execute("SELECT set_config('app.tenant_id', '*', true)")
        theirs.execute("SELECT FROM webhook_events FOR UPDATE")
        assert store_and_commit(ours, [again])[0].duplicate
    assert [row["duplicates"] for row in rows(ours, "webhook_events")] == [0], "not counted, but known"
    store_and_commit(ours, [again])
    assert [row["duplicates"] for row in rows(ours, "webhook_events")] == [1]


def test_the_same_id_from_another_source_is_another_event(connection: Connection) -> None:
    batch = [an_event("same"), an_event("same", source="clerk", job_type="identity.apply_clerk_event")]
    assert [each.duplicate for each in store_and_commit(connection, batch)] == [False, False]


def test_storing_what_an_unanswered_commit_had_stored_is_no_duplicate(connection: Connection) -> None:
    event = an_event()
    assert store_and_commit(connection, [event]) == store_and_commit(connection, [event])
    assert len(rows(connection, "job_queue")) == 1
    assert rows(connection, "webhook_events")[0]["duplicates"] == 0


def test_a_batch_that_postgres_refuses_leaves_nothing_and_a_usable_connection(connection: Connection) -> None:
    with pytest.raises(psycopg.DataError):
        store_and_commit(connection, [an_event("good"), an_event("poison", payload='"\\u0000"')])
    assert rows(connection, "webhook_events") == []
    assert store_and_commit(connection, [an_event("good")])[0].duplicate is False


def test_many_that_store_the_same_events_at_once_agree_on_one_of_each(connect: Connect) -> None:
    names = [f"evt_{number}" for number in range(40)]
    together = threading.Barrier(6)
    answers: list[list[Stored]] = []

    def deliver(connection: Connection, order: list[str]) -> None:
        batch = [an_event(name) for name in order]
        together.wait()
        stored = store_and_commit(connection, batch)
        answers.append([stored[order.index(name)] for name in names])

    orders = [names if number % 2 else names[::-1] for number in range(6)]
    threads = [threading.Thread(target=deliver, args=(connect(), order)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    for deliveries in zip(*answers, strict=True):
        assert len({each.event_id for each in deliveries}) == 1
        assert [each.duplicate for each in deliveries].count(False) == 1
    assert len(rows(connect(), "job_queue")) == len(names)


def test_a_lost_connection_is_unavailable_and_nothing_is_stored(connect: Connect, owner_url: str) -> None:
    victim, other = connect(), connect()
    pid = victim.info.backend_pid
    with psycopg.connect(owner_url) as owner:
        # The owner may end backends of roles that it is a member of.
        owner.execute("SELECT pg_terminate_backend(%s)", (pid,))
    until(lambda: pid not in backends(other), "the backend to end")
    with pytest.raises(DatabaseUnavailable, match="cannot store it now"):
        store_and_commit(victim, [an_event()])
    assert victim.closed
    assert rows(other, "webhook_events") == []


def backends(connection: Connection) -> set[int]:
    found = {pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity")}
    connection.rollback()
    return found


def test_a_commit_whose_answer_is_lost_can_be_tried_again(servers: Servers, database_url: str) -> None:
    event = an_event()
    with proxied("127.0.0.1", servers.postgres.port) as proxy:
        with connection_to(proxy.url(database_url) + "?sslmode=disable") as cut:
            proxy.deaf_after = b"COMMIT"
            with pytest.raises(Unavailable):
                store_and_commit(cut, [event])
        with connection_to(database_url) as fresh:
            until(lambda: len(rows(fresh, "webhook_events")) == 1, "the commit that was not answered")
            assert store_and_commit(fresh, [event])[0].duplicate is False
            assert len(rows(fresh, "job_queue")) == 1

"""An event is stored once, together with its job, whatever is delivered how often by how many at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from db.events.store import Events, Replayable
from db.events.writer import NewEvent, Stored, store_and_commit
from db.postgres.connection import AppConnection
from db.postgres.errors import DatabaseUnavailable
from domain.errors import EventDropped, Unavailable, UnknownEvent
from domain.events.outcomes import IGNORED, MOST_DETAIL, SETTLED, Concern, Flag, Outcome, Status
from tests.conftest import Servers, connection_to
from tests.proxy import proxied
from tests.wait import until

Connection = AppConnection
Connect = Callable[[], Connection]


@pytest.fixture
def connect(database_url: str) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(connection_to(database_url))


@pytest.fixture
def connection(connect: Connect) -> Connection:
    return connect()


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
    known = an_event("known")
    store_and_commit(connection, [known])
    batch = [an_event(name) for name in ("z", "known", "a", "z", "m", "a")]
    stored = store_and_commit(connection, batch)
    assert [each.duplicate for each in stored] == [False, True, False, True, False, True]
    assert [each.event_id for each in stored] == [
        *(batch[0].id, known.id, batch[2].id, batch[0].id, batch[4].id, batch[2].id)
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


# --- the query group -----------------------------------------------------------------------------------------


@pytest.fixture
def events(connection: Connection) -> Events:
    """In an open transaction of the system scope."""
    connection.execute("SELECT set_config('app.tenant_id', '*', false)")
    return Events(connection)


def stored(connection: Connection, *batch: NewEvent) -> list[UUID]:
    return [each.event_id for each in store_and_commit(connection, batch)]


def test_an_event_is_found_by_our_id_or_the_sender_s(connection: Connection, events: Events) -> None:
    [event_id] = stored(connection, an_event("evt_1", payload='{"a":1}'))
    assert events.get(event_id).payload == {"a": 1}
    for name in (str(event_id), "evt_1"):
        found = events.find(name)
        assert found is not None
        assert found["id"] == event_id


def test_an_event_that_is_not_there(events: Events) -> None:
    with pytest.raises(UnknownEvent):
        events.get(uuid4())
    assert events.find("evt_1") is None
    assert events.find(str(uuid4())) is None


def test_events_are_listed_newest_first_and_by_what_is_asked_for(connection: Connection, events: Events) -> None:
    [first] = stored(connection, an_event("1"))
    [second] = stored(connection, an_event("2", source="clerk", type="user.created"))
    [third] = stored(connection, an_event("3"))
    events.mark(third, Outcome(Status.PARKED_PRICE))

    def ids(**wanted: Any) -> list[UUID]:
        return [row["id"] for row in events.recent(**wanted)]

    assert ids() == [third, second, first]
    assert ids(limit=2) == [third, second]
    assert ids(source="stripe") == [third, first]
    assert ids(type="user.created") == ids(source="clerk", type="user.created") == [second]
    assert ids(status="received") == [second, first]
    assert ids(status="parked") == [third]
    assert not {"body", "payload"} & events.recent()[0].keys()


def test_an_event_is_marked_with_what_became_of_it(connection: Connection, events: Events) -> None:
    [event_id] = stored(connection, an_event())
    events.mark(event_id, Outcome(Status.APPLIED))
    found = events.find(str(event_id))
    assert found is not None
    assert found["status"] == "applied"
    assert found["processed_at"] is not None


def test_what_waits_for_a_link_is_found_by_customer(connection: Connection, events: Events) -> None:
    batch = [an_event(str(n), subject=subject) for n, subject in enumerate(["cus_1", "cus_2", "cus_1"])]
    mine, other, odd = stored(connection, *batch)
    for event_id in (mine, other):
        events.mark(event_id, Outcome(Status.PARKED_CUSTOMER))
    events.mark(odd, Outcome(Status.PARKED_PRICE))
    assert events.waiting_for_a_link(["cus_1"]) == [mine]
    assert {event.id for event in events.parked("unknown_", 10)} == {mine, other, odd}
    assert events.parked("unknown_price", 10) == [Replayable(odd, "stripe", "invoice.paid")]
    assert len(events.parked("unknown_", 1)) == 1


@pytest.mark.parametrize("status", Status)
def test_every_outcome_and_every_flag_can_be_stored(connection: Connection, events: Events, status: Status) -> None:
    [event_id] = stored(connection, an_event())
    concerns = tuple(Concern(flag, f"because of {flag}") for flag in Flag)
    events.mark(event_id, Outcome(status, "x" * 10_000, concerns))
    [row] = events.recent()
    assert (row["status"], row["flag"]) == (status, ",".join(Flag))
    assert row["detail"] == "x" * (MOST_DETAIL - 1) + "…"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "applied by hand"),
        ("status", "parked:for_ever"),
        ("detail", "x" * (MOST_DETAIL + 1)),
    ],
)
def test_what_is_no_word_of_the_lists_is_refused(connection: Connection, column: str, value: str) -> None:
    [event_id] = stored(connection, an_event())
    connection.execute("SELECT set_config('app.tenant_id', '*', true)")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"UPDATE webhook_events SET {column} = %s WHERE id = %s", (value, event_id))


def test_what_the_release_before_writes_becomes_a_word_and_a_detail(connection: Connection) -> None:
    [first, second] = stored(connection, an_event("1"), an_event("2"))
    connection.execute("SELECT set_config('app.tenant_id', '*', true)")
    write = "UPDATE webhook_events SET status = %s, flag = %s WHERE id = %s"
    connection.execute(write, ("ignored:unhandled type moon.risen", None, first))
    connection.execute(write, (f"ignored:{'x' * 400}", "several subscriptions at once", second))
    found = [(row["status"], row["flag"], row["detail"]) for row in rows(connection, "webhook_events")]
    assert found[0] == ("ignored:type", None, "unhandled type moon.risen")
    assert found[1] == ("ignored:other", "other", "x" * MOST_DETAIL)


# --- bodies that are dropped


def test_only_the_bodies_of_settled_events_of_that_age_are_dropped(connection: Connection, events: Events) -> None:
    told = {status: stored(connection, an_event(status))[0] for status in Status}
    for status, event_id in told.items():
        if status != Status.RECEIVED:
            events.mark(event_id, Outcome(status))
    [young] = stored(connection, an_event("young"))
    events.mark(young, Outcome(Status.APPLIED))
    connection.execute("UPDATE webhook_events SET received_at = now() - interval '31 days' WHERE id <> %s", (young,))
    before = datetime.now(UTC) - timedelta(days=30)
    assert events.drop_bodies("clerk", IGNORED, before, 100) == 0
    assert events.drop_bodies("stripe", IGNORED, before, 3) == 3
    assert events.drop_bodies("stripe", IGNORED, before, 100) == len(IGNORED) - 3
    assert events.drop_bodies("stripe", SETTLED, before, 100) == len(SETTLED)
    assert events.drop_bodies("stripe", (*IGNORED, *SETTLED), before, 100) == 0
    dropped = {row["external_id"] for row in rows(connection, "webhook_events") if row["dropped_at"] is not None}
    assert dropped == {*IGNORED, *SETTLED}
    assert {row["external_id"] for row in rows(connection, "webhook_events") if row["body"] is None} == dropped


def test_an_event_whose_body_is_dropped_is_still_known_and_cannot_be_applied(
    connection: Connection, events: Events
) -> None:
    [event_id] = stored(connection, an_event(payload='{"a": 1}'))
    events.mark(event_id, Outcome(Status.APPLIED))
    connection.execute("SELECT set_config('app.tenant_id', '*', false)")
    assert events.drop_bodies("stripe", SETTLED, datetime.now(UTC) + timedelta(days=1), 10) == 1
    with pytest.raises(EventDropped, match=r"what the event evt_1 said was dropped on \d{4}-\d\d-\d\d"):
        events.get(event_id)
    connection.commit()
    assert [each.duplicate for each in store_and_commit(connection, [an_event()])] == [True]


def test_a_flag_stays_when_the_event_is_applied_again(connection: Connection, events: Events) -> None:
    [event_id] = stored(connection, an_event())
    events.mark(event_id, Outcome(Status.APPLIED, concerns=(Concern(Flag.REFUND, "look"),)))
    events.mark(event_id, Outcome(Status.STALE, "again"))
    events.mark(event_id, Outcome(Status.APPLIED))
    assert [(row["flag"], row["detail"]) for row in events.recent(flagged=True)] == [("refund", "look")]
    [counted] = events.outcomes(datetime(2000, 1, 1, tzinfo=UTC))
    assert (counted["status"], counted["events"], counted["flagged"]) == ("applied", 1, 1)

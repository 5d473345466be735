"""Stored events are found, marked with their outcome, parked and applied again, and lose their bodies in time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.events.store import Events, Replayable
from db.events.writer import NewEvent, store_and_commit
from domain.errors import EventDropped, UnknownEvent
from domain.events.outcomes import IGNORED, MOST_DETAIL, SETTLED, Concern, Flag, Outcome, Status
from tests.db.events.test_writer import Connection, an_event, rows


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


def test_many_events_are_marked_as_each_would_be(connection: Connection, events: Events) -> None:
    """Pairs of equal events: one of each pair is marked by itself, the other with all the others."""
    flagged = Outcome(Status.APPLIED, concerns=(Concern(Flag.REFUND, "10 of 20"),))
    outcomes = [Outcome(Status.STALE, "why"), Outcome(Status.APPLIED), flagged, flagged]
    alone, together = (stored(connection, *(an_event(f"{way}{n}") for n in range(4))) for way in "ab")
    for event_id in (alone[3], together[3]):
        events.mark(event_id, Outcome(Status.APPLIED, concerns=(Concern(Flag.DISPUTE, "earlier"),)))
    for event_id, outcome in zip(alone, outcomes, strict=True):
        events.mark(event_id, outcome)
    events.mark(alone[2], Outcome(Status.STALE, "later"))
    events.mark_many({**dict(zip(together, outcomes, strict=True)), uuid4(): flagged})
    events.mark_many({together[2]: Outcome(Status.STALE, "later")})
    columns = ("status", "flag", "detail", "processed_at")
    rows = [[events.find(str(event_id)) or {} for event_id in ids] for ids in (alone, together)]
    marked = [[{name: row[name] for name in columns} for row in way] for way in rows]
    assert marked[0] == marked[1]
    assert marked[0][2]["flag"] == "refund"


def test_of_many_events_those_are_loaded_that_can_be_applied(connection: Connection, events: Events) -> None:
    kept, dropped = stored(connection, an_event("1", payload='{"a":1}'), an_event("2"))
    connection.execute("UPDATE webhook_events SET dropped_at = now() WHERE id = %s", (dropped,))
    assert events.get_many([kept, dropped, uuid4()]) == {kept: events.get(kept)}


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
    assert events.waiting_for_a_link(["cus_1"]) == {mine: "cus_1"}
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
    by_status = {status: stored(connection, an_event(status))[0] for status in Status}
    for status, event_id in by_status.items():
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

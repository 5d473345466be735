"""Group commit: who waits together is stored together, and nobody is answered before, or kept waiting for ever."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from db.events.writer import NewEvent, Stored
from db.postgres.connection import AppConnection
from db.queue.notifications import Notifications
from domain.errors import Unavailable
from tests.conftest import Servers, connection_to
from tests.outages import refusing
from tests.proxy import Proxy, proxied
from tests.wait import until
from web.webhook_writer import WebhookWriter
from workers.engine.batcher import Batcher
from workers.runtime import logs

Connection = AppConnection


def an_event(external_id: str, payload: str = "{}") -> NewEvent:
    return NewEvent(
        id=uuid4(),
        source="stripe",
        external_id=external_id,
        type="invoice.paid",
        api_version=None,
        livemode=None,
        occurred_at=None,
        subject=None,
        payload=payload,
        body=b"{}",
        job_id=uuid4(),
        job_type="billing.apply_stripe_event",
        queue="events",
    )


POISON = '"\\u0000"'
"""A payload that `jsonb` refuses."""


class Postgres:
    """How the writer under test reaches the database: it can be shut, and it can be away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.open = threading.Event()
        self.open.set()
        self.away = False
        self.failures = 0
        self.made: list[Connection] = []

    def connect(self) -> Connection:
        assert self.open.wait(30)
        if self.away:
            self.failures += 1
            raise psycopg.OperationalError("connection refused")
        self.made.append(connection_to(self.url))
        return self.made[-1]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            connection.execute("SELECT set_config('app.tenant_id', '*', true)")
            return connection.execute(query).fetchall()

    def stored(self) -> set[str]:
        return {name for (name,) in self.ask("SELECT external_id FROM webhook_events")}

    def jobs(self) -> set[UUID]:
        return {job_id for (job_id,) in self.ask("SELECT id FROM job_queue")}

    def commits(self) -> int:
        """How many transactions wrote the events that are there."""
        return int(self.ask("SELECT count(DISTINCT xmin::text) FROM webhook_events")[0][0])


@pytest.fixture
def postgres(database_url: str) -> Postgres:
    return Postgres(database_url)


class SentNotifications(list[Notifications]):
    """A notifier that keeps what it is given."""

    def __call__(self, notifications: Notifications) -> None:
        self.append(notifications)

    def ids(self) -> set[UUID]:
        return {job_id for notifications in self for job_ids in notifications.values() for job_id in job_ids}


@pytest.fixture
def notified() -> SentNotifications:
    return SentNotifications()


@asynccontextmanager
async def running(
    postgres: Postgres, notify: Callable[[Notifications], object] = lambda notifications: None, **bounds: Any
) -> Any:
    writer = WebhookWriter(postgres.connect, notify, **bounds)
    writer.start()
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.stop)


@asynccontextmanager
async def all_waiting(
    writer: WebhookWriter, postgres: Postgres, events: list[NewEvent]
) -> AsyncIterator[list[asyncio.Task[Stored]]]:
    """The requests of all `events`, waiting for a shut Postgres that opens when the block is left."""
    postgres.open.clear()
    tasks = [asyncio.create_task(writer.store(event)) for event in events]
    await asyncio.sleep(0)
    yield tasks
    postgres.open.set()


async def stored_in_the_end(writer: WebhookWriter, event: NewEvent) -> None:
    """As its sender does it: again until it is stored."""
    while True:
        with suppress(Unavailable):
            await writer.store(event)
            return


def troubles(lines: Iterable[Any]) -> list[Any]:
    """The log lines that are not about events that were stored."""
    return [line for line in lines if line["event"] != "webhooks.accepted"]


async def answers(tasks: list[asyncio.Task[Stored]]) -> list[Stored | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def in_a_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


def test_an_accepted_event_is_committed_and_its_job_is_notified(
    postgres: Postgres, notified: SentNotifications
) -> None:
    event = an_event("evt_1")

    async def scenario() -> None:
        async with running(postgres, notified) as writer:
            stored = await writer.store(event)
            assert stored == Stored(event.id, event.job_id, "events", duplicate=False)
            assert postgres.stored() == {"evt_1"}

    in_a_loop(scenario)
    assert notified == [{"events": {event.job_id: 5}}]


def test_a_duplicate_is_accepted_and_not_notified(postgres: Postgres, notified: SentNotifications) -> None:
    first, again = an_event("evt_1"), an_event("evt_1")

    async def scenario() -> None:
        async with running(postgres, notified) as writer:
            await writer.store(first)
            assert await writer.store(again) == Stored(first.id, first.job_id, "events", duplicate=True)

    in_a_loop(scenario)
    assert notified.ids() == {first.job_id}


def test_events_that_wait_together_share_a_commit(postgres: Postgres) -> None:
    events = [an_event(f"evt_{number}") for number in range(64)]

    async def scenario() -> None:
        async with running(postgres) as writer:
            async with all_waiting(writer, postgres, events) as tasks:
                pass
            assert [stored.event_id for stored in await asyncio.gather(*tasks)] == [event.id for event in events]

    in_a_loop(scenario)
    # The writer may have gone off with the first ones before the others came.
    assert postgres.commits() <= 2
    assert len(postgres.made) == 1


def test_a_batch_is_bounded(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres, max_batch=10) as writer:
            async with all_waiting(writer, postgres, [an_event(f"evt_{number}") for number in range(40)]) as tasks:
                pass
            await asyncio.gather(*tasks)

    in_a_loop(scenario)
    assert 4 <= postgres.commits() <= 5


def test_one_id_from_64_requests_at_once_is_one_event_and_one_job(
    postgres: Postgres, notified: SentNotifications
) -> None:
    async def scenario() -> None:
        async with running(postgres, notified) as writer:
            stored = await asyncio.gather(*(writer.store(an_event("evt_1")) for _ in range(64)))
            assert [each.duplicate for each in stored].count(False) == 1
            assert len({each.event_id for each in stored}) == 1

    in_a_loop(scenario)
    assert postgres.jobs() == notified.ids()
    assert len(notified.ids()) == 1


def test_a_poisonous_event_is_refused_alone(postgres: Postgres) -> None:
    events = [an_event("good_1"), an_event("poison", POISON), an_event("good_2"), an_event("good_3")]

    async def scenario() -> None:
        async with running(postgres) as writer:
            async with all_waiting(writer, postgres, events) as tasks:
                pass
            outcomes = await answers(tasks)
            assert [isinstance(each, Stored) for each in outcomes] == [True, False, True, True]
            assert isinstance(outcomes[1], Unavailable)
            await writer.store(an_event("good_4"))

    with capture_logs() as logs:
        in_a_loop(scenario)
    assert postgres.stored() == {"good_1", "good_2", "good_3", "good_4"}
    [failed] = [entry for entry in logs if entry["event"] == "webhook_writer.event_failed"]
    assert (failed["source"], failed["external_id"], failed["log_level"]) == ("stripe", "poison", "error")


# --- Postgres is away, slow or lost -------------------------------------------------------------------------


def test_while_postgres_is_away_requests_are_refused_within_the_bound(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres, patience=0.5) as writer:
            postgres.away = True
            began = time.monotonic()
            outcomes = await answers([asyncio.create_task(writer.store(an_event(f"{n}"))) for n in range(20)])
            assert time.monotonic() - began < 30
            assert all(isinstance(each, Unavailable) for each in outcomes)
            postgres.away = False
            await stored_in_the_end(writer, an_event("later"))

    in_a_loop(scenario)
    assert postgres.stored() == {"later"}


def test_an_outage_shorter_than_the_patience_is_only_a_delay(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres, patience=30) as writer:
            postgres.away = True
            tasks = [asyncio.create_task(writer.store(an_event(f"{n}"))) for n in range(5)]
            await asyncio.to_thread(until, lambda: postgres.failures > 2, "attempts to connect")
            postgres.away = False
            await asyncio.gather(*tasks)

    in_a_loop(scenario)
    assert len(postgres.stored()) == 5


def test_after_a_lost_connection_the_batch_is_stored_on_a_fresh_one(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres) as writer:
            await writer.store(an_event("before"))
            postgres.made[0].pgconn.finish()
            assert (await writer.store(an_event("after"))).duplicate is False

    in_a_loop(scenario)
    assert len(postgres.made) == 2
    assert postgres.stored() == {"before", "after"}


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    with proxied("127.0.0.1", servers.postgres.port) as proxy:
        yield proxy


def test_a_commit_whose_answer_is_lost_is_tried_again_and_happens_once(
    proxy: Proxy, database_url: str, notified: SentNotifications
) -> None:
    through = Postgres(proxy.url(database_url) + "?sslmode=disable")
    events = [an_event(f"evt_{number}") for number in range(20)]

    async def scenario() -> None:
        async with running(through, notified) as writer:
            await writer.store(an_event("before"))
            proxy.deaf_after = b"COMMIT"
            stored = await asyncio.gather(*(writer.store(event) for event in events))
            assert [each.event_id for each in stored] == [event.id for event in events]
            assert not any(each.duplicate for each in stored)

    in_a_loop(scenario)
    assert proxy.cuts == 1
    assert through.jobs() == notified.ids()
    assert len(through.stored()) == 21


def test_a_connection_that_leads_to_a_read_only_server_is_replaced(postgres: Postgres) -> None:
    logs.configure("console", "INFO")

    async def scenario() -> None:
        async with running(postgres) as writer:
            await writer.store(an_event("before"))
            postgres.made[0].execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            assert (await writer.store(an_event("after"))).duplicate is False

    with capture_logs() as lines:
        in_a_loop(scenario)
    away, back = troubles(lines)
    assert (away["event"], back["event"]) == ("webhook_writer.postgres_away", "webhook_writer.postgres_back")
    assert "read-only" in away["reason"]
    assert len(postgres.made) == 2
    assert postgres.stored() == {"before", "after"}


@pytest.mark.parametrize("sqlstate", ["53100", "57P03", "55P03"])
def test_a_server_that_refuses_is_told_once_and_all_is_good_afterwards(
    postgres: Postgres, owner_url: str, sqlstate: str
) -> None:
    logs.configure("console", "INFO")

    async def scenario() -> None:
        async with running(postgres, patience=0.5) as writer:
            with refusing(owner_url, "webhook_events", sqlstate):
                for n in range(3):
                    outcomes = await answers(
                        [asyncio.create_task(writer.store(an_event(f"{n}/{m}"))) for m in range(9)]
                    )
                    assert all(isinstance(each, Unavailable) for each in outcomes)
            await stored_in_the_end(writer, an_event("later"))

    with capture_logs() as lines:
        in_a_loop(scenario)
    assert [line["event"] for line in troubles(lines)] == [
        "webhook_writer.postgres_away",
        "webhook_writer.postgres_back",
    ]
    assert "later" in postgres.stored()


def test_a_connection_that_a_pooler_has_spoilt_is_replaced(postgres: Postgres) -> None:
    """Whatever is wrong, if it is not the event, another connection may be better."""

    async def scenario() -> None:
        async with running(postgres) as writer:
            for n in range(7):  # so often that the statement is prepared
                await writer.store(an_event(f"{n}"))
            postgres.made[0].pgconn.exec_(b"DEALLOCATE ALL")
            assert (await writer.store(an_event("after"))).duplicate is False

    in_a_loop(scenario)
    assert len(postgres.made) == 2


def test_a_request_does_not_wait_for_a_slow_database_beyond_the_bound(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as rival:
        rival.execute("SELECT set_config('app.tenant_id', '*', true)")
        rival.execute("INSERT INTO webhook_events (source, external_id, type) VALUES ('stripe', 'held', 'x')")

        async def scenario() -> None:
            async with running(postgres, patience=0.5) as writer:
                with pytest.raises(Unavailable, match="did not answer in time"):
                    await writer.store(an_event("held"))
                rival.rollback()
                await stored_in_the_end(writer, an_event("next"))

        in_a_loop(scenario)
    assert postgres.stored() == {"held", "next"}


# --- bounds and the end -------------------------------------------------------------------------------------


def test_when_too_many_wait_the_next_is_refused_at_once(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres, max_batch=1, max_waiting=3) as writer:
            async with all_waiting(writer, postgres, [an_event("0")]) as tasks:
                await asyncio.to_thread(until, lambda: writer.waiting == 0, "the writer to take the first")
                tasks += [asyncio.create_task(writer.store(an_event(f"{n}"))) for n in range(1, 4)]
                await asyncio.sleep(0)
                with pytest.raises(Unavailable, match="too many"):
                    await writer.store(an_event("one too many"))
            await asyncio.gather(*tasks)

    in_a_loop(scenario)
    assert postgres.stored() == {"0", "1", "2", "3"}


def test_stopping_stores_what_was_accepted_and_takes_no_more(postgres: Postgres, notified: SentNotifications) -> None:
    events = [an_event(f"{number}") for number in range(30)]

    async def scenario() -> None:
        writer = WebhookWriter(postgres.connect, notified, max_batch=4, patience=30)
        writer.start()
        async with all_waiting(writer, postgres, events) as tasks:
            stopping = asyncio.create_task(asyncio.to_thread(writer.stop))
            await asyncio.to_thread(until, lambda: not writer._accepting, "the stop to begin")
            with pytest.raises(Unavailable, match="shutting down"):
                await writer.store(an_event("too late"))
        await stopping
        assert postgres.stored() == {event.external_id for event in events}
        await asyncio.gather(*tasks)

    in_a_loop(scenario)
    assert notified.ids() == {event.job_id for event in events}
    assert postgres.made[0].closed


def test_a_request_that_hung_up_disturbs_nobody(postgres: Postgres) -> None:
    async def scenario() -> None:
        async with running(postgres) as writer:
            async with all_waiting(writer, postgres, [an_event(f"{number}") for number in range(3)]) as tasks:
                tasks[1].cancel()
            outcomes = await answers(tasks)
            assert [isinstance(each, Stored) for each in outcomes] == [True, False, True]
            assert isinstance(outcomes[1], asyncio.CancelledError)

    in_a_loop(scenario)


# --- notifications -----------------------------------------------------------------------------------------------


def test_a_notifier_that_hangs_delays_no_answer_and_is_given_all_afterwards(postgres: Postgres) -> None:
    notified = SentNotifications()
    unblock = threading.Event()
    events = [an_event(f"{number}") for number in range(10)]

    def slow(commits: Sequence[Notifications]) -> None:
        assert unblock.wait(30)
        notified.append(Notifications({"events": {job_id: 5 for each in commits for job_id in each["events"]}}))

    notifications = Batcher[Notifications, None](slow, name="notifications", limit=1000)
    notifications.start()

    async def scenario() -> None:
        async with running(postgres, notifications.post) as writer:
            for event in events:
                assert (await writer.store(event)).duplicate is False
            unblock.set()

    in_a_loop(scenario)
    assert notifications.stop(30)
    assert notified.ids() == {event.job_id for event in events}
    # One for the first, one for those that gathered, and perhaps one for the last, which came as it returned.
    assert len(notified) <= 3


def test_a_notifier_that_fails_is_no_error_of_the_request(postgres: Postgres) -> None:
    def broken(notifications: Notifications) -> None:
        raise ConnectionError("Redis is down")

    async def scenario() -> None:
        async with running(postgres, broken) as writer:
            for number in range(5):
                await writer.store(an_event(f"{number}"))

    with capture_logs() as logs:
        in_a_loop(scenario)
    assert len(postgres.stored()) == 5
    assert {entry["event"] for entry in logs} == {"webhook_writer.round_failed"}

"""The broker on a real Redis, and the actors on Dramatiq's own broker, both with Dramatiq's worker threads."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import QueueNotFound
from hypothesis import given
from hypothesis import strategies as st

from db.queue.dispatch import PRIORITY_STEP
from db.queue.notifications import Notifications
from db.transaction import SYSTEM
from tests.builders import job_row, new_id
from tests.conftest import Servers
from tests.wait import until
from workers.app import App
from workers.engine.broker import BLOCK_SECONDS, BatchSize, SortedSetBroker
from workers.engine.heartbeat import LEASE
from workers.engine.job import Context, job
from workers.engine.notifier import Notifier
from workers.engine.queues import QUEUES, declare_actors, notifications_key, render_limit
from workers.runtime.redis_client import connect


class Listener:
    """Dramatiq's threads behind the broker; remembers the ids that its actors were called with."""

    def __init__(self, url: str, *, threads: int = 2, batch_size: int = 200) -> None:
        self.received: list[UUID] = []
        self.messages = 0
        self.hold = threading.Event()
        self.hold.set()
        self.broker = SortedSetBroker(patient(url), {queue: notifications_key(queue) for queue in ("default", "llm")})
        sizes = {"default": batch_size, "llm": 1}
        declare_actors(self.broker, sizes, self._run, sizes.__getitem__)
        self.worker = Worker(self.broker, worker_threads=threads, worker_timeout=100)

    def _run(self, queue: str, job_ids: list[str]) -> None:
        self.hold.wait(60)
        self.messages += 1
        self.received += [UUID(job_id) for job_id in job_ids]

    @contextlib.contextmanager
    def listening(self) -> Iterator["Listener"]:
        self.worker.start()
        try:
            yield self
        finally:
            self.hold.set()
            self.worker.stop(timeout=60_000)
            self.broker.close()


@pytest.fixture
def notifier(redis_url: str) -> Iterator[Notifier]:
    notifier = Notifier(connect(patient(redis_url)))
    yield notifier
    notifier.close()


SOON = BLOCK_SECONDS * 2 / 3
"""Long before a command that blocks ends by itself."""


def patient(url: str) -> str:
    """Redis may take its time: what a process of ours does when it does not answer in time, is not tried here."""
    return f"{url}?socket_timeout=60&socket_connect_timeout=60"


def waits_for_both(url: str) -> None:
    """Return when a process's one command blocks, for both of its queues and for being called off."""
    with connect(url) as client:
        until(lambda: client.info("clients").get("total_blocking_keys") == 3, "the fetcher to wait for both")


def commands(url: str) -> dict[str, int]:
    """How often each command was given to Redis so far."""
    with connect(url) as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


def ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def notifications(job_ids: Sequence[UUID], queue: str = "default", priority: int = 5) -> Notifications:
    return Notifications({queue: dict.fromkeys(job_ids, priority)})


def test_every_queue_has_its_actor_and_many_ids_share_a_message(redis_url: str, notifier: Notifier) -> None:
    first, second = ids(60), ids(1)
    assert notifier.notify({**notifications(first), **notifications(second, "llm")})
    assert notifier.waiting(["default", "llm", "media"]) == {"default": 60, "llm": 1, "media": 0}
    with Listener(redis_url).listening() as listener:
        until(lambda: len(listener.received) == 61, "all ids to be received")
    assert sorted(listener.received) == first + second
    assert listener.messages == 2


def test_the_most_urgent_is_received_first(redis_url: str, notifier: Notifier) -> None:
    usual, urgent, back, ranked = ids(4)
    notifier.notify(notifications([usual]))
    notifier.notify(notifications([urgent], priority=1))
    notifier.put_back("default", [back])
    notifier.dispatch(
        "default", {str(ranked): PRIORITY_STEP + 2.5}, {str(usual): PRIORITY_STEP + 2.0, str(new_id()): 0.0}
    )
    with Listener(redis_url, threads=1).listening() as listener:
        until(lambda: len(listener.received) == 4, "all ids to be received")
    assert listener.received == [back, urgent, usual, ranked], "and a job that was only rescored has not been added"


def test_a_waiting_worker_answers_at_once(redis_url: str, notifier: Notifier) -> None:
    """It blocks on the set, so Redis wakes it: it need not wake up to look. (How fast is a matter for `make bench`.)"""
    with Listener(redis_url).listening() as listener:
        waits_for_both(redis_url)
        notifier.notify(notifications(ids(1)))
        until(lambda: listener.received, "the notification to be received", seconds=SOON)
        notifier.notify(notifications(ids(1), "llm"))
        until(lambda: len(listener.received) == 2, "that of the other queue, too", seconds=SOON)


def test_all_queues_of_a_process_share_one_command_that_blocks(redis_url: str, notifier: Notifier) -> None:
    # One place is free at any time, however late a thread gives back its own: no queue is left out of the command.
    with Listener(redis_url, threads=4).listening() as listener:
        waits_for_both(redis_url)
        before = commands(redis_url)
        for job_id in ids(3):
            notifier.notify(notifications([job_id], "llm"))
            until(lambda: job_id in listener.received, "the notification to be received", seconds=SOON)  # noqa: B023
        waits_for_both(redis_url)
        after = commands(redis_url)
    assert after["bzpopmin"] - before["bzpopmin"] == 3, "one for each, which waits for the next"
    assert after.get("zpopmin") == before.get("zpopmin"), "of llm one is taken at once"


def test_a_queue_that_was_full_is_waited_for_again_when_it_has_a_place(redis_url: str, notifier: Notifier) -> None:
    """While it is full, the process waits for its other queues alone; no end of that wait is due for half a minute."""
    listener = Listener(redis_url, threads=1)
    listener.hold.clear()
    first, second, third = ids(3)
    with listener.listening():
        notifier.notify(notifications([first], "llm"))
        until(lambda: notifier.waiting(["llm"]) == {"llm": 0}, "the only place to be taken", seconds=SOON)
        notifier.notify(notifications([second], "llm"))
        assert notifier.waiting(["llm"]) == {"llm": 1}
        listener.hold.set()
        until(lambda: listener.received == [first, second], "what waited to be taken at once", seconds=SOON)
        waits_for_both(redis_url)
        notifier.notify(notifications([third], "llm"))
        until(lambda: listener.received == [first, second, third], "what comes later, too", seconds=SOON)


def test_a_stop_does_not_wait_for_the_command_that_blocks(redis_url: str, notifier: Notifier) -> None:
    listener = Listener(redis_url)
    with listener.listening():
        waits_for_both(redis_url)
        began = time.monotonic()
    assert time.monotonic() - began < SOON
    notifier.notify(notifications(ids(1)))
    assert notifier.waiting(["default"]) == {"default": 1}, "nobody is left who takes it"


def test_what_was_taken_and_not_begun_is_put_back_for_others(redis_url: str, notifier: Notifier) -> None:
    notified = ids(4)
    for job_id in notified:
        notifier.notify(notifications([job_id], "llm"))
    listener = Listener(redis_url, threads=1)
    listener.hold.clear()
    listener.worker.queue_prefetch = 6
    listener.worker.start()
    until(lambda: notifier.waiting(["llm"]) == {"llm": 1}, "three messages to be taken")

    [thread] = listener.worker.workers

    def let_go() -> None:
        until(lambda: not thread.running, "the worker to be told to stop")
        listener.hold.set()

    threading.Thread(target=let_go).start()
    listener.worker.stop(timeout=60_000)
    left = notifier.waiting(["llm"])["llm"]
    assert len(listener.received) + left == 4
    assert listener.received == notified[: len(listener.received)]
    assert left >= 1
    listener.broker.close()


def test_notifications_that_were_sent_one_by_one_are_taken_together(redis_url: str, notifier: Notifier) -> None:
    notified = ids(40)
    for job_id in notified:
        notifier.notify(notifications([job_id]))
    listener = Listener(redis_url, threads=1)
    listener.hold.clear()
    with listener.listening():
        until(lambda: notifier.waiting(["default"]) == {"default": 0}, "all notifications to be taken")
        listener.hold.set()
        until(lambda: listener.received == notified, "all ids to be received, in their order")
    assert listener.messages == 1


def test_an_outage_is_waited_out(servers: Servers, redis_url: str, notifier: Notifier) -> None:
    """Connections are cut while the worker waits; it reconnects by itself and receives the next notification."""
    with Listener(redis_url).listening() as listener:
        waits_for_both(redis_url)
        client = connect(redis_url)
        client.client_kill_filter(_type="normal", skipme=True)
        client.close()
        notified = ids(1)
        until(lambda: notifier.notify(notifications(notified)), "the notifier to reconnect")
        until(lambda: notified[0] in listener.received, "the notification to be received again")


class Drawing:
    """One process with four threads, of which a few draw (`render`) until they are let go on."""

    def __init__(self, url: str, *, at_once: int) -> None:
        self.drawing = 0
        self.most = 0
        self.drawn = 0
        self.others = 0
        self.go_on = threading.Semaphore(0)
        self._lock = threading.Lock()
        queues = ("default", "render")
        keys = {queue: notifications_key(queue) for queue in queues}
        broker = SortedSetBroker(patient(url), keys, {"render": at_once})
        declare_actors(broker, queues, self._run, lambda queue: 1)
        self.broker = broker
        self.worker = Worker(broker, worker_threads=4, worker_timeout=100)

    def _run(self, queue: str, job_ids: list[str]) -> None:
        if queue == "default":
            with self._lock:
                self.others += 1
            return
        with self._lock:
            self.drawing += 1
            self.most = max(self.most, self.drawing)
        self.go_on.acquire(timeout=60)
        with self._lock:
            self.drawing -= 1
            self.drawn += 1


@pytest.mark.parametrize("at_once", [1, 3])
def test_few_draw_at_once_in_each_process_and_other_queues_go_on(
    redis_url: str, notifier: Notifier, at_once: int
) -> None:
    """Forty videos, two processes. What a process does not draw it leaves in Redis, for whoever has room."""
    processes = [Drawing(redis_url, at_once=at_once) for _ in range(2)]
    notifier.notify(notifications(ids(40), "render"))
    for process in processes:
        process.worker.start()
    try:
        until(lambda: all(process.drawing == at_once for process in processes), "each process to draw")
        for _ in range(5):
            before = sum(process.others for process in processes)
            notifier.notify(notifications(ids(20)))
            until(lambda: sum(process.others for process in processes) == before + 20, "other jobs to run")  # noqa: B023
        assert notifier.waiting(["render"]) == {"render": 40 - 2 * at_once}
        for process in processes:
            process.go_on.release(40)
        until(lambda: sum(process.drawn for process in processes) == 40, "all to be drawn")
    finally:
        for process in processes:
            process.go_on.release(40)
            process.worker.stop(timeout=60_000)
            process.broker.close()
    assert [process.most for process in processes] == [at_once, at_once]


@given(wanted=st.integers(0, 64), cores=st.integers(1, 256), processes=st.integers(1, 64))
def test_all_processes_together_draw_no_more_than_there_are_cores(wanted: int, cores: int, processes: int) -> None:
    limit = render_limit(wanted, cores=cores, processes=processes)
    assert limit >= 1
    assert limit == 1 or limit <= (wanted or cores // processes)


def test_a_queue_without_an_actor_is_not_consumed(redis_url: str) -> None:
    broker = SortedSetBroker(redis_url, {})
    with pytest.raises(QueueNotFound):
        broker.consume("default")
    broker.close()


def test_an_actor_that_fails_frees_its_place(redis_url: str, notifier: Notifier) -> None:
    """Dramatiq logs it and rejects the message; the next is received all the same."""
    received: list[str] = []

    def fail(queue: str, job_ids: list[str]) -> None:
        received.extend(job_ids)
        raise ValueError("no job of ours does this")

    broker = SortedSetBroker(patient(redis_url), {"llm": notifications_key("llm")})
    declare_actors(broker, ["llm"], fail, lambda queue: 1)
    worker = Worker(broker, worker_threads=1, worker_timeout=100)
    sent = [str(job_id) for job_id in ids(4)]
    for job_id in sent:
        broker.actors["llm"].send([job_id])
    worker.start()
    try:
        until(lambda: len(received) == 4, "each message to be received once")
    finally:
        worker.stop(timeout=60_000)
        broker.close()
    assert sorted(received) == sorted(sent)


@job("testing.on_a_stub", system=True)
def on_a_stub(ctx: Context) -> None:
    with ctx.finish():
        pass


def test_the_actors_work_on_dramatiqs_own_broker(app: App) -> None:
    """A job of the table, its id in a message of Dramatiq's `StubBroker`, and its worker: the seam is Dramatiq's."""
    runner = replace(app, job_types={on_a_stub.name: on_a_stub}).runner()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=tuple(QUEUES), version="", lease=LEASE)
        job_id = on_a_stub.enqueue(tx)
    broker = StubBroker(middleware=[BatchSize()])
    declare_actors(broker, QUEUES, runner.run, runner.batch_size)
    assert broker.get_declared_actors() == set(QUEUES)
    worker = Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        broker.actors["default"].send([str(job_id)])
        broker.join("default", timeout=60_000)
        worker.join()
    finally:
        worker.stop(timeout=60_000)
    assert job_row(app, job_id)["status"] == "completed"

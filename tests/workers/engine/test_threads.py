"""Threads that wait for messages: as many as are needed, none that looks, and all that end."""

import threading
from collections.abc import Iterator

import pytest

from tests.builders import new_id
from tests.wait import until
from workers.engine.broker import SortedSetBroker
from workers.engine.notifier import Notifier
from workers.engine.queues import QUEUES, declare_actors, notifications_key, places
from workers.engine.threads import Handover, Threads
from workers.runtime.redis_client import connect

AT_ONCE = places(QUEUES, threads=2, waiting=100, drawing=1)


class Process:
    """What one worker process runs messages with; each message of a queue that is held waits until it is let go."""

    def __init__(self, url: str) -> None:
        self.running = dict.fromkeys(QUEUES, 0)
        self.most = dict.fromkeys(QUEUES, 0)
        self.done = dict.fromkeys(QUEUES, 0)
        self.go_on = {queue: threading.Event() for queue in QUEUES}
        self._lock = threading.Lock()
        self.broker = SortedSetBroker(url, {queue: notifications_key(queue) for queue in QUEUES}, AT_ONCE)
        declare_actors(self.broker, QUEUES, self._run, lambda queue: 1)
        self.threads = Threads(self.broker, most=sum(AT_ONCE.values()))

    def _run(self, queue: str, job_ids: list[str]) -> None:
        with self._lock:
            self.running[queue] += 1
            self.most[queue] = max(self.most[queue], self.running[queue])
        self.go_on[queue].wait(60)
        with self._lock:
            self.running[queue] -= 1
            self.done[queue] += 1

    @property
    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.threads.workers)


@pytest.fixture
def process(redis_url: str) -> Iterator[Process]:
    process = Process(redis_url)
    process.threads.start()
    try:
        yield process
    finally:
        for event in process.go_on.values():
            event.set()
        process.threads.stop(timeout=60_000)
        process.broker.close()


@pytest.fixture
def notifier(redis_url: str) -> Iterator[Notifier]:
    notifier = Notifier(connect(redis_url))
    yield notifier
    notifier.close()


def notify(notifier: Notifier, queue: str, count: int) -> None:
    notifier.dispatch(queue, {str(new_id()): 0.0 for _ in range(count)}, {})


def test_no_queue_waits_for_the_jobs_of_another_and_each_keeps_to_its_places(
    process: Process, notifier: Notifier
) -> None:
    """More of every queue than there are places, and none of them ends. What is not begun is left to others."""
    for queue in QUEUES:
        notify(notifier, queue, AT_ONCE[queue] + 5)
        until(lambda: process.running[queue] == AT_ONCE[queue], f"the places of {queue} to be taken")  # noqa: B023
    assert notifier.waiting(QUEUES) == dict.fromkeys(QUEUES, 5)
    assert process.alive == sum(AT_ONCE.values())
    process.go_on["events"].set()
    until(lambda: process.done["events"] == AT_ONCE["events"] + 5, "events to be handled beside all that waits")
    assert process.done == dict.fromkeys(QUEUES, 0) | {"events": AT_ONCE["events"] + 5}
    for queue in QUEUES:
        process.go_on[queue].set()
    until(lambda: process.done == {queue: AT_ONCE[queue] + 5 for queue in QUEUES}, "everything to be handled")
    assert process.most == AT_ONCE


def test_one_after_another_takes_one_thread(process: Process, notifier: Notifier) -> None:
    assert process.alive == 0, "a process that has nothing to do has no threads for it"
    process.go_on["llm"].set()
    for n in range(1, 6):
        notify(notifier, "llm", 1)
        until(lambda: process.done["llm"] == n and process.threads.work_queue.waiting == 1, "a job to be done")  # noqa: B023
    assert process.alive == 1


def test_a_thread_waits_without_looking() -> None:
    """Whatever time-out Dramatiq asks with, nothing wakes it but a message or the end."""
    handover = Handover(lambda: None)
    taken: list[int] = []
    thread = threading.Thread(target=lambda: taken.append(handover.get(timeout=0)))
    thread.start()
    until(lambda: handover.waiting == 1, "the thread to wait")
    handover.put(7)
    thread.join()
    assert taken == [7]


def test_a_stop_in_the_middle_of_a_start_begins_or_returns_everything(redis_url: str, notifier: Notifier) -> None:
    process = Process(redis_url)
    process.go_on["llm"].set()
    notify(notifier, "llm", 30)
    process.threads.start()
    process.threads.stop(timeout=60_000)
    process.broker.close()
    assert process.alive == 0
    assert process.done["llm"] + notifier.waiting(["llm"])["llm"] == 30


def test_a_thread_that_was_started_too_late_to_be_stopped_ends_all_the_same(process: Process) -> None:
    """Dramatiq's thread forgets that it was asked to stop if that happens before it begins, and would then look for
    messages again and again until the grace period is over."""
    process.threads.work_queue.close()
    process.threads._add_worker()
    until(lambda: process.threads.workers and process.alive == 0, "the thread to end")

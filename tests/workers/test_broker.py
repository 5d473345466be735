"""The doorbell, with a real Redis and Dramatiq's own worker threads."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID

import pytest
from dramatiq import Worker

from db.queue.dispatch import PRIORITY_STEP
from db.transaction import Notifications
from tests.builders import new_id
from tests.conftest import Servers
from tests.wait import until
from workers.engine.broker import FEW, NotificationBroker, Notifier, declare_actor
from workers.runtime.redis_client import connect


class Listener:
    """Dramatiq's threads behind the broker; notes what was rung."""

    def __init__(self, url: str, *, threads: int = 2, batch_size: int = 200) -> None:
        self.heard: list[UUID] = []
        self.messages = 0
        self.hold = threading.Event()
        self.hold.set()
        self.broker = NotificationBroker(url, ["default", "llm"], lambda queue: batch_size if queue == "default" else 1)
        declare_actor(self.broker, self._run)
        self.worker = Worker(self.broker, worker_threads=threads, worker_timeout=100)

    def _run(self, queue: str, job_ids: list[str]) -> None:
        self.hold.wait(60)
        self.messages += 1
        self.heard += [UUID(job_id) for job_id in job_ids]

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
    notifier = Notifier(connect(redis_url))
    yield notifier
    notifier.close()


def ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def notifications(job_ids: Sequence[UUID], queue: str = "default", priority: int = 5) -> Notifications:
    return {queue: dict.fromkeys(job_ids, priority)}


def called(notifier: Notifier) -> bool:
    return notifier.await_call(0.01)


def test_every_queue_is_heard_and_many_ids_share_a_message(redis_url: str, notifier: Notifier) -> None:
    first, second = ids(60), ids(1)
    assert notifier.notify({**notifications(first), **notifications(second, "llm")})
    assert notifier.waiting(["default", "llm", "media"]) == {"default": 60, "llm": 1, "media": 0}
    assert not called(notifier)
    with Listener(redis_url).listening() as listener:
        until(lambda: len(listener.heard) == 61, "all rings to be heard")
    assert sorted(listener.heard) == first + second
    assert listener.messages == 2


def test_when_more_waits_than_a_few_the_dispatcher_is_called_instead(notifier: Notifier) -> None:
    assert notifier.notify(notifications(ids(FEW + 1000)))
    assert notifier.waiting(["default"]) == {"default": FEW}
    assert called(notifier)
    assert not called(notifier)
    for _ in range(3):
        assert notifier.notify(notifications(ids(1)))
    assert notifier.waiting(["default"]) == {"default": FEW}
    assert called(notifier)
    assert not called(notifier), "once is enough"


def test_a_queue_that_something_may_have_changed_in_is_looked_at(notifier: Notifier) -> None:
    assert notifier.notify({"llm": {}})
    assert notifier.waiting(["llm"]) == {"llm": 0}
    assert called(notifier)


def test_ringing_twice_is_ringing_once(notifier: Notifier) -> None:
    notified = ids(3)
    for _ in range(3):
        notifier.notify(notifications(notified))
        notifier.line_up("default", dict.fromkeys(map(str, notified), 1.0), {})
    assert notifier.waiting(["default"]) == {"default": 3}


def test_the_most_urgent_is_heard_first(redis_url: str, notifier: Notifier) -> None:
    usual, urgent, back, ranked = ids(4)
    notifier.notify(notifications([usual]))
    notifier.notify(notifications([urgent], priority=1))
    notifier.put_back("default", [back])
    notifier.line_up(
        "default", {str(ranked): PRIORITY_STEP + 2.5}, {str(usual): PRIORITY_STEP + 2.0, str(new_id()): 0.0}
    )
    with Listener(redis_url, threads=1).listening() as listener:
        until(lambda: len(listener.heard) == 4, "all rings to be heard")
    assert listener.heard == [back, urgent, usual, ranked], "and what was only known has not been rung"


def test_a_waiting_worker_answers_the_bell_at_once(redis_url: str, notifier: Notifier) -> None:
    """It blocks on the set, so Redis wakes it: it need not wake up to look. (How fast is a matter for `make bench`.)"""
    with Listener(redis_url).listening() as listener:
        client = connect(redis_url)
        until(lambda: client.info("clients")["blocked_clients"] >= 2, "both consumers to wait")
        client.close()
        notifier.notify(notifications(ids(1)))
        until(lambda: listener.heard, "the bell to be heard")


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
    assert len(listener.heard) + left == 4
    assert listener.heard == notified[: len(listener.heard)]
    assert left >= 1
    listener.broker.close()


def test_notifications_that_were_notified_one_by_one_are_taken_together(redis_url: str, notifier: Notifier) -> None:
    notified = ids(40)
    for job_id in notified:
        notifier.notify(notifications([job_id]))
    listener = Listener(redis_url, threads=1)
    listener.hold.clear()
    with listener.listening():
        until(lambda: notifier.waiting(["default"]) == {"default": 0}, "all bells to be taken")
        listener.hold.set()
        until(lambda: listener.heard == notified, "all rings to be heard, in their order")
    assert listener.messages == 1


def test_an_outage_is_waited_out(servers: Servers, redis_url: str, notifier: Notifier) -> None:
    """Connections are cut while the worker waits; it reconnects by itself and hears the next bell."""
    with Listener(redis_url).listening() as listener:
        client = connect(redis_url)
        until(lambda: client.info("clients")["blocked_clients"] >= 2, "both consumers to wait")
        client.client_kill_filter(_type="normal", skipme=True)
        client.close()
        notified = ids(1)
        until(lambda: notifier.notify(notifications(notified)), "the doorbell to reconnect")
        until(lambda: notified[0] in listener.heard, "the bell to be heard again")


def test_after_a_failure_the_bell_rests_instead_of_making_every_caller_wait() -> None:
    """Of a Redis that accepts and says nothing: a second attempt would be a second connection."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = Notifier(connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"), rest=3600)
        assert not any(notifier.notify(notifications(ids(1))) for _ in range(10))
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
        notifier.close()

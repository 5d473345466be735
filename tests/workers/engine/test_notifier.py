"""Notifications in a real Redis: what waits in it, and when the dispatcher is signalled."""

import socket
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from db.queue.notifications import Notifications
from tests.builders import new_id
from tests.proxy import proxied
from workers.engine.notifier import DIRECT_LIMIT, Notifier, Signal
from workers.runtime.redis_client import connect


@pytest.fixture
def notifier(redis_url: str) -> Iterator[Notifier]:
    notifier = Notifier(connect(redis_url, patience=60))
    yield notifier
    notifier.close()


def ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def notifications(job_ids: Sequence[UUID], queue: str = "default") -> Notifications:
    return Notifications({queue: dict.fromkeys(job_ids, 5)})


def signalled(notifier: Notifier) -> bool:
    return notifier.wait_for_signal(0.01) is not None


def test_when_much_waits_the_dispatcher_is_signalled_instead(notifier: Notifier) -> None:
    assert notifier.notify(notifications(ids(DIRECT_LIMIT + 1000)))
    assert notifier.waiting(["default"]) == {"default": DIRECT_LIMIT}
    assert signalled(notifier)
    assert not signalled(notifier)
    assert not notifier.crowded
    for _ in range(3):
        assert notifier.notify(notifications(ids(1)))
        assert notifier.crowded
    assert notifier.waiting(["default"]) == {"default": DIRECT_LIMIT}
    assert signalled(notifier)
    assert not signalled(notifier), "once is enough"
    assert notifier.notify(notifications(ids(1), queue="events"))
    assert not notifier.crowded, "there is room in that queue"


def test_a_queue_in_which_something_changed_is_a_signal(notifier: Notifier) -> None:
    assert notifier.notify({"llm": {}})
    assert not notifier.crowded
    assert notifier.waiting(["llm"]) == {"llm": 0}
    assert signalled(notifier)


def test_a_second_notification_of_a_job_is_the_first(notifier: Notifier) -> None:
    notified = ids(3)
    for _ in range(3):
        notifier.notify(notifications(notified))
        notifier.dispatch("default", dict.fromkeys(map(str, notified), 1.0), {})
    assert notifier.waiting(["default"]) == {"default": 3}


def test_after_a_failure_the_notifier_rests_instead_of_making_every_caller_wait() -> None:
    """Of a Redis that accepts and says nothing: a second attempt would be a second connection."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = Notifier(connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"), rest=3600)
        assert not any(notifier.notify(notifications(ids(1))) for _ in range(10))
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
        notifier.close()


def test_a_dispatcher_that_rests_is_woken_once_by_whoever_enqueues(notifier: Notifier) -> None:
    notifier.stay_active()
    notifier.notify(notifications(ids(1)))
    assert not signalled(notifier), "it looks by itself"
    notifier.rest()
    for _ in range(3):
        notifier.notify(notifications(ids(1)))
    assert notifier.wait_for_signal(0.01) is Signal.WAKE
    assert not signalled(notifier)
    deferred = Notifications()
    deferred.defer()
    notifier.notify(deferred)
    notifier.notify({"llm": {}})
    assert [notifier.wait_for_signal(0.01) for _ in range(3)] == [Signal.WAKE, Signal.DECIDE, None]


def test_a_wait_is_called_off_by_its_own_key(notifier: Notifier) -> None:
    notifier.call_off("{viral}:dispatcher:mine")
    assert notifier.wait_for_signal(0.01, called_off="{viral}:dispatcher:another") is None
    began = time.monotonic()
    assert notifier.wait_for_signal(50, called_off="{viral}:dispatcher:mine") is None
    assert time.monotonic() - began < 40


def test_what_could_not_be_notified_wakes_the_dispatcher_when_redis_is_back(redis_url: str) -> None:
    redis_at = urlsplit(redis_url)
    with proxied("127.0.0.1", 1) as proxy:
        cut_off = Notifier(connect(proxy.url(redis_url)), rest=0)
        assert not cut_off.notify(notifications(ids(1)))
        proxy.target = (str(redis_at.hostname), redis_at.port or 6379)
        patient = Notifier(connect(redis_url, patience=31))
        assert patient.wait_for_signal(30) is Signal.WAKE
        patient.close()
        cut_off.close()

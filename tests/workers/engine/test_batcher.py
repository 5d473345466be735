"""Group commit for threads: many small requests, few large rounds, every one answered."""

import threading
from collections.abc import Sequence
from queue import Full

import pytest

from workers.engine.batcher import Batcher


class Rounds:
    """Doubles numbers; the first round waits until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.began.set()
        self.go.wait(60)
        self.sizes.append(len(numbers))
        if 13 in numbers:
            raise RuntimeError("unlucky")
        return [2 * number for number in numbers]


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


def test_what_is_asked_meanwhile_shares_the_next_round(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", limit=100)
    batcher.start()
    first = batcher.submit(0)
    assert rounds.began.wait(30)
    others = [batcher.submit(number) for number in range(101, 151)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]] == [0, *(2 * number for number in range(101, 151))]
    assert rounds.sizes == [1, 50]
    batcher.stop(30)


def test_a_round_is_bounded(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", limit=10)
    batcher.start()
    first = batcher.submit(0)
    assert rounds.began.wait(30)
    others = [batcher.submit(number) for number in range(100, 125)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]][1:] == [2 * number for number in range(100, 125)]
    assert rounds.sizes == [1, 10, 10, 5]
    batcher.stop(30)


def test_a_round_is_bounded_by_what_its_requests_weigh(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", limit=10, weigh=lambda number: number)
    batcher.start()
    first = batcher.submit(0)
    assert rounds.began.wait(30)
    others = [batcher.submit(number) for number in (4, 5, 6, 20, 1)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]] == [0, 8, 10, 12, 40, 2]
    assert rounds.sizes == [1, 3, 1, 1]
    batcher.stop(30)


def test_when_too_many_wait_a_request_is_refused(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", limit=10, most_waiting=2)
    batcher.start()
    batcher.post(0)
    assert rounds.began.wait(30)
    batcher.post(1)
    waiting = batcher.submit(2)
    with pytest.raises(Full):
        batcher.post(3)
    rounds.go.set()
    assert waiting.result(30) == 4
    assert batcher.call(5) == 10
    batcher.stop(30)


def test_while_it_lingers_more_gathers_for_the_next_round(rounds: Rounds) -> None:
    rounds.go.set()
    batcher = Batcher(rounds, name="m", limit=100, linger=1)
    batcher.start()
    assert batcher.submit(1).result(30) == 2
    others = [batcher.submit(number) for number in range(10)]
    assert [each.result(30) for each in others] == [2 * number for number in range(10)]
    assert rounds.sizes == [1, 10]
    batcher.stop(30)


def test_a_round_that_fails_fails_for_all_of_it_and_the_next_goes_on(rounds: Rounds) -> None:
    rounds.go.set()
    batcher = Batcher(rounds, name="m", limit=10)
    batcher.start()
    with pytest.raises(RuntimeError, match="unlucky"):
        batcher.submit(13).result(30)
    assert batcher.submit(1).result(30) == 2
    batcher.stop(30)


def test_stopping_does_what_was_asked_for_before(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", limit=10)
    batcher.start()
    asked = [batcher.submit(number) for number in range(5)]
    threading.Timer(0.05, rounds.go.set).start()
    assert batcher.stop(30)
    assert [each.result(0) for each in asked] == [0, 2, 4, 6, 8]


def test_before_the_start_and_after_the_stop_each_request_is_a_round_in_the_callers_thread(rounds: Rounds) -> None:
    rounds.go.set()
    batcher = Batcher(rounds, name="m", limit=10)
    assert batcher.submit(1).result(0) == 2
    batcher.start()
    batcher.stop(30)
    assert batcher.submit(2).result(0) == 4

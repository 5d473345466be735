"""Group commit for threads: many small requests, few large rounds, every one answered."""

import threading
from collections.abc import Sequence

import pytest

from tests.wait import until
from workers.engine.batcher import Batcher


class Rounds:
    """Doubles numbers; the first round waits until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.go.wait(60)
        self.sizes.append(len(numbers))
        if 13 in numbers:
            raise RuntimeError("unlucky")
        return [2 * number for number in numbers]


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


def test_what_is_asked_meanwhile_shares_the_next_round(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", most=100)
    batcher.start()
    first = batcher.ask(0)
    until(batcher._queue.empty, "the first round to begin")
    others = [batcher.ask(number) for number in range(101, 151)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]] == [0, *(2 * number for number in range(101, 151))]
    assert rounds.sizes == [1, 50]
    batcher.stop(30)


def test_a_round_is_bounded(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", most=10)
    batcher.start()
    first = batcher.ask(0)
    until(batcher._queue.empty, "the first round to begin")
    others = [batcher.ask(number) for number in range(100, 125)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]][1:] == [2 * number for number in range(100, 125)]
    assert rounds.sizes == [1, 10, 10, 5]
    batcher.stop(30)


def test_while_it_rests_more_gathers_for_the_next_round(rounds: Rounds) -> None:
    rounds.go.set()
    ready = threading.Event()
    batcher = Batcher(rounds, name="m", most=100, rest=lambda: ready.wait(60))
    batcher.start()
    assert batcher.ask(1).result(30) == 2
    others = [batcher.ask(number) for number in range(10)]
    ready.set()
    assert [each.result(30) for each in others] == [2 * number for number in range(10)]
    assert rounds.sizes == [1, 10]
    batcher.stop(30)


def test_a_round_that_fails_fails_for_all_of_it_and_the_next_goes_on(rounds: Rounds) -> None:
    rounds.go.set()
    batcher = Batcher(rounds, name="m", most=10)
    batcher.start()
    with pytest.raises(RuntimeError, match="unlucky"):
        batcher.ask(13).result(30)
    assert batcher.ask(1).result(30) == 2
    batcher.stop(30)


def test_stopping_does_what_was_asked_for_before(rounds: Rounds) -> None:
    batcher = Batcher(rounds, name="m", most=10)
    batcher.start()
    asked = [batcher.ask(number) for number in range(5)]
    threading.Timer(0.05, rounds.go.set).start()
    batcher.stop(30)
    assert [each.result(0) for each in asked] == [0, 2, 4, 6, 8]
    assert not batcher._thread.is_alive()


def test_before_the_start_and_after_the_stop_each_request_is_a_round_in_the_callers_thread(rounds: Rounds) -> None:
    rounds.go.set()
    batcher = Batcher(rounds, name="m", most=10)
    assert batcher.ask(1).result(0) == 2
    batcher.start()
    batcher.stop(30)
    assert batcher.ask(2).result(0) == 4

"""Group commit for threads: many small requests, few large rounds, every one answered."""

import threading
from collections.abc import Sequence

import pytest

from tests.wait import until
from workers.engine.batcher import Merger


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
    merger = Merger(rounds, name="m", most=100)
    merger.start()
    first = merger.ask(0)
    until(merger._queue.empty, "the first round to begin")
    others = [merger.ask(number) for number in range(101, 151)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]] == [0, *(2 * number for number in range(101, 151))]
    assert rounds.sizes == [1, 50]
    merger.stop(30)


def test_a_round_is_bounded(rounds: Rounds) -> None:
    merger = Merger(rounds, name="m", most=10)
    merger.start()
    first = merger.ask(0)
    until(merger._queue.empty, "the first round to begin")
    others = [merger.ask(number) for number in range(100, 125)]
    rounds.go.set()
    assert [each.result(30) for each in [first, *others]][1:] == [2 * number for number in range(100, 125)]
    assert rounds.sizes == [1, 10, 10, 5]
    merger.stop(30)


def test_while_it_rests_more_gathers_for_the_next_round(rounds: Rounds) -> None:
    rounds.go.set()
    awake = threading.Event()
    merger = Merger(rounds, name="m", most=100, rest=lambda: awake.wait(60))
    merger.start()
    assert merger.ask(1).result(30) == 2
    others = [merger.ask(number) for number in range(10)]
    awake.set()
    assert [each.result(30) for each in others] == [2 * number for number in range(10)]
    assert rounds.sizes == [1, 10]
    merger.stop(30)


def test_a_round_that_fails_fails_for_all_of_it_and_the_next_goes_on(rounds: Rounds) -> None:
    rounds.go.set()
    merger = Merger(rounds, name="m", most=10)
    merger.start()
    with pytest.raises(RuntimeError, match="unlucky"):
        merger.ask(13).result(30)
    assert merger.ask(1).result(30) == 2
    merger.stop(30)


def test_stopping_does_what_was_asked_for_before(rounds: Rounds) -> None:
    merger = Merger(rounds, name="m", most=10)
    merger.start()
    asked = [merger.ask(number) for number in range(5)]
    threading.Timer(0.05, rounds.go.set).start()
    merger.stop(30)
    assert [each.result(0) for each in asked] == [0, 2, 4, 6, 8]
    assert not merger._thread.is_alive()


def test_before_the_start_and_after_the_stop_each_request_is_a_round_in_the_callers_thread(rounds: Rounds) -> None:
    rounds.go.set()
    merger = Merger(rounds, name="m", most=10)
    assert merger.ask(1).result(0) == 2
    merger.start()
    merger.stop(30)
    assert merger.ask(2).result(0) == 4

"""Outcomes are learned once each, and what is learned is the fold of the log, whatever happens on the way."""

from collections.abc import Callable

from db.transaction import SYSTEM
from tests.learning_stage import TIKTOK, Learning, Seen
from tests.seeds import seeded
from workers.app import App
from workers.jobs import learning

Drain = Callable[[], int]


def due(app: App, drain: Drain) -> None:
    """Let a minute's schedule come, and what it enqueues."""
    with app.db.transaction(SYSTEM) as tx:
        learning.find_due.enqueue(tx)
    drain()


def stream(count: int, name: str = "stream", first: int = 0) -> list[Seen]:
    rng = seeded(name)
    categories = ("news", "tech", "food")
    return [
        Seen(first + minute, likes=rng.randrange(5, 120), category=rng.choice(categories)) for minute in range(count)
    ]


def test_outcomes_are_learned_in_batches_and_the_state_is_the_fold_of_the_log(app: App, drain: Drain) -> None:
    ada = Learning(app)
    ada.see(*stream(30))
    due(app, drain)
    ada.see(*stream(25, first=30))
    due(app, drain)
    assert [learned for _, learned, _ in ada.log()] == [True] * 55
    assert ada.states()[TIKTOK]["count"] == 55
    assert ada.states() == ada.folded()

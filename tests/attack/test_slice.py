"""A short form of every attack, by the same code as `python -m tests.attack`: some in the suite, all as proofs.

How long webhooks take is not judged here, since the machine has other work: that each is answered is.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.attack.__main__ import shown
from tests.attack.catalogue import every_attack
from tests.attack.stage import PASSED, Attack, Limits, carry_out
from tests.attack.target import System, Target, own_system

QUICK = [
    "200 clients from one address",
    "compressed bodies",
    "headers behind the body",
    "nothing at all (for comparison)",
    "what is not HTTP/1.1",
]


@pytest.fixture(scope="module")
def attacked() -> Iterator[tuple[System, Target]]:
    with ExitStack() as stack:
        own = stack.enter_context(own_system())
        yield own, stack.enter_context(own.web())


@pytest.mark.proof(but=QUICK)
@pytest.mark.parametrize("each", [each for each in every_attack() if each.slice], ids=lambda each: each.name)
def test_an_attack_costs_little_and_stops_no_webhook(attacked: tuple[System, Target], each: Attack) -> None:
    own, target = attacked
    row = carry_out(each, target, own, limits=Limits(webhook_p99_ms=None), short=True)
    assert row.verdict == PASSED, "\n" + shown(row)


def test_what_an_attack_needs_and_has_not_is_skipped_and_not_passed() -> None:
    for each in every_attack():
        row = carry_out(each, Target("http://127.0.0.1:9"), None, limits=Limits(), short=True)
        assert row.verdict.startswith("skipped: needs --webhook-secret, --pid")
        assert row.as_json().keys() == {"attack", "rss_mb", "webhook_p99_ms", "answers", "verdict"}

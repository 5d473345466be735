"""The project's words, held against `tests/words.py`; and the search itself, which can find something."""

from pathlib import Path

import pytest

from tests.words import METAPHORS, in_document, in_python, search, tracked

ROOT = Path(__file__).resolve().parents[1]


def test_no_retired_word_is_left() -> None:
    assert [f"{found.path}:{found.line}: {found.word}" for found in search(ROOT, tracked(ROOT))] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def ring_all(): ...", ["ring"]),
        ("class BellBroker: ...", ["bell"]),
        ("what_clerk_told = 1", ["told"]),
        ("known = 1\nknown_tokens = 2", ["known"]),
        ('log.info("relay.tick")', ["relay"]),
        ("# Whoever is rung.", ["rung"]),
        ('"""Tells the doorbell."""', ["doorbell"]),
        ("def test_the_caller_is_told_and_given_a_reason(): ...", []),
        ("def test_the_bell_is_heard(): ...", ["bell"]),
        ("wiring, bring, string, schedule_fires = 1, 2, 3, 4", []),
        ("from typing import Any, cast\ncast(int, 1)", []),
        ("cast = [1]", ["cast"]),
    ],
)
def test_a_planted_word_is_found(source: str, words: list[str]) -> None:
    assert [found.word for found in in_python("web/planted.py", source)] == words


def test_what_is_no_word_of_jobs_elsewhere_is_one_in_the_queue() -> None:
    assert [found.word for found in in_python("db/queue/planted.py", "turn = place = 1")] == ["turn", "place"]
    assert list(in_python("domain/billing/planted.py", "turn = place = 1")) == []


def test_a_planted_word_is_found_in_a_document_and_in_its_name() -> None:
    text = "The ring is lost.\nString and wiring are not.\n"
    assert [found.line for found in in_document("docs/decisions/0099-bells.md", text)] == [1, 0]


@pytest.mark.parametrize("word", sorted(METAPHORS))
def test_each_metaphor_is_found_wherever_it_stands(word: str) -> None:
    source = f"{word}_x = 1  # {word}\n'{word}'\n"
    assert [found.word for found in in_python("x.py", source)] == [word, word, word]

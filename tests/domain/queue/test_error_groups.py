"""Failures of one cause have one name, whatever differs from case to case, and others have others."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.queue.error_groups import LONGEST_TITLE, error_group, normalised, title

NUMBERS = st.integers(-(10**12), 10**12).map(str)
IDS = st.uuids().map(str)
ADDRESSES = st.tuples(*[st.integers(0, 255)] * 4, st.integers(1, 65535)).map(lambda p: "{}.{}.{}.{}:{}".format(*p))
TIMES = st.datetimes().map(lambda at: at.isoformat())
QUOTED = st.text(st.characters(exclude_characters="'\"\n\r", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=50)
URLS = st.from_regex(r"https://[a-z]{1,10}\.example\.com/[a-z0-9/]{0,20}", fullmatch=True)
WORDS = st.lists(st.sampled_from(("the", "row", "of", "was", "refused", "nobody", "answers")), min_size=1, max_size=8)


CASE = st.tuples(NUMBERS, IDS, ADDRESSES, TIMES, QUOTED, URLS)


@given(CASE, CASE)
def test_what_differs_from_case_to_case_makes_no_other_group(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    text = "request {1} to {2} failed after {0} tries at {3}: key '{4}' of {5} is gone"
    assert error_group("E", text.format(*one)) == error_group("E", text.format(*other))


@given(WORDS, WORDS)
def test_other_words_make_another_group(one: list[str], other: list[str]) -> None:
    same = one == other
    assert (error_group("E", " ".join(one)) == error_group("E", " ".join(other))) == same
    assert error_group("E", " ".join(one)) != error_group("F", " ".join(one))


@given(st.text(max_size=2000), st.text(max_size=100))
def test_a_group_is_a_segment_of_a_path_and_a_title_is_short(message: str, name: str) -> None:
    group = error_group(name, message)
    assert group.replace("-", "").replace("_", "").isalnum() or not name
    assert group.isascii()
    assert len(group) < 80
    assert len(title(name, message)) <= LONGEST_TITLE
    assert normalised(normalised(message)[:300]) == normalised(normalised(message)[:300])


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("no answer from 10.0.0.7:443 after 31.2 s", "no answer from … after … s"),
        ("there is no price price_1NxYz2AbC9", "there is no price …"),
        ("https://api.example.com/v1/x?y=1 answered 503", "… answered …"),
        ("Ann <ann@example.com> is unknown", "Ann <…> is unknown"),
        ("object at 0x7f8e3ea87c10", "object at …"),
        ("no such file: /var/lib/viral/media/a.mp4", "no such file: …"),
        ("it didn't come, and wasn't missed", "it didn't come, and wasn't missed"),
        ("a\n  b\tc", "a b c"),
        ("", ""),
    ],
)
def test_what_is_left_is_what_the_error_is(message: str, left: str) -> None:
    assert normalised(message) == left


def test_a_title_names_the_class_once() -> None:
    assert title("ValueError", "ValueError") == "ValueError"
    assert title("ValueError", "ValueError: no") == "ValueError: no"
    assert title(None, None) == "Unknown"


PIECES = ("1", "a", '"', "'", "/a", "a.", "a@", "a-", "…", "0x", "a1", "://", "http://", " ", "é1_", "\n")


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_costs_no_more_than_a_moment(piece: str) -> None:
    message = piece * (1024**2 // len(piece))
    best = min(_seconds(message) for _ in range(5))
    assert best < 0.02


def _seconds(message: str) -> float:
    began = time.perf_counter()
    error_group("E", message)
    title("E", message)
    return time.perf_counter() - began

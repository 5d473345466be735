"""What Postgres cannot hold is replaced: all of it, nothing else, and once."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text.storable import DEEPEST, Unstorable, is_storable, storable, storable_text, to_json

TEXTS = st.text(st.characters(codec=None), max_size=20)  # with surrogates and control characters
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


@given(TEXTS)
def test_a_text_is_storable_afterwards_and_stays_as_it_is_where_it_was(text: str) -> None:
    clean = storable_text(text)
    assert is_storable(clean)
    clean.encode()
    assert storable_text(clean) == clean
    if is_storable(text):
        assert clean is text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\0b", "a\ufffdb"),
        ("\0\0", "\ufffd\ufffd"),
        ("a\ud83db", "a\ufffdb"),
        ("\udc00x\ud83d", "\ufffdx\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\0", "\ufffd\ufffd"),
        ("\x01\x1b\x7f\u2028\ufeff\U0010ffff", "\x01\x1b\x7f\u2028\ufeff\U0010ffff"),
    ],
)
def test_each_thing_is_replaced_by_one_character_and_two_halves_make_a_whole(text: str, clean: str) -> None:
    assert storable_text(text) == clean


def holds(value: Any) -> bool:
    """Whether `jsonb` takes the value."""
    match value:
        case str():
            return is_storable(value)
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(holds, value.keys())) and all(map(holds, value.values()))
        case list():
            return all(map(holds, value))
    return True


@given(VALUES)
def test_a_value_is_storable_afterwards_and_is_not_touched(value: Any) -> None:
    before = repr(value)
    clean, replaced = storable(value)
    assert repr(value) == before
    assert holds(clean)
    assert storable(clean) == (clean, set())
    assert (clean is value) == holds(value) == (not replaced)


@given(VALUES)
def test_the_json_says_the_same(value: Any) -> None:
    assert json.loads(to_json(value)) == storable(value)[0]


def test_what_is_replaced_is_said() -> None:
    value = {"a\0": [math.nan, -math.inf, 10**5000, -(10**4300), "\ud800"], "b": (1, {"c": "ok"})}
    assert storable(value) == (
        {"a\ufffd": [None, None, None, None, "\ufffd"], "b": [1, {"c": "ok"}]},
        {
            "a NUL character replaced by U+FFFD",
            "half a surrogate pair replaced by U+FFFD",
            "a number that is not finite replaced by null",
            "a number of more than 4,300 digits replaced by null",
        },
    )
    assert json.loads(to_json(value)) == storable(value)[0]


def nested(levels: int) -> Any:
    value: Any = 1
    for n in range(levels):
        value = [value] if n % 2 else {"a": value}
    return value


def test_as_deep_as_it_can_be_read_back_and_no_deeper() -> None:
    assert json.loads(to_json(nested(DEEPEST))) == nested(DEEPEST)
    wide = [[n] for n in range(10 * DEEPEST)]
    assert json.loads(to_json(wide)) == wide
    endless: list[Any] = []
    endless.append(endless)
    for value in (nested(DEEPEST + 1), nested(100_000), endless):
        with pytest.raises(Unstorable, match=f"nested more than {DEEPEST} levels deep"):
            to_json(value)


def test_what_has_no_form_in_json_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError):
        to_json({"when": object()})

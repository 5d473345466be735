"""No text of others moves a cursor, hides, or reads in another order than it is written."""

import json
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text.visible import visible, visible_json
from tests.unseen import UNSEEN, unseen

texts = st.text(st.characters() | st.sampled_from(UNSEEN))
whole_texts = st.text(
    st.characters(codec="utf-8") | st.sampled_from([each for each in UNSEEN if category(each) != "Cs"])
)
"""Without halves of surrogate pairs: two of them, side by side, are one character in JSON."""
json_values = st.recursive(
    whole_texts | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(whole_texts, inner)
)


@pytest.mark.parametrize("character", UNSEEN, ids=ascii)
def test_every_unseen_character_is_written_out(character: str) -> None:
    shown = visible(f"a{character}b")
    assert unseen(shown) == set()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


@pytest.mark.parametrize("text", ["Zoë", "日本", "🎬", "a\u00a0b", "全角\u3000空白", "\\x1b", "[red]", ""], ids=ascii)
def test_what_is_seen_stays_as_it_is(text: str) -> None:
    assert visible(text) == text == visible_json(text)


@given(texts)
def test_any_text_becomes_visible_and_stays_so(text: str) -> None:
    shown = visible(text)
    assert unseen(shown) == {each for each in "\n\t" if each in shown} == set()
    assert visible(shown) == shown
    assert unseen(visible(text, keep="\n\t")) == set()


@given(json_values)
def test_json_is_equal_when_it_is_parsed(value: object) -> None:
    for ascii_only in (True, False):
        for indent in (None, 2):
            shown = visible_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent))
            assert unseen(shown) == set()
            assert json.loads(shown) == value


def test_the_sample_of_unseen_characters_covers_its_kinds() -> None:
    assert {category(each) for each in UNSEEN} >= {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}

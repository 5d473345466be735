"""What describes a person is taken out, and what it was said of stays what it was."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.events import read
from domain.billing.tiers import Tier
from domain.errors import MalformedEvent
from domain.text.personal import DESCRIBES_A_PERSON, identifiers, masked, without_people, written
from domain.text.redaction import MASK
from simulators.personas import Persona, Shape
from simulators.stripe.scenarios import SCENARIOS
from tests.builders import NOV_22

CASES = Path(__file__).parents[2] / "cases" / "stripe"
WHO = Persona(UUID(int=7), "cus_1", "sub_1", "user_1", "ada@example.com")
SOLD = {Tier.STARTER: "price_starter", Tier.PRO: "price_pro", Tier.AGENCY: "price_agency"}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from texts([*value, *value.values()])
        case list():
            for each in value:
                yield from texts(each)


@given(VALUES, st.lists(st.text("abcAB@.ß İ", min_size=1, max_size=6), max_size=3))
def test_a_word_is_nowhere_afterwards_and_nothing_else_is_changed(value: Any, words: list[str]) -> None:
    left = masked(value, words)
    assert not [text for text in texts(left) if any(word in text for word in words)]
    if not any(word.lower() in text.lower() for word in words for text in texts(value)):
        assert left == value


def test_words_are_found_in_any_case_and_in_keys() -> None:
    value = {"to": ["Ada@Example.org", 3], "ADA@example.org": True, "mail": "<ada@example.org>,ada@example.org"}
    assert masked(value, ["ada@example.org"]) == {"to": [MASK, 3], MASK: True, "mail": f"<{MASK}>,{MASK}"}
    assert masked("İada@example.org", ["ada@example.org"]) == f"İ{MASK}"


def test_words_are_found_as_they_stand_in_json_and_in_links() -> None:
    for email in ("ada@x.org", "ada+1@x.org", "o'hara@x.org", "ä@x.org", 'a"b\\@x.org', "a%b@x.org"):
        for safe in ("", "@", "+", "/", "!*'()"):
            for text in (quote(email, safe=safe), quote(email, safe=safe).swapcase(), json.dumps(email)[1:-1]):
                if text.isascii() and "\\u" not in text:
                    assert masked(f"<{text}>", written([email])) == f"<{MASK}>"
    picture = "https://img.example.org/a?b=c"
    for safe in ("", "/", ":/?="):
        assert masked(f"x={quote(picture, safe=safe)}", written([picture])) == f"x={MASK}"


def test_identifiers_are_what_stands_for_one_person_wherever_it_is_found() -> None:
    user = {
        "data": {
            **{"id": "user_ada", "first_name": "Ada", "username": "ada", "image_url": "https://img.example.com/1"},
            "email_addresses": [{"id": "idn_1", "email_address": "ada@example.org"}, {"email_address": None}],
            "phone_numbers": [{"phone_number": "+49 170 1234567"}],
            "public_metadata": {"email": "a@b.c", "image_url": "none"},
        }
    }
    found = identifiers(user, {"email": "ada@example.org", "image_url": None})
    assert found == ["+49 170 1234567", "ada@example.org", "https://img.example.com/1"]


@given(st.dictionaries(st.sampled_from(sorted(DESCRIBES_A_PERSON)) | st.just("amount"), VALUES, max_size=5))
def test_fields_that_describe_somebody_are_empty_at_any_depth(row: dict[str, Any]) -> None:
    left = without_people({"data": {"object": row, "lines": [row]}})
    for each in (left["data"]["object"], *left["data"]["lines"]):
        assert each.keys() == row.keys()
        assert all(each[name] is None for name in DESCRIBES_A_PERSON & each.keys())


def fact(body: Any) -> Any:
    try:
        return read(body)
    except MalformedEvent as error:
        return str(error)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_an_event_says_of_money_is_the_same_without_people(name: str) -> None:
    """So billing can be rebuilt of the events of somebody who is forgotten."""
    for shape in get_args(Shape):
        for body in SCENARIOS[name](replace(WHO, shape=shape), NOV_22, SOLD):
            assert fact(without_people(body)) == fact(body)


@pytest.mark.parametrize("path", sorted(CASES.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_real_event_says_of_money_is_the_same_without_people(path: Path) -> None:
    body = json.loads(path.read_text())
    assert fact(without_people(body)) == fact(body)

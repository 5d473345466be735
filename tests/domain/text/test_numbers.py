"""Numbers in kept JSON: what no double can be is named, and what Postgres writes out is written as it was sent."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text.numbers import LARGEST_WHOLE, unreadable, written


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": [0, {"b": 1e999}]}', "a.1.b"),
        ('[1, -1e999, {"a": NaN}]', "1"),
        ("[" + "9" * 400 + "]", "0"),
        ("Infinity", ""),
        ('{"a": [true, null, "1e999", 1e308, 123456789012345678901234567890]}', None),
    ],
    ids=["inside", "first", "long", "itself", "none"],
)
def test_the_first_number_that_nobody_can_read_is_named(text: str, place: str | None) -> None:
    assert unreadable(json.loads(text)) == place


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_postgres_gives_back_of_a_number_is_written_as_it_was_sent(sent: float) -> None:
    given_back = Decimal(repr(sent))
    stored: Any = int(given_back) if given_back == given_back.to_integral_value() else sent
    assert json.dumps(written({"a": [stored]})) == json.dumps({"a": [stored if abs(sent) < LARGEST_WHOLE else sent]})


@given(st.integers(-(10**30), 10**30))
def test_no_digit_is_lost(whole: int) -> None:
    assert Decimal(str(written(whole))) == whole

"""What a spreadsheet opens: every table comes back as it was, and no text is run."""

import csv
from datetime import UTC, datetime
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text.spreadsheet import FORMULA, to_csv

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text, newline=""), strict=True))


def test_values_are_written_as_programs_read_them() -> None:
    row = {
        "when": datetime(2026, 11, 28, 12, tzinfo=UTC),
        "number": 0,
        "minus": -1.5,
        "more": {"saves": 1},
        "text": 'a "b",\nc',
        "yes": True,
    }
    written = to_csv(("when", "number", "nothing", "minus", "more", "text", "yes"), [row])
    assert written == (
        'when,number,nothing,minus,more,text,yes\r\n2026-11-28T12:00:00Z,0,,-1.5,"{""saves"":1}","a ""b"",\nc",true\r\n'
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "\u00a0=1", "\n=1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert read(to_csv(("a",), [{"a": text}]))[1] == [f"'{text}"]


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=4))
def test_a_table_comes_back_as_it_was(table: list[list[str]]) -> None:
    rows = [dict(zip(("a", "b"), values, strict=True)) for values in table]
    back = read(to_csv(("a", "b"), rows))
    assert back[0] == ["a", "b"]
    for written, values in zip(back[1:], table, strict=True):
        for cell, value in zip(written, values, strict=True):
            assert cell.removeprefix("'") == value.removeprefix("'")
            assert not cell.lstrip().startswith(FORMULA)

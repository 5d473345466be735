"""Whatever a row holds, a list of it is valid JSON, and a table."""

import io
import json
import os
import pty
import re
import sys
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.range import Range

from cli.output import print_json, progress, show, show_one, timed
from tests.cli.shell import ROOT


class Colour(Enum):
    RED = 1


class Tier(StrEnum):
    PRO = "PRO"


FORMS = [
    (date(2026, 11, 22), "2026-11-22"),
    (time(9, 30), "09:30:00"),
    (datetime(2026, 11, 22, 12, tzinfo=UTC), "2026-11-22T12:00:00Z"),
    (timedelta(minutes=2), 120.0),
    (Decimal("1.25"), 1.25),
    (Decimal("Infinity"), "Infinity"),
    (Decimal("NaN"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    (float("nan"), "NaN"),
    (b"caf\xc3\xa9 \xff", "café �"),
    (memoryview(b"x"), "x"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, 1),
    (Tier.PRO, "PRO"),
    (Range(1, 3), "[1, 3)"),
    ((1, 2), [1, 2]),
    (frozenset({"a"}), ["a"]),
    (True, True),
    (10**4000, 10**4000),
    ({"at": date(2026, 11, 22), 5: [float("inf")]}, {"at": "2026-11-22", "5": ["Infinity"]}),
]

values = st.recursive(
    st.sampled_from([value for value, _ in FORMS])
    | st.none()
    | st.text()
    | st.integers()
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[type(value).__name__ for value, _ in FORMS])
def test_every_kind_of_value_has_a_form(value: object, form: object, capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"it": value}])
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == [{"it": form}]


def test_times_are_utc_with_a_relative_form(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2026, 11, 28, 21, tzinfo=timezone(timedelta(hours=1)))
    assert timed(now, now) == "2026-11-28 20:00:00Z now"
    assert timed(now - timedelta(minutes=3, seconds=9), now) == "2026-11-28 19:56:51Z 3m ago"
    assert timed(now + timedelta(hours=50), now) == "2026-11-30 22:00:00Z in 2d"
    show([{"at": datetime(2000, 1, 1, tzinfo=UTC)}], ["at"], as_json=False, nothing="")
    show_one({"at": datetime(2000, 1, 1, tzinfo=UTC)}, as_json=False)
    _, cell, value = capsys.readouterr().out.splitlines()
    for line in (cell, value):
        assert re.search(r"2000-01-01 00:00:00Z [\d]+d ago$", line), line


@pytest.mark.proof
@given(st.dictionaries(st.text(min_size=1), values, min_size=1, max_size=5))
def test_any_row_is_valid_json_and_a_table(row: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append)
        print_json(row)
    assert json.loads("".join(written), parse_constant=refuse).keys() == row.keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout.write", written.append)
        show([row], tuple(row), as_json=False, nothing="")
        show_one(row, as_json=False)


def test_what_is_nested_as_deep_as_rows_may_be_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    print_json({"payload": nested})
    assert json.loads(capsys.readouterr().out)


def test_progress_is_for_who_sits_before_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as errors:
        monkeypatch.setattr(sys, "stderr", errors)
        for as_json in (True, False):
            with progress("import", 10, as_json=as_json) as step:
                step(5, what="trends", says=f"5 of 10, {as_json}")
    seen = b""
    with suppress(OSError):  # at its end, which comes when all has come: a terminal hands on what it gets in pieces
        while more := os.read(screen, 65536):
            seen += more
    os.close(screen)
    shown = seen.decode()
    assert "trends" in shown
    assert "5 of 10, False" in shown
    assert "True" not in shown

    monkeypatch.setattr(sys, "stderr", piped := io.StringIO())
    with progress("import", 10) as step:
        step(5)
    assert piped.getvalue() == ""


def test_there_is_one_progress_bar() -> None:
    using = {path.name for path in (ROOT / "cli").rglob("*.py") if "rich.progress" in path.read_text()}
    assert using == {"output.py"}

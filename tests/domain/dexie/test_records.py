"""What is read from the old app is written back as it was, whatever it was."""

import json
import re
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.dexie.kinds import LONG_AGO, Unfit, sayable
from domain.dexie.records import FIELDS, TABLES, Row, column, own_id, read, row_id, write
from domain.dexie.typeson import revive

TEXTS = st.text(st.characters(codec=None), max_size=12)  # surrogates and NUL too
TIMES = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, TIMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
IDS = st.one_of(st.uuids().map(str), st.text(st.characters(codec=None), min_size=1, max_size=300), st.integers())


@st.composite
def records(draw: st.DrawFn, table: str) -> dict[str, Any]:
    """Any of the fields, holding anything at all, among others that the old app's types do not know."""
    usual = dict.fromkeys(FIELDS[table], VALUES)
    record = draw(st.fixed_dictionaries({}, optional=usual))
    return {"id": draw(IDS)} | record | draw(st.dictionaries(TEXTS.filter(lambda key: key != "id"), VALUES, max_size=2))


def stored(row: Row) -> dict[str, Any]:
    return {"id": UUID(int=7), "source_id": row.source_id, "kept": row.kept, **row.columns}


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=40)
@given(st.data())
def test_what_is_read_is_written_back_as_it_was(table: str, data: st.DataObject) -> None:
    record = data.draw(records(table))
    again = write(table, stored(read(table, record)))
    assert json.dumps(again, sort_keys=True) == json.dumps(record, sort_keys=True) or strictly(again) == strictly(
        record
    )


def strictly(value: Any) -> Any:
    """Tells true from 1, but not 1 from 1.0, which are one number in JSON."""
    match value:
        case bool():
            return str(value)
        case dict():
            return {key: strictly(each) for key, each in value.items()}
        case list():
            return [strictly(each) for each in value]
    return value


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=40)
@given(st.data())
def test_the_columns_hold_nothing_that_postgres_refuses(table: str, data: st.DataObject) -> None:
    row = read(table, data.draw(records(table)))
    text = json.dumps({**row.columns, "source_id": row.source_id}, default=str, ensure_ascii=False, allow_nan=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")
    assert row.kept is None or row.kept.isascii()


def a_generation(**fields: Any) -> dict[str, Any]:
    plain = {"id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "date": "2025-01-15T10:00:00.000Z"}
    return plain | {"concepts": [{"title": "Cats"}], "trends": [], "isFavorite": True} | fields


def test_a_plain_record_is_columns_and_nothing_else() -> None:
    row = read("generations", a_generation())
    assert (row.notes, row.kept) == ((), None)
    assert own_id(row.source_id) == UUID(row.source_id)


@pytest.mark.parametrize(
    ("fields", "name", "value", "note"),
    [
        ({"isFavorite": 1}, "is_favorite", True, "isFavorite: 1 read as true"),
        ({"isFavorite": 0}, "is_favorite", False, "isFavorite: 0 read as false"),
        ({"date": "soon"}, "date", LONG_AGO, 'date: "soon" is no date; 1970-01-01T00:00:00.000Z in its place'),
        ({"date": 0}, "date", LONG_AGO, "date: a number, read as milliseconds since 1970"),
        ({"date": "0001-01-01T00:00:00+14:00"}, "date", LONG_AGO, "date: .*is no date"),
        ({"concepts": None}, "concepts", [], "concepts: expected a list, found nothing"),
        ({"concepts": [{}, None]}, "concepts", [{}], "concepts: 1 of 2 left out: not objects"),
        ({"concepts": [{"a": float("nan")}]}, "concepts", [{"a": None}], "not finite replaced by null"),
        ({"trends": [{"a": "x\0\ud800"}]}, "trends", [{"a": "x\ufffd\ufffd"}], r"a NUL character replaced by U\+FFFD"),
    ],
)
def test_each_change_is_noted(fields: dict[str, Any], name: str, value: Any, note: str) -> None:
    record = a_generation(**fields)
    row = read("generations", record)
    assert row.columns[name] == value
    assert any(re.search(note, each) for each in row.notes), row.notes
    assert write("generations", stored(row)) == sayable(record)


def test_what_has_changed_since_is_written_as_it_is_now() -> None:
    row = read("generations", a_generation(isFavorite=1))
    assert write("generations", stored(row) | {"is_favorite": False})["isFavorite"] is False


@pytest.mark.parametrize("record", [None, [], "x", {}, {"id": ""}, {"id": None}, {"id": True}, {"id": float("nan")}])
def test_what_is_no_record_is_rejected(record: Any) -> None:
    with pytest.raises(Unfit):
        read("generations", record)


def test_what_is_nested_too_deep_is_rejected() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(Unfit, match="deep"):
        read("generations", a_generation(concepts=deep))


def test_the_gap_is_what_critiques_are_looked_up_by() -> None:
    gap = {"category": "tech", "platform": "tiktok", "predictedVirality": 85, "actualViralityScore": 1e9}
    row = read("critiques", {"id": "c1", "performanceGap": gap})
    found = [row.columns[name] for name in ("category", "platform", "predicted_score", "actual_score")]
    assert found == ["tech", "tiktok", 85, None]
    assert "performanceGap.actualViralityScore: 1000000000.0 is no score; it stays in the gap alone" in row.notes


def test_a_gap_is_turned_when_it_comes_in_and_back_when_it_goes_out() -> None:
    gap = {"gap": 22.5, "gapPercentage": -26, "gap words": "too sure", "gapless": True, "overgap": 3, "gap0": 0.0}
    record = {"id": "c1", "performanceGap": gap}
    row = read("critiques", record)
    turned = {"gap": -22.5, "gapPercentage": 26, "gap words": "too sure", "gapless": True, "overgap": 3, "gap0": 0.0}
    assert row.columns["performance_gap"] == turned
    assert write("critiques", stored(row)) == sayable(record)


def test_ids_made_from_records_are_stable_and_the_tenants_own() -> None:
    ada, bob = UUID(int=1), UUID(int=2)
    assert row_id(ada, "insights", "x") == row_id(ada, "insights", "x")
    assert len({row_id(ada, "insights", "x"), row_id(bob, "insights", "x"), row_id(ada, "critiques", "x")}) == 3


def test_fields_are_columns_of_the_same_name() -> None:
    from db.schema.tables import metadata

    for table, ours in TABLES.items():
        assert {column(field) for field in FIELDS[table]} <= set(metadata.tables[ours].c.keys())


# --- dexie-export-import's way of saying what JSON cannot ---------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "value", "notes"),
    [
        ({"a": [1], "$types": {"a": "arrayNonindexKeys"}}, {"a": [1]}, []),
        ({"d": 5, "$types": {"d": "date"}}, {"d": "1970-01-01T00:00:00.005Z"}, ["d: was a JavaScript date"]),
        ({"d": "NaN", "$types": {"d": "date"}}, {"d": "NaN"}, ["d: was a JavaScript date"]),
        ({"a": {"b.c": 0, "d": 1}, "$types": {"a.b~1c": "undef"}}, {"a": {"d": 1}}, []),
        (
            {"a": ["NaN"], "$types": {"a": "arrayNonindexKeys", "a.0": "nan"}},
            {"a": [None]},
            ["a.0: was a JavaScript nan"],
        ),
        (
            {"n": "12345678901234567890", "$types": {"n": "bigint"}},
            {"n": 12345678901234567890},
            ["n: was a JavaScript bigint"],
        ),
        ({"a": {"x": 1}, "b": "#a", "$types": {"b": "#"}}, {"a": {"x": 1}, "b": {"x": 1}}, []),
        ({"$": {"$types": 1}, "$types": True}, {"$types": 1}, []),
        ({"$": [5], "$types": {"$": {"0": "date"}}}, ["1970-01-01T00:00:00.005Z"], ["0: was a JavaScript date"]),
        ({"m": [[1, 2]], "$types": {"m": "map", "gone.deep": "date"}}, {"m": [[1, 2]]}, ["m: was a JavaScript map"]),
        ("text", "text", []),
    ],
)
def test_typeson(row: Any, value: Any, notes: list[str]) -> None:
    assert revive(row)[:2] == (value, notes)


KINDS = st.sampled_from(["#", "date", "bigint", "undef", "nan", "map", "arrayNonindexKeys", 5, None, ["#"], {}])
PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", "", "9" * 5000]), max_size=3).map(".".join)
ODD = VALUES | PATHS.map("#{}".format) | st.sampled_from(["--5", "#", float("nan"), float("inf"), 1e300, True])
NESTED = st.recursive(ODD, lambda inner: st.dictionaries(st.sampled_from("ab"), inner) | st.lists(inner, max_size=3))


@given(
    st.dictionaries(st.sampled_from(["a", "b", "$"]), NESTED, max_size=3),
    st.dictionaries(PATHS | st.just("$"), KINDS | st.lists(KINDS, max_size=3)) | NESTED,
)
def test_typeson_survives_anything(row: dict[str, Any], types: Any) -> None:
    """It is revived, and what comes out can be read as a record, or it is refused in words."""
    with suppress(Unfit):
        value = revive(row | {"$types": types}).value
        read("generations", value)


def a_bomb(levels: int) -> dict[str, Any]:
    """Each level refers twice to the one below."""
    row: dict[str, Any] = {"id": "b", "k0": ["x"]}
    row |= {f"k{n}": {"l": f"#k{n - 1}", "r": f"#k{n - 1}"} for n in range(1, levels)}
    return row | {"$types": {f"k{n}.{side}": "#" for n in range(1, levels) for side in "lr"}}


@pytest.mark.parametrize(
    "row",
    [
        a_bomb(40),
        a_bomb(3000),
        {"id": "b", "a": "x" * 5000, "l": ["#a"] * 5000, "$types": {f"l.{n}": "#" for n in range(5000)}},
        {"id": "b", "a": {"b": "#"}, "$types": {"a.b": "#"}},
        {"id": "b", "a": {"b": "#c"}, "c": {"d": "#a"}, "$types": {"a.b": "#", "c.d": "#"}},
    ],
)
def test_what_stands_for_more_than_can_be_held_is_refused_without_a_walk(row: dict[str, Any]) -> None:
    """Walked over, forty levels would be 10 ** 12 values."""
    assert len(json.dumps(row)) < 500_000
    with pytest.raises(Unfit, match=r"written out|leads back to itself"):
        revive(row)


def test_a_reference_that_is_no_bomb_is_followed() -> None:
    value, notes, size = revive(a_bomb(10))
    assert json.dumps(value).count('"x"') == 2**10 - 1
    assert notes == []
    assert 0.5 < size / len(json.dumps(value)) < 2


def test_the_notes_of_a_row_stay_short() -> None:
    """Of a path with a thousand types, and of a thousand paths with one."""
    types = {".".join(["a"] * 2000): [f"kind{n}" for n in range(2000)], **{f"x{n}": "date" for n in range(2000)}}
    deep: Any = 1
    for _ in range(1999):
        deep = {"a": deep}
    notes = revive({"a": deep, **{f"x{n}": n for n in range(2000)}, "$types": types}).notes
    assert sum(map(len, notes)) < 2000
    assert notes[-1] == "3,990 more were of types that JSON does not have"

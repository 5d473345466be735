"""The old app's records (IndexedDB, through Dexie) are read into columns and written back.

One rule carries it: the field `oldName` is the column `old_name`, and a record that was read is written back as it was.
Where a column cannot hold the original, `kept` does: as long as the column still has what was made of the original, the
original is written back. Unknown fields are kept the same way. The record's `id` is the column `source_id`.

Only what JSON itself cannot say is lost: NaN and Infinity are written back as null, as JSON.stringify does.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from domain.dexie.kinds import (
    COUNT,
    FLAG,
    LIST,
    LONGEST_WORD,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    TIME,
    TIME_IF_ANY,
    WORD,
    Kind,
    Unfit,
    finite,
    named,
    same,
    sayable,
    shown,
)
from domain.text.numbers import written as as_sent
from domain.text.storable import REPLACEMENT, Unstorable, is_storable, storable

TABLES = {
    "generations": "generations",
    "critiques": "self_critiques",
    "insights": "reflexion_insights",
    "adjustments": "scoring_adjustments",
}
"""Our table for each of the old app's."""

FIELDS: dict[str, dict[str, Kind]] = {
    "generations": {"date": TIME, "concepts": OBJECTS, "trends": OBJECTS, "isFavorite": FLAG},
    "critiques": {
        "conceptId": WORD,
        "performanceGap": OBJECT,
        "critique": TEXT,
        "hypothesizedReasons": LIST,
        "scoringIssues": LIST,
        "adjustmentPlan": TEXT,
        "confidenceLevel": WORD,
        "createdAt": TIME,
        "appliedAt": TIME_IF_ANY,
    },
    "insights": {
        "category": WORD,
        "platform": WORD,
        "pattern": TEXT,
        "evidenceCount": COUNT,
        "impact": WORD,
        "recommendation": TEXT,
        "appliedToScoring": FLAG,
        "discoveredAt": TIME,
        "lastSeenAt": TIME,
    },
    "adjustments": {
        "category": WORD,
        "adjustmentType": WORD,
        "oldValue": NUMBER,
        "newValue": NUMBER,
        "reason": TEXT,
        "critiqueId": WORD,
        "appliedAt": TIME,
    },
}
"""The fields of the old app's types, beside `id`."""

LARGEST_SCORE = 10**6


@dataclass(frozen=True, slots=True)
class Record:
    """The value at `index` of the list of `table` in an export. `notes` say what in it has no plain form in JSON;
    `unfit` says why it could not be read at all; `size` is the number of its characters, as JSON."""

    table: str
    index: int
    value: Any
    size: int = 0
    notes: tuple[str, ...] = ()
    unfit: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A record that was read. `notes` say what had to be changed for the columns' sake: without any it is plainly
    imported. `damage` says what it had lost before it came here.

    `kept` is JSON text in ASCII, and so can hold what Postgres's own JSON cannot (U+0000, half a surrogate pair).
    """

    source_id: str
    columns: dict[str, Any]
    kept: str | None
    notes: tuple[str, ...]
    damage: str | None = None


def read(table: str, record: Any) -> Row:
    """Return the row that a record of one of `TABLES` becomes.

    Raises:
        Unfit: the record is no object, has no id, or is nested too deep.
    """
    if not isinstance(record, dict):
        raise Unfit(f"expected an object, found {named(record)}")
    try:
        clean, replaced = storable(record)
    except Unstorable as error:
        raise Unfit(str(error)) from error
    source_id, id_note = _source_id(record.get("id"))
    columns: dict[str, Any] = {}
    was: dict[str, list[Any]] = {} if same(source_id, record["id"]) else {"id": [source_id, record["id"]]}
    notes = [id_note, *sorted(replaced)]
    for field, kind in FIELDS[table].items():
        value, note = kind.read(clean.get(field))
        columns[column(field)] = value
        missing = field not in record and not kind.optional
        notes.append(f"{field}: {'missing' if missing else note}" if missing or note else None)
        was |= _was(field, record, kind.write(value))
    if table == "critiques":
        columns["performance_gap"] = turned(columns["performance_gap"])
        gap, gap_notes = columns_of_gap(columns["performance_gap"])
        columns |= gap
        notes += gap_notes
    unknown = {field: sayable(value) for field, value in record.items() if field not in FIELDS[table] | {"id": None}}
    kept = json.dumps({"was": was, "unknown": unknown}) if was or unknown else None
    return Row(source_id, columns, kept, tuple(note for note in notes if note), _damage(record))


def write(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a row, which has its columns by name, with `id`, `source_id` and `kept`: undo `read`."""
    kept = json.loads(row["kept"]) if row["kept"] else {"was": {}, "unknown": {}}
    if table == "critiques":
        row = {**row, "performance_gap": turned(row["performance_gap"])}
    written = {"id": row["source_id"] or str(row["id"])}
    written |= {field: as_sent(kind.write(row[column(field)])) for field, kind in FIELDS[table].items()}
    record: dict[str, Any] = {}
    for field, value in written.items():
        was = kept["was"].get(field)
        if was and same(was[0], value):
            record.update((field, original) for original in was[1:])
        elif value is not None:
            record[field] = value
    record.update(kept["unknown"])
    return record


def row_id(tenant_id: UUID, table: str, source_id: str) -> UUID:
    """Return the row's id where the record's own is no UUID, or taken: the same at each call."""
    return uuid5(tenant_id, f"{table}:{source_id}")


def own_id(source_id: str) -> UUID | None:
    """Return the record's own id, if it is a UUID in its usual form."""
    return UUID(source_id) if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", source_id) else None


def column(field: str) -> str:
    """Return the column of a field: `is_favorite` for `isFavorite`."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field)


def _was(field: str, record: Mapping[str, Any], written: Any) -> dict[str, list[Any]]:
    """Return what `kept` has of a field: what our column writes, and the original; the first alone if it was absent."""
    if field not in record:
        return {} if written is None else {field: [written]}
    original = record[field]
    return {} if written is not None and same(written, original) else {field: [written, sayable(original)]}


def _source_id(value: Any) -> tuple[str, str | None]:
    """Return the record's id as a text that an index can hold: any other is replaced by a hash of it."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number and (not isinstance(value, str) or value == ""):
        raise Unfit("no id" if value is None else f"{shown(value)} is no id")
    if isinstance(value, str):
        # IndexedDB tells the key 1 from the key "1".
        text, whole = (f"~{value}" if _LIKE_A_NUMBER.fullmatch(value) else value), json.dumps(value)
        hashed = value.startswith("~")
    else:
        # ... but has one key for 1 and 1.0, for 0 and -0.
        text = whole = json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
        hashed = False
    if hashed or len(text) > LONGEST_WORD or not is_storable(text):
        return f"~{uuid5(UUID(int=0), whole)}", f"id: {shown(value)} cannot be kept as it is"
    if own_id(text) is None:
        return text, f"id: {shown(value)} is no UUID; the row has one made from it"
    return text, None


_LIKE_A_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def _damage(record: Mapping[str, Any]) -> str | None:
    """Say whether the record lost characters before: whoever wrote it put U+FFFD in their place."""
    damaged = [
        field
        for field, value in record.items()
        if REPLACEMENT in field or REPLACEMENT in json.dumps(value, ensure_ascii=False)
    ]
    if not damaged:
        return None
    more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
    named = ", ".join(shown(field) for field in damaged[:NAMED])
    return f"the export was damaged: U+FFFD stands for what was lost in {named}{more}"


NAMED = 3
"""How many damaged fields are named."""


def turned(gap: Mapping[str, Any]) -> dict[str, Any]:
    """Return a performance gap with the other sign: the old app's is predicted minus actual, ours actual minus
    predicted. Turning it twice changes nothing. What has a sign are the numbers whose names begin with `gap`; zero
    stays as it is."""
    return {name: -value if _has_sign(name, value) else value for name, value in gap.items()}


def _has_sign(name: str, value: Any) -> bool:
    return (
        name.lower().startswith("gap") and isinstance(value, int | float) and not isinstance(value, bool) and value != 0
    )


def columns_of_gap(gap: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the columns that critiques are looked up by, which the old app kept inside the gap alone."""
    columns: dict[str, Any] = {}
    notes: list[str] = []
    for field in ("category", "platform"):
        word = gap.get(field)
        columns[field] = word[:LONGEST_WORD] if isinstance(word, str) else None
    for name, field in (("predicted_score", "predictedVirality"), ("actual_score", "actualViralityScore")):
        score = finite(gap.get(field))
        columns[name] = score if score is not None and abs(score) < LARGEST_SCORE else None
        if columns[name] is None and gap.get(field) is not None:
            notes.append(f"performanceGap.{field}: {shown(gap[field])} is no score; it stays in the gap alone")
    return columns, notes

"""The old app's records (IndexedDB, through Dexie), read into columns and written back.

One rule carries it: a field `oldName` is the column `old_name`, and a record that was read is written back as it was.
Where a column cannot hold what stood there, `kept` remembers it: as long as the column still says what was made of it,
the original is what is written back. Unknown fields are kept the same way. The record's own `id` becomes `source_id`,
and `id` where it is a UUID.

The one loss is what JSON itself cannot say: NaN and Infinity are written back as null, as JSON.stringify does.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

TABLES = {
    "generations": "generations",
    "critiques": "self_critiques",
    "insights": "reflexion_insights",
    "adjustments": "scoring_adjustments",
}
"""The old app's tables, and ours."""

LONGEST_WORD = 200
"""Characters of what is looked up by an index: an entry of a btree holds 2,704 bytes."""

DEEPEST = 200
"""Levels of lists and objects in a record."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a date that cannot be read: it sorts last, and is plainly no date of the old app's."""


class Unfit(Exception):
    """The record cannot become a row; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record, read. `notes` says what had to be changed for the columns' sake: none, and it is plainly imported.

    `kept` is JSON text in ASCII, and so can hold what Postgres's own JSON cannot (U+0000, half a surrogate pair).
    """

    source_id: str
    columns: dict[str, Any]
    kept: str | None
    notes: tuple[str, ...]


def read(table: str, record: Any) -> Row:
    """The row that a record of one of TABLES becomes.

    Raises:
        Unfit: it is no object, has no id, or is nested too deep.
    """
    if not isinstance(record, dict):
        raise Unfit(f"expected an object, found {_named(record)}")
    source_id, note = _source_id(record.get("id"))
    notes = [note] if note else []
    clean, lost = _storable(record)
    notes += [f"{what} taken out" for what in sorted(lost)]
    was: dict[str, list[Any]] = {}
    if not _same(source_id, record["id"]):
        was["id"] = [source_id, record["id"]]
    columns: dict[str, Any] = {}
    for field, kind in FIELDS[table].items():
        columns[column(field)], note = kind.read(clean.get(field))
        if field not in record and not kind.optional:
            note = "missing"
        if note:
            notes.append(f"{field}: {note}")
        written = kind.write(columns[column(field)])
        if field not in record:
            if written is not None:
                was[field] = [written]
        elif written is None or not _same(written, record[field]):
            was[field] = [written, _sayable(record[field])]
    unknown = {
        field: _sayable(value) for field, value in record.items() if field != "id" and field not in FIELDS[table]
    }
    columns |= _derived(table, columns)
    kept = {"was": was, "unknown": unknown}
    text = json.dumps(kept) if was or unknown else None
    return Row(source_id, columns, text, tuple(notes))


def write(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a row: columns by name, with `id`, `source_id` and `kept`. The opposite of `read`."""
    kept = json.loads(row["kept"]) if row["kept"] else {"was": {}, "unknown": {}}
    written = {"id": row["source_id"] or str(row["id"])}
    written |= {field: kind.write(row[column(field)]) for field, kind in FIELDS[table].items()}
    record: dict[str, Any] = {}
    for field, value in written.items():
        was = kept["was"].get(field)
        if was and _same(was[0], value):
            record |= {field: original for original in was[1:]}
        elif value is not None:
            record[field] = value
    return record | kept["unknown"]


def row_id(tenant_id: UUID, table: str, source_id: str) -> UUID:
    """The id of the row where the record's own is no UUID, or taken: the same each time it is asked for."""
    return uuid5(tenant_id, f"{table}:{source_id}")


def own_id(source_id: str) -> UUID | None:
    """The record's id, if it is a UUID in its usual form."""
    return UUID(source_id) if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", source_id) else None


def column(field: str) -> str:
    """`isFavorite` -> `is_favorite`"""
    return re.sub(r"([A-Z])", lambda capital: f"_{capital[1].lower()}", field)


# --- the kinds of fields: each reads anything, says what it had to change, and writes it back -----------------

Reading = tuple[Any, str | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` gets None for what is absent. `optional` says that absent is as good as null."""

    read: Callable[[Any], Reading]
    write: Callable[[Any], Any] = lambda value: value
    optional: bool = False


def _time(value: Any) -> Reading:
    note = None
    match value:
        case None:
            return LONG_AGO, f"no date; {_moment(LONG_AGO)} in its place"
        case bool():
            moment = None
        case int() | float():
            moment, note = _since_epoch(value), "a number, read as milliseconds since 1970"
        case str():
            moment = _parsed(value)
            if moment is not None and moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
                note = None if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else "no time zone; read as UTC"
        case _:
            moment = None
    try:
        if moment is not None:
            return moment.astimezone(UTC), note
    except OverflowError:
        pass
    return LONG_AGO, f"{_shown(value)} is no date; {_moment(LONG_AGO)} in its place"


def _time_if_any(value: Any) -> Reading:
    """None for what JavaScript takes for no: the old app asked `!appliedAt`."""
    return _time(value) if value else (None, None if value is None else f"{_shown(value)} read as no date")


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _since_epoch(ms: float) -> datetime | None:
    try:
        return LONG_AGO + timedelta(milliseconds=ms)
    except (OverflowError, ValueError):
        return None


def _moment(value: datetime | None) -> str | None:
    """As JavaScript's toISOString; with microseconds where there are any."""
    if value is None:
        return None
    text = value.astimezone(UTC).isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")
    return text.replace("+00:00", "Z")


def _flag(value: Any) -> Reading:
    if isinstance(value, bool):
        return value, None
    meant = value in (1, "1", "true") if isinstance(value, int | float | str) else False
    return meant, f"{_shown(value)} read as {'true' if meant else 'false'}"


def _number(value: Any) -> Reading:
    number = _finite(value)
    if number is None:
        return None, f"{_shown(value)} is no number that fits"
    return number, None if isinstance(value, int | float) and number == value else f"{_shown(value)} read as {number:g}"


def _count(value: Any) -> Reading:
    number = _finite(value)
    if number is None or not 0 <= number < 2**53:
        return 0, f"{_shown(value)} is no count; 0 in its place"
    whole = int(number)
    return whole, None if isinstance(value, int | float) and whole == value else f"{_shown(value)} read as {whole}"


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain_number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**53 else value


def _text(value: Any) -> Reading:
    if isinstance(value, str):
        return value, None
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text, f"expected a text, found {_named(value)}"


def _word(value: Any) -> Reading:
    text, note = _text(value)
    if len(text) <= LONGEST_WORD:
        return text, note
    return text[:LONGEST_WORD], f"cut to {LONGEST_WORD} characters, of {len(text)}"


def _object(value: Any) -> Reading:
    return (value, None) if isinstance(value, dict) else ({}, f"expected an object, found {_named(value)}")


def _list(value: Any) -> Reading:
    return (value, None) if isinstance(value, list) else ([], f"expected a list, found {_named(value)}")


def _objects(value: Any) -> Reading:
    listed, note = _list(value)
    fit = [each for each in listed if isinstance(each, dict)]
    if len(fit) == len(listed):
        return listed, note
    return fit, f"{len(listed) - len(fit)} of {len(listed)} left out: not objects"


TIME = Kind(_time, _moment)
TIME_IF_ANY = Kind(_time_if_any, _moment, optional=True)
FLAG = Kind(_flag)
NUMBER = Kind(_number, _plain_number)
COUNT = Kind(_count)
TEXT = Kind(_text)
WORD = Kind(_word)
OBJECT = Kind(_object)
LIST = Kind(_list)
OBJECTS = Kind(_objects)

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
"""What the old app's types say, beside `id`."""


def _derived(table: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What we look critiques up by; the old app kept it inside the gap."""
    if table != "critiques":
        return {}
    gap = columns["performance_gap"]
    words = {name: gap.get(name) for name in ("category", "platform")}
    scores = {"predicted_score": gap.get("predictedVirality"), "actual_score": gap.get("actualViralityScore")}
    return {name: word[:LONGEST_WORD] if isinstance(word, str) else None for name, word in words.items()} | {
        name: score if isinstance(score, int | float) and abs(score) < 10**6 else None for name, score in scores.items()
    }


# --- what Postgres can store, and JSON can say ----------------------------------------------------------------

SURROGATE = re.compile("[\ud800-\udfff]")


def _source_id(value: Any) -> tuple[str, str | None]:
    """The record's id as a text that an index can hold: anything else is named by a hash of it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "" or value != value:
        raise Unfit("no id" if value is None else f"{_shown(value)} is no id")
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > LONGEST_WORD or "\0" in text or SURROGATE.search(text):
        return f"~{uuid5(UUID(int=0), json.dumps(text))}", f"id: {_shown(value)} cannot be kept as an id as it is"
    if own_id(text) is None:
        return text, f"id: {_shown(value)} is no UUID; the row has one made from it"
    return text, None


def _storable(value: Any, depth: int = 0) -> tuple[Any, set[str]]:
    """The value as jsonb can hold it, and what had to be taken out. What needs no change is not copied."""
    match value:
        case str():
            if "\0" not in value and not SURROGATE.search(value):
                return value, set()
            lost = {"a NUL character"} if "\0" in value else set[str]()
            lost |= {"half a surrogate pair"} if SURROGATE.search(value) else set()
            return SURROGATE.sub("\ufffd", value.replace("\0", "")), lost
        case float() if not math.isfinite(value):
            return None, {"a number that is not finite"}
        case dict() | list():
            if depth == DEEPEST:
                raise Unfit(f"nested more than {DEEPEST} levels deep")
            return _storable_parts(value, depth + 1)
    return value, set()


def _storable_parts(value: dict[str, Any] | list[Any], depth: int) -> tuple[Any, set[str]]:
    lost: set[str] = set()

    def part(each: Any) -> Any:
        kept, without = _storable(each, depth)
        lost.update(without)
        return kept

    copy = [part(each) for each in value] if isinstance(value, list) else {part(k): part(v) for k, v in value.items()}
    return (copy if lost else value), lost


def _sayable(value: Any) -> Any:
    """As JSON.stringify would say it: null for a number that is not finite."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _sayable(each) for key, each in value.items()}
        case list():
            return [_sayable(each) for each in value]
    return value


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1."""
    return one is other or (isinstance(one, bool) == isinstance(other, bool) and bool(one == other))


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

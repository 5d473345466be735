"""Rows of dexie-export-import are JSON, beside which `$types` names the type of each value before it became JSON
(typeson).

A row may refer to parts of itself, also to parts that refer on: a few hundred of its bytes can stand for more values
than any machine holds. The values are therefore counted before anybody walks over them, in linear time.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from domain.concepts.wording import shorten
from domain.dexie.kinds import LARGEST_RECORD, Unfit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MOST_NOTES = 10
"""How many values are noted one by one; the others are counted."""

LONGEST_INDEX = 9
"""How many digits the index of a list has at most."""

_WHOLE = re.compile(r"-?[0-9]{1,999}")


class _Absent:
    """JavaScript's undefined."""


class Revived(NamedTuple):
    """A row as plain JSON. `notes` name the values that had no plain JSON form; `size` is the number of its characters,
    about, if references in it made it larger, else 0."""

    value: Any
    notes: list[str]
    size: int = 0


def revive(row: Any) -> Revived:
    """Return the row as plain JSON.

    A Date becomes its ISO text; what JSON cannot say at all stays in the form in which it was exported.

    Raises:
        Unfit: it refers to itself in a circle, or is larger than `LARGEST_RECORD` with its references written out.
    """
    if not isinstance(row, Mapping) or "$types" not in row:
        return Revived(row, [])
    types = row["$types"]
    if types is True:
        return Revived(row.get("$"), [])
    if not isinstance(types, Mapping):
        return Revived(row, [])
    if isinstance(types.get("$"), Mapping):  # the row itself is no object, or has a $types of its own
        holder, types = {"": row.get("$")}, types["$"]
    else:
        holder = {"": {key: value for key, value in row.items() if key != "$types"}}
    paths = {("", *_steps(path)): kinds for path, kinds in types.items()}
    changed: list[tuple[tuple[str, ...], str]] = []
    refers = False
    for path in sorted(paths, key=len, reverse=True):
        kinds = paths[path] if isinstance(paths[path], list) else [paths[path]]
        found = [kind for kind in kinds if isinstance(kind, str) and kind not in SILENT]
        refers |= "#" in found
        changed += [(path, kind) for kind in _revive_at(holder, path, found)]
    value = holder.get("")
    return Revived(value, _notes(changed), _written_out(value) if refers else 0)


def _revive_at(holder: dict[str, Any], path: tuple[str, ...], kinds: list[str]) -> list[str]:
    """Revive the value there, and return the types that were changed."""
    parent = _at(holder, path[:-1])
    key: Any = path[-1]
    if isinstance(parent, list) and _is_index(key) and int(key) < len(parent):
        key = int(key)
    elif not isinstance(parent, dict) or key not in parent:
        return []
    changed = []
    for kind in dict.fromkeys(kinds):
        value = parent[key]
        if kind == "#":  # the same object as elsewhere in the row
            if isinstance(value, str):
                parent[key] = _at(holder, ("", *_steps(value.removeprefix("#"))))
            continue
        revived = REVIVERS[kind](value) if kind in REVIVERS else value
        if revived is not _Absent:
            parent[key] = revived
            changed.append(kind)
        elif isinstance(parent, list):
            parent[key] = None
        else:
            del parent[key]
            break
    return changed


def _written_out(row: Any) -> int:
    """Return the row's size with every reference written out. Each part is looked at once, however many refer to it."""
    sizes: dict[int, int | None] = {}  # by identity; None: it is under way, and so within itself
    unread = [row]
    while unread:
        part = unread[-1]
        if not isinstance(part, dict | list) or sizes.get(id(part)):
            unread.pop()
            continue
        inner = part.values() if isinstance(part, dict) else part
        if id(part) not in sizes:
            sizes[id(part)] = None
            waiting = [each for each in inner if isinstance(each, dict | list) and not sizes.get(id(each))]
            if any(id(each) in sizes for each in waiting):
                raise Unfit("a reference in it leads back to itself")
            unread += waiting
            continue
        size = 2 + sum(len(key) + 4 for key in part) if isinstance(part, dict) else 2 + len(part)
        size += sum(_size(each, sizes) for each in inner)
        if size > LARGEST_RECORD:
            raise Unfit(f"more than {LARGEST_RECORD:,} characters when the references in it are written out")
        sizes[id(part)] = size
        unread.pop()
    return _size(row, sizes)


def _size(value: Any, sizes: Mapping[int, int | None]) -> int:
    if isinstance(value, dict | list):
        return sizes[id(value)] or 0
    return len(value) + 2 if isinstance(value, str) else 4


def _notes(changed: list[tuple[tuple[str, ...], str]]) -> list[str]:
    named = [
        f"{shorten('.'.join(path[1:]), 80) or 'record'}: was a JavaScript {shorten(kind, 40)}"
        for path, kind in changed[:MOST_NOTES]
    ]
    more = len(changed) - len(named)
    return [*named, f"{more:,} more were of types that JSON does not have"] if more else named


def _date(value: Any) -> Any:
    """Return the ISO text of milliseconds since 1970; the value itself if it is "NaN"."""
    try:
        moment = EPOCH + timedelta(milliseconds=value)
    except (TypeError, ValueError, OverflowError):
        return value
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


SILENT = {"arrayNonindexKeys", "userObject"}
"""Every array is said to be the first; neither changes what JSON says."""

REVIVERS: dict[str, Callable[[Any], Any]] = {
    "date": _date,
    "bigint": _whole,
    "undef": lambda value: _Absent,
    "sparseUndefined": lambda value: _Absent,
    "nan": lambda value: None,
    "infinity": lambda value: None,
    "negativeInfinity": lambda value: None,
}


def _steps(path: str) -> tuple[str, ...]:
    return tuple(step.replace("~1", ".").replace("~0", "~") for step in path.split(".")) if path else ()


def _is_index(step: str) -> bool:
    return step.isdecimal() and len(step) <= LONGEST_INDEX


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(value, list) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value

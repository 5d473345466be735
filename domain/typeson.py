"""Rows of dexie-export-import: JSON beside which `$types` says what each value was before it became JSON (typeson)."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Absent:
    """JavaScript's undefined."""


def revive(row: Any) -> tuple[Any, list[str]]:
    """The row as plain JSON, and which of its values had no plain JSON form, each as `path: what became of it`.

    A Date becomes its ISO text; what JSON cannot say at all stays in the form in which it was exported.
    """
    if not isinstance(row, Mapping) or "$types" not in row:
        return row, []
    types = row["$types"]
    if types is True:
        return row.get("$"), []
    if not isinstance(types, Mapping):
        return row, []
    if isinstance(types.get("$"), Mapping):  # the row itself is no object, or has a $types of its own
        holder, types = {"": row.get("$")}, types["$"]
        paths = {("", *_steps(path)): kind for path, kind in types.items()}
    else:
        holder = {"": {key: value for key, value in row.items() if key != "$types"}}
        paths = {("", *_steps(path)): kind for path, kind in types.items()}
    notes: list[str] = []
    for path in sorted(paths, key=len, reverse=True):
        kinds = paths[path] if isinstance(paths[path], list) else [paths[path]]
        for kind in kinds:
            _revive_at(holder, path, str(kind), notes)
    return holder[""], notes


def _revive_at(holder: dict[str, Any], path: tuple[str, ...], kind: str, notes: list[str]) -> None:
    parent = _at(holder, path[:-1])
    key: Any = path[-1]
    if isinstance(parent, list) and key.isdecimal() and int(key) < len(parent):
        key = int(key)
    elif not isinstance(parent, dict) or key not in parent:
        return
    if kind in SILENT:
        return
    if kind == "#":  # the same object as elsewhere in the row
        parent[key] = _at(holder, ("", *_steps(str(parent[key]).removeprefix("#"))))
        return
    value = REVIVERS[kind](parent[key]) if kind in REVIVERS else parent[key]
    if value is not _Absent:
        parent[key] = value
        notes.append(f"{'.'.join(path[1:]) or 'record'}: was a JavaScript {kind}")
    elif isinstance(parent, list):
        parent[key] = None
    else:
        del parent[key]


def _date(value: Any) -> Any:
    """Milliseconds since 1970, or "NaN"."""
    try:
        moment = EPOCH + timedelta(milliseconds=value)
    except (TypeError, OverflowError):
        return value
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 1000 else value


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


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value

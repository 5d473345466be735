"""Reads what people type (durations, times, `key=value` pairs), and knows who types it."""

import getpass
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.text.filters import span_of_time
from domain.text.storable import DEEPEST, Unstorable, storable

LONGEST = timedelta(days=3650)
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
MOST_USD = 100_000
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="The web server's port; 0 picks a free one. Default: PORT, or 8000."),
]


def duration(text: str) -> timedelta:
    """Read `90s`, `10m`, `2h`, `1d`, `1w`, or several: `1h30m`.

    Raises:
        typer.BadParameter: it is none of these, or more than ten years.
    """
    if not re.fullmatch(r"(\d{1,6}[smhdw]){1,5}", text):
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 10m, 2h, 1d or 1h30m")
    parts = re.findall(r"(\d+)([smhdw])", text)
    total = sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta(0))
    if total > LONGEST:
        raise typer.BadParameter(f"{text!r} is too long; at most {LONGEST.days}d")
    return total


def moment(text: str) -> datetime:
    """Read an ISO 8601 time, in UTC if it has no offset, or a Unix time of nine digits or more.

    Raises:
        typer.BadParameter: it is not one, or no time in which this system could work.
    """
    try:
        found = _moment(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; write 2026-12-01T09:00Z, 2026-12-01 or a Unix time") from None
    if not FIRST <= found < LAST:
        raise typer.BadParameter(f"{text!r} is not between {FIRST.year} and {LAST.year}")
    return found


def earlier(text: str) -> datetime:
    """Read a time as `moment` does, or how long ago it was: `2h`, `1d`, by this machine's clock. For what is only
    looked at.

    Raises:
        typer.BadParameter: it is neither.
    """
    ago = span_of_time(text)
    if ago is not None:
        return datetime.now(UTC) - ago
    try:
        return moment(text)
    except typer.BadParameter as error:
        if "is no time" in error.message:
            error.message = f"{text!r} is no time; write 2026-12-01T09:00Z, 2026-12-01, or how long ago: 2h, 1d"
        raise


def _moment(text: str) -> datetime:
    if re.fullmatch(r"[0-9]{9,12}(\.[0-9]{1,9})?", text):
        return datetime.fromtimestamp(float(text), UTC)
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)


def regular(text: str) -> Path:
    """Return the path of a file that can be read, and read again: no pipe, device or standard input.

    Raises:
        typer.BadParameter: it is not.
    """
    path = existing(text)
    if not path.is_file():
        raise typer.BadParameter(f"{text!r} is no regular file: save it to one first")
    return path


def existing(text: str) -> Path:
    """Return the path of a file or a pipe that is there and can be read; `-` is standard input.

    Raises:
        typer.BadParameter: it is not.
    """
    path = Path(text)
    if text != "-":
        if not path.exists():
            raise typer.BadParameter(f"file {text!r} does not exist")
        if path.is_dir():
            raise typer.BadParameter(f"{text!r} is a directory")
        if not os.access(path, os.R_OK):
            raise typer.BadParameter(f"file {text!r} is not readable")
    return path


def usd(text: str) -> Decimal:
    """Read an amount of dollars.

    Raises:
        typer.BadParameter: it is none, or one that no tenant has.
    """
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount; write 40 or 1.20") from None
    if not (amount.is_finite() and 0 <= amount <= MOST_USD and amount == round(amount, 6)):
        raise typer.BadParameter(f"{text!r} is no amount between 0 and {MOST_USD:,}")
    return amount


def among(words: Iterable[str]) -> Callable[[], list[str]]:
    """Return the completion of an argument that is one of these words: what Tab offers for it."""
    return lambda: [str(word) for word in words]


LISTED = 30
"""Names that an error lists: other programs may have put jobs on queues of any number of names."""


def one_of(choices: Iterable[str], value: str | None, hint: str, noun: str) -> None:
    """Refuse a value that is none of `choices`; the error lists them, up to `LISTED`.

    Raises:
        typer.BadParameter: it is another one. None is no value, and is let through.
    """
    names = list(choices)
    if value is not None and value not in names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise typer.BadParameter(f"no such {noun}; there are {', '.join(names[:LISTED])}{more}", param_hint=hint)


def parsed(text: str, name: str, *, hint: str) -> Any:
    """Read JSON; `name` stands for it in the error.

    Raises:
        typer.BadParameter: it is none, or none that Python and Postgres can hold.
    """
    subject = f"{name} is " if name else ""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_number)
        # How deep Python itself reads depends on its release.
        storable(value)
        return value
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{subject}not JSON: {error}", param_hint=hint) from None
    except (RecursionError, Unstorable):
        raise typer.BadParameter(f"{subject}nested too deeply: {DEEPEST} levels are allowed", param_hint=hint) from None
    except NotANumber as error:
        raise typer.BadParameter(f"{subject}not JSON that this system takes: {error}", param_hint=hint) from None
    except ValueError:
        raise typer.BadParameter(f"{subject}not usable: a number has more than 4,300 digits", param_hint=hint) from None


class NotANumber(ValueError):
    """JSON takes it for a number, by its word or its size, and it is none."""


def _no_number(word: str) -> float:
    raise NotANumber(f"{word} is no number")


def _number(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_number(text)


def pairs(words: Sequence[str], payload: str | None) -> dict[str, Any]:
    """Return the arguments of a job from `key=value` words (text, which the job type reads) and a JSON object.

    Raises:
        typer.BadParameter: a word has no `=`, the JSON is no object, or a key is given twice.
    """
    values: dict[str, Any] = {}
    if payload is not None:
        values = parsed(payload, "", hint="--payload")
        if not isinstance(values, dict):
            raise typer.BadParameter("a JSON object is expected", param_hint="--payload")
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{word!r} has no `=`", param_hint="KEY=VALUE")
        if key in values:
            raise typer.BadParameter(f"{key} is given twice", param_hint="KEY=VALUE")
        values[key] = value
    return values


def setting(text: str) -> tuple[str, Any]:
    """Read an option's `name=value`: true, false and lists as JSON has them, everything else as text, nothing as None.

    Raises:
        typer.BadParameter: it has no name, or no `=`.
    """
    name, is_one, value = text.partition("=")
    if not is_one or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    if not value:
        return name, None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return name, value
    return name, found if isinstance(found, bool | list) else value


def person() -> str:
    """Return who runs this shell, as well as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"uid {os.getuid()}"

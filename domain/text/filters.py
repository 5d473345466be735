"""What the filters of lists have in common, as they stand in a URL or on a command line: words, ids, times, and the
place in a list to go on from.

Each is bounded before anything is asked of the database. What makes no sense is refused with a sentence; it is never
ignored, since a list without its filter would answer another question than the one that was asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from domain.errors import ViralError
from domain.text.storable import is_storable

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST_AGO: Final = timedelta(days=3650)


class SenselessFilter(ViralError):
    """A filter asks for what cannot be; its text says which one, and how it would make sense."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: the row that was looked at last. `at` is the time that the list is in order of, None in lists
    that are in order of their ids."""

    id: UUID
    at: datetime | None = None

    def __str__(self) -> str:
        return str(self.id) if self.at is None else f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}~{self.id}"


def check_text(name: str, value: str, longest: int, thing: str) -> None:
    """Check a filter before it is read as anything; `thing` is what is listed, in the singular.

    Raises:
        SenselessFilter: it is too long, or has characters that nothing stored has.
    """
    if len(value) > longest:
        raise SenselessFilter(f"{name}: it is longer than {longest} characters")
    if not is_storable(value):
        raise SenselessFilter(f"{name}: it has characters that no {thing} has")


def one_of(name: str, value: str | None, words: Sequence[str]) -> str | None:
    """Return the filter, if it is one of the words. Raises SenselessFilter."""
    if value is not None and value not in words:
        raise SenselessFilter(f"{name}: there is no {shortly(value)}; there are {', '.join(words)}")
    return value


def id_of(name: str, value: str | None) -> UUID | None:
    """Read an id. Raises SenselessFilter."""
    found = None if value is None else uuid_of(value)
    if value is not None and found is None:
        raise SenselessFilter(f"{name}: {shortly(value)} is no id; it looks like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    return found


def uuid_of(text: str) -> UUID | None:
    """Read an id as it is shown, with its four hyphens; None: it is none."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return None
    return UUID(text)


def time_of(name: str, value: str | None) -> datetime | timedelta | None:
    """Read a time, or how long ago it was. Raises SenselessFilter."""
    if value is None:
        return None
    if (ago := span_of_time(value)) is not None:
        return ago
    try:
        parsed = datetime.fromisoformat(value)
        found = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SenselessFilter(
            f"{name}: {shortly(value)} is no time; write 2026-12-01T09:00Z, 2026-12-01, or how long ago: 2h, 1d"
        ) from None
    if not FIRST <= found < LAST:
        raise SenselessFilter(f"{name}: {shortly(value)} is not between {FIRST.year} and {LAST.year}")
    return found


def check_range(since: datetime | timedelta | None, until: datetime | timedelta | None) -> None:
    """Check that something can lie between the two times of a filter, as far as they are of one kind.

    Raises:
        SenselessFilter: it ends before it begins.
    """
    ends_first = (isinstance(since, datetime) and isinstance(until, datetime) and until <= since) or (
        isinstance(since, timedelta) and isinstance(until, timedelta) and until >= since
    )
    if ends_first:
        raise SenselessFilter("until: it does not lie after since, so that nothing is between them")


def moment_of(time: datetime | timedelta | None, now: datetime) -> datetime | None:
    """Return the time of a filter, of which a span is so long before now."""
    return now - time if isinstance(time, timedelta) else time


def span_of_time(text: str) -> timedelta | None:
    """Read `90s`, `10m`, `2h`, `1d`, `1w`, or several of them: `1h30m`. None: it is none, or more than ten years."""
    if not re.fullmatch(r"([0-9]{1,6}[smhdw]){1,5}", text):
        return None
    parts = re.findall(r"([0-9]+)([smhdw])", text)
    total = sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta(0))
    return total if total <= LONGEST_AGO else None


def cursor_of(value: str | None, *, with_time: bool = False) -> Cursor | None:
    """Read a place as it is written; `with_time`: in a list that is in order of a time. Raises SenselessFilter."""
    if value is None:
        return None
    moment, tilde, text = value.rpartition("~")
    found = uuid_of(text)
    try:
        at = datetime.strptime(moment, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC) if tilde else None
    except ValueError:
        found = at = None
    if found is None or (with_time and at is None):
        raise SenselessFilter("after: it is no place in this list; begin at the first page")
    return Cursor(found, at)


def written(value: object) -> str:
    """Write a filter as it is read."""
    match value:
        case True:
            return "yes"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            parts = {
                "d": value.days,
                "h": value.seconds // 3600,
                "m": value.seconds // 60 % 60,
                "s": value.seconds % 60,
            }
            return "".join(f"{count}{unit}" for unit, count in parts.items() if count) or "0s"
    return str(value)


def shortly(text: str) -> str:
    """Return as much of a text as an answer repeats."""
    return text if len(text) <= 40 else f"{text[:40]}…"

"""Files of imported trends are read whole, within bounds: CSV with a header, or JSON.

- UTF-8, with or without a BOM. Any other encoding is refused, since guessing one changes letters.
- CSV is separated by commas, semicolons (as Excel writes it where a comma is a decimal mark) or tabs, whichever the
  header has; an Excel's `sep=;` line says so too. Lines end in any way. Quotes are CSV's.
- JSON is a list of objects, or `{"audio": [...], "competitors": [...]}`.
- Columns that mean nothing here are ignored, and named.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, NoReturn

from domain.concepts.imported import AudioTrend, CompetitorVideo, Defaults, Kind, Malformed, called, plain, read_row
from domain.concepts.wording import clean, counted, shorten
from domain.errors import Rejected

MOST_BYTES = 8 * 1024 * 1024
MOST_ROWS = 20_000
MOST_COLUMNS = 200
SEPARATORS = (",", ";", "\t")
Row = AudioTrend | CompetitorVideo


class FileRefused(Rejected):
    """The file as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be taken. `place` is the line of a CSV file that it begins on, or its number in a JSON list,
    both from 1; `unit` says which: "line" or "item"."""

    place: int
    reason: str
    kind: Kind
    unit: str


@dataclass(slots=True)
class ReadFile:
    """What a file has: rows that can be taken, those that cannot, and the columns that nobody reads."""

    audio: list[AudioTrend] = field(default_factory=list)
    competitors: list[CompetitorVideo] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def read_file(data: bytes, *, kind: Kind | None, format: str | None, defaults: Defaults) -> ReadFile:
    """Return what the file has. `format` is "csv" or "json"; None: as it begins.

    Raises:
        FileRefused: it cannot be read, is too large, or does not say what it has, and `kind` does not either.
    """
    if len(data) > MOST_BYTES:
        raise FileRefused(f"the file has more than {MOST_BYTES >> 20} MB: divide it")
    text = _decoded(data)
    if not text.strip("\0 \t\r\n"):
        raise FileRefused("the file is empty")
    is_json = format == "json" or (format is None and text.lstrip()[:1] in ("[", "{"))
    unit = "item" if is_json else "line"
    rows = _json_rows(text, kind) if is_json else _csv_rows(text, kind)
    found = ReadFile()
    names = {each: called(each) for each in Kind}
    ignored: dict[str, None] = {}
    for number, (place, of, values) in enumerate(rows, 1):
        if number > MOST_ROWS:
            raise FileRefused(f"the file has more than {counted(MOST_ROWS, 'row')}: divide it")
        if isinstance(values, str):
            found.faults.append(Fault(place, values, of, unit))
            continue
        ignored |= dict.fromkeys(name for name in list(values)[:MOST_COLUMNS] if plain(name) not in names[of])
        try:
            row = read_row(of, values, defaults)
        except Malformed as error:
            found.faults.append(Fault(place, str(error), of, unit))
            continue
        if isinstance(row, AudioTrend):
            found.audio.append(row)
        else:
            found.competitors.append(row)
    found.ignored = [shorten(clean(name), 60) for name in list(ignored)[:MOST_COLUMNS]]
    return found


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"the file is not UTF-8 (byte {error.start + 1}): save it as UTF-8, in Excel as “CSV UTF-8”"
        ) from None


Rows = Iterator[tuple[int, Kind, Mapping[str, Any] | str]]
"""Where a row is, what it is of, and its values, or why it has none."""


def _csv_rows(text: str, kind: Kind | None) -> Rows:
    if kind is None:
        raise FileRefused("a CSV file does not say what it has: say --kind audio or --kind competitors")
    first, _, rest = text.partition("\n")
    separator = {f"sep={each}": each for each in SEPARATORS}.get(first.strip("\r\n").lower())
    skipped = 0
    if separator is not None:
        text, skipped = rest, 1
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator or _separator(text, kind), strict=True)
    header: list[str] = []
    after = 0
    try:
        for cells in reader:
            line, after = after + 1 + skipped, reader.line_num  # where it begins; a quoted cell may have several
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, kind)
            elif len(cells) != len(header):
                yield line, kind, f"it has {counted(len(cells), 'column')}, and the header {len(header)}"
            else:
                yield line, kind, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise FileRefused(f"line {after + 1 + skipped}: this is no CSV: {error}") from None


def _separator(text: str, kind: Kind) -> str:
    """Return the separator by which most names of the header mean something."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    names = called(kind)

    def meant(separator: str) -> int:
        return sum(plain(cell) in names for cell in header.split(separator))

    return max(SEPARATORS, key=meant)


def _header(cells: Sequence[str], kind: Kind) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(header) > MOST_COLUMNS:
        raise FileRefused(f"the file has more than {MOST_COLUMNS} columns")
    names = called(kind)
    if not any(plain(name) in names for name in header):
        wanted = ", ".join(dict.fromkeys(names.values()))
        raise FileRefused(f"the first line names no column that {kind} have: {wanted}")
    plainly = [plain(name) for name in header if plain(name)]
    if twice := next((name for name in plainly if plainly.count(name) > 1), None):
        raise FileRefused(f"two columns are called {twice}")
    return header


def _json_rows(text: str, kind: Kind | None) -> Rows:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is too deep" if isinstance(error, RecursionError) else shorten(clean(str(error)), 200)
        raise FileRefused(f"the file is no JSON: {reason}") from None
    if isinstance(value, dict):
        lists = {Kind(name): rows for name, rows in value.items() if name in set(Kind)}
        if kind is not None:
            lists = {of: rows for of, rows in lists.items() if of is kind}
        if not lists:
            raise FileRefused('the file has no list called "audio" or "competitors"')
    elif kind is None:
        raise FileRefused("a list does not say what it has: say --kind audio or --kind competitors")
    else:
        lists = {kind: value}
    for of, rows in sorted(lists.items()):
        if not isinstance(rows, list):
            raise FileRefused(f"{of}: it is no list of objects")
        for place, row in enumerate(rows, 1):
            yield place, of, row if isinstance(row, dict) else "it is no object"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")

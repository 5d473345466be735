"""The old app's export files are read and written a record at a time: a file of any size takes as little memory as its
largest record, and nothing is kept of a record that is larger than `LARGEST_RECORD`. The old app is an outside like a
vendor: its files are foreign, and may be damaged or hostile.

Two shapes are read: an object of lists (`{"generations": […], "critiques": […], …}`), and the envelope of
dexie-export-import. The standard library's own decoder reads each record from a buffer that slides over the file.
(ijson was tried: it gives the file up at NaN and at 1e400, and its C parser makes "?" of half a surrogate pair.)
"""

import codecs
import io
import json
import math
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import IO, Any

import regex

from domain.dexie.imports import FileRefused
from domain.dexie.kinds import LARGEST_RECORD, Unfit
from domain.dexie.records import TABLES, Record
from domain.dexie.typeson import revive
from domain.ports import Watch
from domain.text.storable import DEEPEST

CHUNK = 1 << 16
"""How many characters are read at once, at first; twice as many each time that a record does not fit."""

MARGIN = 16
"""An error so near to the end of the buffer may only mean that a token was cut: `-Infinity`, a pair of \\u escapes."""

WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")

LONGEST_INTEGER = 4000
"""How many digits an integer has at most; Python itself reads 4,300."""

ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
GZIP = b"\x1f\x8b"

# Python's own `re` matches possessive quantifiers wrongly before 3.11.5 (gh-106052), which is what Debian 12 has.
_INSIDE = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_FLAT = rf'(?:[^"\[\]{{}}]++|"{_INSIDE}")*+'
FLAT = regex.compile(rf"(?:{_FLAT}(?:\{{{_FLAT}\}}|\[{_FLAT}\])?+)*+", regex.DOTALL)
"""Matches text with no brackets but those of lists and objects without others in them, which is most of the skipped."""
PIECE_OF_STRING = regex.compile(_INSIDE, regex.DOTALL)
PIECE_OF_WORD = regex.compile(r"[-+.\w]*+")
CLOSING = {"{": "}", "[": "]"}

MOST_NESTED = 1_000_000
"""How many levels a skipped value has at most: a byte is kept of each."""


Tables = Iterable[tuple[str, Iterable[Mapping[str, Any]]]]


class Unread(Enum):
    """Why a value was skipped. Its brackets and quotes match; the text between them was not looked at."""

    TOO_DEEP = f"nested more than {DEEPEST} levels deep"
    TOO_LARGE = f"larger than {LARGEST_RECORD:,} characters"


class ExportFile:
    """A file, of whose `size` bytes `position` are read. A pipe has the size None. The path `-` is standard input.
    Errors call it `name`."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._source: int | Path = 0 if path == Path("-") else path
        self._name = name or ("standard input" if self._source == 0 else str(path))
        status = os.stat(self._source)
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.position = 0

    def records(self, watch: Watch = lambda fraction: None) -> Iterator[Record]:
        """Yield all records, in the order of the file, which is opened once: a pipe cannot be read twice. `watch` is
        called whenever more of the file is read.

        Raises:
            FileRefused: as soon as the file shows that it is damaged, cut off or foreign; at its end at the latest.
        """
        with open(self._source, "rb") as raw:
            start = raw.peek(3)[:3]
            if start.startswith(GZIP):
                raise FileRefused(f"{self._name}: it is compressed: unpack it first (gunzip); nothing was imported")
            encoding = next((name for bom, name in ENCODINGS.items() if start.startswith(bom)), "utf-8")
            with io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="") as file:
                text = _Text(file, lambda: watch(raw.tell() / self.size if self.size else 0.0))
                try:
                    for record in _records(text):
                        yield record
                        self.position = 0 if self.size is None else raw.tell()
                    text.end()
                except (_Malformed, UnicodeError) as error:
                    raise FileRefused(f"{self._name}: {error}; nothing was imported") from error


class OldAppExports:
    """The port `OldAppFiles`."""

    def records(self, path: Path, watch: Watch) -> Iterator[Record]:
        return ExportFile(path, name="the file").records(watch)

    def write(self, tables: Tables) -> Iterator[bytes]:
        """Yield an object of lists, in ASCII, which carries everything."""
        for n, (table, records) in enumerate(tables):
            yield f"{',' if n else '{'}\n{json.dumps(table)}: [".encode()
            for m, record in enumerate(records):
                yield f"{',' if m else ''}\n{json.dumps(record, allow_nan=False)}".encode()
            yield b"\n]"
        yield b"\n}\n"


def write_export(path: Path, tables: Tables) -> int:
    """Write an export, whole or not at all. Return how many records."""
    count = 0

    def counted(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        nonlocal count
        for record in records:
            count += 1
            yield record

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            file.writelines(OldAppExports().write((table, counted(records)) for table, records in tables))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


class _Malformed(Exception):
    pass


def _records(text: "_Text") -> Iterator[Record]:
    is_export = False
    for key in text.members("an export of the old app begins with {"):
        if key == "data" and text.next() == "{":
            for inner in text.members():
                if inner != "data":
                    text.value()
                    continue
                for _ in text.elements("data.data is no list"):
                    is_export |= yield from _enveloped(text)
        elif text.next() == "[":
            is_export |= key in TABLES
            for index in text.elements():
                yield _record(key, index, text.value(), text.size)
        elif key in TABLES:
            raise _Malformed(f"{key} is no list")
        else:
            text.value()
    if not is_export:
        raise _Malformed(f"no export of the old app: it has none of {', '.join(TABLES)}")


def _enveloped(text: "_Text") -> Generator[Record, None, bool]:
    """Yield the records of one of the envelope's tables, and return whether it is one of the old app's. `rows` are
    records, or (where the key is not inside) pairs of a key and a record."""
    table, inbound = None, True
    for key in text.members():
        if key == "tableName":
            table = text.value()
        elif key == "inbound":
            inbound = bool(text.value())
        elif key == "rows":
            if not isinstance(table, str):
                raise _Malformed("rows come before their tableName")
            for index in text.elements(f"the rows of {table} are no list"):
                row = text.value()
                if not inbound and not isinstance(row, Unread):
                    row = row[1] if isinstance(row, list) and len(row) == 2 else None
                yield _revived(table, index, row, text.size)
        else:
            text.value()
    return table in TABLES


def _revived(table: str, index: int, row: Any, size: int) -> Record:
    try:
        value, notes, written_out = revive(row)
    except Unfit as error:
        return Record(table, index, None, unfit=str(error))
    return _record(table, index, value, max(size, written_out), tuple(notes))


def _record(table: str, index: int, value: Any, size: int, notes: tuple[str, ...] = ()) -> Record:
    if isinstance(value, Unread):
        return Record(table, index, None, unfit=value.value)
    return Record(table, index, value, size, notes)


class _Text:
    """A cursor over JSON text, which is read as it goes. Whoever iterates over `members` or `elements` takes each value
    before the next. `size` is the number of characters of the value that was taken last. Every method may raise
    `_Malformed`."""

    def __init__(self, file: IO[str], before_read: Callable[[], object]) -> None:
        self.size = 0
        self._file = file
        self._before_read = before_read
        self._buffer = ""
        self._at = 0
        self._gone = 0
        self._ended = False
        self._decode = json.JSONDecoder(parse_int=_integer, strict=False).raw_decode

    def next(self) -> str:
        """Return the next character that is not white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in " \t\r\n":
                    return self._buffer[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read(CHUNK)

    def take(self, wanted: str, otherwise: str | None = None) -> str:
        """Take one of the characters of `wanted`."""
        found = self.next()
        if not found:
            raise _Malformed("the file was cut off" if self._gone + self._at else "the file is empty")
        if found not in wanted:
            raise _Malformed(otherwise or f"not JSON at character {self._gone + self._at}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Take a value, or skip it and return why it was not read."""
        self.next()
        chunk = CHUNK
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                open_ended = error.msg.startswith("Unterminated string")
                rest = self._buffer[error.pos :].rstrip()
                if self._ended and (open_ended or any(word.startswith(rest) for word in WORDS)):
                    raise _Malformed("the file was cut off") from error
                if self._ended or not (open_ended or len(rest) <= MARGIN):
                    raise _Malformed(f"not JSON at character {self._gone + error.pos}: {error.msg}") from error
            except RecursionError:
                self._skip()
                return Unread.TOO_DEEP
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on
                    self.size = end - self._at
                    self._at = end
                    return value
            have = len(self._buffer) - self._at
            if have > LARGEST_RECORD:
                self._skip()
                return Unread.TOO_LARGE
            self._read(min(chunk, LARGEST_RECORD + MARGIN - have))
            chunk *= 2

    def _skip(self) -> None:
        """Skip a value without looking at the text between its brackets, and keep nothing of it."""
        first = self.next()
        if first == '"':
            self._skip_string()
        elif first not in CLOSING:
            self._skip_piece(PIECE_OF_WORD)
        else:
            self._skip_nested()

    def _skip_nested(self) -> None:
        awaited = bytearray([ord(CLOSING[self.take("{[")])])
        while awaited:
            flat = FLAT.match(self._buffer, self._at)
            self._at = flat.end() if flat else self._at
            found = self._buffer[self._at : self._at + 1]
            if not found:
                self.next()
                self._or_cut_off()
            elif found == '"':
                self._skip_string()
            else:
                self._at += 1
                if found in CLOSING:
                    awaited.append(ord(CLOSING[found]))
                elif ord(found) != awaited.pop():
                    raise _Malformed(f"not JSON at character {self._gone + self._at - 1}")
                if len(awaited) > MOST_NESTED:
                    raise _Malformed(f"nested more than {MOST_NESTED:,} levels deep")

    def _skip_string(self) -> None:
        self._at += 1
        self._skip_piece(PIECE_OF_STRING)
        if self._buffer[self._at : self._at + 1] != '"':
            raise _Malformed("the file was cut off")
        self._at += 1

    def _skip_piece(self, pattern: regex.Pattern[str]) -> None:
        """Skip the text that matches, however long it is."""
        while True:
            piece = pattern.match(self._buffer, self._at)
            self._at = piece.end() if piece else self._at
            # A backslash at the end is no piece yet.
            if self._ended or len(self._buffer) - self._at > 1 or self._buffer[self._at :] not in ("", "\\"):
                return
            self._read(CHUNK)

    def _or_cut_off(self) -> None:
        if self._ended:
            raise _Malformed("the file was cut off")

    def members(self, otherwise: str | None = None) -> Iterator[str]:
        """Yield the keys of an object, each with its colon taken."""
        self.take("{", otherwise)
        if self.next() == "}":
            self.take("}")
            return
        while True:
            if self.next() not in ('"', ""):
                raise _Malformed(f"not JSON at character {self._gone + self._at}")
            key = self.value()
            if isinstance(key, Unread):
                raise _Malformed(f"a name that is {key.value}, before character {self._gone + self._at}")
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def elements(self, otherwise: str | None = None) -> Iterator[int]:
        """Yield the indexes of a list, from 0."""
        self.take("[", otherwise)
        if self.next() == "]":
            self.take("]")
            return
        index = 0
        while True:
            yield index
            if self.take(",]") == "]":
                return
            index += 1

    def end(self) -> None:
        if self.next():
            raise _Malformed(f"more follows after its end, at character {self._gone + self._at}")

    def _read(self, count: int) -> None:
        self._before_read()
        more = self._file.read(count)
        self._ended = not more
        self._gone += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else math.copysign(math.inf, -1 if digits[0] == "-" else 1)

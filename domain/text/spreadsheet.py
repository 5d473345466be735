"""Tables for spreadsheets: CSV as RFC 4180 has it, in which no text is taken for a formula.

A program that opens a file runs a cell that begins with =, +, - or @ (and what East Asian keyboards write for them),
also behind spaces. Such a text gets an apostrophe before it, which spreadsheets take for "this is text"
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from domain.text.readable import plain

FORMULA = tuple("=+-@＝＋－＠\t\r\n\0")


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a table with a header, lines ended by CR LF. What a row has not, or None, is an empty cell."""
    out = StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    written = plain(value)
    match written:
        case None:
            return ""
        case str():
            return f"'{written}" if written.startswith(FORMULA) or written.lstrip().startswith(FORMULA) else written
        case bool():
            return "true" if written else "false"
        case int() | float():
            return written
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))

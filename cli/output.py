"""Tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Show at most this many.")]

COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "cancelled": "dim", "applied": "green"}


def console() -> Console:
    """Wide enough for whole ids when nobody watches."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, nothing: str) -> None:
    """The rows as a table of `columns`, or all that is in them as a JSON list."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        console().print(nothing)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in ("id", "job_id"), overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    console().print(table)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line each of what it says."""
    if as_json:
        print_json(row)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in row.items():
        if value is not None:
            table.add_row(name, cell(value))
    console().print(table)


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def cell(value: object) -> str:
    match value:
        case None:
            return "[dim]-[/dim]"
        case datetime():
            return escape(f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return escape(json.dumps(value, default=_plain, ensure_ascii=False))
        case str() if value in COLOURS:
            return f"[{COLOURS[value]}]{value}[/{COLOURS[value]}]"
    return escape(str(value))


def without_password(url: str) -> str:
    """The URL with its password, if it has one, blotted out."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case Decimal():
            return float(value)
        case bytes() | memoryview():
            return bytes(value).decode(errors="replace")
        case tuple() | set() | frozenset():
            return list(value)
        case Iterable():
            return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")

"""`viral import-trends`: sounds and competitors' videos that somebody collected elsewhere become trends."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, existing, moment
from cli.output import AsJson, console, print_json, progress, show
from cli.session import session
from domain.concepts.import_files import MOST_BYTES, Fault
from domain.concepts.imported import Kind, Malformed, region_of
from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.text.readable import readable
from workers.ops.trends import DEFAULT_REGION, Imported, ImportRequest
from workers.ops.trends import import_trends as do_import

LISTED = 20
"""Malformed rows that people are shown; programs get all."""


class FileNotImported(Rejected):
    """The file was refused because of its rows."""


def _region(text: str) -> str:
    try:
        return region_of(text)
    except Malformed as error:
        raise typer.BadParameter(str(error).removeprefix("region: ")) from None


def import_trends(
    path: Annotated[
        Path, typer.Argument(parser=existing, metavar="FILE", help="CSV with a header, or JSON; - is standard input.")
    ],
    kind: Annotated[Kind | None, typer.Option(help="What a list or a CSV file has.")] = None,
    tenant: Annotated[
        UUID | None, typer.Option("--tenant", metavar="ID", help="The tenant whose competitors they are.")
    ] = None,
    region: Annotated[
        Any, typer.Option(parser=_region, metavar="XX", help="The country of sounds that do not say theirs.")
    ] = DEFAULT_REGION,
    captured_at: Annotated[
        Any, typer.Option(parser=moment, metavar="TIME", help="When rows were seen that do not say it.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="csv|json", help="Default: as the file begins.", autocompletion=among(("csv", "json"))),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if one row is malformed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import sounds and competitors' videos as trends.

    Sounds are for all tenants, competitors' videos a tenant's. They are trends for a week from when they were seen. The
    same file again changes nothing. A newer capture of a competitor's video replaces an older one, an older one
    nothing. Rows that are malformed are named and left out; with --strict, or if all are, nothing is imported and the
    exit code is 1. At most 8 MB and 20,000 rows, UTF-8. Names of fields may be camelCase too; docs/concepts.md lists
    them, and says how numbers and times are read.

    \b
    viral import-trends sounds.csv --kind audio --region DE --captured-at 2026-11-28
    viral import-trends rivals.json --kind competitors --tenant ID --dry-run
    """
    if format not in (None, "csv", "json"):
        raise typer.BadParameter(f"{format!r} is neither csv nor json", param_hint="--format")
    seen_at: datetime | None = captured_at
    request = ImportRequest(_read(path), kind, tenant, region, format, seen_at, strict=strict, dry_run=dry_run)
    with session() as app, progress("import", as_json=as_json):
        done = do_import(app, request)
    if as_json:
        print_json(_as_json(done))
    else:
        _print(done, dry_run=dry_run)
    if done.refused:
        raise FileNotImported(f"nothing was imported: {counted(len(done.faults), 'row')} cannot be taken")


def _read(path: Path) -> bytes:
    """Return the file's bytes, or a byte more than may be imported."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="FILE") from None


def _as_json(done: Imported) -> dict[str, Any]:
    return {
        "done": done.done,
        **{kind.value: counts for kind, counts in done.counts.items()},
        "malformed": [{"kind": each.kind.value, each.unit: each.place, "reason": each.reason} for each in done.faults],
        "ignored_columns": list(done.ignored),
    }


def _print(done: Imported, *, dry_run: bool) -> None:
    rows = [{"kind": kind.value, **counts} for kind, counts in done.counts.items()]
    if rows or not done.faults:
        show(rows, ("kind", "added", "replaced", "kept"), as_json=False, nothing="There are no rows in the file.")
    for each in done.faults[:LISTED]:
        console().print(_sentence(each))
    if len(done.faults) > LISTED:
        console().print(f"… and {len(done.faults) - LISTED} more; --json lists them all")
    if done.ignored:
        console().print(f"Columns that are ignored: {', '.join(map(readable, done.ignored))}")
    if dry_run:
        console().print("Nothing was changed: a dry run.")


def _sentence(fault: Fault) -> str:
    return f"{fault.kind.value}, {fault.unit} {fault.place}: {readable(fault.reason)}"

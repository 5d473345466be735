"""`viral import-dexie`, `viral export-dexie`: out of the old app's browser database, and back into it."""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from cli.arguments import existing
from cli.output import AsJson, VisibleConsole, console, show
from cli.session import for_tenant, interruptible_sleep
from domain.billing.tiers import PLANS, Tier
from domain.concepts.wording import counted
from domain.dexie.kinds import LONGEST_WORD, Unfit, sayable
from domain.dexie.records import TABLES, Record, read
from domain.quota import quota
from domain.text.readable import readable
from domain.text.visible import visible_json
from integrations.dexie import ExportFile, write_export
from workers.engine.job import Tx

BATCH = 250
"""Records that go to Postgres at once, at most."""

BATCH_SIZE = 1024 * 1024
"""Characters of them, at most, unless one alone has more."""

MOST_TABLES = 50
"""Tables that are reported by name; unknown ones beyond are counted as one."""
OTHERS = "(other tables)"

LISTED = 20
"""Records that people are shown; programs get all."""

OUTCOMES = ("imported", "coerced", "skipped", "rejected")


def import_dexie(
    path: Annotated[
        Path, typer.Argument(parser=existing, metavar="FILE", help="An export of the old app; - is standard input.")
    ],
    tenant: Annotated[
        UUID | None, typer.Option("--tenant", metavar="ID", help="The tenant that gets the data.")
    ] = None,
    new_tenant: Annotated[
        str | None, typer.Option("--new-tenant", metavar="NAME", help="Make a tenant of this name for it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take over what the old app kept in the browser.

    FILE is what docs/export-dexie.html or dexie-export-import saved. Everything in it is taken or, if it is damaged or
    foreign, nothing. What is there already stays as it is, so the same file may be imported again. Quota is
    not consumed. Records that had to be changed (coerced), or could not be taken (skipped, rejected), are listed with
    the reason, as are those that the export had damaged before; the exit code is 0 all the same. 1: the file was
    refused. Of a file of any size, no more than a few records are in memory.
    """

    if (tenant is None) == (new_tenant is None):
        raise typer.BadParameter("say either --tenant ID or --new-tenant NAME", param_hint="--tenant")
    if new_tenant is not None and not new_tenant.strip():
        raise typer.BadParameter("a tenant needs a name", param_hint="--new-tenant")
    file = ExportFile(path)
    with _Report() as report:
        tenant_id: UUID = tenant or uuid4()
        try:
            with for_tenant(tenant_id) as tx, _progress(file) as step:
                tx.dexie.allow_rest()
                _wait_for_others(tx)
                if new_tenant is not None:
                    _create(tx, tenant_id, new_tenant)
                tx.tenants.get(tenant_id)
                for table, batch in _batches(file.records()):
                    _add(tx, tenant_id, table, batch, report)
                    step()
                    interruptible_sleep(0)
                if dry_run:
                    raise _Undo
        except _Undo:
            pass
        made = None if dry_run and tenant is None else tenant_id
        if as_json:
            report.print_json(made)
        else:
            report.print(made, dry_run=dry_run)


def export_dexie(
    path: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where to write it.")],
    tenant: Annotated[UUID, typer.Option("--tenant", metavar="ID", help="The tenant whose data is written.")],
) -> None:
    """Write a tenant's data as the old app kept it.

    The file can be imported again, here or there. A record that was imported is written as it was, unless it has
    changed here since.
    """

    with for_tenant(tenant) as tx:
        tx.tenants.get(tenant)
        try:
            count = write_export(path, ((table, tx.dexie.records(tenant, table)) for table in TABLES))
        except OSError as error:
            raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="FILE") from None
    console().print(f"{counted(count, 'record')} written to {path}")


class _Undo(Exception):
    """Rolls back what a dry run has done."""


def _wait_for_others(tx: Tx) -> None:
    """Two imports of the same records would each hold rows that the other wants."""
    if tx.dexie.try_lock():
        return
    typer.echo("Another import is under way; waiting for its end.", err=True)
    while not tx.dexie.try_lock():
        interruptible_sleep(0.2)


def _create(tx: Tx, tenant_id: UUID, name: str) -> None:

    tx.tenants.create(tenant_id, name, quota.first_period(PLANS[Tier.FREE].monthly_quota, tx.now()))


def _batches(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    for table, group in groupby(records, key=lambda record: record.table):
        batch: list[Record] = []
        size = 0
        for record in group:
            if batch and (len(batch) == BATCH or size + record.size > BATCH_SIZE):
                yield table, batch
                batch, size = [], 0
            batch.append(record)
            size += record.size
        yield table, batch


def _add(tx: Tx, tenant_id: UUID, table: str, batch: list[Record], report: "_Report") -> None:

    if table not in TABLES:
        for record in batch:
            report.note(record, "skipped", "the old app's types have no such table")
        return
    rows, taken = [], []
    for record in batch:
        if record.unfit:
            report.note(record, "rejected", record.unfit)
            continue
        try:
            row = read(table, record.value)
        except Unfit as error:
            report.note(record, "rejected", str(error))
            continue
        rows.append(replace(row, notes=(*record.notes, *row.notes)))
        taken.append(record)
    for record, outcome in zip(taken, tx.dexie.add(tenant_id, table, rows), strict=True):
        report.note(record, outcome.outcome, outcome.reason)


class _Report:
    """Counts what became of each record. Records with a reason to report wait in a file: there may be many."""

    def __init__(self) -> None:
        self.tables = {table: dict.fromkeys(OUTCOMES, 0) for table in TABLES}
        self.listed = 0
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, record: Record, outcome: str, reason: str) -> None:
        table = record.table[:LONGEST_WORD]
        counted_as = table if table in self.tables or len(self.tables) < MOST_TABLES else OTHERS
        self.tables.setdefault(counted_as, dict.fromkeys(OUTCOMES, 0))[outcome] += 1
        if not reason:
            return
        name = record.value.get("id") if isinstance(record.value, dict) else None
        name = sayable(name) if isinstance(name, str | int | float) else None
        name = name[:LONGEST_WORD] if isinstance(name, str) else name
        line = {"table": table, "index": record.index, "id": name, "outcome": outcome, "reason": reason}
        self._file.write(json.dumps(line) + "\n")
        self.listed += 1

    def print_json(self, tenant_id: UUID | None) -> None:
        """In ASCII: an id may hold what no terminal can."""
        head = {"tenant_id": tenant_id and str(tenant_id), "tables": self.tables}
        sys.stdout.write(f'{visible_json(json.dumps(head)[:-1])}, "records": [')
        for n, line in enumerate(self._lines()):
            sys.stdout.write(f"{',' if n else ''}\n{visible_json(line.rstrip())}")
        sys.stdout.write("]}\n")

    def print(self, tenant_id: UUID | None, *, dry_run: bool) -> None:
        rows = [{"table": table, **counts} for table, counts in self.tables.items()]
        show(rows, ("table", *OUTCOMES), as_json=False, nothing="")
        listed: list[dict[str, Any]] = [json.loads(line) for line in islice(self._lines(), LISTED)]
        if listed:
            console().print()
        for each in listed:
            where = f"{each['table']}[{each['index']}]"
            console().print(f"{where} {readable(each['id'])}: {each['outcome']}: {readable(each['reason'])}")
        if self.listed > LISTED:
            console().print(f"… and {self.listed - LISTED} more; --json lists them all")
        done = "Nothing was changed: a dry run." if dry_run else f"The data is tenant {tenant_id}'s."
        console().print(f"\n{done}")

    def _lines(self) -> Iterator[str]:
        self._file.seek(0)
        return iter(self._file)


@contextmanager
def _progress(file: ExportFile) -> Iterator[Any]:
    """A bar on standard error, where that is a terminal."""

    errors = VisibleConsole(sys.stderr)
    with Progress(
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bar:
        task = bar.add_task("import", total=file.size)
        yield lambda: bar.update(task, completed=file.position)

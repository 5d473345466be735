"""`viral import-dexie`, `viral export-dexie`: out of the old app's browser database, and back into it."""

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from cli.arguments import existing
from cli.output import AsJson, console, progress, show
from cli.session import for_tenant, interruptible_sleep
from domain.billing.tiers import PLANS, Tier
from domain.concepts.wording import counted
from domain.dexie.records import TABLES, Record
from domain.dexie.reports import OUTCOMES, Tally, batches
from domain.quota import quota
from domain.text.readable import readable
from domain.text.visible import visible_json
from integrations.dexie import ExportFile, write_export
from workers.engine.job import Tx

LISTED = 20
"""Records that people are shown; programs get all."""


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

    \b
    viral import-dexie viral-dashboard-export.json --new-tenant "Ada's shop" --dry-run
    """

    if (tenant is None) == (new_tenant is None):
        raise typer.BadParameter("say either --tenant ID or --new-tenant NAME", param_hint="--tenant")
    if new_tenant is not None and not new_tenant.strip():
        raise typer.BadParameter("a tenant needs a name", param_hint="--new-tenant")
    file = ExportFile(path)
    with _Report() as report:
        tenant_id: UUID = tenant or uuid4()
        try:
            with for_tenant(tenant_id) as tx, progress("import", file.size, as_json=as_json) as step:
                tx.dexie.allow_rest()
                _wait_for_others(tx)
                if new_tenant is not None:
                    _create(tx, tenant_id, new_tenant)
                tx.tenants.get(tenant_id)
                for table, batch in batches(file.records()):
                    for record, outcome in tx.dexie.take(tenant_id, table, batch):
                        report.note(record, outcome.outcome, outcome.reason)
                    step(file.position, says=f"{(file.position or 0) / 1e6:.1f} MB")
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

    \b
    viral export-dexie --tenant ID back.json
    """

    with for_tenant(tenant) as tx, progress("export"):
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


class _Report:
    """Counts what became of each record. Records with a reason to report wait in a file: there may be many."""

    def __init__(self) -> None:
        self.listed = 0
        self._tally = Tally()
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, record: Record, outcome: str, reason: str) -> None:
        line = self._tally.count(record, outcome, reason)
        if line is not None:
            self._file.write(json.dumps(line) + "\n")
            self.listed += 1

    def print_json(self, tenant_id: UUID | None) -> None:
        """In ASCII: an id may hold what no terminal can."""
        head = {"tenant_id": tenant_id and str(tenant_id), "tables": self._tally.tables}
        sys.stdout.write(f'{visible_json(json.dumps(head)[:-1])}, "records": [')
        for n, line in enumerate(self._lines()):
            sys.stdout.write(f"{',' if n else ''}\n{visible_json(line.rstrip())}")
        sys.stdout.write("]}\n")

    def print(self, tenant_id: UUID | None, *, dry_run: bool) -> None:
        rows = [{"table": table, **counts} for table, counts in self._tally.tables.items()]
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

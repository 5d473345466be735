"""The old app's records become rows, a batch at a time, and records again, as `domain.dexie.records` says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Table, Text, cast, func, select, text, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from db.postgres.error_text import one_line
from db.schema.learning import reflexion_insights as insights
from db.schema.tables import metadata
from domain.dexie.kinds import Unfit, shown
from domain.dexie.records import TABLES, Record, Row, own_id, read, row_id, write
from domain.dexie.trials import Trial

PAGE = 10
"""How many rows are fetched at once: each may hold twice the largest record, in its columns and in `kept`."""

IMPORT_LOCK = 0x766972616C03
"""The key of the advisory lock that one import at a time holds."""

FAULTS_OF_THE_ROW = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""Any other error (a deadlock, a statement that took too long) says nothing about what was to be added."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is imported, coerced, skipped or rejected. A record that is plainly imported needs no reason, unless it
    had been damaged before."""

    outcome: str
    reason: str = ""


class Dexie:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def allow_rest(self) -> None:
        """Let this transaction be idle for as long as it takes: between two records there may be hundreds of megabytes
        that are passed over, or a pipe that rests."""
        self._sql.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))

    def try_lock(self) -> bool:
        """Try to be the only import until this transaction ends."""
        return bool(self._sql.execute(select(func.pg_try_advisory_xact_lock(IMPORT_LOCK))).scalar())

    def try_shared_lock(self) -> bool:
        """Try to be one of the imports that may run beside each other, until this transaction ends: those that give
        back what they hold within seconds, or are rolled back."""
        return bool(self._sql.execute(select(func.pg_try_advisory_xact_lock_shared(IMPORT_LOCK))).scalar())

    def freeze(self) -> None:
        """Let this transaction see one moment, and change nothing; to be called before anything is read in it."""
        self._sql.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

    def take(
        self, tenant_id: UUID, table: str, records: Sequence[Record], trial: Trial | None = None
    ) -> list[tuple[Record, Outcome]]:
        """Read a batch of records, `add` what can be read, and return each with what became of it. With a `trial` the
        caller rolls this transaction back, as it did with the batches before: what these had added counts as there."""
        if table not in TABLES:
            return [(record, Outcome("skipped", "the old app's types have no such table")) for record in records]
        rows, taken, outcomes = [], [], []
        for record in records:
            try:
                if record.unfit:
                    raise Unfit(record.unfit)
                row = read(table, record.value)
            except Unfit as error:
                outcomes.append((record, Outcome("rejected", str(error))))
                continue
            rows.append(replace(row, notes=(*record.notes, *row.notes)))
            taken.append(record)
        if trial is not None:
            self._put_back(tenant_id, table, rows, trial)
        added = self.add(tenant_id, table, rows)
        if trial is not None:
            self._note(tenant_id, table, rows, added, trial)
        return [*outcomes, *zip(taken, added, strict=True)]

    def add(self, tenant_id: UUID, table: str, rows: Sequence[Row]) -> list[Outcome]:
        """Add the rows that are not there yet, in the tenant's scope, and return one outcome for each.

        No row that is there is changed. `table` is the old app's name. A row that Postgres refuses does not keep the
        others out.
        """
        try:
            with self._sql.begin_nested():
                return self._add(tenant_id, table, rows)
        except DBAPIError as error:
            if not isinstance(error.orig, FAULTS_OF_THE_ROW) or len(rows) == 0:
                raise
            if len(rows) == 1:
                return [Outcome("rejected", f"Postgres refuses it: {one_line(error.orig or error)}")]
        return [outcome for row in rows for outcome in self.add(tenant_id, table, [row])]

    def records(self, tenant_id: UUID, table: str) -> Iterator[dict[str, Any]]:
        """Yield all of the tenant's rows as the old app's records, fetched as they are asked for."""
        ours = _table(table)
        query = select(ours).where(ours.c.tenant_id == tenant_id).execution_options(stream_results=True, yield_per=PAGE)
        for row in self._sql.execute(query).mappings():
            yield write(table, dict(row))

    def _add(self, tenant_id: UUID, table: str, rows: Sequence[Row]) -> list[Outcome]:
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(row.source_id, row)
        own = {source_id: own_id(source_id) or row_id(tenant_id, table, source_id) for source_id in first}
        # Added before it is asked what is there: a row of this transaction is in no statistics, so Postgres would walk
        # over all of them for each batch, and an import take the square of its records.
        added = self._insert(tenant_id, table, {own[source_id]: row for source_id, row in first.items()})
        there = self._there(tenant_id, table, [source_id for source_id in first if source_id not in added])
        new = {source_id: row for source_id, row in first.items() if source_id not in there}
        # The id may be another tenant's: this one must neither learn of it nor lose the record.
        again = {_other_id(tenant_id, table, each): row for each, row in new.items() if each not in added}
        renamed = self._insert(tenant_id, table, again)
        there |= added | renamed
        refused = [row for source_id, row in new.items() if source_id not in there]
        alike = self._alike(tenant_id, table, refused) if refused else {}
        outcomes = []
        for row in rows:
            is_new = new.pop(row.source_id, None) is not None
            if row.source_id not in there:
                alike_to = alike.get(row.source_id, "another row")
                outcomes.append(Outcome("skipped", f"it duplicates {alike_to}: same category, platform and pattern"))
            elif not is_new:
                outcomes.append(
                    Outcome("skipped", f"a record of this id is there already: the row {there[row.source_id]}")
                )
            else:
                notes = [*row.notes, *(["id: taken; the row has one made from it"] if row.source_id in renamed else [])]
                reasons = [*notes, *([row.damage] if row.damage else [])]
                outcomes.append(Outcome("coerced" if notes else "imported", "; ".join(reasons)))
        return outcomes

    def _put_back(self, tenant_id: UUID, table: str, rows: Sequence[Row], trial: Trial) -> None:
        """Add what these rows will come upon of what the trial had added: only what makes them come upon it."""

        def ids_of(source_id: str) -> tuple[UUID, UUID]:
            other = _other_id(tenant_id, table, source_id)
            return own_id(source_id) or row_id(tenant_id, table, source_id), other

        ours = _table(table)
        values: list[dict[str, Any]] = []
        for each in trial.met_by(table, rows, ids_of):
            row: dict[str, Any] = {"id": each.id, "tenant_id": tenant_id, "source_id": each.source_id}
            if ours is insights:
                alike = each.alike or ("", "", str(each.id))
                row |= zip(("category", "platform", "pattern"), alike, strict=True)
            elif "category" in ours.c:
                row["category"] = ""
            values.append(row)
        if values:
            self._sql.execute(insert(ours).on_conflict_do_nothing(), values)

    def _note(
        self, tenant_id: UUID, table: str, rows: Sequence[Row], outcomes: Sequence[Outcome], trial: Trial
    ) -> None:
        new = {
            row.source_id: row
            for row, outcome in zip(rows, outcomes, strict=True)
            if outcome.outcome in ("imported", "coerced")
        }
        for source_id, its_id in self._there(tenant_id, table, list(new)).items():
            trial.add(table, new[source_id], its_id)

    def _there(self, tenant_id: UUID, table: str, source_ids: Sequence[str]) -> dict[str, UUID]:
        """Return the ids of the rows that are there: of imported ones by their source id, of our own (once exported) by
        their id."""
        if not source_ids:
            return {}
        ours = _table(table)
        ids = [uuid for uuid in map(own_id, source_ids) if uuid]
        mine = ours.c.tenant_id == tenant_id
        imported = select(ours.c.source_id, ours.c.id).where(mine, ours.c.source_id.in_(source_ids))
        # Two queries: in one, with OR, neither index would be used.
        own = select(cast(ours.c.id, Text), ours.c.id).where(mine, ours.c.id.in_(ids), ours.c.source_id.is_(None))
        return {source_id: row_id for source_id, row_id in self._sql.execute(union_all(imported, own))}  # noqa: C416

    def _alike(self, tenant_id: UUID, table: str, rows: Sequence[Row]) -> dict[str, str]:
        """Name the insight that keeps each of these out, by the source id of the one that it keeps out."""
        if TABLES[table] != insights.name:
            return {}
        same = (insights.c.category, insights.c.platform, insights.c.pattern)
        sought = {row.source_id: tuple(row.columns[each.name] for each in same) for row in rows}
        mine = insights.c.tenant_id == tenant_id
        query = select(*same, insights.c.id, insights.c.source_id).where(mine, tuple_(*same).in_(list(sought.values())))
        found = {
            (category, platform, pattern): f"the row {row_id}"
            if source_id is None or source_id.startswith("~")
            else f"the record {shown(source_id)} (the row {row_id})"
            for category, platform, pattern, row_id, source_id in self._sql.execute(query)
        }
        return {source_id: found[values] for source_id, values in sought.items() if values in found}

    def _insert(self, tenant_id: UUID, table: str, rows: dict[UUID, Row]) -> dict[str, UUID]:
        """Add rows, and return the ids of those that were added by their source ids."""
        if not rows:
            return {}
        ours = _table(table)
        values = [
            {"id": id, "tenant_id": tenant_id, "source_id": row.source_id, "kept": row.kept, **row.columns}
            for id, row in rows.items()
        ]
        statement = insert(ours).on_conflict_do_nothing().returning(ours.c.source_id, ours.c.id)
        return {source_id: row_id for source_id, row_id in self._sql.execute(statement, values)}  # noqa: C416


def _other_id(tenant_id: UUID, table: str, source_id: str) -> UUID:
    """Return another id where the record's own is taken: the same at each call."""
    return row_id(tenant_id, table, source_id if own_id(source_id) else f"~ {source_id}")


def _table(name: str) -> Table:
    return metadata.tables[TABLES[name]]

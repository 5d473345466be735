"""What became of an export's records: counted by table and outcome, and listed where there is a reason."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from domain.concepts.wording import shorten
from domain.dexie.kinds import LONGEST_WORD, sayable
from domain.dexie.records import TABLES, Record

BATCH = 250
"""Records that go to Postgres at once, at most."""

BATCH_SIZE = 1024 * 1024
"""Characters of them, at most, unless one alone has more."""

MOST_TABLES = 50
"""Tables that are reported by name; unknown ones beyond are counted as one."""
OTHERS = "(other tables)"

OUTCOMES = ("imported", "coerced", "skipped", "rejected")

MOST_LISTED = 500
"""Records with a reason that a report in the database names; the others it counts."""
LONGEST_REASON = 300

Counts = dict[str, dict[str, int]]
Line = dict[str, Any]


def batches(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Yield the records in batches of one table each, in their order."""
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


class Tally:
    """Counts records by table and outcome."""

    def __init__(self, tables: Counts | None = None) -> None:
        self.tables: Counts = tables or {table: dict.fromkeys(OUTCOMES, 0) for table in TABLES}

    def count(self, record: Record, outcome: str, reason: str) -> Line | None:
        """Count the record; return the line that a report has of it if there is a reason."""
        table = record.table[:LONGEST_WORD]
        counted_as = table if table in self.tables or len(self.tables) < MOST_TABLES else OTHERS
        self.tables.setdefault(counted_as, dict.fromkeys(OUTCOMES, 0))[outcome] += 1
        if not reason:
            return None
        name = record.value.get("id") if isinstance(record.value, dict) else None
        name = sayable(name) if isinstance(name, str | int | float) else None
        name = name[:LONGEST_WORD] if isinstance(name, str) else name
        return {"table": table, "index": record.index, "id": name, "outcome": outcome, "reason": reason}


class BoundedReport:
    """A report that a row of the database can hold. One that was interrupted is gone on with: `taken` is how many of
    the file's first records are in it."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        stored = stored or {}
        self.taken: int = stored.get("taken", 0)
        self.listed: list[Line] = list(stored.get("records", ()))
        self.left_out: int = stored.get("left_out", 0)
        self._tally = Tally({table: dict(counts) for table, counts in stored.get("tables", {}).items()})

    def note(self, record: Record, outcome: str, reason: str) -> None:
        self.taken += 1
        line = self._tally.count(record, outcome, reason)
        if line is None:
            return
        if len(self.listed) < MOST_LISTED:
            name = line["id"] if len(str(line["id"])) <= LONGEST_WORD else None
            self.listed.append(line | {"id": name, "reason": shorten(reason, LONGEST_REASON)})
        else:
            self.left_out += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "taken": self.taken,
            "tables": self._tally.tables,
            "records": self.listed,
            "left_out": self.left_out,
        }

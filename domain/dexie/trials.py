"""An import that is only tried: each batch is rolled back, and later ones meet what it had added all the same."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from domain.dexie.records import Row

Alike = tuple[str, str, str]
"""Category, platform and pattern of an insight: a tenant has one of each."""


class Added(NamedTuple):
    """A row that the trial has added, and rolled back. `alike` is filled in where a later row is like it."""

    id: UUID
    source_id: str
    alike: Alike | None


class Trial:
    """What was added so far. Of each row its ids are kept, and of an insight a hash: of 200,000 some 60 MB."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], UUID] = {}
        self._sources: dict[tuple[str, UUID], str] = {}
        self._alike: dict[bytes, str] = {}

    def add(self, table: str, row: Row, row_id: UUID) -> None:
        self._ids[table, row.source_id] = row_id
        self._sources[table, row_id] = row.source_id
        if alike := _alike(table, row):
            self._alike[_hash(alike)] = row.source_id

    def met_by(self, table: str, rows: Iterable[Row], ids_of: Callable[[str], Sequence[UUID]]) -> list[Added]:
        """Return the rows that have to be there for what these come upon: by source id, by one of the ids that they may
        get, or as a like insight."""
        found: dict[str, Alike | None] = {}
        for row in rows:
            sources = {row.source_id, *(self._sources.get((table, each)) for each in ids_of(row.source_id))}
            for source_id in sources:
                if source_id is not None and (table, source_id) in self._ids:
                    found.setdefault(source_id, None)
            alike = _alike(table, row)
            if alike is not None and (source_id := self._alike.get(_hash(alike))) is not None:
                found[source_id] = alike
        return [Added(self._ids[table, source_id], source_id, alike) for source_id, alike in found.items()]


def _alike(table: str, row: Row) -> Alike | None:
    if table != "insights":
        return None
    return row.columns["category"], row.columns["platform"], row.columns["pattern"]


def _hash(alike: Alike) -> bytes:
    return blake2b(repr(alike).encode(errors="surrogatepass"), digest_size=16).digest()

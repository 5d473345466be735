"""What each process sees of the media store. Of processes that died, the last view stays for six hours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

RECORD = """
INSERT INTO store_views (id, role, hostname, store, sees, trouble)
VALUES (%(id)s, %(role)s, %(hostname)s, %(store)s, %(sees)s, %(trouble)s)
ON CONFLICT (id) DO UPDATE
SET store = excluded.store, sees = excluded.sees, trouble = excluded.trouble, seen_at = clock_timestamp()
"""
COLUMNS = "id, role, hostname, store, sees, trouble, started_at, seen_at"


@dataclass(frozen=True, slots=True)
class StoreView:
    """`store` names the folder or the bucket, as the process has it set; `sees` are the processes whose markers it
    finds in its folder; `trouble` is why it cannot write there."""

    id: UUID
    role: str
    hostname: str
    store: str
    sees: Sequence[UUID]
    trouble: str | None
    started_at: datetime
    seen_at: datetime


class StoreViews:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def record(
        self, process_id: UUID, *, role: str, hostname: str, store: str, sees: Sequence[UUID], trouble: str | None
    ) -> None:
        """Record what the process sees now, and drop what others saw long ago."""
        values = {
            "id": process_id,
            "role": role,
            "hostname": hostname,
            "store": store,
            "sees": list(sees),
            "trouble": trouble,
        }
        self._driver.execute(RECORD, values)
        self._driver.execute("DELETE FROM store_views WHERE seen_at < now() - interval '6 hours'")

    def forget(self, process_id: UUID) -> None:
        self._driver.execute("DELETE FROM store_views WHERE id = %s", (process_id,))

    def fresh(self, within: timedelta) -> list[StoreView]:
        """Return the views that are no older than `within`, in the order in which the processes started."""
        query = f"SELECT {COLUMNS} FROM store_views WHERE seen_at > now() - %s::interval ORDER BY started_at, id"
        with self._driver.cursor(row_factory=class_row(StoreView)) as cursor:
            return cursor.execute(query.encode(), (within,)).fetchall()

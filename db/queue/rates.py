"""Stores the buckets of `domain/queue/rate.py`, one row for each account of an outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from domain.queue.rate import Bucket

T = TypeVar("T")

# Made if they are not there, and locked either way, by name.
LOCK = """
INSERT INTO rate_buckets (name, used_until, promised_until)
SELECT name, clock_timestamp(), clock_timestamp() FROM unnest(%s::text[]) AS wanted (name) ORDER BY name COLLATE "C"
ON CONFLICT (name) DO UPDATE SET updated_at = clock_timestamp()
RETURNING name, used_until, promised_until, closed_until, clock_timestamp()
"""

SAVE = """
UPDATE rate_buckets b
SET used_until = changed.used_until, promised_until = changed.promised_until, closed_until = changed.closed_until
FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
    AS changed (name, used_until, promised_until, closed_until)
WHERE b.name = changed.name
"""
STATE = ("used_until", "promised_until", "closed_until")

CLOSED = "SELECT max(closed_until) FROM rate_buckets WHERE name = ANY(%s) AND closed_until > clock_timestamp()"


class Rates:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def change(
        self, names: Collection[str], decide: Callable[[Mapping[str, Bucket], datetime], tuple[Mapping[str, Bucket], T]]
    ) -> T:
        """Let `decide` change some of these buckets, given the database's time once all are locked; others wait until
        this transaction ends."""
        rows = self._driver.execute(LOCK, (list(names),)).fetchall()
        changed, answer = decide({name: Bucket(*state) for name, *state, _ in rows}, max(row[-1] for row in rows))
        columns = [[getattr(bucket, name) for bucket in changed.values()] for name in STATE]
        self._driver.execute(SAVE, (list(changed), *columns))
        return answer

    def closed_until(self, names: Sequence[str]) -> datetime | None:
        """Return until when the last of these buckets is closed; None if all are open."""
        row = self._driver.execute(CLOSED, (list(names),)).fetchone()
        return None if row is None else row[0]

"""Stores the buckets of `domain/queue/rate.py`, one row for each account of an outside."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from domain.queue.rate import Bucket

T = TypeVar("T")

# Made if it is not there, and locked either way.
LOCK = """
INSERT INTO rate_buckets (name, used_until, promised_until) VALUES (%s, clock_timestamp(), clock_timestamp())
ON CONFLICT (name) DO UPDATE SET updated_at = clock_timestamp()
RETURNING used_until, promised_until, closed_until, clock_timestamp()
"""

SAVE = "UPDATE rate_buckets SET used_until = %s, promised_until = %s, closed_until = %s WHERE name = %s"

CLOSED = "SELECT max(closed_until) FROM rate_buckets WHERE name = ANY(%s) AND closed_until > clock_timestamp()"


class Rates:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def change(self, name: str, decide: Callable[[Bucket, datetime], tuple[Bucket, T]]) -> T:
        """Let `decide` change the bucket, given the database's time; others wait until this transaction ends."""
        *state, now = self._driver.execute(LOCK, (name,)).fetchall()[0]
        bucket, answer = decide(Bucket(*state), now)
        self._driver.execute(SAVE, (bucket.used_until, bucket.promised_until, bucket.closed_until, name))
        return answer

    def closed_until(self, names: Sequence[str]) -> datetime | None:
        """Return until when the last of these buckets is closed; None if all are open."""
        row = self._driver.execute(CLOSED, (list(names),)).fetchone()
        return None if row is None else row[0]

"""Stores the buckets of `domain/queue/rate.py`, one row for each account of an outside."""

from collections.abc import Callable
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

"""Reads rows by column name, for lists and for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

Values = Mapping[str, Any] | Sequence[Any]


def rows_of(driver: psycopg.Connection[Any], query: str, values: Values = ()) -> list[dict[str, Any]]:
    """Return all rows of a query. It is never a prepared statement: one that says `*` fails as soon as a migration,
    beside the processes that run, has given its table another column."""
    with driver.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), values, prepare=False).fetchall()


def row_of(driver: psycopg.Connection[Any], query: str, values: Values = ()) -> dict[str, Any] | None:
    """Return the first row, if there is one; see `rows_of`."""
    return next(iter(rows_of(driver, query, values)), None)

"""Reads rows by column name, for lists and for people."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

Values = Mapping[str, Any] | Sequence[Any]

LISTED_BYTES = 8 * 1024 * 1024
"""Bytes of a listing's rows, as text: in memory, JSON takes up to thirty times as much."""

# Of a window without an order, the rows are in the order of the query.
LISTED = """
SELECT * FROM (
    SELECT listed.*, count(*) OVER () AS "found?",
        sum(octet_length(listed::text)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(listed::text) AS "before?"
    FROM ({query}) AS listed
) AS listed WHERE "before?" < {most}
"""


class Listing(NamedTuple):
    """Rows, and how many more there are that would have been too much at once."""

    rows: list[dict[str, Any]]
    left_out: int


def rows_of(driver: psycopg.Connection[Any], query: str, values: Values = ()) -> list[dict[str, Any]]:
    """Return all rows of a query. It is never a prepared statement: one that says `*` fails as soon as a migration,
    beside the processes that run, has given its table another column."""
    with driver.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), values, prepare=False).fetchall()


def listing_of(driver: psycopg.Connection[Any], query: str, values: Values = ()) -> Listing:
    """Return the first rows of a query, until they have `LISTED_BYTES` together; one at least."""
    rows = rows_of(driver, LISTED.format(query=query, most=LISTED_BYTES), values)
    found = rows[0]["found?"] if rows else 0
    return Listing([{name: row[name] for name in row if not name.endswith("?")} for row in rows], found - len(rows))


def row_of(driver: psycopg.Connection[Any], query: str, values: Values = ()) -> dict[str, Any] | None:
    """Return the first row, if there is one; see `rows_of`."""
    return next(iter(rows_of(driver, query, values)), None)

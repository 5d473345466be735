"""Reads rows by column name, for lists and for people; adds or changes one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import ColumnElement, Connection, Table, update
from sqlalchemy.dialects.postgresql import insert

from domain.errors import IdTaken

Values = Mapping[str, Any] | Sequence[Any]

LISTED_BYTES = 8 * 1024 * 1024
"""Bytes of a listing's rows, as text: in memory, JSON takes up to thirty times as much."""

# A window without an order has its rows in the order of the query.
LISTED = """
SELECT * FROM (
    SELECT listed.*, count(*) OVER () AS "found?",
        sum(octet_length(listed::text)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(listed::text) AS "before?"
    FROM ({query}) AS listed
) AS listed WHERE "before?" < {most}
"""


class Listing(NamedTuple):
    """Rows, and the number of further ones that would have been too much at once."""

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


TRIES = 3
"""The row that holds an id may be deleted before it can be changed: then the insert is tried again."""


def put(sql: Connection, table: Table, values: Mapping[str, Any], this: ColumnElement[bool]) -> None:
    """Add a row of these values; if one of its unique values is in use, change the tenant's own row `this` instead.
    Another tenant's row is never changed.

    Raises:
        IdTaken: a row that is not `this` uses the value.
    """
    add = insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
    changes = {name: value for name, value in values.items() if name not in ("id", "tenant_id")}
    change = update(table).where(table.c.tenant_id == values["tenant_id"], this).values(changes)
    for _ in range(TRIES):
        if sql.execute(add).one_or_none() is not None or sql.execute(change).rowcount:
            return
    raise IdTaken(f"{table.name}: the id {values['id']} is in use")

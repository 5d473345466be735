"""Add a row or change the tenant's own; another tenant's row is never touched."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, update
from sqlalchemy.dialects.postgresql import insert

from domain.errors import IdTaken

TRIES = 3
"""What was in use may be deleted before it can be changed."""


def put(sql: Connection, table: Table, values: Mapping[str, Any], this: ColumnElement[bool]) -> None:
    """Add a row of these values; where something of it is in use already, change the row `this` instead.

    Raises:
        IdTaken: it is in use by a row that is not `this`.
    """
    adding = insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
    changes = {name: value for name, value in values.items() if name not in ("id", "tenant_id")}
    changing = update(table).where(table.c.tenant_id == values["tenant_id"], this).values(changes)
    for _ in range(TRIES):
        if sql.execute(adding).one_or_none() is not None or sql.execute(changing).rowcount:
            return
    raise IdTaken(f"{table.name}: the id {values['id']} is in use")

"""Add a row or change the tenant's own; another tenant's row is never touched."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, update
from sqlalchemy.dialects.postgresql import insert

from domain.errors import IdTaken


def put(sql: Connection, table: Table, values: Mapping[str, Any], this: ColumnElement[bool]) -> None:
    """Add a row of these values; where something of it is in use already, change the row `this` instead.

    Raises:
        IdTaken: it is in use by a row that is not `this`.
    """
    added = sql.execute(insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)).one_or_none()
    if added is not None:
        return
    changes = {name: value for name, value in values.items() if name not in ("id", "tenant_id")}
    if not sql.execute(update(table).where(table.c.tenant_id == values["tenant_id"], this).values(changes)).rowcount:
        raise IdTaken(f"{table.name}: the id {values['id']} is in use")

"""How concepts did: what a tenant tells of a video that is out."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from db.schema.learning import performance_feedback


class Feedback:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def add(self, tenant_id: UUID, observed: dict[str, Any]) -> UUID:
        """`observed`: columns of `performance_feedback`. Returns its id."""
        values = {"tenant_id": tenant_id, **observed}
        added: UUID = self._sql.execute(
            insert(performance_feedback).values(values).returning(performance_feedback.c.id)
        ).scalar_one()
        return added

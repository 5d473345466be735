"""What operators did, and actions on many things: the audit, and the items that a bulk action is about.

A bulk action's items are chosen once, by one statement, and stay: what is previewed is what is acted upon.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from domain.ops.actions import Result
from domain.text.readable import plain

BEGIN = """
INSERT INTO operator_actions (id, who, action, target, arguments, reason, bulk_id)
VALUES (%(id)s, %(who)s, %(action)s, %(target)s, %(arguments)s::jsonb, %(reason)s, %(bulk_id)s)
ON CONFLICT (id) DO NOTHING
"""

END = """
UPDATE operator_actions
SET outcome = %(outcome)s, says = %(says)s, before = %(before)s::jsonb, after = %(after)s::jsonb,
    ended_at = clock_timestamp()
WHERE id = %(id)s AND outcome = 'begun'
"""

GET = "SELECT * FROM operator_actions WHERE id = %s"

NAMES: Final = ("target", "who", "action", "outcome", "before")


class Actions:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def begin(
        self,
        action_id: UUID,
        *,
        who: str,
        action: str,
        target: str,
        arguments: Mapping[str, Any],
        reason: str | None,
        bulk_id: UUID | None = None,
    ) -> bool:
        """Write down that an action begins; False if one of this id has begun already."""
        values = {"id": action_id, "who": who, "action": action, "target": target, "bulk_id": bulk_id}
        values |= {"arguments": _json(arguments), "reason": reason}
        return self._driver.execute(BEGIN, values).rowcount == 1

    def end(self, action_id: UUID, result: Result) -> None:
        """Write down what became of an action that has begun and not ended."""
        values = {"id": action_id, "outcome": str(result.outcome), "says": result.says}
        self._driver.execute(END, values | {"before": _json(result.before), "after": _json(result.after)})

    def get(self, action_id: UUID) -> dict[str, Any] | None:
        """All columns of one action's row in the audit."""
        return row_of(self._driver, GET, (action_id,))

    def history(
        self,
        *,
        target: str | None = None,
        who: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        before: datetime | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return rows of the audit, newest first: those that began `before` then, if that is said."""
        values = {"target": target, "who": who, "action": action, "outcome": outcome, "before": before}
        given = {name: value for name, value in values.items() if value is not None}
        rules = [f"{name} = %({name})s" if name != "before" else "at < %(before)s" for name in given]
        query = (
            f"SELECT * FROM operator_actions WHERE {' AND '.join(rules) or 'true'} ORDER BY at DESC, id LIMIT %(limit)s"
        )
        return rows_of(self._driver, query, given | {"limit": limit})


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(plain(value), ensure_ascii=True)

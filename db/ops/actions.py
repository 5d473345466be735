"""What operators did, and actions on many things: the audit, and the items that a bulk action is about.

A bulk action's items are chosen once, by one statement, and stay: what is previewed is what is acted upon.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from db.ops.events import EventViews
from db.ops.posts import choosing_posts, choosing_videos
from db.postgres.connection import AppConnection
from db.postgres.rows import row_of, rows_of
from db.queue.job_lists import choosing as choosing_jobs
from domain.ops.actions import MOST_ITEMS, Result
from domain.ops.event_filters import EventFilter
from domain.ops.many import ManyFilter, kind_of
from domain.ops.post_filters import PostFilter, VideoFilter
from domain.queue.job_filters import JobFilter
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

# What is chosen is chosen here, once: what begins to fit later is not among it, and what fits no more still is.
CHOOSE = """
INSERT INTO bulk_items (bulk_id, position, target)
SELECT %(bulk_id)s, row_number() OVER (ORDER BY id), %(kind)s || ':' || id
FROM (SELECT id FROM ({chosen}) AS chosen ORDER BY id LIMIT %(most)s) AS first
"""

NAME_ITEMS = """
INSERT INTO bulk_items (bulk_id, position, target)
SELECT %(bulk_id)s, position, target FROM unnest(%(targets)s::text[]) WITH ORDINALITY AS named (target, position)
"""

CUT = "DELETE FROM bulk_items WHERE bulk_id = %s AND position > %s"

COUNT_ITEMS = """
UPDATE bulk_actions SET items = (SELECT count(*) FROM bulk_items WHERE bulk_id = %(id)s) WHERE id = %(id)s
RETURNING items
"""

START = """
UPDATE bulk_actions SET state = 'running', reason = %(reason)s, started_at = now(), job_id = %(job_id)s
WHERE id = %(id)s AND state = 'previewed' AND items > 0 AND at > now() - %(kept)s::interval
"""

CANCEL = """
UPDATE bulk_actions
SET state = CASE state WHEN 'previewed' THEN 'cancelled' ELSE 'cancelling' END, cancelled_by = %(who)s,
    ended_at = CASE state WHEN 'previewed' THEN now() END
WHERE id = %(id)s AND state IN ('previewed', 'running')
"""

NEXT_ITEMS = """
SELECT position, target FROM bulk_items WHERE bulk_id = %s AND outcome IS NULL ORDER BY position LIMIT %s
"""

SAVE_ITEMS = """
UPDATE bulk_items AS item
SET outcome = saved.outcome, says = saved.says, before = saved.before, after = saved.after, at = clock_timestamp()
FROM jsonb_to_recordset(%(items)s::jsonb)
     AS saved (position integer, outcome text, says text, before jsonb, after jsonb)
WHERE item.bulk_id = %(bulk_id)s AND item.position = saved.position AND item.outcome IS NULL
"""

END_BULK = """
UPDATE bulk_actions SET state = CASE state WHEN 'cancelling' THEN 'cancelled' ELSE 'completed' END, ended_at = now()
WHERE id = %s AND state IN ('running', 'cancelling')
"""

END_OF_BULK = """
UPDATE operator_actions SET outcome = %(outcome)s, says = %(says)s, ended_at = now()
WHERE target = 'bulk:' || %(id)s AND outcome = 'begun'
"""

COUNTS = "SELECT coalesce(outcome, 'left'), count(*) FROM bulk_items WHERE bulk_id = %s GROUP BY 1"

REFUSED = """
SELECT position, target, outcome, says FROM bulk_items
WHERE bulk_id = %(id)s AND outcome IN ('refused', 'failed') AND position > %(after)s ORDER BY position LIMIT %(limit)s
"""

NAMES: Final = ("target", "who", "action", "outcome", "before")


class Actions:
    """Query group; system scope."""

    def __init__(self, driver: AppConnection) -> None:
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
        targets: Sequence[str] | None = None,
        who: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        before: datetime | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return rows of the audit, newest first: those that began `before` then, if that is said."""
        target = None if targets is None else [*targets]
        values = {"target": target, "who": who, "action": action, "outcome": outcome, "before": before}
        asked = {name: value for name, value in values.items() if value is not None}
        special = {"before": "at < %(before)s", "target": "target = ANY(%(target)s)"}
        rules = [special.get(name, f"{name} = %({name})s") for name in asked]
        query = (
            f"SELECT * FROM operator_actions WHERE {' AND '.join(rules) or 'true'} ORDER BY at DESC, id LIMIT %(limit)s"
        )
        return rows_of(self._driver, query, asked | {"limit": limit})

    # --- actions on many things ---------------------------------------------------------------------------------

    def preview(
        self, bulk_id: UUID, *, who: str, action: str, chosen: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> None:
        """Begin the preview of a bulk action; it has no items yet."""
        query = """
            INSERT INTO bulk_actions (id, who, action, chosen, arguments, items)
            VALUES (%s, %s, %s, %s::jsonb, %s::jsonb, 0)
        """
        self._driver.execute(query, (bulk_id, who, action, _json(chosen), _json(arguments)))

    def choose(self, bulk_id: UUID, wanted: ManyFilter) -> tuple[int, bool]:
        """Make all that fits the items of a preview, in the order of their ids; `since` and `until` are moments.
        Returns how many there are, and whether others fit that are too many."""
        match wanted:
            case JobFilter():
                query, values = choosing_jobs(wanted)
            case EventFilter():
                query, values = EventViews(self._driver).choosing(wanted)
            case PostFilter():
                query, values = choosing_posts(wanted)
            case VideoFilter():
                query, values = choosing_videos(wanted)
        chosen = dict(values) | {"bulk_id": bulk_id, "kind": str(kind_of(wanted)), "most": MOST_ITEMS + 1}
        self._driver.execute(CHOOSE.format(chosen=query).encode(), chosen)
        more = self._driver.execute(CUT, (bulk_id, MOST_ITEMS)).rowcount > 0
        return self._count(bulk_id), more

    def name_items(self, bulk_id: UUID, targets: Sequence[str]) -> int:
        """Make these the items of a preview, in their order."""
        self._driver.execute(NAME_ITEMS, {"bulk_id": bulk_id, "targets": [*targets]})
        return self._count(bulk_id)

    def start(self, bulk_id: UUID, job_id: UUID, reason: str, kept: timedelta) -> bool:
        """Start a bulk action that was previewed not longer ago than `kept`, and has items; False for any other."""
        values = {"id": bulk_id, "job_id": job_id, "reason": reason, "kept": kept}
        return self._driver.execute(START, values).rowcount == 1

    def cancel(self, bulk_id: UUID, who: str) -> bool:
        """Stop a bulk action: at once if it was not begun, else before its next items. False if it has ended."""
        return self._driver.execute(CANCEL, {"id": bulk_id, "who": who}).rowcount == 1

    def bulk(self, bulk_id: UUID, *, lock: bool = False) -> dict[str, Any] | None:
        """All columns of a bulk action; with `lock` nobody else acts on its items before the transaction ends."""
        query = f"SELECT * FROM bulk_actions WHERE id = %s{' FOR NO KEY UPDATE' if lock else ''}"
        return row_of(self._driver, query, (bulk_id,))

    def bulks(self, limit: int = 50) -> list[dict[str, Any]]:
        """The newest bulk actions that were begun, newest first."""
        query = "SELECT * FROM bulk_actions WHERE started_at IS NOT NULL ORDER BY at DESC, id DESC LIMIT %s"
        return rows_of(self._driver, query, (limit,))

    def next_items(self, bulk_id: UUID, limit: int) -> list[dict[str, Any]]:
        """The first items that nothing has become of yet (`position`, `target`), in their order."""
        return rows_of(self._driver, NEXT_ITEMS, (bulk_id, limit))

    def first_items(self, bulk_id: UUID, limit: int) -> list[str]:
        query = "SELECT target FROM bulk_items WHERE bulk_id = %s ORDER BY position LIMIT %s"
        return [target for (target,) in self._driver.execute(query, (bulk_id, limit))]

    def save_items(self, bulk_id: UUID, results: Mapping[int, Result]) -> None:
        """Write down what became of items, by their positions."""
        items = [
            {"position": position, "outcome": str(each.outcome)}
            | {"says": each.says, "before": each.before, "after": each.after}
            for position, each in results.items()
        ]
        self._driver.execute(SAVE_ITEMS, {"bulk_id": bulk_id, "items": _json(items)})

    def end_bulk(self, bulk_id: UUID, outcome: str, says: str) -> None:
        """End a bulk action, and its row in the audit, unless that is done."""
        self._driver.execute(END_BULK, (bulk_id,))
        self._driver.execute(END_OF_BULK, {"id": str(bulk_id), "outcome": outcome, "says": says})

    def counts(self, bulk_id: UUID) -> dict[str, int]:
        """How many items have which outcome; those that are still to come are `left`."""
        return dict(self._driver.execute(COUNTS, (bulk_id,)).fetchall())

    def refused_items(self, bulk_id: UUID, *, after_position: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Items that were refused or failed, in their order, and why."""
        return rows_of(self._driver, REFUSED, {"id": bulk_id, "after": after_position, "limit": limit})

    def prune(self, what: str, before: datetime, limit: int) -> int:
        """Delete rows of before then, some at once: `previews` that nobody started, `bulks` with their items, or
        `actions` of the audit. Returns how many."""
        table = "operator_actions" if what == "actions" else "bulk_actions"
        rule = "AND state = 'previewed'" if what == "previews" else ""
        query = f"""
            DELETE FROM {table} WHERE id IN (
                SELECT id FROM {table} WHERE at < %s {rule} ORDER BY at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
            )
        """
        return self._driver.execute(query.encode(), (before, limit)).rowcount

    def _count(self, bulk_id: UUID) -> int:
        return int(self._driver.execute(COUNT_ITEMS, {"id": bulk_id}).fetchall()[0][0])


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(plain(value), ensure_ascii=True)

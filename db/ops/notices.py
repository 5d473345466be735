"""The notices of people of the operator, the messages that bring them, and whether each channel took them.

A delivery is claimed for some time, sent with no transaction open, and then settled; who dies in between lets the next
one send it again, with the same id.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from db.postgres.rows import row_of, rows_of
from domain.ops.notices import Notice

TAKE_TURN = """
INSERT INTO notice_looks (id, looked_at) VALUES (1, now())
ON CONFLICT (id) DO UPDATE SET looked_at = now() WHERE notice_looks.looked_at <= now() - %(every)s::interval
RETURNING looked_at
"""

IS_MINE = "SELECT FROM notice_looks WHERE looked_at = %s FOR NO KEY UPDATE"

COLUMNS = "id, cause, says, page, shell, number, first_at, last_at, sent_at, sent_number, ended_at, over_sent_at"

# Of an end that nobody was notified of for a day nobody is notified any more.
UNSETTLED = f"""
SELECT {COLUMNS} FROM notices
WHERE ended_at IS NULL
   OR (last_at > now() - interval '1 day' AND sent_at IS NOT NULL AND over_sent_at IS NULL)
ORDER BY first_at, id
"""

SAVE = f"""
INSERT INTO notices ({COLUMNS})
VALUES (%(id)s, %(cause)s, %(says)s, %(page)s, %(shell)s, %(number)s, %(first_at)s, %(last_at)s, %(sent_at)s,
        %(sent_number)s, %(ended_at)s, %(over_sent_at)s)
ON CONFLICT (id) DO UPDATE SET
    says = excluded.says, page = excluded.page, shell = excluded.shell, number = excluded.number,
    last_at = excluded.last_at, sent_at = excluded.sent_at, sent_number = excluded.sent_number,
    ended_at = excluded.ended_at, over_sent_at = excluded.over_sent_at
"""

ADD_MESSAGE = "INSERT INTO notice_messages (id, title, text, content) VALUES (%s, %s, %s, %s)"

ADD_DELIVERIES = """
INSERT INTO notice_deliveries (message_id, channel, next_at)
SELECT %s, channel, now() FROM unnest(%s::text[]) AS channel
"""

CLAIM = """
WITH due AS (
    SELECT message_id, channel FROM notice_deliveries WHERE next_at <= now()
    ORDER BY next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE notice_deliveries d SET attempts = attempts + 1, next_at = now() + %(lease)s::interval
    FROM due WHERE d.message_id = due.message_id AND d.channel = due.channel
    RETURNING d.message_id, d.channel, d.attempts
)
SELECT claimed.*, m.title, m.text, m.content, m.made_at, now() AS sent_at
FROM claimed JOIN notice_messages m ON m.id = message_id
"""

# Whoever was slower than its claim changes nothing: another attempt is under way, or over.
SETTLE = """
UPDATE notice_deliveries
SET sent_at = CASE WHEN %(error)s::text IS NULL THEN now() END, error = %(error)s, next_at = now() + %(wait)s::interval,
    given_up_at = CASE WHEN %(error)s::text IS NOT NULL AND %(wait)s::interval IS NULL THEN now() END
WHERE message_id = %(message_id)s AND channel = %(channel)s AND attempts = %(attempts)s AND next_at IS NOT NULL
"""

LIST = f"""
SELECT {COLUMNS} FROM notices WHERE (%(ended)s OR ended_at IS NULL) ORDER BY last_at DESC, id LIMIT %(limit)s
"""

# Of each channel its last deliveries: what it took last, and what it did not take since.
CHANNELS = """
SELECT channel, max(sent_at) AS sent_at, count(*) FILTER (WHERE next_at IS NOT NULL) AS waiting,
       count(*) FILTER (WHERE given_up_at IS NOT NULL) AS given_up,
       (array_agg(error ORDER BY made_at DESC) FILTER (WHERE error IS NOT NULL AND sent_at IS NULL))[1] AS error
FROM (SELECT id, made_at FROM notice_messages WHERE made_at > now() - interval '2 days' ORDER BY made_at DESC LIMIT 500)
     AS message JOIN notice_deliveries d ON d.message_id = message.id
GROUP BY channel ORDER BY channel
"""

PRUNE = {
    "notices": "DELETE FROM notices WHERE ended_at IS NOT NULL AND last_at < %(before)s",
    "notice_messages": "DELETE FROM notice_messages WHERE made_at < %(before)s",
}


class Notices:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def take_turn(self, every: timedelta) -> datetime | None:
        """Be the one that looks now, if nobody did for so long. Returns the turn, for `is_mine`."""
        row = row_of(self._driver, TAKE_TURN, {"every": every})
        return None if row is None else row["looked_at"]

    def is_mine(self, turn: datetime) -> bool:
        """Whether nobody took a later turn; nobody does until the transaction ends."""
        return self._driver.execute(IS_MINE, (turn,)).fetchone() is not None

    def looked_at(self) -> datetime | None:
        row = row_of(self._driver, "SELECT looked_at FROM notice_looks")
        return None if row is None else row["looked_at"]

    def unsettled(self) -> list[Notice]:
        """The notices that have not ended, and those whose end nobody was notified of."""
        return [_notice(row) for row in rows_of(self._driver, UNSETTLED)]

    def save(self, notices: Sequence[Notice]) -> None:
        for each in notices:
            values = {name: getattr(each, name) for name in Notice.__slots__}
            self._driver.execute(SAVE, values | {"says": list(each.says)})

    def add_message(self, message_id: UUID, title: str, text: str, content: Any, channels: Sequence[str]) -> None:
        """Have a message sent to these channels."""
        self._driver.execute(ADD_MESSAGE, (message_id, title, text, Jsonb(content)))
        self._driver.execute(ADD_DELIVERIES, (message_id, list(channels)))

    def claim(self, lease: timedelta) -> dict[str, Any] | None:
        """Take the delivery that is due the longest, and its message: nobody else sends it for `lease`."""
        return row_of(self._driver, CLAIM, {"lease": lease})

    def settle(
        self, message_id: UUID, channel: str, attempts: int, *, error: str | None = None, wait: timedelta | None = None
    ) -> None:
        """Write down that it was sent, or why not and after what wait it is tried again; None: never."""
        values = {"message_id": message_id, "channel": channel, "attempts": attempts, "error": error, "wait": wait}
        self._driver.execute(SETTLE, values)

    def listed(self, *, ended: bool, limit: int) -> list[Notice]:
        """The notices, the last seen first; with those that have ended."""
        return [_notice(row) for row in rows_of(self._driver, LIST, {"ended": ended, "limit": limit})]

    def channels(self) -> list[dict[str, Any]]:
        """What became of the messages of two days, by channel."""
        return rows_of(self._driver, CHANNELS)

    def prune_notices(self, before: datetime) -> None:
        """Forget what ended, and what was sent, before then: there are as many as people were sent."""
        for statement in PRUNE.values():
            self._driver.execute(statement.encode(), {"before": before})


def _notice(row: dict[str, Any]) -> Notice:
    return Notice(**row | {"says": tuple(row["says"])})

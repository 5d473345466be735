"""Times at which the database went, or may have gone, back to an earlier state: then rows of posts that were published
since look `scheduled`. While a row of `restores` is open nothing is posted.

Whoever crosses the point of no return holds the gate (an advisory lock, shared) while it looks whether one is open and
commits the submission; who opens one holds it alone. So nobody has looked before, and commits after.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.autopilot.settings import AutopilotSettings
from db.postgres.rows import rows_of
from domain.posting.posts import OVER, RESTORED, PostStatus

GATE = 0x706F7374  # "post"
GATE_SHARED = f"SELECT pg_advisory_xact_lock_shared({GATE})"
GATE_ALONE = f"SELECT pg_advisory_xact_lock({GATE})"

COLUMNS = "id, noticed, noticed_at, taken_at, begun_at, ended_at, posts_in_doubt, paused"
OPEN = f"SELECT {COLUMNS} FROM restores WHERE ended_at IS NULL"
LAST = f"SELECT {COLUMNS} FROM restores ORDER BY noticed_at DESC, id LIMIT 1"

NOTICE = """
INSERT INTO restores (noticed, noticed_at) VALUES (%(reason)s, %(now)s)
ON CONFLICT ((ended_at IS NULL)) WHERE ended_at IS NULL DO NOTHING RETURNING id
"""

BEGIN = f"""
INSERT INTO restores (noticed_at, taken_at, begun_at) VALUES (%(now)s, %(taken_at)s, %(now)s)
ON CONFLICT ((ended_at IS NULL)) WHERE ended_at IS NULL
DO UPDATE SET taken_at = least(restores.taken_at, excluded.taken_at),
    begun_at = coalesce(restores.begun_at, excluded.begun_at)
RETURNING {COLUMNS}
"""

END = f"UPDATE restores SET ended_at = %(now)s WHERE ended_at IS NULL RETURNING {COLUMNS}"

DOUBTFUL = ", ".join(
    f"'{status}'"
    for status in (
        *(PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL, PostStatus.SCHEDULED, PostStatus.CLAIMED),
        *(PostStatus.SUBMITTING, PostStatus.SUBMITTED, PostStatus.PROCESSING),
    )
)

# What was due since the backup was taken, and what was under way or in doubt then: the rows no longer tell what became
# of them.
DOUBT = f"""
UPDATE social_posts SET status = 'unconfirmed', error_code = '{RESTORED} ' || status, look_after = %(now)s,
    claimed_at = least(coalesce(claimed_at, scheduled_for, %(now)s), %(taken_at)s),
    error_message = %(message)s, updated_at = now()
WHERE id IN (
    SELECT id FROM social_posts
    WHERE status IN ({DOUBTFUL}) AND scheduled_for BETWEEN %(since)s AND %(now)s
        OR status IN ('claimed', 'submitting', 'submitted', 'processing')
        OR status = 'unconfirmed' AND NOT starts_with(coalesce(error_code, ''), '{RESTORED} ')
    ORDER BY id FOR NO KEY UPDATE
)
RETURNING tenant_id, id
"""

PAUSED = "UPDATE restores SET paused = paused || %s::text[] WHERE ended_at IS NULL"

# One that was over when the backup was taken, and may have been made again and published since.
DOUBT_ONE = f"""
UPDATE social_posts SET status = 'unconfirmed', error_code = '{RESTORED} ' || status, look_after = %(now)s,
    claimed_at = least(coalesce(claimed_at, scheduled_for, %(now)s), %(taken_at)s),
    error_message = %(message)s, updated_at = now()
WHERE id = %(id)s AND status IN ({", ".join(f"'{status}'" for status in OVER)}) AND updated_at <= %(taken_at)s
RETURNING id
"""

COUNT = "UPDATE restores SET posts_in_doubt = posts_in_doubt + %s WHERE ended_at IS NULL"

UNDECIDED = f"""
SELECT p.id, p.tenant_id, a.platform, p.account_id, p.scheduled_for, p.error_message
FROM social_posts p JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
WHERE p.status = 'unconfirmed' AND p.error_code LIKE '{RESTORED} %%' ORDER BY p.scheduled_for, p.id LIMIT %s
"""

COUNT_UNDECIDED = f"""
SELECT count(*) FROM social_posts WHERE status = 'unconfirmed' AND error_code LIKE '{RESTORED} %'
"""

STORED = "SELECT id FROM post_submissions WHERE id = ANY(%s)"


class Restore(NamedTuple):
    """One of the times; the fields are the columns of `restores`."""

    id: UUID
    noticed: str | None
    noticed_at: datetime
    taken_at: datetime | None
    begun_at: datetime | None
    ended_at: datetime | None
    posts_in_doubt: int
    paused: Sequence[str]
    """Queues that it paused: those that were paused before stay so when it ends."""


class Restores:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def open_one(self) -> Restore | None:
        """Return the one that is not over; while there is one nothing is posted."""
        return self._one(OPEN)

    def last(self) -> Restore | None:
        return self._one(LAST)

    def notice(self, reason: str, now: datetime) -> bool:
        """Let nothing be posted until a person has decided, and each autopilot ask first from here on; False if it is
        so already."""
        self._driver.execute(GATE_ALONE)
        if self._driver.execute(NOTICE, {"reason": reason, "now": now}).fetchone() is None:
            return False
        AutopilotSettings(self._driver).ask_again(now)
        return True

    def begin(self, taken_at: datetime, now: datetime) -> Restore:
        """Let nothing be posted, and each autopilot ask first from here on: a person says which moment the database has
        gone back to. Again for the same one: the earlier moment counts."""
        self._driver.execute(GATE_ALONE)
        with self._driver.cursor(row_factory=class_row(Restore)) as cursor:
            [restore] = cursor.execute(BEGIN.encode(), {"taken_at": taken_at, "now": now}).fetchall()
        AutopilotSettings(self._driver).ask_again(now)
        return restore

    def doubt(self, *, taken_at: datetime, margin: timedelta, now: datetime, message: str) -> list[tuple[UUID, UUID]]:
        """Mark what may have been published since then as unconfirmed; return its tenants and ids. Handles stay."""
        values = {"taken_at": taken_at, "since": taken_at - margin, "now": now, "message": message}
        found = self._driver.execute(DOUBT, values).fetchall()
        self._driver.execute(COUNT, (len(found),))
        return [(tenant_id, post_id) for tenant_id, post_id in found]

    def doubt_one(self, post_id: UUID, taken_at: datetime, now: datetime, message: str) -> bool:
        """Mark a post as unconfirmed that is over, and has not changed since the backup was taken; False if it is not
        so.

        Raises:
            UniqueViolation: the account has the video by another post.
        """
        values = {"id": post_id, "taken_at": taken_at, "now": now, "message": message}
        return self._driver.execute(DOUBT_ONE, values).fetchone() is not None

    def paused(self, queues: Sequence[str]) -> None:
        """Keep which queues were paused for the one that is open."""
        self._driver.execute(PAUSED, (list(queues),))

    def end(self, now: datetime) -> Restore | None:
        """Let posts go out again; None if none was open."""
        self._driver.execute(GATE_ALONE)
        return self._one(END, {"now": now})

    def undecided(self, limit: int) -> list[dict[str, Any]]:
        """Return posts of which nobody has said yet whether they were published, by their time."""
        return rows_of(self._driver, UNDECIDED, (limit,))

    def count_undecided(self) -> int:
        return int(self._driver.execute(COUNT_UNDECIDED).fetchall()[0][0])

    def stored(self, ids: Collection[UUID]) -> set[UUID]:
        """Return those of these submissions that this database has."""
        return {row[0] for row in self._driver.execute(STORED, (list(ids),))}

    def _one(self, query: str, values: Any = None) -> Restore | None:
        with self._driver.cursor(row_factory=class_row(Restore)) as cursor:
            return cursor.execute(query.encode(), values).fetchone()

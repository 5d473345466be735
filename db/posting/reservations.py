"""Places among the posts that a platform allows: of an account in 24 hours, or of this whole installation in a day.

Whoever asks for a place of a bucket waits for the others who do (an advisory lock by the bucket's name, after which no
row is waited for), so of many who ask at once as many get one as there are.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('post_reservations:' || %s, 0))"

OTHERS = """
SELECT reserved_at FROM post_reservations
WHERE bucket = %(bucket)s AND reserved_at > %(since)s AND NOT (tenant_id = %(tenant_id)s AND post_id = %(post_id)s)
ORDER BY reserved_at DESC OFFSET %(before)s LIMIT 1
"""

RESERVE = """
INSERT INTO post_reservations (tenant_id, post_id, bucket, reserved_at)
VALUES (%(tenant_id)s, %(post_id)s, %(bucket)s, %(now)s)
ON CONFLICT (tenant_id, post_id, bucket) DO UPDATE SET reserved_at = excluded.reserved_at
"""

RELEASE = "DELETE FROM post_reservations WHERE tenant_id = %s AND post_id = %s"

USED = "SELECT count(*) FROM post_reservations WHERE bucket = %s AND reserved_at > %s"

PRUNE = """
DELETE FROM post_reservations
WHERE ctid = ANY(ARRAY(SELECT ctid FROM post_reservations WHERE reserved_at < %s LIMIT %s))
"""


class Reservations:
    """Query group; system scope, since a bucket may be everybody's."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def reserve(
        self, tenant_id: UUID, post_id: UUID, bucket: str, *, places: int, since: datetime, now: datetime
    ) -> datetime | None:
        """Take a place of the bucket, or keep the one that the post has; it counts from `now` on.

        Returns None if there was one, else when the post was reserved whose place is the next to be free; `now` if the
        bucket has no places at all.
        """
        self._driver.execute(LOCK, (bucket,))
        if places < 1:
            return now
        values = {"tenant_id": tenant_id, "post_id": post_id, "bucket": bucket, "since": since, "now": now}
        row = self._driver.execute(OTHERS, values | {"before": places - 1}).fetchone()
        if row is not None:
            return row[0]  # type: ignore[no-any-return]
        self._driver.execute(RESERVE, values)
        return None

    def release(self, tenant_id: UUID, post_id: UUID) -> None:
        """Give back the places of a post that certainly was not published."""
        self._driver.execute(RELEASE, (tenant_id, post_id))

    def used(self, bucket: str, since: datetime) -> int:
        return int(self._driver.execute(USED, (bucket, since)).fetchall()[0][0])

    def prune(self, before: datetime, limit: int) -> int:
        """Delete places that count no longer; return how many there were."""
        return self._driver.execute(PRUNE, (before, limit)).rowcount

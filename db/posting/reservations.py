"""Places among the posts that a platform allows: of an account in 24 hours, or of this whole installation in a day.

Whoever asks for a place of a bucket waits for the others who do (an advisory lock by the bucket's name, after which no
row is waited for), so of many who ask at once as many get one as there are.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from domain.posting.limits import Allowance, next_place

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('post_reservations:' || %s, 0))"

OTHERS = """
SELECT reserved_at FROM post_reservations
WHERE bucket = %(bucket)s AND reserved_at > %(since)s AND NOT (tenant_id = %(tenant_id)s AND post_id = %(post_id)s)
"""

RESERVE = """
INSERT INTO post_reservations (tenant_id, post_id, bucket, reserved_at)
VALUES (%(tenant_id)s, %(post_id)s, %(bucket)s, %(now)s)
ON CONFLICT (tenant_id, post_id, bucket) DO UPDATE SET reserved_at = excluded.reserved_at
"""

RELEASE = "DELETE FROM post_reservations WHERE tenant_id = %s AND post_id = %s"

OTHERS_WAIT = """
SELECT EXISTS (
    SELECT FROM social_posts p JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
    WHERE a.platform = %(platform)s AND a.status = 'active' AND p.tenant_id <> %(tenant_id)s
        AND p.status IN ('scheduled', 'claimed') AND p.scheduled_for <= %(until)s
)
"""

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
        self, tenant_id: UUID, post_id: UUID, allowances: Sequence[Allowance], now: datetime
    ) -> tuple[datetime, Allowance] | None:
        """Take a place of each bucket, or none; places that the post has count from `now` on.

        Returns None if it has them, else when there may be one again, and the allowance that was full.
        """
        buckets = sorted({each.bucket for each in allowances})
        for bucket in buckets:
            self._driver.execute(LOCK, (bucket,))
        values = {"tenant_id": tenant_id, "post_id": post_id, "now": now}
        full: list[tuple[datetime, Allowance]] = []
        for each in allowances:
            found = self._driver.execute(OTHERS, values | {"bucket": each.bucket, "since": each.since})
            reserved = [row[0] for row in found]
            if len(reserved) >= each.most:
                full.append((next_place(each, reserved, now), each))
        if full:
            return max(full, key=lambda item: item[0])
        for bucket in buckets:
            self._driver.execute(RESERVE, values | {"bucket": bucket})
        return None

    def others_wait(self, tenant_id: UUID, platform: str, until: datetime) -> bool:
        """Return whether other tenants have posts for the platform that are due by then."""
        values = {"tenant_id": tenant_id, "platform": platform, "until": until}
        return bool(self._driver.execute(OTHERS_WAIT, values).fetchall()[0][0])

    def release(self, tenant_id: UUID, post_id: UUID) -> None:
        """Give back the places of a post that certainly was not published."""
        self._driver.execute(RELEASE, (tenant_id, post_id))

    def used(self, bucket: str, since: datetime) -> int:
        return int(self._driver.execute(USED, (bucket, since)).fetchall()[0][0])

    def prune(self, before: datetime, limit: int) -> int:
        """Delete places that count no longer; return how many there were."""
        return self._driver.execute(PRUNE, (before, limit)).rowcount

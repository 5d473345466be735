"""What operators decided of queues: the policies (pauses and limits) in force. What waits in them is in
`db/queue/queue_views.py`."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from db.queue.notifications import Notifications
from domain.queue.limits import ConcurrencyKey, Policy

READ = """
SELECT queue, tenant_id, paused_at IS NOT NULL, max_running, max_running_per_tenant
FROM queue_policies WHERE queue = ANY(%s)
"""

PAUSE = """
INSERT INTO queue_policies (queue, tenant_id, paused_at) VALUES (%(queue)s, %(tenant_id)s, now())
ON CONFLICT (queue, tenant_id) DO UPDATE SET paused_at = coalesce(queue_policies.paused_at, now()), updated_at = now()
RETURNING paused_at = now()
"""

RESUME = """
UPDATE queue_policies SET paused_at = NULL, updated_at = now()
WHERE queue = %(queue)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s AND paused_at IS NOT NULL
"""

LIMIT = """
INSERT INTO queue_policies (queue, tenant_id, max_running, max_running_per_tenant)
VALUES (%(queue)s, %(tenant_id)s, %(max_running)s, %(per_tenant)s)
ON CONFLICT (queue, tenant_id) DO UPDATE
SET max_running = excluded.max_running, max_running_per_tenant = excluded.max_running_per_tenant, updated_at = now()
"""

# A policy without a pause or a limit would cost every claim of its queue a second look.
DELETE_EMPTY = """
DELETE FROM queue_policies
WHERE queue = %(queue)s AND paused_at IS NULL AND max_running IS NULL AND max_running_per_tenant IS NULL
"""


class Queues:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any], notifications: Notifications) -> None:
        self._driver = driver
        self._notifications = notifications

    def pause(self, queue: str, tenant_id: UUID | None = None) -> bool:
        """Let no further job of the queue, or of one tenant in it, begin; False if that was so already. Those that run
        go on."""
        return bool(self._driver.execute(PAUSE, {"queue": queue, "tenant_id": tenant_id}).fetchall()[0][0])

    def resume(self, queue: str, tenant_id: UUID | None = None) -> bool:
        """End a pause; False if there was none. A dispatcher that rests is notified of what waited."""
        values = {"queue": queue, "tenant_id": tenant_id}
        resumed = self._driver.execute(RESUME, values).rowcount == 1
        if resumed:
            self._notifications.look_at(queue)
        self._driver.execute(DELETE_EMPTY, values)
        return resumed

    def limit(
        self,
        queue: str,
        tenant_id: UUID | None = None,
        *,
        max_running: int | None = None,
        per_tenant: int | None = None,
    ) -> None:
        """Limit how many jobs run at once: in the queue, of one tenant in it, or of each tenant. None: no limit.

        Replaces the limits that were there. What runs above a lower limit runs on.
        """
        values = {"queue": queue, "tenant_id": tenant_id, "max_running": max_running, "per_tenant": per_tenant}
        self._driver.execute(LIMIT, values)
        self._driver.execute(DELETE_EMPTY, values)

    def policies(self) -> list[dict[str, Any]]:
        """All pauses and limits in force."""
        return rows_of(self._driver, "SELECT * FROM queue_policies ORDER BY queue, tenant_id NULLS FIRST")


def read_policies(driver: psycopg.Connection[Any], queues: Collection[str]) -> dict[ConcurrencyKey, Policy]:
    """The policies of these queues, by queue and tenant (None: the queue's own)."""
    rows = driver.execute(READ, (list(queues),), prepare=True)
    return {(queue, tenant_id): Policy(*decided) for queue, tenant_id, *decided in rows}

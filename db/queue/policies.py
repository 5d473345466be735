"""What operators decided of queues: the policies (pauses and limits) in force. What waits in them is in
`db/queue/queue_views.py`."""

import json
from collections.abc import Callable, Collection, Mapping
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

LIMITS = """
SELECT max_running, max_running_per_tenant FROM queue_policies
WHERE queue = %(queue)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s FOR NO KEY UPDATE
"""

# `db/ops/changes.py` reads it.
RECORD_CHANGE = """
INSERT INTO changes (kind, subject, before, after, cause)
VALUES (%(kind)s, %(subject)s, %(before)s::jsonb, %(after)s::jsonb, %(cause)s)
"""

# A policy without a pause or a limit would cost every claim of its queue a second look.
DELETE_EMPTY = """
DELETE FROM queue_policies
WHERE queue = %(queue)s AND paused_at IS NULL AND max_running IS NULL AND max_running_per_tenant IS NULL
"""


class Queues:
    """Query group; system scope. What is decided is recorded as a change, in the same transaction; `cause` tells who
    decides."""

    def __init__(
        self, driver: psycopg.Connection[Any], notifications: Notifications, cause: Callable[[], str | None]
    ) -> None:
        self._driver = driver
        self._notifications = notifications
        self._cause = cause

    def pause(self, queue: str, tenant_id: UUID | None = None) -> bool:
        """Let no further job of the queue, or of one tenant in it, begin; False if that was so already. Those that run
        go on."""
        paused = bool(self._driver.execute(PAUSE, {"queue": queue, "tenant_id": tenant_id}).fetchall()[0][0])
        if paused:
            self._record("pause", queue, tenant_id, {"paused": False}, {"paused": True})
        return paused

    def resume(self, queue: str, tenant_id: UUID | None = None) -> bool:
        """End a pause; False if there was none. A dispatcher that rests is notified of what waited."""
        values = {"queue": queue, "tenant_id": tenant_id}
        resumed = self._driver.execute(RESUME, values).rowcount == 1
        if resumed:
            self._notifications.look_at(queue)
            self._record("pause", queue, tenant_id, {"paused": True}, {"paused": False})
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
        row = self._driver.execute(LIMITS, values).fetchone() or (None, None)
        self._driver.execute(LIMIT, values)
        self._driver.execute(DELETE_EMPTY, values)
        if row != (max_running, per_tenant):
            names = ("max_running", "max_running_per_tenant")
            after = dict(zip(names, (max_running, per_tenant), strict=True))
            self._record("limit", queue, tenant_id, dict(zip(names, row, strict=True)), after)

    def lock(self, queue: str) -> None:
        """Let nobody else who locks it decide of the queue before the transaction ends."""
        self._driver.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"policy/{queue}",))

    def policies(self) -> list[dict[str, Any]]:
        """All pauses and limits in force, with the tenant's name."""
        query = "SELECT p.*, t.name FROM queue_policies p LEFT JOIN tenants t ON t.id = p.tenant_id"
        return rows_of(self._driver, f"{query} ORDER BY p.queue, p.tenant_id NULLS FIRST")

    def _record(
        self, kind: str, queue: str, tenant_id: UUID | None, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        subject = queue if tenant_id is None else f"{queue} {tenant_id}"
        values = {"kind": kind, "subject": subject, "cause": self._cause()}
        self._driver.execute(RECORD_CHANGE, values | {"before": json.dumps(before), "after": json.dumps(after)})


def read_policies(driver: psycopg.Connection[Any], queues: Collection[str]) -> dict[ConcurrencyKey, Policy]:
    """The policies of these queues, by queue and tenant (None: the queue's own)."""
    rows = driver.execute(READ, (list(queues),), prepare=True)
    return {(queue, tenant_id): Policy(*decided) for queue, tenant_id, *decided in rows}

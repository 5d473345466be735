"""Queues as an operator sees and steers them: what waits and runs, and what was decided of it (pauses and limits)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.transaction import Tx
from workers.engine.queues import QUEUES
from workers.ops.processes import serving


@dataclass(frozen=True)
class TenantPolicy:
    """A pause or a limit of one tenant's jobs in a queue."""

    tenant_id: UUID
    paused_at: datetime | None
    max_running: int | None


@dataclass(frozen=True)
class QueueOverview:
    """One queue. Waiting jobs are due, scheduled ones are not; `oldest_age` is how long the oldest has been due, and
    `workers` how many live processes work on it."""

    queue: str
    waiting: int
    scheduled: int
    running: int
    oldest_due: datetime | None
    oldest_age: timedelta | None
    workers: int
    paused_at: datetime | None
    max_running: int | None
    max_running_per_tenant: int | None
    tenants: list[TenantPolicy]


def overview(tx: Tx) -> list[QueueOverview]:
    """Describe every queue: those that are declared first, then those that only a job or a policy names."""
    now, workers, policies = tx.now(), tx.workers.all(), tx.queues.policies()
    counts = {row["queue"]: row for row in tx.queues.overview()}
    own = {row["queue"]: row for row in policies if row["tenant_id"] is None}

    def describe(queue: str) -> QueueOverview:
        count, policy = counts.get(queue, {}), own.get(queue, {})
        oldest = count.get("oldest")
        return QueueOverview(
            queue=queue,
            waiting=count.get("waiting", 0),
            scheduled=count.get("scheduled", 0),
            running=count.get("running", 0),
            oldest_due=oldest,
            oldest_age=None if oldest is None else now - oldest,
            workers=serving(workers, queue),
            paused_at=policy.get("paused_at"),
            max_running=policy.get("max_running"),
            max_running_per_tenant=policy.get("max_running_per_tenant"),
            tenants=[
                TenantPolicy(row["tenant_id"], row["paused_at"], row["max_running"])
                for row in policies
                if row["tenant_id"] is not None and row["queue"] == queue
            ],
        )

    return [describe(queue) for queue in dict.fromkeys([*QUEUES, *sorted(counts), *(row["queue"] for row in policies)])]


def names(tx: Tx) -> list[str]:
    """Name every queue that is declared, or that a job or a policy of another program names."""
    return [each.queue for each in overview(tx)]


def policy(tx: Tx, queue: str, tenant_id: UUID | None) -> dict[str, Any]:
    """Return what was decided of a queue, or of one tenant in it; empty if nothing was."""
    rows = tx.queues.policies()
    return next((row for row in rows if (row["queue"], row["tenant_id"]) == (queue, tenant_id)), {})

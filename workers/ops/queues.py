"""Queues as an operator sees and steers them: what waits and runs, and what was decided of it (pauses and limits)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.queue.queue_views import Counts
from db.transaction import SYSTEM, Tx
from domain.billing.tiers import TENANT_WEIGHTS
from domain.errors import Rejected, UnknownQueue
from domain.ops.actions import Outcome, Result
from domain.ops.targets import target
from workers.app import App
from workers.engine.queues import QUEUES
from workers.ops.processes import serving


@dataclass(frozen=True)
class TenantPolicy:
    """A pause or a limit of one tenant's jobs in a queue. `held` is how many due ones a pause holds."""

    tenant_id: UUID
    paused_at: datetime | None
    max_running: int | None
    name: str | None = None
    held: int = 0


@dataclass(frozen=True)
class QueueOverview:
    """One queue. Waiting jobs are due, scheduled ones are not; those in `backoff` are scheduled ones whose last attempt
    failed or was lost, and `next_try` is when the first of them is due. `oldest_age` is how long the oldest has been
    due that no pause of its tenant holds, `target` how long one may be until the queue is `late` (a paused one too: its
    customers wait), and `workers` how many live processes work on the queue.

    No number is above `MOST_COUNTED`; `at_least` names those of which there may be more.
    """

    queue: str
    waiting: int
    scheduled: int
    running: int
    backoff: int
    failed: int
    oldest_due: datetime | None
    oldest_age: timedelta | None
    target: timedelta
    late: bool
    next_try: datetime | None
    last_failed: datetime | None
    workers: int
    paused_at: datetime | None
    max_running: int | None
    max_running_per_tenant: int | None
    tenants: list[TenantPolicy]
    at_least: tuple[str, ...] = ()

    def number(self, name: str) -> str:
        """A number as people read it: what is not known to the last one is `more than 10,000`."""
        count = int(getattr(self, name))
        return f"more than {count:,}" if name in self.at_least else f"{count:,}"


@dataclass(frozen=True)
class QueueReport:
    """One queue at one moment, and who waits in it. `shares` are the tenants with the most due jobs, of the first
    `shares_of` that are ready; `running` how many jobs run by tenant; `next_jobs` those that would be dispatched next
    if nothing were enqueued, ended or changed (an estimate), in that order."""

    at: datetime
    overview: QueueOverview
    shares: list[dict[str, Any]]
    shares_of: int
    running: dict[UUID | None, int]
    next_jobs: list[dict[str, Any]]


SHOWN = 20
"""Tenants, and next jobs, of a queue's report."""


def overview(tx: Tx) -> list[QueueOverview]:
    """Describe every queue: those that are declared first, then those that only a job or a policy names."""
    now, workers, policies = tx.now(), tx.workers.all(), tx.queues.policies()
    counts = tx.queue_views.counts()
    own = {row["queue"]: row for row in policies if row["tenant_id"] is None}

    def describe(queue: str) -> QueueOverview:
        count, policy = counts.get(queue, Counts()), own.get(queue, {})
        return QueueOverview(
            queue=queue,
            waiting=count.waiting,
            scheduled=count.scheduled,
            running=count.running,
            backoff=count.backoff,
            failed=count.failed,
            oldest_due=count.oldest,
            oldest_age=None if count.oldest is None else now - count.oldest,
            target=target(queue),
            late=count.oldest is not None and now - count.oldest > target(queue),
            next_try=count.next_try,
            last_failed=count.last_failed,
            workers=serving(workers, queue),
            paused_at=policy.get("paused_at"),
            max_running=policy.get("max_running"),
            max_running_per_tenant=policy.get("max_running_per_tenant"),
            tenants=[
                TenantPolicy(
                    *(row["tenant_id"], row["paused_at"], row["max_running"], row["name"]),
                    held=count.held.get(row["tenant_id"], 0),
                )
                for row in policies
                if row["tenant_id"] is not None and row["queue"] == queue
            ],
            at_least=count.cut,
        )

    return [describe(queue) for queue in dict.fromkeys([*QUEUES, *sorted(counts), *(row["queue"] for row in policies)])]


def report(app: App, queue: str) -> QueueReport:
    """Describe one queue, and who waits in it.

    Raises:
        UnknownQueue: it is not declared, and neither a job nor a policy names it.
    """
    with app.db.transaction(SYSTEM) as tx:
        tx.explain.use_one_snapshot()
        # Before the others: they tell the planner to keep to indexes, which is not how dispatch was measured.
        ids = tx.dispatch.upcoming(queue, SHOWN, TENANT_WEIGHTS)
        found = {each.queue: each for each in overview(tx)}
        if queue not in found:
            raise UnknownQueue(f"no job and no limit names the queue {queue}; there are {', '.join([*found][:30])}")
        shares = tx.queue_views.shares(queue, SHOWN)
        return QueueReport(
            at=tx.now(),
            overview=found[queue],
            shares=shares,
            shares_of=int(shares[0]["read"]) if shares else 0,
            running=tx.explain.running(queue),
            next_jobs=tx.queue_views.named(ids),
        )


def names(tx: Tx) -> list[str]:
    """Name every queue that is declared, or that a job or a policy of another program names."""
    return [each.queue for each in overview(tx)]


def all_names(app: App, queue: str) -> list[str]:
    """Name every queue, as `names` does, if this one is none of those that are declared."""
    if queue in QUEUES:
        return [*QUEUES]
    with app.db.transaction(SYSTEM) as tx:
        return names(tx)


def policy(tx: Tx, queue: str, tenant_id: UUID | None) -> dict[str, Any]:
    """Return what was decided of a queue, or of one tenant in it; empty if nothing was."""
    rows = tx.queues.policies()
    return next((row for row in rows if (row["queue"], row["tenant_id"]) == (queue, tenant_id)), {})


# --- what is decided of them ----------------------------------------------------------------------------------------


def pause(app: App, queue: str, tenant_id: UUID | None = None) -> Result:
    """Let no further job of a queue, or of a tenant in it, begin; what runs goes on.

    Raises:
        UnknownQueue, UnknownTenant: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        before = _decided(tx, queue, tenant_id)
        paused = tx.queues.pause(queue, tenant_id)
        after = policy(tx, queue, tenant_id)
    undo = f"viral queues resume {queue}" + (f" --tenant {tenant_id}" if tenant_id else "")
    since = "is paused" if paused else "has been paused already"
    says = f"{_name(queue, tenant_id)} {since}; what runs goes on. To undo it: `{undo}`"
    return _result(paused, says, before, after, "paused_at")


def resume(app: App, queue: str, tenant_id: UUID | None = None) -> Result:
    """End a pause; unchanged if there was none.

    Raises:
        UnknownQueue, UnknownTenant: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        before = _decided(tx, queue, tenant_id)
        resumed = tx.queues.resume(queue, tenant_id)
        paused_still = tenant_id is not None and policy(tx, queue, None).get("paused_at") is not None
    but = f", but the whole queue is paused: `viral queues resume {queue}`" if paused_still else ""
    says = f"{_name(queue, tenant_id)} goes on{but}"
    if not resumed:
        says = f"{_name(queue, tenant_id)} is not paused; `viral queues list` shows what is"
    return _result(resumed, says, before, {}, "paused_at")


def limit(
    app: App,
    queue: str,
    tenant_id: UUID | None = None,
    *,
    running: int | None = None,
    per_tenant: int | None = None,
    none: bool = False,
) -> Result:
    """Bound how many jobs run at once: in a queue, of each tenant in it, or of one tenant. A limit that is not named
    stays as it is; `none` lifts both.

    Raises:
        Rejected: nothing is named, or both.
        UnknownQueue, UnknownTenant: there is none.
    """
    if none == (running is not None or per_tenant is not None):
        raise Rejected("name how many may run at once, or how many of each tenant, or both; or that there is no limit")
    if tenant_id is not None and per_tenant is not None:
        raise Rejected("a tenant's own limit is how many of its jobs run at once")
    with app.db.transaction(SYSTEM) as tx:
        before = _decided(tx, queue, tenant_id)
        kept = {} if none else before
        at_once = kept.get("max_running") if running is None else running
        of_each = kept.get("max_running_per_tenant") if per_tenant is None else per_tenant
        tx.queues.limit(queue, tenant_id, max_running=at_once, per_tenant=of_each)
        after = policy(tx, queue, tenant_id)
    limits = [f"at most {at_once} at once"] if at_once is not None else []
    limits += [f"at most {of_each} of each tenant"] if of_each is not None else []
    names = ("max_running", "max_running_per_tenant")
    changed = [before.get(name) for name in names] != [after.get(name) for name in names]
    return _result(changed, f"{_name(queue, tenant_id)}: {', '.join(limits) or 'no limit'}", before, after, *names)


def decided(app: App, queue: str, tenant_id: UUID | None = None) -> dict[str, Any]:
    """Return what was decided of a queue, or of one tenant in it; None for what was not.

    Raises:
        UnknownQueue, UnknownTenant: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        found = _decided(tx, queue, tenant_id)
        name = None if tenant_id is None else tx.tenants.get(tenant_id)["name"]
    limits = {} if tenant_id is not None else {"max_running_per_tenant": found.get("max_running_per_tenant")}
    of = {} if tenant_id is None else {"tenant": name}
    return of | {name: found.get(name) for name in ("paused_at", "max_running")} | limits


def _decided(tx: Tx, queue: str, tenant_id: UUID | None) -> dict[str, Any]:
    """Return what was decided so far; nobody else decides before the transaction ends."""
    if queue not in QUEUES and queue not in (there := names(tx)):
        raise UnknownQueue(f"no job and no limit names the queue {queue}; there are {', '.join(there[:30])}")
    if tenant_id is not None:
        tx.tenants.get(tenant_id)
    tx.queues.lock(queue)
    return policy(tx, queue, tenant_id)


def _result(changed: bool, says: str, before: dict[str, Any], after: dict[str, Any], *names: str) -> Result:
    was, became = ({name: each.get(name) for name in names} for each in (before, after))
    return Result(Outcome.DONE if changed else Outcome.UNCHANGED, says, was, became if changed else was)


def _name(queue: str, tenant_id: UUID | None) -> str:
    return queue if tenant_id is None else f"tenant {tenant_id} in {queue}"

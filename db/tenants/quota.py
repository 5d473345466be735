"""The quota ledger: every concept taken, given back or granted, and why. `tenants.used_quota` is its fold.

An entry counts in the period in which its concepts were taken (`taken_at`), whenever it was written. Whoever writes a
quota here holds the tenant's row lock, so a tenant's entries are in one order. What another program writes into
`tenants.used_quota` by plain SQL becomes an entry too, an `adjust` (a trigger, migration 0007).
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from db.postgres.locks import against_changes
from db.schema.base import EARLIEST, LATEST
from db.schema.tenants import CONSUMPTION, quota_holds, quota_ledger, tenants
from db.tenants.tenants import QUOTA_COLUMNS, quota_of, quota_values, unknown
from domain.quota.quota import Hold, Quota, carry_over, release, reserve, reset, restart, settle

MOST = 2**31 - 1


def is_due(now: str) -> str:
    """Write `domain.quota.quota.is_due` as a condition on `tenants` (a test compares both). `now` is SQL."""
    return f"(quota_reset_at <= {now} AND (quota_paid_until IS NULL OR quota_reset_at < quota_paid_until))"


LOCK_DUE = text(f"""
SELECT id FROM tenants WHERE {is_due(":now")}
ORDER BY quota_reset_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")

# `domain.quota.quota.reset`, for many tenants at once; tests/db/tenants/test_quota.py compares the two. `months` is how
# many calendar months lie between the anchor and the last moment that is paid for: that month's boundary or the next is
# the reset.
# A statement of its own, after the locks: it sees what was consumed until then. Times that nobody can have meant count
# as the nearest that somebody could, so that one such row does not keep the others from their month.
RESET = text(f"""
WITH due AS (
    SELECT id, monthly_quota, used_quota, quota_reset_at, quota_restarted_at,
           least(greatest(quota_anchor, '{EARLIEST}'), '{LATEST}') AT TIME ZONE 'UTC' AS anchor,
           greatest(least(:now, quota_paid_until - interval '1 microsecond'), '{EARLIEST}') AT TIME ZONE 'UTC'
               AS paid_for
    FROM tenants WHERE id = ANY(:tenants)
), begun AS (
    SELECT due.*, greatest((anchor + make_interval(months => n - 1)) AT TIME ZONE 'UTC', quota_reset_at) AS starts_at,
           (anchor + make_interval(months => n)) AT TIME ZONE 'UTC' AS ends_at
    FROM due,
    LATERAL (SELECT ((extract(year FROM paid_for) - extract(year FROM anchor)) * 12
                     + extract(month FROM paid_for) - extract(month FROM anchor))::int AS months) AS apart,
    LATERAL (SELECT months + (anchor + make_interval(months => months) <= paid_for)::int AS n) AS boundary
), moved AS (
    UPDATE tenants t
    SET quota_period_start = starts_at, quota_reset_at = ends_at, updated_at = now(),
        used_quota = greatest(0, least({MOST}, (
        SELECT coalesce(sum(amount), 0) FROM quota_ledger l
        WHERE l.tenant_id = begun.id AND l.taken_at >= greatest(starts_at, begun.quota_restarted_at) AND l.{CONSUMPTION}
    )))
    FROM begun WHERE t.id = begun.id
    RETURNING t.id, t.used_quota AS used, begun.used_quota AS was, t.monthly_quota, starts_at
)
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause)
SELECT id, 'reset', used - was, used, monthly_quota, starts_at, :cause FROM moved
""")


class Quotas:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def lock(self, tenant_id: UUID) -> Quota:
        """Return the quota, locked until the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        query = select(*QUOTA_COLUMNS).where(tenants.c.id == tenant_id)
        row = self._sql.execute(against_changes(query)).one_or_none()
        if row is None:
            raise unknown(tenant_id)
        return quota_of(row)

    def write(self, tenant_id: UUID, before: Quota, after: Quota, kind: str, cause: str) -> None:
        """Save a quota that `lock` returned and a rule changed, with the entry that says why."""
        values = quota_values(after) | {"updated_at": func.now()}
        self._sql.execute(update(tenants).where(tenants.c.id == tenant_id).values(values))
        self.record(tenant_id, kind, cause, after, amount=after.used - before.used)

    def record(
        self, tenant_id: UUID, kind: str, cause: str, after: Quota, *, amount: int, taken_at: datetime | None = None
    ) -> None:
        """Append to the ledger; `cause` says who or what: `job:…`, `event:…`, `person:…`."""
        entry: dict[str, Any] = {
            "tenant_id": tenant_id,
            "kind": kind,
            "amount": amount,
            "used_after": after.used,
            "quota_after": after.limit,
            "period_start": after.period_start,
            "cause": cause,
        }
        if taken_at is not None:
            entry["taken_at"] = taken_at
        self._sql.execute(insert(quota_ledger).values(entry))

    def hold(self, tenant_id: UUID, job_id: UUID, count: int, now: datetime) -> None:
        """Take `count` concepts for the job, unless an earlier attempt did. A job that gave them back when it failed,
        and is run again, takes them again.

        Raises:
            QuotaExceeded: fewer are left; with figures.
            UnknownTenant: there is none of this id.
        """
        quota = self.lock(tenant_id)
        if self._status(tenant_id, job_id) in ("held", "settled"):
            return
        begun = self._begin(tenant_id, quota, now, f"job:{job_id}")
        after, hold = reserve(begun, count, now)
        values = {"count": count, "taken_at": hold.taken_at, "status": "held", "closed_at": None}
        statement = insert(quota_holds).values(values | {"job_id": job_id, "tenant_id": tenant_id})
        self._sql.execute(statement.on_conflict_do_update(index_elements=["job_id"], set_=values))
        self._count(tenant_id, after)
        self.record(tenant_id, "hold", f"job:{job_id}", after, amount=count, taken_at=hold.taken_at)

    def settle(self, tenant_id: UUID, job_id: UUID, actual: int) -> None:
        """Give back of the job's hold all but the `actual` concepts that were made, unless it is settled already.

        Raises:
            LookupError: the job holds nothing, so nobody would pay for what it made.
        """
        quota = self.lock(tenant_id)
        hold = self._close(tenant_id, job_id, "settled")
        if hold is None:
            if self._status(tenant_id, job_id) != "settled":
                raise LookupError(f"job {job_id} holds no concepts: it has to `hold` them before it makes any")
            return
        after = self._count(tenant_id, settle(quota, hold, actual))
        back = actual - hold.count
        self.record(tenant_id, "settle", f"job:{job_id}", after, amount=back, taken_at=hold.taken_at)

    def release(self, tenant_id: UUID, job_id: UUID) -> None:
        """Give the whole hold of the job back, if there is one, because nothing was made."""
        quota = self.lock(tenant_id)
        hold = self._close(tenant_id, job_id, "released")
        if hold is not None:
            after = self._count(tenant_id, release(quota, hold))
            self.record(tenant_id, "release", f"job:{job_id}", after, amount=-hold.count, taken_at=hold.taken_at)

    def restart(self, tenant_id: UUID, cause: str) -> tuple[Quota, Quota]:
        """Give the tenant a fresh count for what is left of the running period. Returns the quota before and after.

        Raises:
            UnknownTenant: there is none of this id.
        """
        quota = self.lock(tenant_id)
        # Not the transaction's time: it may have waited for the lock.
        now = self._sql.execute(select(func.clock_timestamp())).scalar_one()
        before = self._begin(tenant_id, quota, now, cause)
        after = restart(before, now)
        self.write(tenant_id, before, after, "reset", cause)
        return before, after

    def reset_if_due(self, tenant_id: UUID, quota: Quota, now: datetime) -> Quota:
        """Return the quota with its next period begun, if that is due, and what has been consumed in it already."""
        begun = reset(quota, now)
        if begun.counts_from == quota.counts_from:
            return begun
        return carry_over(begun, self.used_since(tenant_id, begun.counts_from))

    def used_since(self, tenant_id: UUID, moment: datetime) -> int:
        """Return what was taken at that moment or later, less what of it was given back."""
        query = select(func.coalesce(func.sum(quota_ledger.c.amount), 0)).where(
            quota_ledger.c.tenant_id == tenant_id,
            quota_ledger.c.taken_at >= moment,
            text(CONSUMPTION),
        )
        return int(self._sql.execute(query).scalar_one())

    def reset_due(self, now: datetime, limit: int, cause: str) -> int:
        """Begin the period that contains `now` for tenants whose next one is due, longest overdue first; those in use
        are left. Returns how many."""
        due = self._sql.execute(LOCK_DUE, {"now": now, "limit": limit}).scalars().all()
        self._sql.execute(RESET, {"now": now, "tenants": due, "cause": cause})
        return len(due)

    def ledger(self, tenant_id: UUID, limit: int = 20, *, since: datetime | None = None) -> list[dict[str, Any]]:
        """Return the latest entries, newest first; with `since`, those whose concepts were taken then or later."""
        query = select(quota_ledger).where(quota_ledger.c.tenant_id == tenant_id)
        if since is not None:
            query = query.where(quota_ledger.c.taken_at >= since)
        query = query.order_by(quota_ledger.c.id.desc()).limit(limit)
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def held(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Holds of jobs that have not ended, oldest first."""
        query = (
            select(quota_holds)
            .where(quota_holds.c.tenant_id == tenant_id, quota_holds.c.status == "held")
            .order_by(quota_holds.c.taken_at)
        )
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def _begin(self, tenant_id: UUID, quota: Quota, now: datetime, cause: str) -> Quota:
        """`reset_if_due`, as an entry of its own."""
        begun = self.reset_if_due(tenant_id, quota, now)
        if begun != quota:
            self.write(tenant_id, quota, begun, "reset", cause)
        return begun

    def _count(self, tenant_id: UUID, after: Quota) -> Quota:
        values = {"used_quota": after.used, "updated_at": func.now()}
        self._sql.execute(update(tenants).where(tenants.c.id == tenant_id).values(values))
        return after

    def _status(self, tenant_id: UUID, job_id: UUID) -> str | None:
        """Return the status of the job's hold; None if it never had one."""
        its = (quota_holds.c.tenant_id == tenant_id, quota_holds.c.job_id == job_id)
        return self._sql.execute(select(quota_holds.c.status).where(*its)).scalar_one_or_none()

    def _close(self, tenant_id: UUID, job_id: UUID, status: str) -> Hold | None:
        its = (quota_holds.c.tenant_id == tenant_id, quota_holds.c.job_id == job_id)
        statement = (
            update(quota_holds)
            .where(*its, quota_holds.c.status == "held")
            .values(status=status, closed_at=func.now())
            .returning(quota_holds.c.count, quota_holds.c.taken_at)
        )
        row = self._sql.execute(statement).one_or_none()
        return None if row is None else Hold(*row)

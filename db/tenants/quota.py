"""The quota ledger: every concept taken, given back or granted, and why. `tenants.used_quota` is its fold.

An entry counts in the period in which its concepts were taken (`taken_at`), whenever it was written. Whoever writes a
quota here holds the tenant's row lock, so a tenant's entries are in one order. What another program writes into
`tenants.used_quota` by plain SQL becomes an entry too, an `adjust` (a trigger, migration 0007).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg

from db.postgres.connection import together
from db.postgres.rows import rows_of
from db.queue.notifications import Count
from db.schema.base import EARLIEST, LATEST
from db.schema.tenants import CONSUMPTION
from db.tenants.tenants import QUOTA_COLUMNS, quota_values, unknown
from domain.quota import quota as rules
from domain.quota.quota import Hold, Quota, carry_over, grant, release, reserve, reset, restart, settle, take

MOST = 2**31 - 1
ENTRIES = "viral_quota_entries_total"
"""The metric that counts entries, by their kind. Those that a trigger writes are not counted."""


def is_due(now: str) -> str:
    """Write `domain.quota.quota.is_due` as a condition on `tenants` (a test compares both). `now` is SQL."""
    return f"(quota_reset_at <= {now} AND (quota_paid_until IS NULL OR quota_reset_at < quota_paid_until))"


# In the order of the fields of `Quota`.
QUOTA = ", ".join(column.name for column in QUOTA_COLUMNS)

READ = f"SELECT {QUOTA} FROM tenants WHERE id = %s"
LOCK = f"{READ} FOR NO KEY UPDATE"

LOCK_MANY = f"""
SELECT id, {QUOTA} FROM tenants WHERE id = ANY(%b::uuid[]) AND deletion_began_at IS NULL ORDER BY id FOR NO KEY UPDATE
"""

STATUS = "SELECT status FROM quota_holds WHERE job_id = %s AND tenant_id = %s"

COUNTED = "SELECT job_id FROM quota_holds WHERE job_id = ANY(%b::uuid[]) AND status IN ('held', 'settled')"

ENTRY = """
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
VALUES (%(tenant_id)s, %(kind)s, %(amount)s, %(used)s, %(quota)s, %(period_start)s, %(cause)s,
        coalesce(%(taken_at)s, now()))
"""

COUNT = "UPDATE tenants SET used_quota = %(used)s, updated_at = now() WHERE id = %(tenant_id)s"

# What holds change, in one statement: who calls has the tenants' locks, so nothing of it changes meanwhile.
HOLDS: dict[str, str] = {
    "tenant_id": "uuid",
    "job_id": "uuid",
    "amount": "int",
    "used": "int",
    "quota": "int",
    "period_start": "timestamptz",
    "taken_at": "timestamptz",
}
HOLD = f"""
WITH new AS (
    SELECT * FROM unnest({", ".join(f"%b::{kind}[]" for kind in HOLDS.values())}) AS new ({", ".join(HOLDS)})
), counted AS (
    UPDATE tenants SET used_quota = new.used, updated_at = now() FROM new WHERE tenants.id = new.tenant_id
), held AS (
    INSERT INTO quota_holds (job_id, tenant_id, count, taken_at) SELECT job_id, tenant_id, amount, taken_at FROM new
    ON CONFLICT (job_id) DO UPDATE
    SET count = excluded.count, taken_at = excluded.taken_at, status = 'held', closed_at = NULL
)
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
SELECT tenant_id, 'hold', amount, used, quota, period_start, 'job:' || job_id, taken_at FROM new ORDER BY tenant_id
"""

CLOSE = """
UPDATE quota_holds SET status = %s, closed_at = now() WHERE job_id = %s AND tenant_id = %s AND status = 'held'
RETURNING count, taken_at
"""

CLOSED = f"WITH counted AS ({COUNT}) {ENTRY}"

WRITE = f"""
UPDATE tenants SET {", ".join(f"{column.name} = %({column.name})s" for column in QUOTA_COLUMNS)}, updated_at = now()
WHERE id = %(tenant_id)s
"""

USED_SINCE = f"""
SELECT coalesce(sum(amount), 0) FROM quota_ledger WHERE tenant_id = %s AND taken_at >= %s AND {CONSUMPTION}
"""

LEDGER = """
SELECT * FROM quota_ledger
WHERE tenant_id = %(tenant_id)s AND (%(since)s::timestamptz IS NULL OR taken_at >= %(since)s)
ORDER BY id DESC LIMIT %(limit)s
"""

# The audit's row and the entry are of one transaction, and so of one time.
GRANTED_IN = "SELECT period_start FROM quota_ledger WHERE tenant_id = %s AND kind = 'extra' AND at = %s"

# By whose clock it was taken does not matter: a server that took over may be behind the one before.
LAST_TAKEN = "SELECT max(taken_at) FROM quota_ledger WHERE tenant_id = %s"

HELD = "SELECT * FROM quota_holds WHERE tenant_id = %s AND status = 'held' ORDER BY taken_at"

# As text: nobody here looks into it, and to read and write a thousand ids takes as long as a tenth of their reset.
LOCK_DUE = f"""
SELECT count(*), array_agg(id)::text FROM (
    SELECT id FROM tenants WHERE {is_due("%(now)s")}
    ORDER BY quota_reset_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
) AS due
"""

# `domain.quota.quota.reset`, for many tenants at once; tests/db/tenants/test_quota.py compares the two. `months` is how
# many calendar months lie between the anchor and the last moment that is paid for: that month's boundary or the next is
# the reset.
# A statement of its own, after the locks: it sees what was consumed until then, and a locked row stays in its place.
# OFFSET 0 keeps what is computed from being computed once for each use. Times that nobody can have meant count
# as the nearest that somebody could, so that one such row does not keep the others from their month.
RESET = f"""
WITH due AS (
    SELECT ctid AS place, id, monthly_quota, used_quota, quota_reset_at, quota_restarted_at,
           least(greatest(quota_anchor, '{EARLIEST}'), '{LATEST}') AT TIME ZONE 'UTC' AS anchor,
           greatest(least(%(now)s, quota_paid_until - interval '1 microsecond'), '{EARLIEST}') AT TIME ZONE 'UTC'
               AS paid_for
    FROM tenants WHERE id = ANY(%(tenants)s::text::uuid[])
), apart AS (
    SELECT due.*, ((date_part('year', paid_for) - date_part('year', anchor)) * 12
                   + date_part('month', paid_for) - date_part('month', anchor))::int AS months
    FROM due OFFSET 0
), boundary AS (
    SELECT apart.*, months + (anchor + make_interval(months => months) <= paid_for)::int AS n FROM apart OFFSET 0
), begun AS (
    SELECT boundary.*, greatest((anchor + make_interval(months => n - 1)) AT TIME ZONE 'UTC', quota_reset_at)
               AS starts_at,
           (anchor + make_interval(months => n)) AT TIME ZONE 'UTC' AS ends_at
    FROM boundary OFFSET 0
), moved AS (
    UPDATE tenants t
    SET quota_period_start = starts_at, quota_reset_at = ends_at, quota_granted = 0, updated_at = now(),
        used_quota = greatest(0, least({MOST}, (
        SELECT coalesce(sum(amount), 0) FROM quota_ledger l
        WHERE l.tenant_id = begun.id AND l.taken_at >= greatest(starts_at, begun.quota_restarted_at) AND l.{CONSUMPTION}
    )))
    FROM begun WHERE t.ctid = begun.place
    RETURNING t.id, t.used_quota AS used, begun.used_quota AS was, t.monthly_quota, starts_at
)
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause)
SELECT id, 'reset', used - was, used, monthly_quota, starts_at, %(cause)s FROM moved
"""


class Quotas:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any], count: Count) -> None:
        self._driver = driver
        self._count = count

    def lock(self, tenant_id: UUID) -> Quota:
        """Return the quota, locked until the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        return locked_quota(tenant_id, self._driver.execute(LOCK, (tenant_id,), prepare=True))

    def stored(self, tenant_id: UUID) -> Quota:
        """Return the quota as it is written down, unlocked: its period may be over.

        Raises:
            UnknownTenant: there is none of this id.
        """
        return locked_quota(tenant_id, self._driver.execute(READ, (tenant_id,), prepare=True))

    def current(self, tenant_id: UUID, now: datetime) -> Quota:
        """Return, unlocked, what a job that asks at this moment would find, though nobody may have written down yet
        that its period has begun.

        Raises:
            UnknownTenant: there is none of this id.
        """
        return self.reset_if_due(tenant_id, self.stored(tenant_id), now)

    def with_current(self, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Return a tenant's row with the columns of its quota as `current` has them, and its `allowance`."""
        stored = Quota(*(row[column.name] for column in QUOTA_COLUMNS))
        quota = self.reset_if_due(row["id"], stored, now)
        return {**row, **quota_values(quota), "allowance": quota.allowance}

    def write(self, tenant_id: UUID, before: Quota, after: Quota, kind: str, cause: str) -> None:
        """Save a quota that `lock` returned and a rule changed, with the entry that says why."""
        self._driver.execute(WRITE, quota_values(after) | {"tenant_id": tenant_id})
        self.record(tenant_id, kind, cause, after, amount=after.used - before.used)

    def record(
        self, tenant_id: UUID, kind: str, cause: str, after: Quota, *, amount: int, taken_at: datetime | None = None
    ) -> None:
        """Append to the ledger; `cause` says who or what: `job:…`, `event:…`, `person:…`."""
        self._driver.execute(ENTRY, _entry(tenant_id, kind, cause, after) | {"amount": amount, "taken_at": taken_at})
        self._count(ENTRIES, kind)

    def hold(self, tenant_id: UUID, job_id: UUID, count: int, now: datetime) -> None:
        """Take `count` concepts for the job, unless an earlier attempt did. A job that gave them back when it failed,
        and is run again, takes them again.

        Raises:
            QuotaExceeded: fewer are left; with figures.
            UnknownTenant: there is none of this id.
        """
        # Two statements, so that the second sees what was committed until the lock was had; one round trip.
        with together(self._driver):
            locked = self._driver.execute(LOCK, (tenant_id,), prepare=True)
            found = self._driver.execute(STATUS, (job_id, tenant_id), prepare=True)
        status = found.fetchone()
        quota = locked_quota(tenant_id, locked)
        if status in (("held",), ("settled",)):
            return
        self.hold_new(tenant_id, job_id, count, now, quota)

    def hold_new(self, tenant_id: UUID, job_id: UUID, count: int, now: datetime, quota: Quota) -> None:
        """`hold` for a job that this transaction makes, of the quota that it has locked.

        Raises:
            QuotaExceeded: fewer are left; with figures.
        """
        begun = self._begin(tenant_id, quota, now, f"job:{job_id}")
        self._take([(tenant_id, job_id, *reserve(begun, count, now))])

    def hold_many(self, wanted: Mapping[UUID, tuple[UUID, int]], now: datetime) -> int:
        """`hold` for jobs of several tenants, each tenant's job and count, where nothing has to be decided: if a month
        is due, or too few are left, it is left to the job's own `hold`. Locks the tenants. System scope. Returns for
        how many it did."""
        if not wanted:
            return 0
        with together(self._driver):
            locked = self._driver.execute(LOCK_MANY, (list(wanted),), prepare=True)
            counted = self._driver.execute(COUNTED, ([job_id for job_id, _ in wanted.values()],), prepare=True)
        ended = {job_id for (job_id,) in counted}
        taken = []
        for tenant_id, *columns in locked:
            quota, (job_id, count) = Quota(*columns), wanted[tenant_id]
            if job_id not in ended and not rules.is_due(quota, now) and count <= quota.available(now):
                taken.append((tenant_id, job_id, *reserve(quota, count, now)))
        self._take(taken)
        return len(taken)

    def settle(self, tenant_id: UUID, job_id: UUID, actual: int) -> None:
        """Give back of the job's hold all but the `actual` concepts that were made, unless it is settled already.

        Raises:
            LookupError: the job holds nothing, so nobody would pay for what it made.
        """
        quota, hold = self._close(tenant_id, job_id, "settled")
        if hold is not None:
            self._give_back(tenant_id, job_id, "settle", hold, (settle(quota, hold, actual), hold.count - actual))
        elif self._driver.execute(STATUS, (job_id, tenant_id)).fetchone() != ("settled",):
            raise LookupError(f"job {job_id} holds no concepts: it has to `hold` them before it makes any")

    def release(self, tenant_id: UUID, job_id: UUID) -> None:
        """Give the whole hold of the job back, if there is one, because nothing was made."""
        quota, hold = self._close(tenant_id, job_id, "released")
        if hold is not None:
            self._give_back(tenant_id, job_id, "release", hold, (release(quota, hold), hold.count))

    def restart(self, tenant_id: UUID, cause: str) -> tuple[Quota, Quota]:
        """Give the tenant a fresh count for what is left of the running period. Returns the quota before and after.

        Raises:
            UnknownTenant: there is none of this id.
            Rejected: nothing can be drawn of the period any more.
        """
        quota, now = self.lock(tenant_id), self.moment()
        before = self._begin(tenant_id, quota, now, cause)
        [(last_taken,)] = self._driver.execute(LAST_TAKEN, (tenant_id,)).fetchall()
        after = restart(before, now, last_taken=last_taken)
        self._driver.execute(WRITE, quota_values(after) | {"tenant_id": tenant_id})
        self.record(tenant_id, "reset", cause, after, amount=-before.used, taken_at=after.restarted_at)
        return before, after

    def change_granted(self, tenant_id: UUID, count: int, cause: str) -> tuple[Quota, Quota]:
        """Grant `count` concepts for what is left of the running period; take them if it is negative. Returns the quota
        before and after.

        Raises:
            UnknownTenant: there is none of this id.
            Rejected: `domain.quota.quota.grant` and `take` say when.
        """
        quota, now = self.lock(tenant_id), self.moment()
        before = self._begin(tenant_id, quota, now, cause)
        after = grant(before, count, now) if count > 0 else take(before, -count, now)
        self._driver.execute(WRITE, quota_values(after) | {"tenant_id": tenant_id})
        self.record(tenant_id, "extra", cause, after, amount=count, taken_at=max(now, after.counts_from))
        return before, after

    def granted_in(self, tenant_id: UUID, at: datetime) -> datetime | None:
        """Return the beginning of the period for which a transaction of that time granted or took; None: none did."""
        row = self._driver.execute(GRANTED_IN, (tenant_id, at)).fetchone()
        return None if row is None else cast(datetime, row[0])

    def moment(self) -> datetime:
        """Return the database's time now, not at the start of the transaction, which may have waited for a lock."""
        [(now,)] = self._driver.execute("SELECT clock_timestamp()").fetchall()
        return cast(datetime, now)

    def reset_if_due(self, tenant_id: UUID, quota: Quota, now: datetime) -> Quota:
        """Return the quota with its next period begun, if that is due, and what has been consumed in it already."""
        begun = reset(quota, now)
        if begun.counts_from == quota.counts_from:
            return begun
        return carry_over(begun, self.used_since(tenant_id, begun.counts_from))

    def used_since(self, tenant_id: UUID, moment: datetime) -> int:
        """Return what was taken at that moment or later, less what of it was given back."""
        [(used,)] = self._driver.execute(USED_SINCE, (tenant_id, moment)).fetchall()
        return int(used)

    def reset_due(self, now: datetime, limit: int, cause: str) -> int:
        """Begin the period that contains `now` for tenants whose next one is due, longest overdue first; those in use
        are left. Returns how many."""
        [(count, due)] = self._driver.execute(LOCK_DUE, {"now": now, "limit": limit}, prepare=True).fetchall()
        if count:
            self._driver.execute(RESET, {"now": now, "tenants": due, "cause": cause}, prepare=True)
            self._count(ENTRIES, "reset", by=int(count))
        return int(count)

    def ledger(self, tenant_id: UUID, limit: int = 20, *, since: datetime | None = None) -> list[dict[str, Any]]:
        """Return the latest entries, newest first; with `since`, those whose concepts were taken then or later."""
        return rows_of(self._driver, LEDGER, {"tenant_id": tenant_id, "since": since, "limit": limit})

    def held(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Holds of jobs that have not ended, oldest first."""
        return rows_of(self._driver, HELD, (tenant_id,))

    def _take(self, holds: Iterable[tuple[UUID, UUID, Quota, Hold]]) -> None:
        """Write what `reserve` returned for each tenant and job."""
        rows = [
            (tenant_id, job_id, hold.count, after.used, after.allowance, after.period_start, hold.taken_at)
            for tenant_id, job_id, after, hold in holds
        ]
        if rows:
            self._driver.execute(HOLD, [list(column) for column in zip(*rows, strict=True)], prepare=True)
            self._count(ENTRIES, "hold", by=len(rows))

    def _begin(self, tenant_id: UUID, quota: Quota, now: datetime, cause: str) -> Quota:
        """`reset_if_due`, as an entry of its own."""
        begun = self.reset_if_due(tenant_id, quota, now)
        if begun != quota:
            self.write(tenant_id, quota, begun, "reset", cause)
        return begun

    def _close(self, tenant_id: UUID, job_id: UUID, status: str) -> tuple[Quota, Hold | None]:
        """Lock the quota, and close the job's hold, if it has an open one; one round trip."""
        with together(self._driver):
            locked = self._driver.execute(LOCK, (tenant_id,), prepare=True)
            closed = self._driver.execute(CLOSE, (status, job_id, tenant_id), prepare=True)
        row = closed.fetchone()
        return locked_quota(tenant_id, locked), None if row is None else Hold(*row)

    def _give_back(self, tenant_id: UUID, job_id: UUID, kind: str, hold: Hold, after: tuple[Quota, int]) -> None:
        """Write the quota after it, and how much was given back."""
        quota, amount = after
        values = {"amount": -amount, "taken_at": hold.taken_at}
        self._driver.execute(CLOSED, _entry(tenant_id, kind, f"job:{job_id}", quota) | values, prepare=True)
        self._count(ENTRIES, kind)


def locked_quota(tenant_id: UUID, locked: psycopg.Cursor[Any]) -> Quota:
    """Read the answer to `READ` or `LOCK`.

    Raises:
        UnknownTenant: there is no tenant of this id.
    """
    row = locked.fetchone()
    if row is None:
        raise unknown(tenant_id)
    return Quota(*row)


def _entry(tenant_id: UUID, kind: str, cause: str, after: Quota) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "kind": kind,
        "cause": cause,
        "used": after.used,
        "quota": after.allowance,
        "period_start": after.period_start,
    }

"""Holds: concepts that a job has taken out of the quota, until it settles or releases them, once."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update

from db.tables import quota_holds
from db.tenants import Tenants
from domain.quota import Hold, Quota, release, reserve, settle


class Holds:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql
        self._tenants = Tenants(sql)

    def hold(self, tenant_id: UUID, job_id: UUID, count: int, now: datetime) -> None:
        """Take `count` concepts for the job, unless an earlier attempt did.

        Raises:
            QuotaExceeded: fewer are left; with figures.
            UnknownTenant: there is none of this id.
        """
        quota = self._tenants.lock_quota(tenant_id)
        if self._sql.execute(select(quota_holds.c.job_id).where(quota_holds.c.job_id == job_id)).first():
            return
        after, hold = reserve(quota, count, now)
        values = {"job_id": job_id, "tenant_id": tenant_id, "count": count, "period_start": hold.period_start}
        self._sql.execute(insert(quota_holds).values(values))
        self._save("hold", tenant_id, job_id, quota, after)

    def settle(self, tenant_id: UUID, job_id: UUID, actual: int) -> None:
        """`actual` concepts were made; the rest of the hold is given back."""
        quota = self._tenants.lock_quota(tenant_id)
        hold = self._close(job_id, "settled")
        if hold is not None:
            self._save("settle", tenant_id, job_id, quota, settle(quota, hold, actual))

    def release(self, tenant_id: UUID, job_id: UUID) -> None:
        """Nothing was made: the whole hold is given back, if there is one."""
        quota = self._tenants.lock_quota(tenant_id)
        hold = self._close(job_id, "released")
        if hold is not None:
            self._save("release", tenant_id, job_id, quota, release(quota, hold))

    def _close(self, job_id: UUID, status: str) -> Hold | None:
        statement = (
            update(quota_holds)
            .where(quota_holds.c.job_id == job_id, quota_holds.c.status == "held")
            .values(status=status, closed_at=func.now())
            .returning(quota_holds.c.count, quota_holds.c.period_start)
        )
        row = self._sql.execute(statement).one_or_none()
        return None if row is None else Hold(*row)

    def _save(self, kind: str, tenant_id: UUID, job_id: UUID, before: Quota, after: Quota) -> None:
        self._tenants.save_quota(tenant_id, after)
        self._tenants.record(kind, f"job:{job_id}", [(tenant_id, before, after)])

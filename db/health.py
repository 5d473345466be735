"""What a sound system never has, as questions to the tables; and who we are to Postgres."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from db.security import APP_ROLE, MISSING_RIGHTS
from db.tables import CONSUMPTION

# What is true of a sound system, and how to count what contradicts it.
INVARIANTS = {
    "running jobs belong to a live worker": """
        SELECT count(*) FROM job_queue j WHERE status = 'running' AND started_at < now() - interval '2 minutes'
        AND NOT EXISTS (SELECT FROM workers w WHERE w.id = j.worker_id AND w.lease_until > now())""",
    "sleeping jobs are woken within a minute": """
        SELECT count(*) FROM job_queue WHERE status = 'pending' AND ring_at < now() - interval '1 minute'""",
    "no job waits for a person": "SELECT count(*) FROM job_queue WHERE status = 'failed'",
    "no event is parked": "SELECT count(*) FROM webhook_events WHERE status LIKE 'parked:%'",
    # As long as an ended job is surely kept.
    "a stored event has its job": """
        SELECT count(*) FROM webhook_events e WHERE status = 'received'
        AND received_at BETWEEN now() - interval '12 weeks' AND now() - interval '5 minutes'
        AND NOT EXISTS (SELECT FROM job_queue j WHERE j.id = e.job_id)
        AND NOT EXISTS (SELECT FROM job_archive a WHERE a.id = e.job_id)""",
    "what a tenant has used is what the ledger says": f"""
        SELECT count(*) FROM tenants t WHERE used_quota <> greatest(0, (
            SELECT coalesce(sum(amount), 0) FROM quota_ledger l
            WHERE l.tenant_id = t.id AND l.taken_at >= greatest(t.quota_period_start, t.quota_restarted_at)
            AND l.{CONSUMPTION}
        ))""",
    "quota periods end after they begin": "SELECT count(*) FROM tenants WHERE quota_period_start >= quota_reset_at",
    "due quotas are reset within two hours": """
        SELECT count(*) FROM tenants WHERE quota_reset_at < now() - interval '2 hours'
        AND (quota_paid_until IS NULL OR quota_reset_at < quota_paid_until)""",
}

IDENTITY = """
SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') <> 'off' AS durable,
       current_user AS role,
       rolsuper OR rolbypassrls OR EXISTS (
           SELECT FROM pg_class WHERE oid = to_regclass('tenants') AND pg_has_role(relowner, 'USAGE')
           AND NOT relforcerowsecurity
       ) AS unbound
FROM pg_roles WHERE rolname = current_user
"""

# Those that are kept for superusers are not ours; the role that logs in and the database may have limits of their own.
CONNECTIONS = """
SELECT least(
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
           nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user), -1),
           nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1)
       ) AS allowed,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
"""


@dataclass(frozen=True)
class Connections:
    """How many the server allows us, and how many it has now, whoever holds them."""

    allowed: int
    used: int


@dataclass(frozen=True)
class Identity:
    """The server, and the role that we work as; `unbound`: row-level security does not bind it."""

    version: str
    durable: bool
    role: str
    unbound: bool

    @property
    def mode(self) -> str:
        """Whose role does the work: the application's ("application"), or that of the URL ("owner")."""
        return "application" if self.role == APP_ROLE else "owner"


class Health:
    """Query group. `violations` wants the system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def identity(self) -> Identity:
        with self._driver.cursor(row_factory=class_row(Identity)) as cursor:
            return cursor.execute(IDENTITY).fetchall()[0]

    def missing_rights(self) -> list[str]:
        """The statements that would give our role what it lacks on our tables."""
        role = self.identity().role
        rows = self._driver.execute(MISSING_RIGHTS, (role,)).fetchall()
        return [f"GRANT {privileges} ON {table} TO {role}" for privileges, table in rows]

    def connections(self) -> Connections:
        with self._driver.cursor(row_factory=class_row(Connections)) as cursor:
            return cursor.execute(CONNECTIONS).fetchall()[0]

    def revision(self) -> str | None:
        """Which schema the database has; None before the first migration."""
        if self._driver.execute("SELECT to_regclass('alembic_version')").fetchall()[0][0] is None:
            return None
        row = self._driver.execute("SELECT version_num FROM alembic_version").fetchone()
        return row and str(row[0])

    def violations(self, invariant: str) -> int:
        """How many rows contradict one of `INVARIANTS`."""
        return int(self._driver.execute(INVARIANTS[invariant].encode()).fetchall()[0][0])

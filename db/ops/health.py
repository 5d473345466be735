"""The checks of `viral doctor` that are queries: invariants, rows that nobody can mean, our rights on the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row
from sqlalchemy import Date, DateTime, Table

from db.identity.people import answering, only_banned
from db.migrate.revisions import Schema, compatible_releases
from db.postgres.connection import AppConnection
from db.postgres.values import DEEPEST
from db.schema.base import EARLIEST, LATEST, metadata
from db.schema.identity import users
from db.schema.queue import job_queue, schedule_fires
from db.schema.tenants import CONSUMPTION, tenants
from db.security import APP_ROLE, MISSING_RIGHTS
from db.tenants.quota import is_due

# A job that has been due for long may wait rightly: a limit lets others run, or the job ahead of it ended just now.
READY_TOO_LONG = """
WITH busy AS (
    SELECT queue, tenant_id FROM job_queue WHERE status = 'running' GROUP BY 1, 2
), ended AS (
    SELECT ordering_key, tenant_id FROM job_queue
    WHERE status IN ('completed', 'failed', 'cancelled') AND completed_at > now() - interval '1 minute'
)
SELECT FROM job_queue j
WHERE status = 'pending' AND wake_at IS NULL AND scheduled_for < now() - interval '1 minute'
AND EXISTS (
    SELECT FROM workers w WHERE w.lease_until > now() AND NOT w.draining AND j.queue = ANY(w.queues)
    AND w.started_at < now() - interval '1 minute'
)
AND NOT EXISTS (
    SELECT FROM queue_policies p WHERE p.queue = j.queue AND (p.tenant_id IS NULL OR p.tenant_id = j.tenant_id)
    AND (p.paused_at IS NOT NULL
        OR (p.max_running IS NOT NULL AND EXISTS (
            SELECT FROM busy b WHERE b.queue = j.queue AND (p.tenant_id IS NULL OR b.tenant_id = p.tenant_id)))
        OR (p.max_running_per_tenant IS NOT NULL AND EXISTS (
            SELECT FROM busy b WHERE b.queue = j.queue AND b.tenant_id = j.tenant_id)))
)
AND (j.ordering_key IS NULL OR NOT EXISTS (
    SELECT FROM ended e WHERE e.ordering_key = j.ordering_key AND e.tenant_id IS NOT DISTINCT FROM j.tenant_id))
"""

FOR_TENANTS = ("MediaUnusable", "ScriptUnusable", "ClipNotMade")
"""Errors that fail a video's job, and that its video tells the tenant, who alone can do something about them."""

MOST = 10_000
"""So many rows are counted that contradict an invariant."""

NEWEST_EVENTS = 200_000
"""So many of the newest events are looked at: only a look tells those that wait for their job from the others."""

# Each name is true of a sound system; the query finds the rows that contradict it, along an index.
INVARIANTS = {
    "running jobs belong to a live worker": """
        SELECT FROM job_queue j WHERE status = 'running' AND started_at < now() - interval '2 minutes'
        AND NOT EXISTS (SELECT FROM workers w WHERE w.id = j.worker_id AND w.lease_until > now())""",
    # The scheduler takes it away half a minute after its deadline.
    "no running job is long past its deadline": """
        SELECT FROM job_queue WHERE status = 'running' AND deadline_at < now() - interval '2 minutes'""",
    "a ready job is begun within a minute": READY_TOO_LONG,
    "deferred jobs are woken within a minute": """
        SELECT FROM job_queue WHERE status = 'pending' AND wake_at < now() - interval '1 minute'""",
    "no job waits for a person": f"""
        SELECT FROM job_queue j WHERE status = 'failed' AND completed_at IS NOT NULL
        AND NOT (job_type LIKE 'videos.%' AND coalesce((
            SELECT error_class IN {FOR_TENANTS} FROM job_attempts a WHERE a.job_id = j.id ORDER BY a.id DESC LIMIT 1
        ), false))""",
    "no clip is in doubt": "SELECT FROM provider_jobs WHERE state = 'unconfirmed'",
    # Its job looks for it at `look_after`; without a job nobody does.
    "a post that is being submitted has a job": """
        SELECT FROM social_posts p WHERE look_after < now() - interval '15 minutes' AND status = 'submitting'
        AND tenant_id NOT IN (SELECT id FROM tenants WHERE deletion_began_at IS NOT NULL)
        AND NOT EXISTS (SELECT FROM job_queue j WHERE j.id = p.job_id AND j.status IN ('pending', 'running'))""",
    # One that came before what it needs is parked for moments, in a sound system.
    "no event is parked for over 15 minutes": """
        SELECT FROM webhook_events WHERE status LIKE 'parked:%' AND received_at < now() - interval '15 minutes'""",
    "no event of the last 30 days is flagged": """
        SELECT FROM webhook_events WHERE flag IS NOT NULL AND received_at > now() - interval '30 days'""",
    # It looks back for as long as an ended job is surely kept.
    "a stored event has its job": f"""
        SELECT FROM (
            SELECT status, job_id FROM webhook_events
            WHERE received_at BETWEEN now() - interval '12 weeks' AND now() - interval '5 minutes'
            ORDER BY received_at DESC LIMIT {NEWEST_EVENTS}
        ) AS e WHERE status = 'received'
        AND NOT EXISTS (SELECT FROM job_queue j WHERE j.id = e.job_id)
        AND NOT EXISTS (SELECT FROM job_archive a WHERE a.id = e.job_id)""",
    "what a tenant has used is what the ledger says": f"""
        SELECT FROM tenants t WHERE used_quota <> greatest(0, (
            SELECT coalesce(sum(amount), 0) FROM quota_ledger l
            WHERE l.tenant_id = t.id AND l.taken_at >= greatest(t.quota_period_start, t.quota_restarted_at)
            AND l.{CONSUMPTION}
        ))""",
    "held quota is of a job that lives": """
        SELECT FROM tenants t CROSS JOIN LATERAL (
            SELECT FROM quota_holds h WHERE h.tenant_id = t.id AND h.status = 'held'
            AND h.created_at < now() - interval '5 minutes'
            AND NOT EXISTS (SELECT FROM job_queue j WHERE j.id = h.job_id AND j.status IN ('pending', 'running'))
        ) AS held""",
    "a paying tenant has a person": f"""
        SELECT FROM tenants WHERE subscription_tier <> 'FREE' AND NOT EXISTS ({answering("tenants.id")})""",
    "quota periods end after they begin": "SELECT FROM tenants WHERE quota_period_start >= quota_reset_at",
    "somebody who is not banned answers for every tenant that pays": f"""
        SELECT FROM tenants t WHERE subscription_tier <> 'FREE' AND {only_banned("t.id")}""",
    "due quotas are reset within two hours": f"""
        SELECT FROM tenants WHERE {is_due("now() - interval '2 hours'")}""",
}

SHOWN = 5
"""Rows of each table that are named: five are enough to recognise the fault."""

COUNTS = ("attempts", "max_attempts", "wake_count", "crashes", "snoozes", "cost", "payload_version")

# These break no rule, and yet harm the job: it runs beyond its attempts, or fails because nobody can read its payload.
ODD_JOBS = {
    "attempts": f"status = 'pending' AND attempts >= max_attempts OR attempts > {10**6}",
    "payload": f"""
        status IN ('pending', 'running')
        AND (payload @? '$.**{{{DEEPEST + 1}}}' OR payload @? '$.** ? (@ >= 1e4300 || @ <= -1e4300)')""",
    # A job that waits for others is looked at again within minutes, and one that is scheduled for later when it is due.
    "wake_at": "status = 'pending' AND wake_at > greatest(now(), scheduled_for) + interval '1 hour'",
}

# A period is a month.
ODD_TENANTS = {"quota_reset_at": "quota_reset_at > now() + interval '1 year'"}


def _odd(table: Table, name: str, more: Mapping[str, str]) -> str:
    """Return a query for rows with values that nobody can mean: the table, the name of the row, and the columns."""
    conditions = {
        column.name: f"{column.name} NOT BETWEEN '{EARLIEST}' AND '{LATEST}'"
        for column in table.columns
        if isinstance(column.type, DateTime | Date)
    }
    for column, condition in (*((each, f"{each} < 0") for each in COUNTS if each in table.columns), *more.items()):
        conditions[column] = f"{conditions[column]} OR {condition}" if column in conditions else condition
    named = ", ".join(f"CASE WHEN {condition} THEN '{column}' END" for column, condition in conditions.items())
    return f"""
        (SELECT '{table.name}', {name}, array_remove(ARRAY[{named}], NULL) FROM {table.name}
         WHERE {" OR ".join(f"({condition})" for condition in conditions.values())} LIMIT {SHOWN})"""


ODD_ROWS = " UNION ALL ".join(
    (
        _odd(job_queue, "id::text", ODD_JOBS),
        _odd(tenants, "id::text", ODD_TENANTS),
        _odd(users, "id::text", {}),
        _odd(schedule_fires, "schedule || ' at ' || fire_at", {}),
    )
)

UNKNOWN_TYPES = f"""
SELECT job_type, count(*) FROM job_queue
WHERE status = 'pending' AND scheduled_for < now() - interval '1 hour' AND job_type <> ALL(%s)
GROUP BY job_type ORDER BY count(*) DESC LIMIT {SHOWN}
"""

IDENTITY = """
SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') <> 'off' AS durable,
       current_user AS role, %(pooled)s AS pooled,
       rolsuper OR rolbypassrls OR EXISTS (
           SELECT FROM pg_class WHERE oid = to_regclass('tenants') AND pg_has_role(relowner, 'USAGE')
           AND NOT relforcerowsecurity
       ) AS unbound
FROM pg_roles WHERE rolname = current_user
"""

# Those that are kept for superusers are not for us; the login role and the database may have limits of their own.
CONNECTIONS = """
SELECT least(
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
           nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user), -1),
           nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1)
       ) AS allowed,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
"""


# Partitions are reached through their parent, whose rules hold then.
UNPROTECTED = """
SELECT relname FROM pg_class c
WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('tenants')) AND relname = ANY(%s)
AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid))
ORDER BY relname
"""


def violating(invariant: str) -> str:
    """Write the query that counts the rows which contradict an invariant, up to one more than `MOST`."""
    return f"SELECT count(*) FROM ({INVARIANTS[invariant]} LIMIT {MOST + 1}) AS violating"


@dataclass(frozen=True)
class Connections:
    """The number of connections that the server allows us, and the number that it has now, whoever holds them."""

    allowed: int
    used: int


@dataclass(frozen=True)
class Identity:
    """The server, and the role that we work as.

    `pooled`: a pooler deals out the server's sessions. `unbound`: row-level security does not bind the role.
    """

    version: str
    durable: bool
    role: str
    pooled: bool
    unbound: bool

    @property
    def mode(self) -> str:
        """Return "application" if the application's role does the work, "owner" if it is that of the URL."""
        return "application" if self.role == APP_ROLE else "owner"


class Health:
    """The queries of the checks; `violations` and `time_zones` need the system scope."""

    def __init__(self, driver: AppConnection) -> None:
        self._driver = driver

    def identity(self) -> Identity:
        values = {"pooled": self._driver.pooled}
        with self._driver.cursor(row_factory=class_row(Identity)) as cursor:
            return cursor.execute(IDENTITY, values).fetchall()[0]

    def missing_rights(self) -> list[str]:
        """Return the statements that would grant our role the rights that it lacks on our tables."""
        return [statement for (statement,) in self._driver.execute(MISSING_RIGHTS.encode())]

    def connections(self) -> Connections:
        with self._driver.cursor(row_factory=class_row(Connections)) as cursor:
            return cursor.execute(CONNECTIONS).fetchall()[0]

    def schema(self) -> Schema:
        """Return the schema of the database, and the releases that may work on it."""
        if self._driver.execute("SELECT to_regclass('alembic_version')").fetchall()[0][0] is None:
            return Schema(None)
        query = "SELECT version_num, obj_description('alembic_version'::regclass, 'pg_class') FROM alembic_version"
        row = self._driver.execute(query).fetchone()
        return Schema(str(row[0]), compatible_releases(row[1])) if row else Schema(None)

    def time_zones(self) -> dict[str, int]:
        """Count the tenants and social accounts by the name of their time zone."""
        query = """
            SELECT timezone, count(*) FROM (
                SELECT timezone FROM tenants UNION ALL SELECT timezone FROM social_accounts
            ) AS named GROUP BY timezone
        """
        return dict(self._driver.execute(query).fetchall())

    def violations(self, invariant: str) -> int:
        """Count the rows that contradict one of `INVARIANTS`; MOST + 1 stands for more than `MOST`."""
        return int(self._driver.execute(violating(invariant).encode()).fetchall()[0][0])

    def unprotected_tables(self) -> list[str]:
        """Name our tables on which row-level security is off, is not forced, or has no rule."""
        return [name for (name,) in self._driver.execute(UNPROTECTED, (sorted(metadata.tables),))]

    def clock(self) -> datetime:
        """Return the database's time at this moment, not that of the transaction."""
        moment: datetime = self._driver.execute("SELECT clock_timestamp()").fetchall()[0][0]
        return moment

    def unknown_types(self, known_types: Sequence[str]) -> dict[str, int]:
        """Count jobs that have waited for an hour and have none of the `known_types`, by type, for a few types."""
        return dict(self._driver.execute(UNKNOWN_TYPES, (list(known_types),)).fetchall())

    def odd_rows(self) -> list[tuple[str, str, list[str]]]:
        """Find a few rows, of each table that other programs write, with values that nobody can mean.

        Returns the table, the row's name in it, and the columns.
        """
        return self._driver.execute(ODD_ROWS.encode(), prepare=False).fetchall()

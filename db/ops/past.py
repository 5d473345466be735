"""A past that never was, for the demo: rows that `simulators/demo` made up are written by sets, and real ones made
older. For the owner of the tables, in a database that is nobody else's.

No trigger and no foreign key is off meanwhile: what they guard holds for what is written here too.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from db.postgres.url import parse
from db.security import SYSTEM_SCOPE
from domain.ops.metrics import SAMPLED

Row = Mapping[str, Any]

PERSONS: Final = """
SELECT u.clerk_id, t.id, t.monthly_quota, t.quota_period_start, t.quota_reset_at
FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.clerk_id = ANY(%s)
"""
"""What is known of the tenants of people, by their id at Clerk."""

WAITING: Final = "SELECT count(*) FROM webhook_events WHERE status = 'received'"

# What the webhooks of the past brought is as old as Stripe and Clerk say that it is.
OLDER: Final = (
    """
UPDATE webhook_events SET received_at = occurred_at + interval '2 seconds',
    processed_at = occurred_at + interval '3 seconds'
WHERE occurred_at IS NOT NULL AND status NOT LIKE 'parked:%'
""",
    """
UPDATE webhook_events SET received_at = occurred_at + interval '2 seconds'
WHERE occurred_at IS NOT NULL AND status LIKE 'parked:%'
""",
    """
UPDATE job_queue j SET created_at = e.received_at, scheduled_for = e.received_at,
    started_at = e.received_at + interval '40 milliseconds', completed_at = e.received_at + interval '90 milliseconds'
FROM webhook_events e WHERE j.id = e.job_id AND j.status = 'completed'
""",
    "UPDATE users SET created_at = %(born)s, updated_at = %(born)s WHERE tenant_id = %(id)s",
    """
UPDATE tenants SET created_at = %(born)s, quota_anchor = %(anchor)s, quota_period_start = %(period_start)s,
    quota_reset_at = %(resets_at)s, quota_restarted_at = NULL
WHERE id = %(id)s
""",
    """
UPDATE social_accounts SET created_at = %(born)s + interval '1 hour', connected_at = %(born)s + interval '1 hour'
WHERE tenant_id = %(id)s
""",
)

# The archive has a row's attempts in it.
ARCHIVE: Final = """
WITH ended AS (
    DELETE FROM job_queue WHERE completed_at < now() - interval '2 days' AND status = 'completed' RETURNING *
)
INSERT INTO job_archive (id, tenant_id, job_type, queue, status, priority, payload, result, error_message, attempts,
    max_attempts, scheduled_for, created_at, started_at, completed_at, unique_key, ordering_key, cause)
SELECT id, tenant_id, job_type, queue, status, priority, payload, result, error_message, attempts, max_attempts,
    scheduled_for, created_at, started_at, completed_at, unique_key, ordering_key, cause
FROM ended
"""

FORGET: Final = """
DELETE FROM system_metrics
WHERE step = 'minute' AND at >= date_trunc('minute', %s::timestamptz) AND at < date_trunc('minute', now())
"""

LOSE: Final = """
UPDATE social_accounts SET status = 'needs_reconnect', reason = %s, updated_at = now() - interval '5 hours'
WHERE id = %s
"""

WEEKS: Final = "SELECT make_job_archive_week(now() - interval '1 week' * n) FROM generate_series(-1, 30) AS n"

# So busy a day is: least at four in the morning. A draw is the same for the same seed, series and moment.
BUSY: Final = "(0.55 - 0.45 * cos((extract(epoch FROM at) / 3600.0 - 4) / 24 * 2 * pi()))"
DRAW: Final = "((hashint8extended(extract(epoch FROM at)::bigint * 64 + row, %(seed)s) & 1048575) / 1048576.0)"

SERIES: Final = f"""
INSERT INTO system_metrics (name, labels, value, buckets, step, at)
SELECT name, labels, round((amount * minutes * mean)::numeric, CASE WHEN shape IS NULL THEN 0 ELSE 3 END),
    CASE WHEN shape IS NOT NULL THEN ARRAY(
        SELECT round(amount * minutes * part)::bigint FROM unnest(shape) WITH ORDINALITY AS s (part, n) ORDER BY n
    ) END,
    step, at
FROM jsonb_to_recordset(%(series)s::jsonb)
         AS s (name text, labels jsonb, a_minute float8, mean float8, shapes float8[], row int),
     LATERAL (
         SELECT 'minute' AS step, 1 AS minutes, date_trunc('minute', now()) - interval '1 minute' * n AS at
         FROM generate_series(1, %(minutes)s::int) AS n UNION ALL
         SELECT 'hour', 60, date_trunc('hour', now()) - interval '1 hour' * n
         FROM generate_series(1, %(hours)s::int) AS n
     ) AS moment,
     LATERAL (SELECT a_minute * {BUSY} * (0.6 + 0.8 * {DRAW}) AS amount, shapes AS shape) AS drawn
WHERE amount * minutes >= 0.5
ON CONFLICT (name, labels, step, at) DO NOTHING
"""

GAUGES: Final = f"""
INSERT INTO system_metrics (name, labels, value, step, at)
SELECT name, labels, round((least + (most - least) * {BUSY} * power({DRAW}, 3))::numeric, 2), step, at
FROM jsonb_to_recordset(%(gauges)s::jsonb) AS s (name text, labels jsonb, least float8, most float8, row int),
     LATERAL (
         SELECT 'minute' AS step, date_trunc('minute', now()) - interval '1 minute' * n AS at
         FROM generate_series(1, %(minutes)s::int) AS n UNION ALL
         SELECT 'hour', date_trunc('hour', now()) - interval '1 hour' * n FROM generate_series(1, %(hours)s::int) AS n
     ) AS moment
ON CONFLICT (name, labels, step, at) DO NOTHING
"""

SAMPLES: Final = """
INSERT INTO system_metrics (name, labels, value, step, at)
SELECT %(name)s, '{}', 60, step, at FROM (
    SELECT 'minute' AS step, date_trunc('minute', now()) - interval '1 minute' * n AS at
    FROM generate_series(1, %(minutes)s::int) AS n UNION ALL
    SELECT 'hour', date_trunc('hour', now()) - interval '1 hour' * n FROM generate_series(1, %(hours)s::int) AS n
) AS moment
ON CONFLICT (name, labels, step, at) DO NOTHING
"""


def connect(url: str) -> psycopg.Connection[Any]:
    """Return a connection of the owner, in the system scope, whose transaction is the caller's to end."""
    connection = psycopg.connect(parse(url).conninfo)
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", (SYSTEM_SCOPE,))
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET synchronous_commit = off")
    connection.commit()
    return connection


def tenants_of(connection: psycopg.Connection[Any], clerk_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the id and the quota of the tenant of each of these people that there is by now."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = {row["clerk_id"]: row for row in cursor.execute(PERSONS, (list(clerk_ids),))}
    connection.commit()
    return found


def waiting(connection: psycopg.Connection[Any]) -> int:
    """Return how many events wait for their job."""
    [(found,)] = connection.execute(WAITING).fetchall()
    connection.commit()
    return int(found)


def make_older(connection: psycopg.Connection[Any], tenants: Iterable[Row]) -> None:
    """Make older what the events of the past brought, and its jobs. `tenants` have `id`, when they were `born`, and the
    `anchor`, `period_start` and `resets_at` of their months."""
    rows = [dict(each) for each in tenants]
    for statement in OLDER:
        if "%(" in statement:
            with connection.cursor() as cursor:
                cursor.executemany(statement, rows)
        else:
            connection.execute(statement.encode())


def write(connection: psycopg.Connection[Any], tables: Mapping[str, Sequence[Row]], used: Mapping[UUID, int]) -> None:
    """Write rows by table, in their order. The ledger begins anew with them, and each tenant has used what it says."""
    with connection.cursor() as cursor:
        cursor.execute(WEEKS)
        cursor.execute("SELECT id FROM tenants ORDER BY id FOR NO KEY UPDATE")
        cursor.execute("DELETE FROM quota_ledger")
        for table, rows in tables.items():
            write_rows(connection, table, rows)
        cursor.executemany("UPDATE tenants SET used_quota = %s WHERE id = %s", [(n, of) for of, n in used.items()])
        cursor.execute(ARCHIVE)


def write_rows(connection: psycopg.Connection[Any], table: str, rows: Sequence[Row]) -> None:
    """Write rows, all with the same columns, in their order."""
    if rows:
        columns = ", ".join(rows[0])
        made = f"jsonb_populate_recordset(NULL::{table}, %s)"
        insert = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {made}"
        connection.execute(insert.encode(), (_json(rows),))


def forget_counts(connection: psycopg.Connection[Any], since: datetime) -> None:
    """Forget what was counted since then, but for the minute that runs: making a past is a rush that is none of it."""
    connection.execute(FORGET, (since,))


def lose_account(connection: psycopg.Connection[Any], account_id: UUID, reason: str) -> None:
    """Let an account wait for its owner since a while ago."""
    connection.execute(LOSE, (reason, account_id))


def write_series(
    connection: psycopg.Connection[Any],
    series: Sequence[Row],
    gauges: Sequence[Row],
    *,
    seed: int,
    minutes: int,
    hours: int,
) -> None:
    """Write what was counted in these last minutes and hours. A series has a `name`, `labels`, how much there is
    `a_minute` when it is busiest, and of a histogram the shares of its buckets (`shapes`) and the `mean` of a case; a
    gauge is between `least` and `most`. What is there already stays."""
    values = {"seed": seed, "minutes": minutes, "hours": hours, "name": SAMPLED}
    for name, rows in (("series", series), ("gauges", gauges)):
        values[name] = _json([{**row, "row": n} for n, row in enumerate(rows)])
    for statement in (SAMPLES, SERIES, GAUGES):
        connection.execute(statement.encode(), values)


def _json(rows: Sequence[Row]) -> str:
    return json.dumps(rows, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing that the past has")

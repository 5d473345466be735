"""Chains as the engine moves them: whose day begins, which are to be looked at, and every change of one.

    begin ──▶ concepts ──▶ video ──▶ posts ──▶ done
                 └───────────┴─────────┴──▶ stopped

Who changes a chain holds its tenant's lock (`AutopilotSettings.lock`), so a tenant's chains go on one after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.identity.people import deserted, only_banned
from db.postgres.rows import row_of, rows_of
from domain.autopilot.chains import Chain, Mode, NewDay, Stage
from domain.text.storable import to_json

COLUMNS = ", ".join(each.name for each in fields(Chain))

# A day begins at its hour there, at most 14 hours before it does in UTC.
WANTING = """
SELECT a.tenant_id AS id, t.timezone, t.daily_hour AS hour, a.last_on
FROM autopilots a JOIN tenants t ON t.id = a.tenant_id
WHERE a.mode <> 'off' AND a.tenant_id > %(after)s
    AND (a.last_on IS NULL OR a.last_on + 1 + make_interval(hours => t.daily_hour - 14) <= %(now)s AT TIME ZONE 'UTC')
ORDER BY a.tenant_id LIMIT %(limit)s
"""

# One that another transaction has locked is found again a minute later.
BEGIN = """
WITH due AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(days)s::date[], %(looks)s::timestamptz[], %(whys)s::text[])
        AS due (tenant_id, day, look_after, why)
), locked AS MATERIALIZED (
    SELECT tenant_id, mode, videos_a_day, last_on FROM autopilots
    WHERE tenant_id IN (SELECT tenant_id FROM due) AND mode <> 'off'
    ORDER BY tenant_id FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE autopilots a SET last_on = (SELECT max(day) FROM due WHERE due.tenant_id = a.tenant_id)
    FROM locked WHERE locked.tenant_id = a.tenant_id
), made AS (
    INSERT INTO autopilot_chains (tenant_id, day, place, mode, stage, reason, look_after, since, created_at, updated_at,
        ended_at)
    SELECT tenant_id, due.day, place, mode, CASE WHEN why IS NULL THEN 'concepts' ELSE 'stopped' END, why,
        CASE WHEN why IS NULL THEN due.look_after END, %(now)s, %(now)s, %(now)s,
        CASE WHEN why IS NOT NULL THEN %(now)s::timestamptz END
    FROM locked JOIN due USING (tenant_id), generate_series(1, videos_a_day) AS place
    WHERE last_on IS NULL OR due.day > last_on
    ON CONFLICT (tenant_id, day, place) DO NOTHING
    RETURNING id, tenant_id, stage, reason
), noted AS (
    INSERT INTO autopilot_events (tenant_id, chain_id, kind, message, job_id, at)
    SELECT tenant_id, id, CASE WHEN reason IS NULL THEN 'begun' ELSE 'stopped' END,
        coalesce(reason, 'its day has begun'), %(job_id)s, %(now)s
    FROM made
)
SELECT stage, count(*) FROM made GROUP BY stage
"""

# Looked at again although its job be lost.
CLAIM = """
UPDATE autopilot_chains SET look_after = %(again)s
WHERE id IN (
    SELECT id FROM autopilot_chains WHERE look_after <= %(now)s
    ORDER BY look_after, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING tenant_id, id
"""

LOCK = f"SELECT {COLUMNS} FROM autopilot_chains WHERE tenant_id = %s AND id = %s FOR NO KEY UPDATE"

CHANGE = """
UPDATE autopilot_chains SET {assignments}, updated_at = %(now)s WHERE tenant_id = %(tenant_id)s AND id = %(id)s
"""
CHANGEABLE = (
    *("mode", "stage", "reason", "job_id", "generation_id", "concept_id", "score", "video_id", "group_id"),
    *("reserved_usd", "spent_usd", "month", "since", "look_after", "ended_at"),
)

NOTE = """
INSERT INTO autopilot_events (tenant_id, chain_id, kind, message, details, job_id, at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""

TAKEN = """
SELECT concept_id FROM autopilot_chains
WHERE tenant_id = %s AND generation_id = %s AND concept_id IS NOT NULL AND id <> %s
"""

JOB_OF_KEY = """
SELECT id FROM job_queue WHERE tenant_id = %s AND job_type = %s AND unique_key = %s ORDER BY id DESC LIMIT 1
"""

POSTS = """
SELECT p.id, p.account_id, p.status, p.scheduled_for, p.permalink, p.error_code, p.error_message, p.approved_at,
    a.platform, a.username
FROM social_posts p JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
WHERE p.tenant_id = %s AND p.video_id = %s AND p.group_id = %s ORDER BY p.id
"""

WITHDRAWN = """
SELECT a.id AS account_id, a.platform, a.username, a.status
FROM autopilot_events e JOIN social_accounts a ON a.tenant_id = e.tenant_id AND a.id::text = e.details ->> 'account_id'
WHERE e.tenant_id = %s AND e.chain_id = %s AND e.kind = 'withdrawn'
    AND NOT EXISTS (SELECT FROM autopilot_accounts c WHERE c.tenant_id = a.tenant_id AND c.account_id = a.id)
ORDER BY e.id
"""

DAILY = (
    "SELECT daily_enabled AND daily_count > 0 AS daily, daily_last_on, timezone, daily_hour FROM tenants WHERE id = %s"
)

# Nobody is left who could switch it off: all who answered are banned, or gone.
ABANDONED = f"""
SELECT {only_banned("t.id")} AS banned, {deserted("t.id")} AND EXISTS (
    SELECT FROM users u WHERE u.tenant_id = t.id UNION ALL SELECT FROM account_tenants a WHERE a.home_id = t.id
) AS left FROM tenants t WHERE t.id = %s
"""

PRUNE_EVENTS = """
DELETE FROM autopilot_events WHERE ctid = ANY(ARRAY(SELECT ctid FROM autopilot_events WHERE at < %s LIMIT %s))
"""


@dataclass(frozen=True, slots=True)
class Wanting:
    """A tenant whose autopilot is on; `last_on` is the last day, by its clock, that was begun."""

    id: UUID
    timezone: str
    hour: int
    last_on: date | None


class Chains:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def wanting(self, after: UUID, now: datetime, limit: int) -> list[Wanting]:
        """Return tenants whose day may begin, by id. System scope."""
        with self._driver.cursor(row_factory=class_row(Wanting)) as cursor:
            return cursor.execute(WANTING.encode(), {"after": after, "now": now, "limit": limit}).fetchall()

    def any_due(self, now: datetime) -> bool:
        """Whether a chain is to be looked at. System scope."""
        query = "SELECT EXISTS (SELECT FROM autopilot_chains WHERE look_after <= %s)"
        row = self._driver.execute(query, (now,)).fetchone()
        return row is not None and bool(row[0])

    def begin(self, days: Sequence[NewDay], job_id: UUID, now: datetime) -> dict[str, int]:
        """Make the chains of these days, each day's once; return how many there are by stage. System scope."""
        values = {"ids": [each.tenant_id for each in days], "days": [each.day for each in days], "job_id": job_id}
        values |= {"looks": [each.look_after for each in days], "whys": [each.why for each in days], "now": now}
        return dict(self._driver.execute(BEGIN, values).fetchall())

    def claim(self, now: datetime, again: datetime, limit: int) -> list[tuple[UUID, UUID]]:
        """Return chains that are to be looked at, as tenant and id, longest due first. System scope."""
        values = {"now": now, "again": again, "limit": limit}
        return [(tenant_id, chain_id) for tenant_id, chain_id in self._driver.execute(CLAIM, values)]

    def lock(self, tenant_id: UUID, chain_id: UUID) -> Chain | None:
        """Return a chain, and nobody else changes it before the transaction ends."""
        row = row_of(self._driver, LOCK, (tenant_id, chain_id))
        return None if row is None else Chain(**row | {"mode": Mode(row["mode"]), "stage": Stage(row["stage"])})

    def change(self, tenant_id: UUID, chain_id: UUID, now: datetime, **values: Any) -> None:
        """Change a locked chain."""
        names = [name for name in CHANGEABLE if name in values]
        if len(names) != len(values):
            raise TypeError(f"no columns of a chain: {', '.join(values.keys() - set(names))}")
        query = CHANGE.format(assignments=", ".join(f"{name} = %({name})s" for name in names))
        self._driver.execute(query, values | {"tenant_id": tenant_id, "id": chain_id, "now": now})

    def note(
        self,
        tenant_id: UUID,
        chain_id: UUID,
        kind: str,
        message: str,
        *,
        at: datetime,
        job_id: UUID | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down what happened to a chain, for people."""
        self._driver.execute(NOTE, (tenant_id, chain_id, kind, message, to_json(details or {}), job_id, at))

    def taken(self, chain: Chain, generation_id: UUID) -> set[str]:
        """Return the concepts of a generation that the tenant's other chains have taken."""
        return {name for (name,) in self._driver.execute(TAKEN, (chain.tenant_id, generation_id, chain.id))}

    def job_of_key(self, tenant_id: UUID, job_type: str, key: str) -> UUID | None:
        """Return the last job of the tenant with this unique key, live or ended."""
        row = self._driver.execute(JOB_OF_KEY, (tenant_id, job_type, key)).fetchone()
        return None if row is None else row[0]

    def posts(self, chain: Chain) -> list[dict[str, Any]]:
        """Return the posts that the chain made, with their accounts' platforms and names."""
        return rows_of(self._driver, POSTS, (chain.tenant_id, chain.video_id, chain.id))

    def withdrawn(self, tenant_id: UUID, chain_id: UUID) -> list[dict[str, Any]]:
        """Return the accounts whose consent was withdrawn since the chain began and before its posts were made, and
        that have none now: `account_id`, `platform`, `username`, `status`."""
        return rows_of(self._driver, WITHDRAWN, (tenant_id, chain_id))

    def daily(self, tenant_id: UUID) -> dict[str, Any]:
        """Return whether the tenant has `daily` concepts, its time zone and its hour."""
        return rows_of(self._driver, DAILY, (tenant_id,))[0]

    def prune_events(self, before: datetime, limit: int) -> int:
        """Delete old events; return how many there were. System scope."""
        return self._driver.execute(PRUNE_EVENTS, (before, limit)).rowcount

    def abandoned(self, tenant_id: UUID) -> str | None:
        """Return why nobody is left who answers for the tenant; None if somebody is, or nobody ever was. System
        scope."""
        row = row_of(self._driver, ABANDONED, (tenant_id,)) or {}
        if row.get("banned"):
            return "everybody who answers for the tenant is banned"
        return "nobody answers for the tenant any more" if row.get("left") else None

"""Queries of the generation jobs: a tenant's preferences and past, the model to ask, its costs, and daily concepts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.sql import SQL, Identifier

from db.identity.people import only_banned
from db.ops.requests import BY_KEY_OR_LIVE, KEPT
from db.postgres.connection import together
from db.postgres.rows import row_of, rows_of
from db.queue.notifications import COST, Count
from db.tenants.quota import LOCK, is_due, locked_quota
from domain.concepts.generation import LanguageModel, PastConcept, Usage
from domain.concepts.timing import is_zone
from domain.errors import UnknownTenant
from domain.quota.quota import Quota

PREFERENCE_COLUMNS = ("region", "timezone", "daily_enabled", "daily_hour", "daily_count", "daily_last_on")

PREFERENCES = """
SELECT t.region, t.timezone, (
    SELECT a.timezone FROM social_accounts a
    WHERE a.tenant_id = t.id AND a.status = 'active' ORDER BY a.created_at LIMIT 1
) AS account_timezone
FROM tenants t WHERE t.id = %s
"""

PAST = """
SELECT coalesce(concept->>'title', '') AS title, coalesce(concept->>'topic', '') AS topic, concept->>'format' AS format
FROM generations g,
    jsonb_array_elements(CASE jsonb_typeof(g.concepts) WHEN 'array' THEN g.concepts ELSE '[]' END) AS concept
WHERE g.tenant_id = %s AND g.date >= {since} AND jsonb_typeof(concept) = 'object'
ORDER BY g.date
"""
PAST_SINCE, PAST_OF_LATE = PAST.format(since="%s"), PAST.format(since="now() - %s::interval")

# The n-th call of a job is recorded once: a later attempt finds that there are n rows already.
RECORD = """
INSERT INTO api_usage (tenant_id, kind, name, tokens_in, tokens_out, cost_usd, job_id)
SELECT %(tenant_id)s, 'llm', %(model)s, %(tokens_in)s, %(tokens_out)s, %(cost_usd)s, %(job_id)s
WHERE (SELECT count(*) FROM api_usage WHERE job_id = %(job_id)s AND kind = 'llm') < %(call)s
"""

MODEL = """
SELECT provider, model AS name, usd_per_million_in AS usd_in, usd_per_million_out AS usd_out
FROM (
    SELECT DISTINCT ON (provider, model) * FROM language_models
    WHERE valid_from <= %(now)s AND provider = ANY(%(providers)s)
    ORDER BY provider, model, valid_from DESC
) AS current
WHERE enabled AND (sunset_at IS NULL OR sunset_at > %(now)s)
ORDER BY rank, provider, model LIMIT 1
"""

RECENT = """
SELECT id, date, tenant_id, generator, job_id,
       CASE jsonb_typeof(concepts) WHEN 'array' THEN jsonb_array_length(concepts) END AS concepts
FROM generations ORDER BY date DESC, id LIMIT %s
"""

GET = "SELECT id, tenant_id, date, concepts, trends, sources, generator, job_id FROM generations WHERE id = %s"

# A tenant that has fewer concepts left than it wants gets those. One for which only banned people answer gets none.
DAILY = f"""
SELECT id, timezone, daily_hour AS hour, daily_last_on AS last_on, CASE
    WHEN {is_due("%(now)s")} THEN least(daily_count, monthly_quota)
    WHEN quota_drawn_until <= %(now)s THEN 0
    ELSE least(daily_count, monthly_quota + quota_granted - used_quota)
END AS count
FROM tenants WHERE daily_enabled AND id > %(after)s AND NOT {only_banned("tenants.id")} ORDER BY id LIMIT %(limit)s
"""

MARK_DAILY = """
WITH due AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(days)s::date[]) AS due (id, day)
), locked AS MATERIALIZED (
    SELECT id FROM tenants WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE tenants SET daily_last_on = due.day
FROM due JOIN locked USING (id)
WHERE tenants.id = due.id AND tenants.daily_last_on IS DISTINCT FROM due.day
RETURNING tenants.id
"""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The region of the trends, and the time zone: the first active account's, else the tenant's own, else UTC."""

    region: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request for concepts is decided from: the database's time, the quota, the job that its idempotency key
    has made already and that one's payload, the preferences, and the concepts of late, oldest first."""

    now: datetime
    quota: Quota
    job: tuple[UUID, dict[str, Any]] | None
    preferences: Preferences
    past: tuple[PastConcept, ...]


@dataclass(frozen=True, slots=True)
class Daily:
    """A tenant that wants concepts every day at an hour of its own clock; `last_on` is by that clock too. `count` is
    what the quota allows of what is wanted; it may be negative."""

    id: UUID
    timezone: str
    hour: int
    last_on: date | None
    count: int


class Generating:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any], count: Count) -> None:
        self._driver = driver
        self._count = count

    def asked(self, tenant_id: UUID, *, job_type: str, key: str | None, remembered: timedelta | None) -> Asked:
        """Lock the quota, and read what a request is decided from; one round trip. `key`: its idempotency key.
        `remembered`: how long ago concepts of late may be; None: they do not matter.

        Raises:
            UnknownTenant: there is no tenant of this id.
        """
        job, past = self._driver.cursor(), self._driver.cursor(row_factory=class_row(PastConcept))
        # Each statement sees what was committed until the lock was had.
        with together(self._driver):
            locked = self._driver.execute(LOCK, (tenant_id,), prepare=True)
            preferred = self._driver.execute(PREFERENCES, (tenant_id,), prepare=True)
            if key is not None:
                values = {"tenant_id": tenant_id, "job_type": job_type, "key": key, "kept": KEPT}
                job.execute(BY_KEY_OR_LIVE, values, prepare=True)
            if remembered is not None:
                past.execute(PAST_OF_LATE, (tenant_id, remembered), prepare=True)
            time = self._driver.execute("SELECT now()", prepare=True)
        [(now,)] = time.fetchall()
        return Asked(
            now,
            locked_quota(tenant_id, locked),
            None if key is None else job.fetchone(),
            _preferences(tenant_id, preferred),
            () if remembered is None else tuple(past.fetchall()),
        )

    def preferences(self, tenant_id: UUID) -> Preferences:
        """Return what the tenant prefers.

        Raises:
            UnknownTenant: there is no tenant of this id.
        """
        return _preferences(tenant_id, self._driver.execute(PREFERENCES, (tenant_id,)))

    def past(self, tenant_id: UUID, since: datetime) -> tuple[PastConcept, ...]:
        """Return the tenant's concepts since then, oldest first."""
        with self._driver.cursor(row_factory=class_row(PastConcept)) as cursor:
            return tuple(cursor.execute(PAST_SINCE, (tenant_id, since)).fetchall())

    def record(self, tenant_id: UUID, job_id: UUID, call: int, usage: Usage) -> None:
        """Record the cost of the job's n-th call of a model, once. A generator that asks nobody costs nothing."""
        if usage.model is None:
            return
        values = {"tenant_id": tenant_id, "job_id": job_id, "call": call, "model": usage.model}
        values |= {"tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out, "cost_usd": usage.cost_usd}
        if self._driver.execute(RECORD, values).rowcount and usage.cost_usd is not None:
            self._count(COST, usage.model.partition("/")[0], by=Decimal(usage.cost_usd))

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest generations in scope, with the number of their concepts."""
        return rows_of(self._driver, RECENT, (limit,))

    def get(self, generation_id: UUID) -> dict[str, Any] | None:
        """Return all of one generation."""
        return row_of(self._driver, GET, (generation_id,))

    def set_preferences(self, tenant_id: UUID, preferences: Mapping[str, Any]) -> dict[str, Any]:
        """Change some of the tenant's preferences (columns of `tenants`), and return all of them.

        Raises:
            UnknownTenant: there is no tenant of this id.
        """
        names = SQL(", ").join(map(Identifier, PREFERENCE_COLUMNS))
        changes = SQL(", ").join(SQL("{} = {}").format(Identifier(name), value) for name, value in preferences.items())
        statement = SQL("UPDATE tenants SET {}, updated_at = now() WHERE id = {} RETURNING {}")
        with self._driver.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(statement.format(changes, tenant_id, names)).fetchone()
        if row is None:
            raise _unknown(tenant_id)
        return row

    def model(self, providers: Sequence[str], now: datetime) -> LanguageModel | None:
        """Return the model of these providers to ask now, at today's price. System scope."""
        with self._driver.cursor(row_factory=class_row(LanguageModel)) as cursor:
            return cursor.execute(MODEL, {"providers": list(providers), "now": now}).fetchone()

    def wanting_daily(self, after: UUID, now: datetime, limit: int) -> list[Daily]:
        """Return tenants that want daily concepts, by id. System scope."""
        with self._driver.cursor(row_factory=class_row(Daily)) as cursor:
            return cursor.execute(DAILY, {"after": after, "now": now, "limit": limit}).fetchall()

    def mark_daily(self, days: Mapping[UUID, date]) -> set[UUID]:
        """Note the day (by their clock) for which each tenant gets concepts, and return those not noted before."""
        values = {"ids": list(days), "days": list(days.values())}
        return {tenant_id for (tenant_id,) in self._driver.execute(MARK_DAILY, values)}


def _preferences(tenant_id: UUID, found: psycopg.Cursor[Any]) -> Preferences:
    row = found.fetchone()
    if row is None:
        raise _unknown(tenant_id)
    region, own, account = row
    zones = (zone for zone in (account, own) if zone and is_zone(zone))
    return Preferences(region, next(zones, "UTC"))


def _unknown(tenant_id: UUID) -> UnknownTenant:
    return UnknownTenant(f"no tenant has the id {tenant_id}; `viral tenants list` shows them")

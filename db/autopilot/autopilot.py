"""The autopilot as people look at it: settings and consents, chains and what happened to them, money."""

from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from db.autopilot.settings import AutopilotSettings
from db.postgres.rows import row_of, rows_of

COLUMNS = """c.id, c.tenant_id, c.day, c.place, c.mode, c.stage, c.reason, c.job_id, c.generation_id, c.concept_id,
    c.score, c.video_id, c.group_id, c.reserved_usd, c.spent_usd, c.month, c.since, c.look_after, c.created_at,
    c.updated_at, c.ended_at"""

CHAIN = f"SELECT {COLUMNS} FROM autopilot_chains c WHERE c.tenant_id = %s AND c.id = %s"

CHAINS = f"""
SELECT {COLUMNS} FROM autopilot_chains c
WHERE c.tenant_id = %(tenant_id)s AND (%(day)s::date IS NULL OR (c.day, c.place) < (%(day)s, %(place)s))
    AND (%(stage)s::text IS NULL OR c.stage = %(stage)s)
ORDER BY c.day DESC, c.place DESC LIMIT %(limit)s
"""

EVENTS = """
SELECT at, kind, message, details, job_id FROM autopilot_events WHERE tenant_id = %s AND chain_id = %s ORDER BY id
"""

SPENT = """
SELECT coalesce(sum(reserved_usd), 0), coalesce(sum(spent_usd), 0) FROM autopilot_chains
WHERE tenant_id = %s AND month = %s
"""

# What a job works at is in its payload; which job a chain began, in the chain's events.
OF_JOB = f"""
SELECT {COLUMNS} FROM job_queue j JOIN autopilot_chains c ON c.tenant_id = j.tenant_id
WHERE j.id = %(job_id)s AND (
    c.id::text = j.payload ->> 'chain_id'
    OR c.video_id::text = j.payload ->> 'video_id'
    OR c.id = (
        SELECT p.group_id FROM social_posts p WHERE p.tenant_id = j.tenant_id AND p.id::text = j.payload ->> 'post_id'
    )
    OR c.id IN (SELECT e.chain_id FROM autopilot_events e WHERE e.tenant_id = j.tenant_id AND e.job_id = j.id)
)
ORDER BY c.day, c.place
"""


class ChainCursor(NamedTuple):
    """The last chain of a page."""

    day: date
    place: int


class Spending(NamedTuple):
    """What a tenant's chains have reserved and spent of one month's budget, in dollars."""

    reserved: Decimal
    spent: Decimal

    @property
    def total(self) -> Decimal:
        return self.reserved + self.spent


class Autopilot(AutopilotSettings):
    """Query group."""

    def chains(
        self, tenant_id: UUID, limit: int, after: ChainCursor | None = None, stage: str | None = None
    ) -> list[dict[str, Any]]:
        """Return chains, or those at one stage, those of the last day first (columns of `autopilot_chains`)."""
        day, place = after or (None, None)
        values = {"tenant_id": tenant_id, "limit": limit, "day": day, "place": place, "stage": stage}
        return rows_of(self._driver, CHAINS, values)

    def chain(self, tenant_id: UUID, chain_id: UUID) -> dict[str, Any] | None:
        return row_of(self._driver, CHAIN, (tenant_id, chain_id))

    def events(self, tenant_id: UUID, chain_id: UUID) -> list[dict[str, Any]]:
        """Return what happened to a chain, oldest first: `at`, `kind`, `message`, `details`, `job_id`."""
        return rows_of(self._driver, EVENTS, (tenant_id, chain_id))

    def spent(self, tenant_id: UUID, month: date) -> Spending:
        """Return what the chains have reserved and spent of the budget of a month, named by its first day (UTC)."""
        return Spending(*self._driver.execute(SPENT, (tenant_id, month)).fetchall()[0])

    def of_job(self, job_id: UUID) -> list[dict[str, Any]]:
        """Return the chains that a job in scope works for: several share the job that makes their concepts."""
        return rows_of(self._driver, OF_JOB, {"job_id": job_id})

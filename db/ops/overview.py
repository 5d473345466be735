"""What hurts, over all tenants: for the operator's first look. Every query is bounded; all of them are for the system
scope.

A count stops at `MOST` + 1: more is "more than 10,000".
"""

from collections.abc import Sequence
from typing import Any, Final

from db.identity.people import deserted
from db.postgres.connection import AppConnection
from db.postgres.rows import rows_of

MOST: Final = 10_000
NAMED: Final = 5
"""Tenants that are named; the others are counted."""

# Few are, and they have an index.
NOT_DELETED: Final = "{tenant} NOT IN (SELECT id FROM tenants WHERE deletion_began_at IS NOT NULL)"
PAYS: Final = "t.subscription_tier <> 'FREE'"

FAILED_JOBS: Final = """
SELECT tenant_id, completed_at AS at, job_type AS what FROM job_queue
WHERE status = 'failed' AND completed_at IS NOT NULL ORDER BY completed_at DESC LIMIT %(most)s + 1
"""
FAILED_POSTS: Final = """
SELECT tenant_id, updated_at AS at, coalesce(error_code, status) AS what FROM social_posts
WHERE status IN ('failed', 'missed') AND updated_at > now() - interval '7 days'
ORDER BY updated_at DESC LIMIT %(most)s + 1
"""
LOST_ACCOUNTS: Final = """
SELECT tenant_id, updated_at AS at, platform AS what FROM social_accounts
WHERE status = 'needs_reconnect' LIMIT %(most)s + 1
"""
HURT: Final = {"jobs": FAILED_JOBS, "posts": FAILED_POSTS, "accounts": LOST_ACCOUNTS}

# By tenant, first those that pay most; who does not pay is counted together, in the row without a tenant.
GROUPED: Final = f"""
SELECT * FROM (
    SELECT t.id AS tenant_id, t.name, t.subscription_tier AS tier, count(*) AS number, max(hurt.at) AS last_at,
           (array_agg(hurt.what ORDER BY hurt.at DESC))[1] AS what, count(t.id) OVER () AS tenants,
           row_number() OVER (ORDER BY array_position(%(tiers)s, t.subscription_tier), count(*) DESC, t.id) AS place
    FROM ({{hurt}}) AS hurt LEFT JOIN tenants t ON t.id = hurt.tenant_id AND {PAYS}
    WHERE hurt.tenant_id IS NULL OR {NOT_DELETED.format(tenant="hurt.tenant_id")}
    GROUP BY t.id
) AS by_tenant
WHERE place <= %(named)s OR tenant_id IS NULL ORDER BY place
"""

DESERTED: Final = f"""
SELECT id AS tenant_id, name, subscription_tier AS tier FROM tenants t WHERE {PAYS} AND {deserted("t.id")}
ORDER BY array_position(%(tiers)s, subscription_tier), created_at LIMIT %(named)s + 1
"""

PARKED: Final = """
SELECT source, status, count(*) AS number, count(*) FILTER (WHERE type LIKE 'invoice.%%') AS invoices,
       min(received_at) AS since
FROM (
    SELECT source, status, type, received_at FROM webhook_events WHERE status LIKE 'parked:%%' LIMIT %(most)s + 1
) AS parked
GROUP BY source, status ORDER BY source DESC, number DESC
"""

FLAGGED: Final = """
SELECT flag, count(*) AS number, max(received_at) AS last_at FROM (
    SELECT flag, received_at FROM webhook_events
    WHERE flag IS NOT NULL AND received_at > now() - interval '30 days' ORDER BY received_at DESC LIMIT %(most)s + 1
) AS flagged
GROUP BY flag ORDER BY number DESC
"""

UNCONFIRMED_CLIPS: Final = """
SELECT count(*) AS number, min(created_at) AS since, sum(estimated_usd) AS usd FROM (
    SELECT created_at, estimated_usd FROM provider_jobs WHERE state = 'unconfirmed' LIMIT %(most)s + 1
) AS unconfirmed
"""

UNCONFIRMED_POSTS: Final = f"""
SELECT count(*) AS number, min(updated_at) AS since FROM (
    SELECT updated_at FROM social_posts
    WHERE status = 'unconfirmed' AND {NOT_DELETED.format(tenant="tenant_id")} LIMIT %(most)s + 1
) AS unconfirmed
"""

SIGNS_OF_LIFE: Final = """
SELECT now() AS at,
       current_setting('transaction_read_only') = 'on' OR current_setting('default_transaction_read_only') = 'on'
           OR pg_is_in_recovery() AS read_only,
       (SELECT max(reported_at) FROM process_metrics) AS reported_at,
       (SELECT max(at + value * interval '1 second') FROM (
           SELECT at, value FROM system_metrics WHERE name = 'sampled' AND step = 'minute' ORDER BY at DESC LIMIT 5
       ) AS samples) AS sampled_until
"""


class Overview:
    """The queries of the operator's first look."""

    def __init__(self, driver: AppConnection) -> None:
        self._driver = driver

    def hurt(self, what: str, tiers: Sequence[str]) -> list[dict[str, Any]]:
        """Group failed `jobs`, failed `posts` of a week, or `accounts` that need their owner, by tenant: first those of
        the first of `tiers`. The row without a tenant has all of those that do not pay. `tenants` counts those that
        are not named too."""
        query = GROUPED.format(hurt=HURT[what])
        return rows_of(self._driver, query, {"most": MOST, "named": NAMED, "tiers": list(tiers)})

    def deserted(self, tiers: Sequence[str]) -> list[dict[str, Any]]:
        """Find tenants that pay, and for whom nobody can sign in."""
        return rows_of(self._driver, DESERTED, {"named": NAMED, "tiers": list(tiers)})

    def parked(self) -> list[dict[str, Any]]:
        return rows_of(self._driver, PARKED, {"most": MOST})

    def flagged(self) -> list[dict[str, Any]]:
        """Count the flagged events of 30 days by flag, Stripe's first."""
        return rows_of(self._driver, FLAGGED, {"most": MOST})

    def unconfirmed_clips(self) -> dict[str, Any]:
        return rows_of(self._driver, UNCONFIRMED_CLIPS, {"most": MOST})[0]

    def unconfirmed_posts(self) -> dict[str, Any]:
        return rows_of(self._driver, UNCONFIRMED_POSTS, {"most": MOST})[0]

    def signs_of_life(self) -> dict[str, Any]:
        """Return when processes and schedulers were last heard of, and whether Postgres takes writes."""
        return rows_of(self._driver, SIGNS_OF_LIFE)[0]

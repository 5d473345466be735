"""Posts and clips that wait for a person."""

from typing import Any

import psycopg

from db.postgres.rows import rows_of

# `submitting` is the point of no return: whose job does not run in a living process, of that nobody knows.
IN_DOUBT = """
SELECT * FROM (
    SELECT p.id, p.tenant_id, p.account_id, p.status, p.error_message, p.submitted_at, p.updated_at, p.job_id
    FROM social_posts p WHERE p.status = 'unconfirmed'
    UNION ALL
    SELECT p.id, p.tenant_id, p.account_id, p.status, p.error_message, p.submitted_at, p.updated_at, p.job_id
    FROM social_posts p
    WHERE p.look_after IS NOT NULL AND p.status = 'submitting' AND NOT EXISTS (
        SELECT FROM job_queue j JOIN workers w ON w.id = j.worker_id
        WHERE j.id = p.job_id AND j.status = 'running' AND w.lease_until > now()
    )
) AS post JOIN LATERAL (
    SELECT platform, username FROM social_accounts a WHERE a.tenant_id = post.tenant_id AND a.id = post.account_id
) AS account ON true
ORDER BY updated_at LIMIT %(limit)s
"""

# By what was to be posted lately; there are as many as tenants let fail.
FAILED = """
SELECT p.id, p.tenant_id, p.account_id, p.status, p.error_message, p.submitted_at, p.updated_at, p.job_id, a.platform,
       a.username
FROM social_posts p JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
WHERE p.status = 'failed' AND p.updated_at > now() - interval '7 days'
ORDER BY p.updated_at DESC LIMIT %(limit)s
"""

CLIPS = """
SELECT id, tenant_id, video_id, provider, model, estimated_usd, error_message, created_at
FROM provider_jobs WHERE state = 'unconfirmed' ORDER BY created_at LIMIT %(limit)s
"""


class Waiting:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def posts_in_doubt(self, limit: int) -> list[dict[str, Any]]:
        """Posts that may be live without our knowing, the longest in doubt first."""
        return rows_of(self._driver, IN_DOUBT, {"limit": limit})

    def failed_posts(self, limit: int) -> list[dict[str, Any]]:
        """Posts that failed in the last seven days, newest first."""
        return rows_of(self._driver, FAILED, {"limit": limit})

    def clips(self, limit: int) -> list[dict[str, Any]]:
        """Paid orders of which nobody can tell whether they were taken, oldest first."""
        return rows_of(self._driver, CLIPS, {"limit": limit})

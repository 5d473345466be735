"""Whether a post may be sent, asked in the transaction that begins its submission.

Whoever changes settings or consents holds back the posts of which nothing was sent. All others, whatever state they are
in by then, are asked for here, at the point of no return. The row of `autopilots` is locked (FOR SHARE) before the
consent is read: so a change that has committed is seen; and one that has not yet begun waits until the submission is
written down, and sees that the post is on its way.
"""

from typing import Any
from uuid import UUID

import psycopg

from domain.autopilot.chains import Mode
from domain.autopilot.consent import check_allowed

# By its key; a post that no chain made, or that a person approved, asks nothing more.
UNAPPROVED = """
SELECT c.id, c.mode, p.account_id FROM social_posts p
JOIN autopilot_chains c ON c.tenant_id = p.tenant_id AND c.id = p.group_id
WHERE p.tenant_id = %s AND p.id = %s AND p.approved_at IS NULL
"""
MODE = "SELECT mode FROM autopilots WHERE tenant_id = %s FOR SHARE"
CONSENT = "SELECT FROM autopilot_accounts WHERE tenant_id = %s AND account_id = %s"


def check_permission(driver: psycopg.Connection[Any], tenant_id: UUID, post_id: UUID) -> None:
    """Check that the autopilot, if it made the post, may send it now; until the transaction ends nobody changes that.

    Raises:
        Withheld: it may not.
    """
    found = driver.execute(UNAPPROVED, (tenant_id, post_id)).fetchone()
    if found is None:
        return
    chain_id, began, account_id = found
    row = driver.execute(MODE, (tenant_id,)).fetchone()
    now = Mode.OFF if row is None else Mode(row[0])
    consents = driver.execute(CONSENT, (tenant_id, account_id)).fetchone() is not None
    check_allowed(chain_id, Mode(began), now, consents=consents)

"""What a tenant lets the autopilot do: its settings, and the accounts whose owners consent.

Whoever changes either, and whoever lets a chain go on, holds the tenant's row and then that of `autopilots`: so consent
that was withdrawn before a commit is not used in it. What is withdrawn takes back the posts that were made with it and
of which nothing was sent.
"""

from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from domain.autopilot.chains import Mode
from domain.autopilot.consent import SET_TO_APPROVE, SWITCHED_OFF, WITHDRAWN
from domain.autopilot.settings import PUT_BACK, RESTORED_BY, Settings
from domain.errors import UnknownAccount, UnknownTenant

NAMES = tuple(each.name for each in fields(Settings))
COLUMNS = ", ".join(NAMES)

GET = f"SELECT {COLUMNS} FROM autopilots WHERE tenant_id = %s"

LOCK_TENANT = "SELECT FROM tenants WHERE id = %s FOR NO KEY UPDATE"
LOCK = f"{GET} FOR NO KEY UPDATE"

ADD = "INSERT INTO autopilots (tenant_id) VALUES (%s) ON CONFLICT DO NOTHING"

# Days on which it was off are nobody's gap.
SAVE = """
UPDATE autopilots SET mode = %(mode)s, least_score = %(least_score)s, videos_a_day = %(videos_a_day)s,
    concepts_a_day = %(concepts_a_day)s, times = %(times)s::text[], provider = %(provider)s,
    budget_usd = %(budget_usd)s, last_on = CASE WHEN mode = 'off' AND %(mode)s <> 'off' THEN NULL ELSE last_on END,
    changed_by = %(changed_by)s, changed_at = %(now)s
WHERE tenant_id = %(tenant_id)s
"""

ACCOUNTS = """
SELECT c.account_id, c.consented_at, c.consented_by, a.platform, a.username, a.external_id, a.status, a.reason,
    a.settings, a.disabled_at
FROM autopilot_accounts c JOIN social_accounts a ON a.tenant_id = c.tenant_id AND a.id = c.account_id
WHERE c.tenant_id = %s ORDER BY c.consented_at, c.account_id
"""

CONSENT = """
INSERT INTO autopilot_accounts (tenant_id, account_id, consented_at, consented_by)
SELECT tenant_id, id, %(now)s, %(by)s FROM social_accounts WHERE tenant_id = %(tenant_id)s AND id = %(account_id)s
ON CONFLICT (tenant_id, account_id) DO NOTHING
"""

WITHDRAW = "DELETE FROM autopilot_accounts WHERE tenant_id = %s AND account_id = %s RETURNING account_id"

# Chains whose posts are not made yet name the account as one that gets none.
NOTE_WITHDRAWN = """
INSERT INTO autopilot_events (tenant_id, chain_id, kind, message, details, at)
SELECT c.tenant_id, c.id, 'withdrawn', coalesce(nullif(a.username, ''), a.id::text) || ' on ' || a.platform || %(says)s,
    jsonb_build_object('account_id', a.id), %(now)s
FROM autopilot_chains c JOIN social_accounts a ON a.tenant_id = c.tenant_id AND a.id = %(account_id)s
WHERE c.tenant_id = %(tenant_id)s AND c.stage IN ('concepts', 'video') AND NOT EXISTS (
    SELECT FROM autopilot_events e WHERE e.tenant_id = c.tenant_id AND e.chain_id = c.id AND e.kind = 'withdrawn'
        AND e.details ->> 'account_id' = a.id::text
)
"""

# Posts that chains made and of which nothing was sent, with their chains, whatever became of these. A claimed one may
# have a handle by now, which published nothing; its job finds that the post is not its own any more. One that is in any
# other state is asked for when it is to be sent (`permission.py`).
HOLD_BACK = """
WITH held AS (
    SELECT p.id, c.id AS chain_id FROM autopilot_chains c
    JOIN social_posts p ON p.tenant_id = c.tenant_id AND p.video_id = c.video_id AND p.group_id = c.id
    WHERE c.tenant_id = %(tenant_id)s
        AND (p.status IN ('draft', 'needs_approval', 'scheduled') OR p.status = 'claimed' AND p.submitted_at IS NULL)
        AND {which}
    ORDER BY p.id FOR NO KEY UPDATE OF p
), changed AS (
    UPDATE social_posts p SET status = %(status)s, handle = NULL, handle_secrets = NULL, handle_expires_at = NULL,
        look_after = NULL, job_id = NULL, updated_at = now()
    FROM held WHERE p.tenant_id = %(tenant_id)s AND p.id = held.id
    RETURNING p.id, held.chain_id
), released AS (
    DELETE FROM post_reservations WHERE tenant_id = %(tenant_id)s AND post_id IN (SELECT id FROM changed)
), noted AS (
    INSERT INTO post_events (tenant_id, post_id, kind, message, at)
    SELECT %(tenant_id)s, id, %(kind)s, %(message)s, %(now)s FROM changed
), written AS (
    INSERT INTO autopilot_events (tenant_id, chain_id, kind, message, at)
    SELECT DISTINCT %(tenant_id)s::uuid, chain_id, %(kind)s, %(message)s, %(now)s::timestamptz FROM changed
)
SELECT id FROM changed ORDER BY id
"""

UNAPPROVED = "p.approved_at IS NULL"
WITHOUT_CONSENT = """NOT EXISTS (
    SELECT FROM autopilot_accounts o WHERE o.tenant_id = p.tenant_id AND o.account_id = p.account_id
)"""

LOOK_NOW = """
UPDATE autopilot_chains SET look_after = least(look_after, %(now)s)
WHERE tenant_id = %(tenant_id)s AND look_after IS NOT NULL
"""


# Modes and consents that were withdrawn since the backup are back with it.
ASK_AGAIN = f"""
UPDATE autopilots a SET mode = 'approve', changed_by = '{RESTORED_BY}', changed_at = %(now)s
FROM (SELECT tenant_id FROM autopilots WHERE mode = 'auto' ORDER BY tenant_id FOR NO KEY UPDATE) found
WHERE a.tenant_id = found.tenant_id
RETURNING a.tenant_id
"""

ASKING_AGAIN = "SELECT tenant_id FROM autopilots WHERE mode = 'approve' AND changed_by = %s ORDER BY tenant_id"


class AutopilotSettings:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def settings(self, tenant_id: UUID) -> Settings:
        """Return the settings; the defaults, with the mode off, where there is no row."""
        row = row_of(self._driver, GET, (tenant_id,))
        return Settings() if row is None else _settings(row)

    def lock(self, tenant_id: UUID) -> Settings:
        """`settings`, and neither they nor any consent changes before the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        self._lock_tenant(tenant_id)
        row = row_of(self._driver, LOCK, (tenant_id,))
        return Settings() if row is None else _settings(row)

    def save(self, tenant_id: UUID, settings: Settings, now: datetime) -> list[UUID]:
        """Save checked settings. Returns the posts that were held back: those that no person has approved, and of
        which nothing was sent, are cancelled when the mode becomes off, and wait for approval when it becomes approve.

        Raises:
            UnknownTenant: there is none of this id.
        """
        self._lock_tenant(tenant_id)
        self._driver.execute(ADD, (tenant_id,))
        values = {name: getattr(settings, name) for name in NAMES}
        values |= {"tenant_id": tenant_id, "times": list(settings.times), "now": now}
        self._driver.execute(SAVE, values)
        self._driver.execute(LOOK_NOW, {"tenant_id": tenant_id, "now": now})
        return self.hold_back(tenant_id, Mode(settings.mode), now)

    def hold_back(self, tenant_id: UUID, mode: Mode, now: datetime, chain_id: UUID | None = None) -> list[UUID]:
        """Take back what this mode does not let the autopilot post, of one chain or of all. Its row is locked."""
        which, values = UNAPPROVED, {}
        if chain_id is not None:
            which, values = f"{which} AND c.id = %(chain_id)s", {"chain_id": chain_id}
        if mode is Mode.OFF:
            return self._hold_back(tenant_id, which, "cancelled", f"cancelled: {SWITCHED_OFF}", now, **values)
        if mode is Mode.APPROVE:
            which, says = (
                f"{which} AND p.status IN ('scheduled', 'claimed')",
                f"it waits for approval: {SET_TO_APPROVE}",
            )
            return self._hold_back(tenant_id, which, "needs_approval", says, now, **values)
        return []

    def hold_back_again(self, tenant_id: UUID, chain_id: UUID, mode: Mode, now: datetime) -> None:
        """Take back those of a chain's posts that have come back since the mode or a consent was changed. Its row is
        locked."""
        which = f"{UNAPPROVED} AND c.id = %(chain_id)s AND {WITHOUT_CONSENT}"
        self._hold_back(tenant_id, which, "cancelled", f"cancelled: {WITHDRAWN}", now, chain_id=chain_id)
        self.hold_back(tenant_id, mode, now, chain_id)

    def ask_again(self, now: datetime) -> None:
        """Set every autopilot that is on `auto` to `approve`, since the database was put back, and let its posts to
        come wait for approval. What is due or under way is left: whether it was published since has to be found out
        first, and before it is sent the mode is asked for. System scope; the gate of posting is held alone."""
        for (tenant_id,) in self._driver.execute(ASK_AGAIN, {"now": now}).fetchall():
            which = f"{UNAPPROVED} AND p.status = 'scheduled' AND p.scheduled_for > %(now)s"
            says = f"it waits for approval: {PUT_BACK}"
            self._hold_back(tenant_id, which, "needs_approval", says, now)

    def asking_again(self) -> list[UUID]:
        """Return the tenants in scope that nobody has switched to another mode since `ask_again`."""
        return [tenant_id for (tenant_id,) in self._driver.execute(ASKING_AGAIN, (RESTORED_BY,))]

    def accounts(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the accounts whose owners consent, oldest consent first: `account_id`, `consented_at`,
        `consented_by`, and the account's `platform`, `username`, `external_id`, `status`, `reason`, `settings` and
        `disabled_at`."""
        return rows_of(self._driver, ACCOUNTS, (tenant_id,))

    def consent(self, tenant_id: UUID, account_id: UUID, by: str | None, now: datetime) -> bool:
        """Let the autopilot post to an account; False if it may already.

        Raises:
            UnknownTenant, UnknownAccount: there is no such thing.
        """
        self.lock(tenant_id)
        values = {"tenant_id": tenant_id, "account_id": account_id, "by": by, "now": now}
        if self._driver.execute(CONSENT, values).rowcount:
            return True
        if all(each["account_id"] != account_id for each in self.accounts(tenant_id)):
            raise UnknownAccount(f"there is no account {account_id}")
        return False

    def withdraw(self, tenant_id: UUID, account_id: UUID, now: datetime) -> list[UUID] | None:
        """Let the autopilot post to an account no more. Returns its posts of this account that are cancelled, of which
        nothing was sent; None if there was no consent.

        Raises:
            UnknownTenant: there is none of this id.
        """
        self.lock(tenant_id)
        if self._driver.execute(WITHDRAW, (tenant_id, account_id)).fetchone() is None:
            return None
        values = {"tenant_id": tenant_id, "account_id": account_id, "says": f": {WITHDRAWN}", "now": now}
        self._driver.execute(NOTE_WITHDRAWN, values)
        which = "p.account_id = %(account_id)s"
        message = f"cancelled: {WITHDRAWN}"
        cancelled = self._hold_back(tenant_id, which, "cancelled", message, now, account_id=account_id)
        self._driver.execute(LOOK_NOW, {"tenant_id": tenant_id, "now": now})
        return cancelled

    def cancel_posts(
        self, tenant_id: UUID, chain_id: UUID, reason: str, now: datetime, *, unapproved: bool = False
    ) -> list[UUID]:
        """Cancel the posts of a chain of which nothing was sent, or those of them that wait for approval. The tenant is
        locked already."""
        which = "c.id = %(chain_id)s" + (" AND p.status IN ('draft', 'needs_approval')" if unapproved else "")
        return self._hold_back(tenant_id, which, "cancelled", f"cancelled: {reason}", now, chain_id=chain_id)

    def _hold_back(
        self, tenant_id: UUID, which: str, status: str, message: str, now: datetime, **values: Any
    ) -> list[UUID]:
        kind = "cancelled" if status == "cancelled" else "held_back"
        values |= {"tenant_id": tenant_id, "status": status, "kind": kind, "message": message, "now": now}
        rows = self._driver.execute(HOLD_BACK.format(which=which), values)
        return [post_id for (post_id,) in rows]

    def _lock_tenant(self, tenant_id: UUID) -> None:
        if self._driver.execute(LOCK_TENANT, (tenant_id,)).fetchone() is None:
            raise UnknownTenant(f"no tenant has the id {tenant_id}; `viral tenants list` shows them")


def _settings(row: dict[str, Any]) -> Settings:
    return Settings(**row | {"mode": Mode(row["mode"]), "times": tuple(row["times"])})

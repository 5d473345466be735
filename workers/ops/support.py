"""What support does for one tenant: concepts granted or taken, each with a reason, once for each key, on the record; a
fresh count."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

from db.transaction import SYSTEM, Tx
from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.ops.actions import LONGEST_REASON, Outcome, Result
from domain.quota.quota import Quota, lasting
from domain.text.readable import readable
from workers.app import App

KEYS = UUID("6f0a0a4e-9f7c-4d57-9a3b-3f1f1d6f2c11")
"""The namespace of ids that keys make."""

LONGEST_KEY = 200


class Changed(NamedTuple):
    """A tenant's quota after support changed it. `action_id` is the row of the audit; `again`: the key had been used,
    so nothing was done now. `until` when the period ends; None: it waits for an invoice, and `says` for which."""

    action_id: UUID
    again: bool
    says: str
    granted: int
    used: int
    remaining: int
    until: datetime | None


def change_quota(app: App, tenant_id: UUID, count: int, *, who: str, reason: str, key: str | None = None) -> Changed:
    """Grant `count` concepts for the running period; take them if it is negative. A `key` that was used for this tenant
    changes nothing.

    Raises:
        TenantDeleted, UnknownTenant: there is none of this id any more, or never was.
        Rejected: the rules of quota refuse it, the reason is missing or too long, or the key was used for something
            else.
    """
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise Rejected(f"give a reason of 1 to {LONGEST_REASON} characters: people will ask why")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise Rejected(f"a key has 1 to {LONGEST_KEY} characters")
    action_id = uuid4() if key is None else uuid5(KEYS, f"quota:{tenant_id}:{key}")
    action, arguments = ("quota.grant" if count > 0 else "quota.take"), {"count": abs(count)}
    with app.db.transaction(SYSTEM) as tx:
        quota = _locked(tx, tenant_id)
        if key is not None and (done := tx.actions.get(action_id)) is not None:
            if (done["action"], done["arguments"]) != (action, arguments):
                raise Rejected(f"the key was used for another change: {done['says']}")
            now = tx.quota.moment()
            current = tx.quota.reset_if_due(tenant_id, quota, now)
            over = tx.quota.granted_in(tenant_id, done["at"]) != current.period_start
            ended = ", and it ended with its period" if over else ""
            return _changed(action_id, current, now, again=True, says=f"done before: {done['says']}{ended}")
        before, after = tx.quota.change_granted(tenant_id, count, f"person:{who}")
        now = tx.quota.moment()
        result = _granted(before, after, count, now)
        # Within this transaction, so that one without the other is not there.
        tx.actions.begin(
            action_id,
            who=f"person:{who}",
            action=action,
            target=f"tenant:{tenant_id}",
            arguments=arguments,
            reason=reason,
        )
        tx.actions.end(action_id, result)
        return _changed(action_id, after, now, again=False, says=result.says)


def change(tx: Tx, tenant_id: UUID, count: int, cause: str) -> Result:
    """`change_quota` within the transaction of whoever keeps the audit, and without a key.

    Raises:
        TenantDeleted, UnknownTenant: there is none of this id any more, or never was.
        Rejected: the rules of quota refuse it.
    """
    _locked(tx, tenant_id)
    before, after = tx.quota.change_granted(tenant_id, count, cause)
    return _granted(before, after, count, tx.quota.moment())


def restart(tx: Tx, tenant_id: UUID, cause: str) -> Result:
    """Give the tenant a fresh count for what is left of the running period.

    Raises:
        TenantDeleted, UnknownTenant: there is none of this id any more, or never was.
        Rejected: nothing can be drawn of the period any more.
    """
    _locked(tx, tenant_id)
    before, after = tx.quota.restart(tenant_id, cause)
    if after.lasts_until(tx.quota.moment()) is None:
        goes_on = f"the next period waits for the invoice that was due on {readable(after.resets_at)}"
    else:
        goes_on = f"the next reset stays at {readable(after.resets_at)}"
    shown = {"used": after.used, "resets_at": after.resets_at}
    return Result(Outcome.DONE, f"{before.used - after.used} given back; {goes_on}", {"used": before.used}, shown)


def _locked(tx: Tx, tenant_id: UUID) -> Quota:
    """Lock the quota, which puts all that is done to it in one order: of one key the second sees the first, and who
    comes after the tenant's deletion sees that."""
    quota = tx.quota.lock(tenant_id)
    tx.tenants.get(tenant_id)
    return quota


def _granted(before: Quota, after: Quota, count: int, now: datetime) -> Result:
    """Say what became of a quota of which `count` concepts were granted, or taken if it is negative."""
    says = f"{counted(abs(count), 'concept')} {'granted' if count > 0 else 'taken'}"
    if after.lasts_until(now) is None:
        says += f", {lasting(after, now)}"
    left = after.available(now)
    if left - before.available(now) < count:
        says += f"; of them {left} can be used: {after.used} of {after.allowance} are used"
    return Result(Outcome.DONE, says, _shown(before, now), _shown(after, now))


def _shown(quota: Quota, now: datetime) -> dict[str, Any]:
    return {"granted": quota.granted, "used": quota.used, "remaining": quota.available(now)}


def _changed(action_id: UUID, quota: Quota, now: datetime, *, again: bool, says: str) -> Changed:
    left, until = quota.available(now), quota.lasts_until(now)
    return Changed(action_id, again, says, quota.granted, quota.used, left, until)

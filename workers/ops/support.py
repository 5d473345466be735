"""What support does for one tenant: concepts granted or taken, each with a reason, once for each key, on the record."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

from db.transaction import SYSTEM
from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.ops.actions import LONGEST_REASON, Outcome, Result
from domain.quota.quota import Quota
from workers.app import App

KEYS = UUID("6f0a0a4e-9f7c-4d57-9a3b-3f1f1d6f2c11")
"""The namespace of ids that keys make."""

LONGEST_KEY = 200


class Changed(NamedTuple):
    """A tenant's quota after support changed it. `action_id` is the row of the audit; `again`: the key had been used,
    so nothing was done now."""

    action_id: UUID
    again: bool
    says: str
    granted: int
    used: int
    remaining: int
    until: datetime


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
        # The lock puts all that is done to this tenant's quota in one order, so that of one key the second sees the
        # first.
        quota = tx.quota.lock(tenant_id)
        tx.tenants.get(tenant_id)
        if key is not None and (done := tx.actions.get(action_id)) is not None:
            if (done["action"], done["arguments"]) != (action, arguments):
                raise Rejected(f"the key was used for another change: {done['says']}")
            return _changed(action_id, quota, quota.available(tx.now()), again=True, says=f"{done['says']} before")
        before, after = tx.quota.change_granted(tenant_id, count, f"person:{who}")
        result = result_of(before, after, count)
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
        return _changed(action_id, after, after.available(tx.now()), again=False, says=result.says)


def result_of(before: Quota, after: Quota, count: int) -> Result:
    """Say what became of a quota of which `count` concepts were granted, or taken if it is negative."""
    says = f"{counted(abs(count), 'concept')} {'granted' if count > 0 else 'taken'}"
    return Result(Outcome.DONE, says, _shown(before), _shown(after))


def _shown(quota: Quota) -> dict[str, Any]:
    return {"granted": quota.granted, "used": quota.used, "remaining": quota.remaining}


def _changed(action_id: UUID, quota: Quota, available: int, *, again: bool, says: str) -> Changed:
    return Changed(action_id, again, says, quota.granted, quota.used, available, quota.resets_at)

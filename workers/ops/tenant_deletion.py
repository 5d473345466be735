"""Begins the deletion of a tenant: accounts are disconnected at their platforms, nobody is let in, and a job does the
rest (`workers/jobs/tenants.py`)."""

from typing import NamedTuple
from uuid import UUID, uuid4

from db.ops.tenant_rows import KEPT
from db.transaction import SYSTEM
from domain.billing.subscriptions import TERMINAL
from domain.errors import Conflict, Rejected
from domain.ops.actions import LONGEST_REASON, Outcome, Result
from domain.posting.accounts import AccountStatus
from workers.app import App
from workers.jobs.tenants import delete
from workers.ops.accounts import disconnect

KEEPS = KEPT | {
    "tenants": "the row without a name, to which all of these belong",
    "quota_ledger": KEPT["quota_ledger"],
    "stripe_subscriptions, stripe_invoices": "what was paid when: invoices have to be kept for years",
    "operator_actions": "who deleted it, when and why",
    "webhook_events": "what Stripe and Clerk sent, for as long as any event is kept",
}
"""What is left of a deleted tenant, and why."""


class Begun(NamedTuple):
    """`job_id` deletes the rest; `accounts` says what became of each social account; `kept` what is left, and why."""

    job_id: UUID
    accounts: dict[str, str]
    kept: dict[str, str]


def name_of(app: App, tenant_id: UUID) -> str:
    """Raises:
    UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        return str(tx.tenants.get(tenant_id)["name"])


def begin_deletion(app: App, tenant_id: UUID, *, who: str, reason: str) -> Begun:
    """Close the tenant, and enqueue the job that deletes it; again, it goes on where it was cut short.

    Raises:
        UnknownTenant: there is none of this id.
        Conflict: a subscription runs at Stripe, and would go on being paid.
        Rejected: the reason is missing or too long.
    """
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise Rejected(f"give a reason of 1 to {LONGEST_REASON} characters: people will ask why")
    with app.db.transaction(SYSTEM) as tx:
        row = tx.tenants.get(tenant_id)
        subscriptions, _ = tx.billing.of_tenant(tenant_id, row["stripe_customer_id"])
        accounts = tx.social_accounts.listed(tenant_id)
    if running := sorted(each.id for each in subscriptions if each.status not in TERMINAL):
        raise Conflict(
            "SUBSCRIPTION_RUNS",
            f"{', '.join(running)} runs at Stripe, and would be paid for nothing: cancel it there first",
        )
    answers = {
        str(each["id"]): disconnect(app, tenant_id, each["id"]).says
        for each in accounts
        if each["status"] != AccountStatus.DISCONNECTED
    }
    with app.db.transaction(SYSTEM) as tx:
        tx.quota.lock(tenant_id)
        before = tx.tenants.get(tenant_id)
        tx.tenant_rows.close(tenant_id)
        job_id = delete.enqueue(tx, doomed_id=tenant_id)
        result = Result(
            Outcome.DONE,
            f"closed; the job {job_id} deletes what it has",
            {"tier": before["subscription_tier"], "accounts": len(accounts)},
            {"job_id": job_id},
        )
        action_id = uuid4()
        tx.actions.begin(
            action_id,
            who=f"person:{who}",
            action="tenants.delete",
            target=f"tenant:{tenant_id}",
            arguments={},
            reason=reason,
        )
        tx.actions.end(action_id, result)
    return Begun(job_id, answers, KEEPS)

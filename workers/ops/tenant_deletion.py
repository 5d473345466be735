"""Begins the deletion of a tenant: accounts are disconnected at their platforms, nobody is let in, and a job does the
rest (`workers/jobs/tenants.py`)."""

from typing import NamedTuple
from uuid import UUID

from db.ops.tenant_rows import KEPT
from db.transaction import SYSTEM, Tx
from domain.errors import Conflict
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


ROUNDS = 5
"""So often accounts that were connected meanwhile are disconnected too."""


class Begun(NamedTuple):
    """`job_id` deletes the rest; `accounts` says what became of each social account that was connected. `again`: the
    tenant was deleted before."""

    job_id: UUID
    accounts: dict[str, str]
    again: bool


def name_of(app: App, tenant_id: UUID) -> str:
    """Raises:
    UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        return str(tx.tenants.seen(tenant_id)["name"])


def begin_deletion(app: App, tenant_id: UUID, *, who: str) -> Begun:
    """Mark the tenant as deleted, and enqueue the job that deletes what it has; again, it goes on where it was cut
    short. `who` (`person:ada`) is kept in its ledger; why, in the audit of whoever performs it.

    Raises:
        UnknownTenant: there is none of this id.
        Conflict: a subscription runs at Stripe, and would go on being paid; or accounts are connected as fast as they
            are disconnected.
    """
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.seen(tenant_id)
        _check_subscriptions(tx, tenant_id)
    answers: dict[str, str] = {}
    for _ in range(ROUNDS):
        for each in _connected(app, tenant_id):
            answers[str(each)] = disconnect(app, tenant_id, each).says
        with app.db.transaction(SYSTEM) as tx:
            marked = _mark(tx, tenant_id, who=who)
        if marked is not None:
            return Begun(marked[0], answers, again=not marked[1])
    raise Conflict("ACCOUNTS_CONNECTED", "its accounts are being connected right now: try again")


def _mark(tx: Tx, tenant_id: UUID, *, who: str) -> tuple[UUID, bool] | None:
    """Mark it in one commit with the job, and return that and whether this marked it; None if an account was connected
    meanwhile.

    Raises:
        Conflict: a subscription has begun meanwhile.
    """
    tx.identity.lock_organizations()
    # Whoever adds to the tenant, Stripe's events included, has either committed, or finds the mark.
    tx.tenant_rows.lock(tenant_id)
    _check_subscriptions(tx, tenant_id)
    if any(each["status"] != AccountStatus.DISCONNECTED for each in tx.social_accounts.listed(tenant_id)):
        return None
    marked = tx.tenant_rows.close(tenant_id)
    if marked:
        tx.quota.record(tenant_id, "grant", who, tx.quota.lock(tenant_id), amount=0)
    return delete.enqueue(tx, doomed_id=tenant_id), marked


def _check_subscriptions(tx: Tx, tenant_id: UUID) -> None:
    """Raises:
    Conflict: one runs.
    """
    if tx.tenants.seen(tenant_id)["deletion_began_at"] is None and (running := tx.billing.running_for(tenant_id)):
        raise Conflict(
            "SUBSCRIPTION_RUNS",
            f"{', '.join(running)} runs at Stripe, and would be paid for nothing: cancel it there first",
        )


def _connected(app: App, tenant_id: UUID) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        listed = tx.social_accounts.listed(tenant_id)
    return [each["id"] for each in listed if each["status"] != AccountStatus.DISCONNECTED]

"""Shows one tenant: its plan, its quota, who works in it, and why the numbers are what they are."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.concepts.timing import is_zone
from domain.events.outcomes import Status
from domain.quota.explain import backing, explain
from workers.app import App

Row = dict[str, Any]


@dataclass(frozen=True)
class QuotaExplanation:
    """The name of a tenant, what it has used and has left, and the sentences that say how it came about."""

    name: str
    used: int
    remaining: int
    sentences: list[str]


def find_with_people(app: App, tenant_id: UUID) -> Row:
    """Return a tenant with its `users`, who answers for it, and what of its subscriptions is paused or unpaid.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        row = tx.tenants.get(tenant_id)
        people = tx.identity.of_tenant(tenant_id)
        tx.work_as(SYSTEM)
        answering = tx.identity.answering(tenant_id)
        deserted = tx.tenants.is_deserted(tenant_id)
        behind = backing(*tx.billing.of_tenant(tenant_id, row["stripe_customer_id"]), app.ports.prices)
    return row | {
        "only_banned_people_answer": bool(answering) and all(person["banned"] for person in answering),
        "collection_paused_since": behind.paused_since,
        "not_paid": " ".join(behind.unpaid) or None,
        "deserted": deserted,
        "timezone_known": is_zone(row["timezone"]),
        "users": people,
    }


def find_quota(app: App, tenant_id: UUID) -> Row:
    """Return what a tenant has left, when more comes, and its `ledger`.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        quota, now = tx.quota.lock(tenant_id), tx.now()
        ledger = tx.quota.ledger(tenant_id)
    return {
        "tenant_id": tenant_id,
        "quota": quota.limit,
        "used": quota.used,
        "remaining": quota.available(now),
        "period_start": quota.period_start,
        "restarted_at": quota.restarted_at,
        "resets_at": quota.resets_at,
        "paid_until": quota.paid_until,
        "drawn_until": quota.drawn_until,
        "ledger": ledger,
    }


def explain_quota(app: App, tenant_id: UUID) -> QuotaExplanation:
    """Say in sentences how a tenant's quota came about.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        tenant = tx.tenants.get(tenant_id)
        quota, now = tx.quota.lock(tenant_id), tx.now()
        entries = tx.quota.ledger(tenant_id, limit=10_000, since=quota.period_start)
        held = tx.quota.held(tenant_id)
        status = tenant["subscription_status"]
        plan = tenant["subscription_tier"] + (f" ({status})" if status != "none" else "")
        tx.work_as(SYSTEM)
        customer = tenant["stripe_customer_id"]
        behind = backing(*tx.billing.of_tenant(tenant_id, customer), app.ports.prices)
        about = [customer] if customer else []
        parked = [
            tx.events.waiting("stripe", why, about) for why in (Status.PARKED_INCOMPLETE, Status.PARKED_UNFETCHABLE)
        ]
    behind = replace(behind, waiting=sum(map(len, parked)))
    sentences = explain(plan, quota, entries, held, now, behind=behind)
    return QuotaExplanation(tenant["name"], quota.used, quota.available(now), sentences)

"""Who pays for whom: a Stripe customer, the tenant it pays for, and what its deletion means.

A tenant pays as one customer at a time. What a deleted one had bought still counts as its past, so it does not matter
whether a deletion, or the old events of the deleted customer, are told before or after those of the next one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.billing.invoices import Invoice
from domain.billing.plan import TERMINAL, PriceBook, Subscription, TenantBilling, standing
from domain.events.outcomes import Concern, Flag


@dataclass(frozen=True, slots=True)
class Customer:
    """A Stripe customer: the tenant that events say it pays for, and when it was deleted."""

    id: str
    tenant_id: UUID | None = None
    deleted_at: datetime | None = None


def pay_as(tenant: TenantBilling, customer: Customer) -> TenantBilling | None:
    """The tenant, linked as events of this customer of theirs say: to it, or to it no more once it is deleted.

    None if the tenant pays as another, living customer: that link is stronger than what events say.
    """
    if customer.deleted_at is not None:
        return replace(tenant, customer_id=None) if tenant.customer_id == customer.id else tenant
    return replace(tenant, customer_id=customer.id) if tenant.customer_id in (None, customer.id) else None


def ended(subscription: Subscription, at: datetime | None) -> Subscription:
    """The row as it counts once its customer was deleted (`at`; None: it was not): what had not ended, ends then.

    Applied when the tenant is derived and never stored, so that the mirror keeps what Stripe said of the subscription
    itself and it does not matter which of the two is told first.
    """
    if at is None or subscription.status in TERMINAL:
        return subscription
    return replace(subscription, status="canceled", ended_at=at)


def concerns(
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    prices: PriceBook,
    tenant_id: UUID,
    named: UUID | None,
) -> tuple[Concern, ...]:
    """What a person should know of a tenant's subscriptions, if anything: it changes no plan by itself."""
    rows, bills = list(subscriptions), list(invoices)
    found = []
    if named is not None and named != tenant_id:
        found.append(Concern(Flag.OTHER_TENANT_NAMED, "metadata names another tenant"))
    if sum(row.entitled for row in rows) > 1:
        found.append(Concern(Flag.SEVERAL_SUBSCRIPTIONS, "several subscriptions at once"))
    for each in (standing(row, bills, prices) for row in rows):
        if each.held_back:
            has = f"has {each.tier}, which was" if each.tier else "has no plan: nothing was"
            says = f"a change to {each.held_back} is not paid: the tenant {has} last paid for"
            found.append(Concern(Flag.UNPAID_CHANGE, says))
    return tuple(found)

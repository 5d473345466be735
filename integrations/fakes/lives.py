"""What Stripe would tell of a customer's life, event by event, in the order in which it happens."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from domain.billing import PLANS, Tier
from domain.quota import add_months
from integrations.fakes.people import Body, Cast
from integrations.fakes.stripe import checkout_session, invoice, stripe_event, subscription


def lifecycle(who: Cast, start: datetime, prices: Mapping[Tier, str]) -> list[Body]:
    """Checkout, STARTER, a renewal, an upgrade to PRO with its proration, a cancellation at the period's end: in the
    order in which it happens. Ends two months after `start`."""
    renewal, end = add_months(start, 1), add_months(start, 2)
    upgrade, notice = renewal + timedelta(days=10), renewal + timedelta(days=12)
    usd = {tier: plan.usd_per_month * 100 for tier, plan in PLANS.items()}
    starter = replace(who, price_id=prices[Tier.STARTER], unit_amount=usd[Tier.STARTER])
    pro = replace(who, price_id=prices[Tier.PRO], unit_amount=usd[Tier.PRO])
    first, second = (start, renewal), (renewal, end)
    # Before basil, Checkout made the subscription first and paid it within the second; since, it is made after payment.
    made = "active" if who.shape == "basil" else "incomplete"
    soon, hour = timedelta(seconds=3), timedelta(hours=1)

    def told(kind: str, row: Body, at: datetime, previous: Body | None = None) -> Body:
        return stripe_event(f"customer.subscription.{kind}", row, at=at, shape=who.shape, previous=previous)

    def paid(payer: Cast, period: tuple[datetime, datetime], at: datetime, reason: str) -> Body:
        bill = invoice(payer, period, at=at, billing_reason=reason, proration=reason == "subscription_update")
        return stripe_event("invoice.paid", bill, at=at, shape=who.shape)

    session = checkout_session(starter, at=start)
    was_starter = {"items": subscription(starter, start, second)["items"]}
    return [
        told("created", subscription(starter, start, first, status=made), start),
        told("updated", subscription(starter, start, first), start, {"status": "incomplete"}),
        stripe_event("checkout.session.completed", session, at=start + soon, shape=who.shape),
        paid(starter, first, start + soon, "subscription_create"),
        told("updated", subscription(starter, start, second), renewal, {"latest_invoice": "in_before"}),
        paid(starter, second, renewal + hour, "subscription_cycle"),
        told("updated", subscription(pro, start, second), upgrade, was_starter),
        paid(pro, (upgrade, end), upgrade + soon, "subscription_update"),
        told(
            "updated",
            subscription(pro, start, second, cancel_at=end, asked_to_end_at=notice),
            notice,
            {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None},
        ),
        told(
            "deleted",
            subscription(pro, start, second, status="canceled", asked_to_end_at=notice, ended_at=end),
            end,
        ),
    ]

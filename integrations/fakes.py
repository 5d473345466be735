"""What Stripe and Clerk would send: event bodies as plain dicts, made from explicit times and ids, without a network.

Stripe bodies come in three shapes. `acacia`: as before 2025-03-31. `basil`: as since then (the period on the items, an
invoice's subscription and a line's proration under `parent`). `hybrid`: both at once under an old `api_version`, as
some endpoints really get them. An event built twice from the same values is the same event, id included.
"""

import hashlib
import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

from domain.billing import PLANS, Tier
from domain.quota import add_months

Body = dict[str, Any]
Shape = Literal["acacia", "basil", "hybrid"]
API_VERSIONS: Mapping[Shape, str] = MappingProxyType(
    {"acacia": "2024-12-18.acacia", "basil": "2025-03-31.basil", "hybrid": "2022-11-15"}
)


@dataclass(frozen=True)
class Cast:
    """Who a story is about, so that its events agree. `unit_amount` is in cents."""

    tenant_id: UUID
    customer_id: str
    subscription_id: str
    user_id: str
    email: str
    price_id: str = "price_pro"
    unit_amount: int = 14_900
    shape: Shape = "basil"


def cast(rng: Random, **known: Any) -> Cast:
    """New people with random ids; whatever is known (`tenant_id=…, price_id=…`) stays as given."""
    number = rng.randrange(10**6)
    made = Cast(
        tenant_id=UUID(int=rng.getrandbits(128), version=4),
        customer_id=new_id("cus", rng, 14),
        subscription_id=new_id("sub", rng),
        user_id=new_id("user", rng, 27),
        email=f"person{number}@example.com",
    )
    return replace(made, **known)


def new_id(prefix: str, rng: Random, length: int = 24) -> str:
    return f"{prefix}_" + "".join(rng.choices(string.ascii_letters + string.digits, k=length))


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


def stripe_event(kind: str, about: Body, *, at: datetime, shape: Shape = "basil", previous: Body | None = None) -> Body:
    """The envelope of a snapshot event about an object; `previous` are the fields that an update changed."""
    data: Body = {"object": about} if previous is None else {"object": about, "previous_attributes": previous}
    return {
        "id": f"evt_1{_digest(kind, at, data)}",
        "object": "event",
        "api_version": API_VERSIONS[shape],
        "created": _seconds(at),
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def subscription(
    who: Cast,
    started_at: datetime,
    period: tuple[datetime, datetime],
    *,
    status: str = "active",
    anchor: datetime | None = None,
    trial_end: datetime | None = None,
    cancel_at: datetime | None = None,
    asked_to_end_at: datetime | None = None,
    ended_at: datetime | None = None,
    interval: str = "month",
) -> Body:
    """A subscription as `customer.subscription.*` carries it; `cancel_at` is scheduled at the period's end."""
    running = {"current_period_start": _seconds(period[0]), "current_period_end": _seconds(period[1])}
    item: Body = {
        "id": f"si_{_digest(who.subscription_id)[:14]}",
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": _seconds(started_at),
        "metadata": {},
        "plan": _plan(who, started_at, interval),
        "price": _price(who, started_at, interval),
        "quantity": 1,
        "subscription": who.subscription_id,
        "tax_rates": [],
    }
    row: Body = {
        "id": who.subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"enabled": False, "liability": None},
        "billing_cycle_anchor": _seconds(anchor or trial_end or started_at),
        "billing_thresholds": None,
        "cancel_at": _maybe(cancel_at),
        "cancel_at_period_end": cancel_at is not None,
        "canceled_at": _maybe(asked_to_end_at),
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": _seconds(started_at),
        "currency": "usd",
        "customer": who.customer_id,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": _maybe(ended_at),
        "items": {"object": "list", "data": [item], "has_more": False, "total_count": 1, "url": _items_url(who)},
        "latest_invoice": f"in_1{_digest(who.subscription_id, period[0])}",
        "livemode": False,
        "metadata": {"tenantId": str(who.tenant_id)},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {"payment_method_options": None, "payment_method_types": None},
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": _seconds(started_at),
        "status": status,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": _maybe(trial_end),
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": _seconds(started_at) if trial_end else None,
    }
    if who.shape != "acacia":
        item.update(running, discounts=[])
        row["billing_mode"] = {"type": "classic", "flexible": None}
    if who.shape != "basil":
        row.update(running, discount=None, plan=item["plan"], quantity=1)
    return row


def invoice(
    who: Cast,
    period: tuple[datetime, datetime],
    *,
    at: datetime,
    billing_reason: str = "subscription_cycle",
    status: str = "paid",
    proration: bool = False,
    amount: int | None = None,
) -> Body:
    """An invoice over one line. `period` is what the line bills; the invoice's own period is, as Stripe has it, the
    moment of a first invoice and the month before on a renewal. `amount` is in cents; a trial's is 0."""
    cents = who.unit_amount if amount is None else amount
    invoice_id = f"in_1{_digest(who.subscription_id, period[0], billing_reason)}"
    paid = status == "paid"
    before = add_months(period[0], -1) if billing_reason == "subscription_cycle" else period[0]
    metadata = {"tenantId": str(who.tenant_id)}
    bill: Body = {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Viral Dashboard",
        "account_tax_ids": None,
        "amount_due": cents,
        "amount_paid": cents if paid else 0,
        "amount_remaining": 0 if paid else cents,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 1,
        "attempted": True,
        "auto_advance": not paid,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_reason": billing_reason,
        "collection_method": "charge_automatically",
        "created": _seconds(at),
        "currency": "usd",
        "customer": who.customer_id,
        "customer_email": who.email,
        "customer_name": None,
        "default_payment_method": None,
        "discounts": [],
        "due_date": None,
        "effective_at": _seconds(at),
        "ending_balance": 0,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/test/{invoice_id}",
        "invoice_pdf": f"https://pay.stripe.com/invoice/test/{invoice_id}/pdf",
        "issuer": {"type": "self"},
        "lines": {
            "object": "list",
            "data": [_line(who, period, invoice_id, cents, proration=proration)],
            "has_more": False,
            "total_count": 1,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None if paid else _seconds(at + timedelta(days=3)),
        "number": f"{_digest(who.customer_id)[:8].upper()}-0001",
        "period_end": _seconds(period[0]),
        "period_start": _seconds(before),
        "starting_balance": 0,
        "status": status,
        "status_transitions": {
            "finalized_at": _seconds(at),
            "marked_uncollectible_at": None,
            "paid_at": _seconds(at) if paid else None,
            "voided_at": None,
        },
        "subtotal": cents,
        "test_clock": None,
        "total": cents,
        "total_discount_amounts": [],
        "webhooks_delivered_at": _seconds(at),
    }
    if who.shape != "acacia":
        details = {"metadata": metadata, "subscription": who.subscription_id}
        bill["parent"] = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
        bill["total_taxes"] = []
    if who.shape != "basil":
        bill.update(subscription=who.subscription_id, subscription_details={"metadata": metadata}, tax=None)
        bill.update(paid=paid, paid_out_of_band=False, charge=None, payment_intent=None, discount=None)
    return bill


def checkout_session(who: Cast, *, at: datetime) -> Body:
    """A completed hosted checkout of a subscription, as the dashboard starts it: the tenant stands on the session."""
    return {
        "id": f"cs_test_{_digest(who.subscription_id, at) * 2}",
        "object": "checkout.session",
        "allow_promotion_codes": None,
        "amount_subtotal": who.unit_amount,
        "amount_total": who.unit_amount,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://example.com/billing?canceled=1",
        "client_reference_id": str(who.tenant_id),
        "created": _seconds(at),
        "currency": "usd",
        "customer": who.customer_id,
        "customer_creation": None,
        "customer_details": {"email": who.email, "name": None, "phone": None, "tax_exempt": "none", "tax_ids": []},
        "customer_email": None,
        "expires_at": _seconds(at + timedelta(days=1)),
        "invoice": f"in_1{_digest(who.subscription_id, at, 'subscription_create')}",
        "livemode": False,
        "locale": None,
        "metadata": {"tenantId": str(who.tenant_id)},
        "mode": "subscription",
        "payment_intent": None,
        "payment_method_collection": "always",
        "payment_method_types": ["card"],
        "payment_status": "paid",
        "setup_intent": None,
        "status": "complete",
        "subscription": who.subscription_id,
        "success_url": "https://example.com/billing?success=1",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": None,
    }


def customer(who: Cast, *, created_at: datetime) -> Body:
    return {
        "id": who.customer_id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": _seconds(created_at),
        "currency": "usd",
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": who.email,
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None},
        "livemode": False,
        "metadata": {"tenantId": str(who.tenant_id)},
        "name": None,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def clerk_event(kind: str, data: Body, *, at: datetime) -> Body:
    """The envelope of a Clerk event. It has no id: that is the header `svix-id`."""
    return {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7", "user_agent": "Mozilla/5.0"}},
        "instance_id": "ins_2fakeInstanceForDevelopment",
        "object": "event",
        "timestamp": _milliseconds(at),
        "type": kind,
    }


def clerk_user(
    who: Cast,
    *,
    created_at: datetime,
    updated_at: datetime | None = None,
    last_sign_in_at: datetime | None = None,
    first_name: str | None = "Ada",
    last_name: str | None = "Lovelace",
) -> Body:
    """A user as `user.created` and `user.updated` carry it; an older, unverified address comes first in the list."""
    changed = _milliseconds(updated_at or created_at)

    def address(email: str, status: str) -> Body:
        return {
            "id": f"idn_{_digest(email)}",
            "object": "email_address",
            "created_at": _milliseconds(created_at),
            "email_address": email,
            "linked_to": [],
            "matches_sso_connection": False,
            "reserved": False,
            "updated_at": changed,
            "verification": {"attempts": 1, "expire_at": None, "status": status, "strategy": "email_code"},
        }

    primary = address(who.email, "verified")
    return {
        "id": who.user_id,
        "object": "user",
        "backup_code_enabled": False,
        "banned": False,
        "create_organization_enabled": True,
        "created_at": _milliseconds(created_at),
        "delete_self_enabled": True,
        "email_addresses": [address(f"old.{who.email}", "unverified"), primary],
        "enterprise_accounts": [],
        "external_accounts": [],
        "external_id": None,
        "first_name": first_name,
        "has_image": True,
        "image_url": f"https://img.clerk.com/{_digest(who.user_id)}",
        "last_active_at": changed,
        "last_name": last_name,
        "last_sign_in_at": _milliseconds(last_sign_in_at) if last_sign_in_at else None,
        "locked": False,
        "passkeys": [],
        "password_enabled": True,
        "phone_numbers": [],
        "primary_email_address_id": primary["id"],
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "private_metadata": {},
        "profile_image_url": f"https://images.clerk.dev/{_digest(who.user_id)}",
        "public_metadata": {},
        "saml_accounts": [],
        "totp_enabled": False,
        "two_factor_enabled": False,
        "unsafe_metadata": {},
        "updated_at": changed,
        "username": None,
        "web3_wallets": [],
    }


def clerk_deleted_user(who: Cast) -> Body:
    """All that Clerk says of a deleted user."""
    return {"deleted": True, "id": who.user_id, "object": "user"}


@dataclass(frozen=True)
class Kind:
    """An event that can be sent by hand: happening now, to these people."""

    description: str
    build: Callable[[Cast, datetime], Body]


def _stripe(kind: str, description: str, about: Callable[[Cast, datetime], Body]) -> tuple[str, Kind]:
    previous: Body | None = {} if kind.endswith(".updated") else None
    return kind, Kind(
        description, lambda who, at: stripe_event(kind, about(who, at), at=at, shape=who.shape, previous=previous)
    )


def _clerk(kind: str, description: str, about: Callable[[Cast, datetime], Body]) -> tuple[str, Kind]:
    return kind, Kind(description, lambda who, at: clerk_event(kind, about(who, at), at=at))


def _subscribed(status: str) -> Callable[[Cast, datetime], Body]:
    def about(who: Cast, at: datetime) -> Body:
        over = at if status == "canceled" else None
        return subscription(who, at, (at, add_months(at, 1)), status=status, asked_to_end_at=over, ended_at=over)

    return about


def _billed(status: str) -> Callable[[Cast, datetime], Body]:
    def about(who: Cast, at: datetime) -> Body:
        return invoice(who, (at, add_months(at, 1)), at=at, billing_reason="subscription_create", status=status)

    return about


KINDS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "stripe": MappingProxyType(
            dict(
                [
                    _stripe(
                        "checkout.session.completed",
                        "a customer of this tenant finished a checkout",
                        lambda who, at: checkout_session(who, at=at),
                    ),
                    _stripe(
                        "customer.subscription.created",
                        "a subscription began and is not yet paid",
                        _subscribed("incomplete"),
                    ),
                    _stripe(
                        "customer.subscription.updated",
                        "a subscription is active at this price",
                        _subscribed("active"),
                    ),
                    _stripe("customer.subscription.deleted", "a subscription ended now", _subscribed("canceled")),
                    _stripe("customer.deleted", "a customer was deleted", lambda who, at: customer(who, created_at=at)),
                    _stripe("invoice.paid", "the month from now on was paid", _billed("paid")),
                    _stripe("invoice.payment_succeeded", "the twin of invoice.paid, which is ignored", _billed("paid")),
                    _stripe("invoice.payment_failed", "a charge was declined", _billed("open")),
                ]
            )
        ),
        "clerk": MappingProxyType(
            dict(
                [
                    _clerk("user.created", "a person signed up", lambda who, at: clerk_user(who, created_at=at)),
                    _clerk("user.updated", "a person changed", lambda who, at: clerk_user(who, created_at=at)),
                    _clerk("user.deleted", "a person's account was deleted", lambda who, _: clerk_deleted_user(who)),
                ]
            )
        ),
    }
)
"""What can be sent, by source and type, each with a line of description."""


def _line(who: Cast, period: tuple[datetime, datetime], invoice_id: str, cents: int, *, proration: bool) -> Body:
    item_id = f"si_{_digest(who.subscription_id)[:14]}"
    line: Body = {
        "id": f"il_1{_digest(invoice_id)}",
        "object": "line_item",
        "amount": cents,
        "currency": "usd",
        "description": "Remaining time on plan" if proration else "1 × plan (per month)",
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": False,
        "metadata": {"tenantId": str(who.tenant_id)},
        "period": {"end": _seconds(period[1]), "start": _seconds(period[0])},
        "quantity": 1,
    }
    if who.shape != "acacia":
        of_item = {
            "invoice_item": f"ii_1{_digest(invoice_id)}" if proration else None,
            "proration": proration,
            "proration_details": {"credited_items": None},
            "subscription": who.subscription_id,
            "subscription_item": item_id,
        }
        line["parent"] = {
            "invoice_item_details": None,
            "subscription_item_details": of_item,
            "type": "subscription_item_details",
        }
        sold = {"price": who.price_id, "product": _product(who)}
        line["pricing"] = {"price_details": sold, "type": "price_details", "unit_amount_decimal": str(cents)}
        line["taxes"] = []
    if who.shape != "basil":
        line.update(plan=_plan(who, period[0], "month"), price=_price(who, period[0], "month"))
        line.update(proration=proration, type="invoiceitem" if proration else "subscription", tax_amounts=[])
        line.update(subscription=who.subscription_id, subscription_item=item_id, proration_details=None)
    return line


def _price(who: Cast, created_at: datetime, interval: str) -> Body:
    return {
        "id": who.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": _seconds(created_at),
        "currency": "usd",
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": _product(who),
        "recurring": {"interval": interval, "interval_count": 1, "meter": None, "usage_type": "licensed"},
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": who.unit_amount,
        "unit_amount_decimal": str(who.unit_amount),
    }


def _plan(who: Cast, created_at: datetime, interval: str) -> Body:
    """The price as Stripe still repeats it under its name of before 2020."""
    return {
        "id": who.price_id,
        "object": "plan",
        "active": True,
        "amount": who.unit_amount,
        "billing_scheme": "per_unit",
        "created": _seconds(created_at),
        "currency": "usd",
        "interval": interval,
        "interval_count": 1,
        "livemode": False,
        "metadata": {},
        "product": _product(who),
        "usage_type": "licensed",
    }


def _product(who: Cast) -> str:
    return f"prod_{_digest(who.price_id)[:14]}"


def _items_url(who: Cast) -> str:
    return f"/v1/subscription_items?subscription={who.subscription_id}"


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()[:23]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _maybe(moment: datetime | None) -> int | None:
    return None if moment is None else _seconds(moment)

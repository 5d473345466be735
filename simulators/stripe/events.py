"""Event bodies as Stripe sends them: plain dicts, made from explicit times and ids, without a network.

Bodies come in five shapes. `classic` and `acacia`: as before 2025-03-31, with and without the customer expanded.
`basil`: as since then (the period on the items, an invoice's subscription and a line's proration under `parent`).
`endive`: as since 2026-09-30, in flexible billing. `hybrid`: old and new at once under an old `api_version`, as some
endpoints really get them. An event built twice from the same values is the same event, id included.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from domain.quota.quota import add_months
from simulators.personas import (
    API_VERSIONS,
    BEFORE_BASIL,
    SINCE_BASIL,
    Body,
    Persona,
    Shape,
    digest,
    maybe_seconds,
    seconds,
)


def stripe_event(kind: str, about: Body, *, at: datetime, shape: Shape = "basil", previous: Body | None = None) -> Body:
    """The envelope of a snapshot event about an object; `previous` are the fields that an update changed."""
    data: Body = {"object": about} if previous is None else {"object": about, "previous_attributes": previous}
    return {
        "id": f"evt_1{digest(kind, at, data)}",
        "object": "event",
        "api_version": API_VERSIONS[shape],
        "created": seconds(at),
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def subscription(
    who: Persona,
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
    beside: Sequence[str] = (),
    pause_collection: Body | None = None,
) -> Body:
    """A subscription as `customer.subscription.*` carries it; `cancel_at` is scheduled at the period's end. `beside`
    are the prices of further items."""
    flexible = who.shape == "endive"
    running = {"current_period_start": seconds(period[0]), "current_period_end": seconds(period[1])}
    items = [
        item(who, started_at, interval),
        *(item(replace(who, price_id=price), started_at, interval, n) for n, price in enumerate(beside, 1)),
    ]
    row: Body = {
        "id": who.subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"enabled": False, "liability": None},
        "billing_cycle_anchor": seconds(anchor or trial_end or started_at),
        "billing_thresholds": None,
        "cancel_at": maybe_seconds(cancel_at),
        "cancel_at_period_end": cancel_at is not None and not flexible,
        "canceled_at": maybe_seconds(asked_to_end_at),
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": seconds(started_at),
        "currency": "usd",
        "customer": who.customer_id,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": maybe_seconds(ended_at),
        "items": {
            "object": "list",
            "data": items,
            "has_more": False,
            "total_count": len(items),
            "url": _items_url(who),
        },
        "latest_invoice": f"in_1{digest(who.subscription_id, period[0])}",
        "livemode": False,
        "metadata": {"tenantId": str(who.tenant_id)},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": pause_collection,
        "payment_settings": {"payment_method_options": None, "payment_method_types": None},
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": seconds(started_at),
        "status": status,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": maybe_seconds(trial_end),
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": seconds(started_at) if trial_end else None,
    }
    if who.shape in SINCE_BASIL:
        for each in items:
            each.update(running, discounts=[])
        row["billing_mode"] = {"type": "classic", "flexible": None}
    if who.shape in BEFORE_BASIL:
        alone = len(items) == 1
        row.update(running, discount=None, plan=items[0]["plan"] if alone else None, quantity=1 if alone else None)
    if who.shape == "classic":
        row["customer"] = {"id": who.customer_id, "object": "customer"}
    if flexible:
        row.update(billing_mode={"type": "flexible", "flexible": {}}, customer_account=None)
    return row


def invoice(
    who: Persona,
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
    invoice_id = f"in_1{digest(who.subscription_id, period[0], billing_reason)}"
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
        "created": seconds(at),
        "currency": "usd",
        "customer": who.customer_id,
        "customer_email": who.email,
        "customer_name": None,
        "default_payment_method": None,
        "discounts": [],
        "due_date": None,
        "effective_at": seconds(at),
        "ending_balance": 0,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/test/{invoice_id}",
        "invoice_pdf": f"https://pay.stripe.com/invoice/test/{invoice_id}/pdf",
        "issuer": {"type": "self"},
        "lines": {
            "object": "list",
            "data": [line(who, period, invoice_id, cents, proration=proration)],
            "has_more": False,
            "total_count": 1,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None if paid else seconds(at + timedelta(days=3)),
        "number": f"{digest(who.customer_id)[:8].upper()}-0001",
        "period_end": seconds(period[0]),
        "period_start": seconds(before),
        "starting_balance": 0,
        "status": status,
        "status_transitions": {
            "finalized_at": seconds(at),
            "marked_uncollectible_at": None,
            "paid_at": seconds(at) if paid else None,
            "voided_at": None,
        },
        "subtotal": cents,
        "test_clock": None,
        "total": cents,
        "total_discount_amounts": [],
        "webhooks_delivered_at": seconds(at),
    }
    if who.shape in SINCE_BASIL:
        details = {"metadata": metadata, "subscription": who.subscription_id}
        bill["parent"] = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
        bill["total_taxes"] = []
    if who.shape in BEFORE_BASIL:
        bill.update(subscription=who.subscription_id, subscription_details={"metadata": metadata}, tax=None)
        bill.update(paid=paid, paid_out_of_band=False, charge=None, payment_intent=None, discount=None)
    return bill


def checkout_session(who: Persona, *, at: datetime) -> Body:
    """A completed hosted checkout of a subscription, as the dashboard starts it: the tenant stands on the session."""
    return {
        "id": f"cs_test_{digest(who.subscription_id, at) * 2}",
        "object": "checkout.session",
        "allow_promotion_codes": None,
        "amount_subtotal": who.unit_amount,
        "amount_total": who.unit_amount,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://example.com/billing?canceled=1",
        "client_reference_id": str(who.tenant_id),
        "created": seconds(at),
        "currency": "usd",
        "customer": who.customer_id,
        "customer_creation": None,
        "customer_details": {"email": who.email, "name": None, "phone": None, "tax_exempt": "none", "tax_ids": []},
        "customer_email": None,
        "expires_at": seconds(at + timedelta(days=1)),
        "invoice": f"in_1{digest(who.subscription_id, at, 'subscription_create')}",
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
        "ui_mode": "hosted_page" if who.shape == "endive" else "hosted",
        "url": None,
    }


def customer(who: Persona, *, created_at: datetime) -> Body:
    return {
        "id": who.customer_id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": seconds(created_at),
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


def item(who: Persona, started_at: datetime, interval: str, number: int = 0) -> Body:
    return {
        "id": f"si_{digest(who.subscription_id, number)[:14]}",
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": seconds(started_at),
        "metadata": {},
        "plan": _plan(who, started_at, interval),
        "price": _price(who, started_at, interval),
        "quantity": 1,
        "subscription": who.subscription_id,
        "tax_rates": [],
    }


def line(who: Persona, period: tuple[datetime, datetime], invoice_id: str, cents: int, *, proration: bool) -> Body:
    item_id = f"si_{digest(who.subscription_id, 0)[:14]}"
    line: Body = {
        "id": f"il_1{digest(invoice_id)}",
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
        "period": {"end": seconds(period[1]), "start": seconds(period[0])},
        "quantity": 1,
    }
    if who.shape in SINCE_BASIL:
        of_item = {
            "invoice_item": f"ii_1{digest(invoice_id)}" if proration else None,
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
    if who.shape in BEFORE_BASIL:
        line.update(plan=_plan(who, period[0], "month"), price=_price(who, period[0], "month"))
        line.update(proration=proration, type="invoiceitem" if proration else "subscription", tax_amounts=[])
        line.update(subscription=who.subscription_id, subscription_item=item_id, proration_details=None)
    return line


def _price(who: Persona, created_at: datetime, interval: str) -> Body:
    return {
        "id": who.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": seconds(created_at),
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


def _plan(who: Persona, created_at: datetime, interval: str) -> Body:
    """The price as Stripe still repeats it under its name of before 2020."""
    return {
        "id": who.price_id,
        "object": "plan",
        "active": True,
        "amount": who.unit_amount,
        "billing_scheme": "per_unit",
        "created": seconds(created_at),
        "currency": "usd",
        "interval": interval,
        "interval_count": 1,
        "livemode": False,
        "metadata": {},
        "product": _product(who),
        "usage_type": "licensed",
    }


def _product(who: Persona) -> str:
    return f"prod_{digest(who.price_id)[:14]}"


def _items_url(who: Persona) -> str:
    return f"/v1/subscription_items?subscription={who.subscription_id}"

"""A customer's account at Stripe whose subscriptions renew, change, fail and are paid: each act changes the account's
objects, and adds the events that Stripe would send of it, with `previous_attributes` read off the change itself.

Events carry whole objects here; `simulators.stripe.api.embedded` cuts them to what a body carries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from domain.quota.quota import add_months
from simulators.personas import SINCE_BASIL, Body, Persona, digest, maybe_seconds, seconds
from simulators.stripe.events import checkout_session, invoice, item, line, stripe_event, subscription

Period = tuple[datetime, datetime]
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Price:
    """`tier` is the plan that it sells; None: it is an add-on's. `cents` are for `months`."""

    id: str
    tier: str | None
    months: int
    cents: int


@dataclass(frozen=True)
class Item:
    price: Price
    period: Period
    quantity: int = 1


@dataclass(frozen=True)
class Subscription:
    id: str
    started: datetime
    items: tuple[Item, ...]
    status: str
    anchor: datetime
    trial: Period | None = None
    cancel_at: datetime | None = None
    ended: datetime | None = None
    paused: str | None = None
    net_days: int | None = None
    latest_invoice: str | None = None

    @property
    def plan(self) -> Item:
        """The item that sells the plan: the first."""
        return self.items[0]

    @property
    def renews(self) -> datetime:
        return min(each.period[1] for each in self.items)


@dataclass(frozen=True)
class Line:
    price: Price
    period: Period
    cents: int
    proration: bool = False
    quantity: int = 1


@dataclass
class Invoice:
    id: str
    subscription_id: str
    reason: str
    issued: datetime
    due: datetime | None
    lines: tuple[Line, ...]
    status: str = "draft"


@dataclass
class Account:
    """`events` are in the order in which they happened; `invoices` in that of their issue. `rows` are the
    subscriptions as they are now, `history` what each was from when on."""

    who: Persona
    events: list[Body] = field(default_factory=list)
    rows: dict[str, Subscription] = field(default_factory=dict)
    invoices: list[Invoice] = field(default_factory=list)
    history: list[tuple[datetime, Subscription]] = field(default_factory=list)

    def begin(self, row: Subscription, *, checkout: bool = False) -> None:
        self.rows[row.id] = row
        self.history.append((row.started, row))
        self._add("customer.subscription.created", self._subscription(row), row.started)
        if checkout:
            session = checkout_session(replace(self.who, subscription_id=row.id), at=row.started)
            self._add("checkout.session.completed", session, row.started)

    def change(self, name: str, at: datetime, kind: str = "updated", **changes: Any) -> Subscription:
        """The subscription, changed: what it was stands in `previous_attributes`, as Stripe has it."""
        before, after = self.rows[name], replace(self.rows[name], **changes)
        self.rows[name] = after
        self.history.append((at, after))
        was, now = self._subscription(before), self._subscription(after)
        changed = {key: was[key] for key in was if was[key] != now[key]}
        self._add(f"customer.subscription.{kind}", now, at, changed if kind == "updated" else None)
        return after

    def mention(self, name: str, at: datetime, kind: str = "trial_will_end") -> None:
        """An event about the subscription without a change."""
        self._add(f"customer.subscription.{kind}", self._subscription(self.rows[name]), at)

    def issue(self, name: str, reason: str, lines: Sequence[Line], at: datetime) -> Invoice:
        """Finalized: it waits for its payment."""
        row = self.rows[name]
        number = len(self.invoices)
        due = None if row.net_days is None else at + timedelta(days=row.net_days)
        bill = Invoice(f"in_1{digest(name, number)}", name, reason, at, due, tuple(lines))
        self.invoices.append(bill)
        self.move(bill, "open", "finalized", at)
        return bill

    def move(self, bill: Invoice, status: str, kind: str, at: datetime) -> None:
        """The invoice is in this status from now on, and an event of this kind says so."""
        bill.status = status
        self._add(f"invoice.{kind}", self._invoice(bill), at)

    def refund(self, bill: Invoice, at: datetime) -> None:
        charge: Body = {"id": f"ch_{digest(bill.id)}", "object": "charge", "customer": self.who.customer_id}
        charge |= {"amount_refunded": sum(each.cents for each in bill.lines), "refunded": True, "metadata": {}}
        self._add("charge.refunded", charge, at)

    def _add(self, kind: str, about: Body, at: datetime, previous: Body | None = None) -> None:
        body = stripe_event(kind, about, at=at, shape=self.who.shape, previous=previous)
        self.events.append({**body, "id": f"evt_{len(self.events):03}_{body['id'][-8:]}"})

    def _subscription(self, row: Subscription) -> Body:
        who = replace(self.who, subscription_id=row.id)
        body = subscription(
            who, row.started, row.plan.period, status=row.status, anchor=row.anchor, ended_at=row.ended,
            trial_end=row.trial and row.trial[1], cancel_at=row.cancel_at,
            pause_collection=row.paused and {"behavior": row.paused, "resumes_at": None},
        )  # fmt: skip
        data = [self._item(who, row, each, n) for n, each in enumerate(row.items)]
        body["items"] = {**body["items"], "data": data, "total_count": len(data)}
        body["collection_method"] = "charge_automatically" if row.net_days is None else "send_invoice"
        body["days_until_due"] = row.net_days
        body["latest_invoice"] = row.latest_invoice
        if "plan" in body:
            alone = len(data) == 1
            body["plan"] = data[0]["plan"] if alone else None
            body["quantity"] = data[0]["quantity"] if alone else None
        return body

    def _item(self, who: Persona, row: Subscription, each: Item, number: int) -> Body:
        sold = replace(who, price_id=each.price.id, unit_amount=each.price.cents)
        body = item(sold, row.started, "year" if each.price.months == 12 else "month", number)
        body["quantity"] = each.quantity
        if who.shape in SINCE_BASIL:
            start, end = map(seconds, each.period)
            body |= {"current_period_start": start, "current_period_end": end, "discounts": []}
        return body

    def _invoice(self, bill: Invoice) -> Body:
        who = replace(self.who, subscription_id=bill.subscription_id)
        cents = sum(each.cents for each in bill.lines)
        period = bill.lines[0].period
        body = invoice(who, period, at=bill.issued, billing_reason=bill.reason, status=bill.status, amount=cents)
        lines = []
        for number, each in enumerate(bill.lines):
            sold = replace(who, price_id=each.price.id, unit_amount=each.price.cents)
            of = line(sold, each.period, bill.id, each.cents, proration=each.proration)
            lines.append({**of, "id": f"il_1{digest(bill.id, number)}", "quantity": each.quantity})
        url = f"/v1/invoices/{bill.id}/lines"
        body["lines"] = {**body["lines"], "data": lines, "total_count": len(lines), "url": url}
        body["collection_method"] = "charge_automatically" if bill.due is None else "send_invoice"
        return {**body, "id": bill.id, "due_date": maybe_seconds(bill.due)}


def next_period(anchor: datetime, after: datetime, months: int) -> Period:
    """The stretch from this boundary of the anchor to the one so many months later."""
    since = (after.year - anchor.year) * 12 + after.month - anchor.month
    return after, add_months(anchor, since + months)


def books(events: Sequence[Body]) -> dict[str, list[Body]]:
    """Stripe's lists after these events: each object as the last of them has it, newest first."""
    found: dict[str, dict[str, Body]] = {"subscription": {}, "invoice": {}}
    for body in events:
        about = body["data"]["object"]
        if about["object"] in found:
            found[about["object"]][about["id"]] = about
    listed = {f"{kind}s": list(rows.values())[::-1] for kind, rows in found.items()}
    return {"customers": [], "sessions": [], "events": [], **listed}

"""The mirror of some customers and the plans of their tenants, in memory: facts change it one after the other.

Who keeps the rows loads them, has each fact applied, in the order in which the events are handled, and writes what the
books say at the end. Every fact meets the rows as the one before left them, so it does not matter how many of them are
applied between a load and a write: the ledger has the same entries.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.billing.events import CustomerDeleted, InvoiceChanged, OfCustomer, SubscriptionChanged
from domain.billing.invoices import Invoice, PaidPeriod, from_paid_periods, further, longer, periods_paid
from domain.billing.plan import (
    Customer,
    TenantBilling,
    change_plan,
    concerns,
    money_for_deleted,
    pay_as,
    unknown_prices,
)
from domain.billing.subscriptions import Subscription, certain, ended, includes, newer
from domain.billing.tiers import PriceBook
from domain.events.outcomes import Concern, Flag, Outcome, Status
from domain.quota.quota import Quota, carry_over

TIED = Concern(Flag.CONTRADICTION, "two events of one second contradict each other")

PeriodKey = tuple[str, datetime]
Moment = tuple[UUID, datetime]


@dataclass(frozen=True, slots=True)
class Mirror:
    """Rows of the mirror, by their ids. `periods` are those that only the release before knew: no invoice is mirrored
    of them. They are by subscription and start."""

    customers: Mapping[str, Customer]
    subscriptions: Mapping[str, Subscription]
    invoices: Mapping[str, Invoice]
    periods: Mapping[PeriodKey, PaidPeriod]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tenant's quota ledger: `amount` is by how much the count changes, `after` the quota then."""

    tenant_id: UUID
    kind: str
    cause: str
    amount: int
    after: Quota


@dataclass(frozen=True, slots=True)
class _Step:
    """A plan that one fact changed. Where `counts_anew`, what is used is to be counted from the period's start on."""

    tenant_id: UUID
    before: TenantBilling
    after: TenantBilling
    counts_anew: bool
    cause: str


class Books:
    """`mirror` has all that is mirrored of the customers that facts are about, of those that `tenants` pay as, and of
    the deleted ones of these; `tenants` are the tenants that customers pay for or facts name, as far as they exist.

    `prices` are what the settings map; `now` is the moment at which plans are derived. `can_ask`: whether Stripe can be
    asked about a tie, so that no person has to.
    """

    def __init__(
        self,
        mirror: Mirror,
        tenants: Mapping[UUID, TenantBilling],
        *,
        prices: PriceBook,
        now: datetime,
        can_ask: bool,
    ) -> None:
        self._prices, self._now, self._can_ask = prices, now, can_ask
        self._customers = dict(mirror.customers)
        self._subscriptions = dict(mirror.subscriptions)
        self._invoices = dict(mirror.invoices)
        self._older = dict(mirror.periods)
        self._tenants = dict(tenants)
        self._used = {tenant_id: each.quota.used for tenant_id, each in tenants.items()}
        self._steps: list[_Step] = []
        self._of_tenant: defaultdict[UUID | None, set[str]] = defaultdict(set)
        self._subscriptions_of: defaultdict[str, set[str]] = defaultdict(set)
        self._invoices_of: defaultdict[str, set[str]] = defaultdict(set)
        # A link that a fact makes is in the customer's own row, too.
        self._payers = {each.customer_id: tenant_id for tenant_id, each in tenants.items() if each.customer_id}
        for customer in mirror.customers.values():
            self._of_tenant[customer.tenant_id].add(customer.id)
        for row in mirror.subscriptions.values():
            self._subscriptions_of[row.customer_id].add(row.id)
        for invoice in mirror.invoices.values():
            self._invoices_of[invoice.customer_id].add(invoice.id)
        self.customers: dict[str, Customer] = {}
        """Customers to be written, as `subscriptions`, `invoices` and `periods` below."""
        self.subscriptions: dict[str, Subscription] = {}
        self.invoices: dict[str, Invoice] = {}
        self.periods: dict[PeriodKey, PaidPeriod] = {}
        self._released: dict[str, None] = {}

    def apply(self, fact: OfCustomer, cause: str) -> Outcome:
        """Change the mirror as the fact says, and derive the tenant anew from all of it; `cause` is for the ledger.

        An event of a customer that is nobody's yet is parked: the mirror keeps what it said, and the event that links
        the customer to a tenant derives the tenant from all of it.
        """
        change = self._update_mirror(fact)
        customer, is_new = self._identify(fact)
        if customer.tenant_id is None:
            return Outcome(change if isinstance(fact, CustomerDeleted) else Status.PARKED_CUSTOMER)
        stored = self._tenants.get(customer.tenant_id)
        if stored is None:
            return Outcome(Status.PARKED_TENANT)
        if stored.deleted_at is not None:
            return self._of_deleted(stored, customer, change, is_new=is_new)
        linked = pay_as(stored, customer)
        if linked is None:
            return Outcome(Status.PARKED_OTHER_CUSTOMER)
        rows, invoices = self.derive(customer.tenant_id, linked, cause)
        if is_new or linked.customer_id != stored.customer_id or isinstance(fact, CustomerDeleted):
            self._release(customer)
        found = concerns(rows, invoices, self._prices, customer.tenant_id, fact.tenant_hint)
        if not self._can_ask and not all(map(certain, rows)):
            found += (TIED,)
        if isinstance(fact, SubscriptionChanged):
            its_rows = [row for row in rows if row.id == fact.subscription.id]
            if unknown_prices(its_rows, self._prices):
                return Outcome(Status.PARKED_PRICE, concerns=found)
        of_the_past = customer.deleted_at is not None and not isinstance(fact, CustomerDeleted)
        return Outcome(Status.STALE if of_the_past and change == Status.APPLIED else change, concerns=found)

    def _of_deleted(self, tenant: TenantBilling, customer: Customer, change: Status, *, is_new: bool) -> Outcome:
        """Return the outcome of a fact about a deleted tenant's customer: the mirror has it, and nothing follows."""
        if is_new:
            self._release(customer)
        rows = [self._subscriptions[each] for each in self._subscriptions_of[customer.id]]
        bills = [self._invoices[each] for each in self._invoices_of[customer.id]]
        says = f"its tenant was deleted on {tenant.deleted_at:%Y-%m-%d}: nothing follows"
        return Outcome(change, says, money_for_deleted(tenant, customer, rows, bills))

    def derive(self, tenant_id: UUID, linked: TenantBilling, cause: str) -> tuple[list[Subscription], list[Invoice]]:
        """Bring the tenant, linked to its customer, to what the mirror says. Returns the subscriptions and invoices
        that its plan follows from."""
        rows, invoices = self._that_count(tenant_id, linked.customer_id)
        after = change_plan(linked, rows, invoices, self._prices, self._now)
        self._save_plan(tenant_id, self._tenants[tenant_id], after, cause)
        return rows, invoices

    def is_tied(self, fact: object) -> bool:
        """Return whether the fact has the newest second of its subscription together with others, and nothing says
        which of them is the last."""
        row = self._subscriptions.get(fact.subscription.id) if isinstance(fact, SubscriptionChanged) else None
        return row is not None and not certain(row)

    def take_released(self) -> dict[str, None]:
        """Return the customers whose parked events no longer lack a link, each once, in the order of their links."""
        released, self._released = self._released, {}
        return released

    @property
    def counted_from(self) -> set[Moment]:
        """The tenants and moments of which the books have to be given what was taken since, to be closed."""
        return {(step.tenant_id, step.after.quota.counts_from) for step in self._steps if step.counts_anew}

    def close(self, taken: Mapping[Moment, int]) -> tuple[dict[UUID, TenantBilling], list[Entry]]:
        """Return the plans to be written, and the entries of the ledger, in their order."""
        plans, entries = {}, []
        for step in self._steps:
            tenant_id, after = step.tenant_id, step.after.quota
            was = self._used[tenant_id]
            used = taken[tenant_id, after.counts_from] if step.counts_anew else was
            quota = carry_over(after, used)
            self._used[tenant_id] = quota.used
            plans[tenant_id] = replace(step.after, quota=quota)
            kind = ledger_kind(step.before.quota, quota)
            if kind is not None:
                entries.append(Entry(tenant_id, kind, step.cause, quota.used - was, quota))
        return plans, entries

    def _update_mirror(self, fact: OfCustomer) -> Status:
        """Store the fact itself. The result is `STALE` if the mirror had something newer, and `DUPLICATE` if it had
        just this: Stripe may say one change in two events."""
        match fact:
            case SubscriptionChanged(subscription=incoming):
                row = self._subscriptions.get(incoming.id)
                merged = newer(row, incoming)
                if row is None or (merged, merged.recent) != (row, row.recent):
                    self._save_subscription(row, merged)
                if row is not None and merged == row:
                    return Status.DUPLICATE if includes(row, incoming) else Status.STALE
            case InvoiceChanged(invoice=invoice):
                stored = self._invoices.get(invoice.id)
                if stored is not None and further(stored, invoice) == stored:
                    same = replace(invoice, event_created=stored.event_created) == stored
                    return Status.DUPLICATE if same else Status.STALE
                self._save_invoice(stored, invoice)
            case CustomerDeleted(customer_id, at):
                customer = self._customers.get(customer_id, Customer(customer_id))
                if customer.deleted_at is not None and customer.deleted_at >= at:
                    return Status.DUPLICATE if customer.deleted_at == at else Status.STALE
                self._save_customer(replace(customer, deleted_at=at))
        return Status.APPLIED

    def _identify(self, fact: OfCustomer) -> tuple[Customer, bool]:
        """Return the customer with the tenant it pays for, and whether the mirror did not have that.

        The tenant's own row is the strongest evidence, then what the mirror has, then this event. Evidence for a tenant
        that does not exist gives way.
        """
        mirrored = self._customers.get(fact.customer_id, Customer(fact.customer_id))
        tenant_id = self._payers.get(mirrored.id) or mirrored.tenant_id or fact.tenant_hint
        if fact.tenant_hint not in (None, tenant_id) and tenant_id not in self._tenants:
            tenant_id = fact.tenant_hint
        customer = replace(mirrored, tenant_id=tenant_id)
        if customer != mirrored:
            self._save_customer(customer)
        return customer, customer != mirrored

    def _that_count(self, tenant_id: UUID, linked: str | None) -> tuple[list[Subscription], list[Invoice]]:
        """Return the subscriptions and invoices that make the tenant's plan: of the linked customer, and of its deleted
        ones."""
        of_tenant = [self._customers[each] for each in self._of_tenant[tenant_id]]
        counting = [each for each in of_tenant if each.deleted_at is not None or each.id == linked]
        if linked in self._customers and linked not in self._of_tenant[tenant_id]:
            counting.append(self._customers[linked])
        deleted = {each.id: each.deleted_at for each in counting}
        rows = [
            ended(self._subscriptions[each], at)
            for customer_id, at in deleted.items()
            for each in self._subscriptions_of[customer_id]
        ]
        bills = [self._invoices[each] for customer_id in deleted for each in self._invoices_of[customer_id]]
        return rows, bills + from_paid_periods(self._only_older(deleted))

    def _only_older(self, customers: Mapping[str, object]) -> Iterator[PaidPeriod]:
        for period in self._older.values():
            if period.customer_id in customers and period.invoice_id not in self._invoices:
                yield period

    def _save_plan(self, tenant_id: UUID, before: TenantBilling, after: TenantBilling, cause: str) -> None:
        if after == before:
            return
        counts_anew = after.quota.counts_from != before.quota.counts_from
        self._steps.append(_Step(tenant_id, before, after, counts_anew, cause))
        self._tenants[tenant_id] = after

    def _release(self, customer: Customer) -> None:
        """Note that what waited for this customer's link can be applied; once it is deleted, also what waited for its
        place."""
        waiting = [customer.id]
        if customer.deleted_at is not None and customer.tenant_id is not None:
            of_tenant = (self._customers[each] for each in sorted(self._of_tenant[customer.tenant_id]))
            waiting += [each.id for each in of_tenant if each.deleted_at is None]
        self._released |= dict.fromkeys(waiting)

    def _save_customer(self, customer: Customer) -> None:
        before = self._customers.get(customer.id)
        if before is not None:
            self._of_tenant[before.tenant_id].discard(customer.id)
        self._of_tenant[customer.tenant_id].add(customer.id)
        self._customers[customer.id] = self.customers[customer.id] = customer

    def _save_subscription(self, before: Subscription | None, row: Subscription) -> None:
        if before is not None:
            self._subscriptions_of[before.customer_id].discard(row.id)
        self._subscriptions_of[row.customer_id].add(row.id)
        self._subscriptions[row.id] = self.subscriptions[row.id] = row

    def _save_invoice(self, before: Invoice | None, invoice: Invoice) -> None:
        """Save the invoice; and the periods that it pays for, as the release before has them."""
        if before is not None:
            self._invoices_of[before.customer_id].discard(invoice.id)
        self._invoices_of[invoice.customer_id].add(invoice.id)
        self._invoices[invoice.id] = self.invoices[invoice.id] = invoice
        for period in periods_paid(invoice):
            key = (period.subscription_id, period.period_start)
            self.periods[key] = longer(self.periods.get(key), period)
            if key in self._older:
                self._older[key] = longer(self._older[key], period)


def ledger_kind(before: Quota, after: Quota) -> str | None:
    """Return the kind of the ledger's entry about a change of plan; None if neither limit nor period changed."""
    if after.limit != before.limit:
        return "grant"
    return "reset" if after.period_start != before.period_start else None

"""Ports: what jobs and the API ask of the world outside, named for what they want. `workers.app` fills them in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.billing.tiers import PriceBook
from domain.concepts.generation import ConceptRequest, ConceptResponse
from domain.concepts.trends import Collected
from domain.errors import Rejected
from domain.identity.people import Membership, Organization, Person


class TrendCollector(Protocol):
    def collect(self, region: str, now: datetime) -> Collected:
        """Return what people in the region look at. A source that fails is named in the reports and raises nothing."""


class ConceptWriter(Protocol):
    """`runs_out`: it asks nobody, and has only so much that a customer does not know yet (`TrendsTooFew`)."""

    runs_out: bool

    def write(self, request: ConceptRequest) -> ConceptResponse:
        """Drafts for the request. Raises `Unavailable` for "not now", `Rejected` for "never"."""


class GeneratorUnknown(Rejected):
    """No generator of this name can be used here."""


def choose(writers: Mapping[str, ConceptWriter], name: str | None) -> ConceptWriter:
    """Return the generator of this name; the usual one if none is named.

    Raises:
        GeneratorUnknown: lists those that there are.
    """
    name = name or next(iter(writers))
    if name not in writers:
        raise GeneratorUnknown(f"generator: it is not known here; there is {', '.join(writers)}")
    return writers[name]


FetchEvent = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Given the body of a Stripe event that does not say all it is about (a thin one, or one that carries a part of its
lines or items), the body of a snapshot event that does; None if Stripe has none.

Raises ProviderUnavailable (tried again later) or Rejected (it will not get better).
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the objects that Stripe or Clerk lists, as they were at `as_of` or later: by Stripe's clock, and by our
    own for Clerk's, which say themselves when they changed."""

    as_of: datetime
    items: tuple[Mapping[str, Any], ...]


class Cashier(Protocol):
    """Sells plans. Each call may raise ProviderUnavailable, ProviderRefused, or Conflict (a key used for another
    request); the same `key` is the same act, however often it is asked for."""

    def add_customer(self, tenant_id: UUID, *, key: str) -> str:
        """Return the id of a new customer that pays for this tenant."""

    def statuses(self, customer_id: str) -> list[str]:
        """Return the status of each subscription that the customer has or had, as of now."""

    def checkout(self, order: "Order", *, key: str) -> str:
        """Return the address of a page that sells this."""

    def portal(self, customer_id: str, return_url: str, *, key: str) -> str:
        """Return the address of a page where the customer sees and changes what they pay for."""


class BillingRecords(Protocol):
    """Stripe's own books, page by page. Each call may raise ProviderUnavailable or ProviderRefused.

    Without `customer_id` it is everybody's; `since` is when the object was made.
    """

    def subscriptions(self, customer_id: str | None = None) -> Iterator[Page]:
        """Return all subscriptions, also those that ended."""

    def paid_invoices(self, customer_id: str | None = None, since: datetime | None = None) -> Iterator[Page]: ...

    def undelivered_events(self, since: datetime) -> Iterator[Page]:
        """Return the events that a webhook endpoint has not accepted; those of the last 30 days are kept."""


class IdentityRecords(Protocol):
    """Clerk's own books, page by page, oldest first. Each call may raise ProviderUnavailable or ProviderRefused."""

    def instance(self) -> str:
        """Return the id of the instance that is asked."""

    def listed(self, kind: type[Person | Organization | Membership]) -> Iterator[Page]:
        """Return all objects of a kind. No page comes where the instance has no organizations."""

    def has(self, row: Person | Organization | Membership) -> bool:
        """Return False only if Clerk says that there is no such object."""


@dataclass(frozen=True, slots=True)
class Order:
    """A subscription to one price, once; whoever pays comes back to one of our own pages."""

    tenant_id: UUID
    customer_id: str
    price_id: str
    success_url: str
    cancel_url: str


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `livemode` which of Stripe's modes is served (None: both);
    `writers` are the generators by name, the usual one first.
    `clerk_instance` is the id of our Clerk instance, if set; `people` None where there is no key to ask Clerk with.

    The others are None where there is no key to ask Stripe with: nothing is sold then, and thin events wait, parked.
    """

    prices: PriceBook
    trends: TrendCollector
    writers: Mapping[str, ConceptWriter]
    livemode: bool | None = None
    clerk_instance: str | None = None
    people: IdentityRecords | None = None
    fetch_event: FetchEvent | None = None
    cashier: Cashier | None = None
    records: BillingRecords | None = None

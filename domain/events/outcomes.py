"""Outcomes of events are words of closed lists, so they can be counted, filtered and drawn whatever a sender writes.

What is particular to one event (a word of the sender's, an amount, a plan) goes into its `detail`, which is cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

MOST_DETAIL = 300
"""Characters of a detail that are kept."""


class Priority(IntEnum):
    """The priority of the job that applies an event, by what the event means; lower runs first. Other jobs have 5."""

    BILLING = 3
    IDENTITY = 4
    SESSION = 7


class Status(StrEnum):
    """The outcome of an event. The part before the colon is the same for all outcomes of one kind."""

    RECEIVED = "received"
    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"

    PARKED_CUSTOMER = "parked:unknown_customer"
    PARKED_TENANT = "parked:unknown_tenant"
    PARKED_OTHER_CUSTOMER = "parked:other_customer"
    PARKED_PRICE = "parked:unknown_price"
    PARKED_THIN = "parked:thin"
    PARKED_INCOMPLETE = "parked:incomplete"
    PARKED_UNFETCHABLE = "parked:unfetchable"
    PARKED_USER = "parked:unknown_user"
    PARKED_ORGANIZATION = "parked:unknown_organization"

    IGNORED_TYPE = "ignored:type"
    IGNORED_MODE = "ignored:other_mode"
    IGNORED_ACCOUNT = "ignored:connected_account"
    IGNORED_INSTANCE = "ignored:other_instance"
    IGNORED_CHECKOUT = "ignored:checkout_mode"
    IGNORED_INVOICE = "ignored:no_subscription"
    IGNORED_CUSTOMER = "ignored:no_tenant_named"
    IGNORED_FOR_SALE = "ignored:price_for_sale"
    IGNORED_PRICE = "ignored:other_price"
    IGNORED_GONE = "ignored:gone"
    IGNORED_ACTOR = "ignored:actor"
    IGNORED_OTHER = "ignored:other"

    @property
    def kind(self) -> str:
        """Return the part before the colon."""
        return self.partition(":")[0]


IGNORED = tuple(status for status in Status if status.kind == "ignored")
LINKLESS = (Status.PARKED_CUSTOMER, Status.PARKED_TENANT, Status.PARKED_OTHER_CUSTOMER)
"""Of an event that waits until its customer is linked to a tenant."""
SETTLED = (Status.APPLIED, Status.STALE, Status.DUPLICATE)
UNCOMMON = tuple(each for each in Status if each not in (Status.RECEIVED, Status.APPLIED, Status.IGNORED_TYPE))
"""Of these there is an index: few events have them, and those that do are looked for."""


class Flag(StrEnum):
    """A reason for a person to look at an event. It changes no plan by itself."""

    REFUND = "refund"
    DISPUTE = "dispute"
    FRAUD_WARNING = "fraud_warning"
    UNKNOWN_STATUS = "unknown_status"
    PRICE_RETIRED = "price_retired"
    OTHER_TENANT_NAMED = "other_tenant_named"
    SEVERAL_SUBSCRIPTIONS = "several_subscriptions"
    UNPAID_CHANGE = "unpaid_change"
    INCOMPLETE = "incomplete"
    CONTRADICTION = "contradiction"
    DELETED_TENANT = "deleted_tenant"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Concern:
    """A flag, and what it means in this case."""

    flag: Flag
    detail: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing follows from the event."""

    status: Status
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an event as it is recorded."""

    status: Status
    detail: str | None = None
    concerns: tuple[Concern, ...] = ()

    @property
    def flag(self) -> str | None:
        """Return the flags, between commas; None if a person need not look."""
        return ",".join(dict.fromkeys(concern.flag for concern in self.concerns)) or None

    @property
    def explained(self) -> str | None:
        """Return the detail and those of the concerns, in one bounded text."""
        return explained(self.detail, *(concern.detail for concern in self.concerns))


def explained(*details: str | None) -> str | None:
    """Return the details as one text of at most `MOST_DETAIL` characters; None if there is none."""
    text = "; ".join(dict.fromkeys(filter(None, details)))
    return (text if len(text) <= MOST_DETAIL else f"{text[: MOST_DETAIL - 1]}…") or None


def listed(words: Iterable[str]) -> str:
    """Return the words as an SQL list of texts. They are ours: none holds a quote."""
    return ", ".join(f"'{word}'" for word in words)

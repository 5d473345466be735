"""What the jobs may ask of the world outside, named for what they want. `workers.app` fills it in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from domain.billing import PriceBook
from domain.errors import Rejected
from domain.generation import Brief, Written
from domain.trends import Collected


class TrendCollector(Protocol):
    def collect(self, region: str, now: datetime) -> Collected:
        """What people in the region look at. A source that fails is named in the reports; never raises for one."""


class ConceptWriter(Protocol):
    def write(self, brief: Brief) -> Written:
        """Drafts for the brief. Raises `Unavailable` for "not now", `Rejected` for "never"."""


class GeneratorUnknown(Rejected):
    """No generator of this name can be used here."""


def choose(writers: Mapping[str, ConceptWriter], name: str | None) -> ConceptWriter:
    """The generator of this name; the usual one if none is named.

    Raises:
        GeneratorUnknown: lists those that there are.
    """
    name = name or next(iter(writers))
    if name not in writers:
        raise GeneratorUnknown(f"no generator {name!r} here; there is {', '.join(writers)}")
    return writers[name]


FetchEvent = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Given the body of a thin Stripe event, the body of the snapshot event that says the same; None if Stripe has none.

Raises ProviderUnavailable (tried again later) or Rejected (it will not get better).
"""


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `writers` are the generators by name, the usual one first;
    `livemode` which of Stripe's modes is served (None: both); `clerk_instance` is the id of our Clerk instance, if set.

    `fetch_event` is None where there is no key to ask Stripe with: thin events then wait, parked.
    """

    prices: PriceBook
    trends: TrendCollector
    writers: Mapping[str, ConceptWriter]
    livemode: bool | None = None
    fetch_event: FetchEvent | None = None
    clerk_instance: str | None = None

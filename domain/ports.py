"""What the jobs may ask of the world outside, named for what they want. `workers.app` fills it in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.billing import PriceBook

FetchEvent = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Given the body of a thin Stripe event, the body of the snapshot event that says the same; None if Stripe has none.

Raises ProviderUnavailable (tried again later) or Rejected (it will not get better).
"""


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `livemode` which of Stripe's modes is served (None: both);
    `clerk_instance` is the id of our Clerk instance, if set.

    `fetch_event` is None where there is no key to ask Stripe with: thin events then wait, parked.
    """

    prices: PriceBook
    livemode: bool | None = None
    fetch_event: FetchEvent | None = None
    clerk_instance: str | None = None

"""What the jobs may ask of the world outside, named for what they want. `workers.app` fills it in."""

from dataclasses import dataclass

from domain.billing import PriceBook


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `clerk_instance` is the id of our Clerk instance, if set."""

    prices: PriceBook
    clerk_instance: str | None = None

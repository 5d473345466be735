"""What the jobs may ask of the world outside, named for what they want. `workers.app` fills it in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `writers` are the generators by name, the usual one first."""

    prices: PriceBook
    trends: TrendCollector
    writers: Mapping[str, ConceptWriter]

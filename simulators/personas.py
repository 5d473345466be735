"""The personas of made-up events of Stripe and Clerk, and how ids and times are written in them."""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

Body = dict[str, Any]
Shape = Literal["classic", "acacia", "hybrid", "basil", "endive"]
API_VERSIONS: Mapping[Shape, str] = MappingProxyType(
    {
        "classic": "2022-11-15",
        "acacia": "2024-12-18.acacia",
        "hybrid": "2022-11-15",
        "basil": "2025-03-31.basil",
        "endive": "2026-10-28.endive",
    }
)
SHAPES: tuple[Shape, ...] = tuple(API_VERSIONS)
SINCE_BASIL: frozenset[Shape] = frozenset({"hybrid", "basil", "endive"})
"""Shapes with the fields of since 2025-03-31."""
BEFORE_BASIL: frozenset[Shape] = frozenset({"classic", "acacia", "hybrid"})
"""Shapes with the fields of before."""


@dataclass(frozen=True)
class Persona:
    """The person whom events are about, so that they agree. `unit_amount` is in cents."""

    tenant_id: UUID
    customer_id: str
    subscription_id: str
    user_id: str
    email: str
    price_id: str = "price_pro"
    unit_amount: int = 14_900
    shape: Shape = "basil"
    organization_id: str = "org_2fakeOrganization"


def random_persona(rng: Random, **fixed: Any) -> Persona:
    """A new person with random ids; the values of `fixed` (`tenant_id=…, price_id=…`) are kept."""
    number = rng.randrange(10**6)
    made = Persona(
        tenant_id=UUID(int=rng.getrandbits(128), version=4),
        customer_id=new_id("cus", rng, 14),
        subscription_id=new_id("sub", rng),
        user_id=new_id("user", rng, 27),
        email=f"person{number}@example.com",
        organization_id=new_id("org", rng, 27),
    )
    return replace(made, **fixed)


def new_id(prefix: str, rng: Random, length: int = 24) -> str:
    return f"{prefix}_" + "".join(rng.choices(string.ascii_letters + string.digits, k=length))


def digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()[:23]


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def maybe_seconds(moment: datetime | None) -> int | None:
    return None if moment is None else seconds(moment)


FIRST_NAMES = (
    *(
        "Ada",
        "Grace",
        "Alan",
        "Edsger",
        "Barbara",
        "Donald",
        "Frances",
        "John",
        "Katherine",
        "Ken",
        "Margaret",
        "Niklaus",
    ),
    *("Radia", "Tim", "Hedy", "Claude", "Annie", "Dennis", "Evelyn", "Vint", "Karen", "Leslie", "Mary", "Tony"),
)
LAST_NAMES = (
    *("Amber", "Birch", "Cole", "Dale", "Ember", "Finch", "Grove", "Hale", "Ivers", "Juniper", "Kerr", "Linden"),
    *("Marsh", "North", "Oakley", "Poole", "Quill", "Reed", "Sorrel", "Thorne", "Umber", "Vale", "Wren", "Yarrow"),
)
TRADES = (
    *(
        "bakery",
        "cycles",
        "ceramics",
        "garden",
        "kitchen",
        "coffee",
        "chess",
        "piano",
        "climbing",
        "books",
        "tea",
        "dogs",
    ),
    *("repairs", "letters", "knives", "maps", "bread", "boats", "birds", "yoga", "cameras", "vinyl", "soap", "cheese"),
)


def named_persona(rng: Random, taken: set[str]) -> tuple[Persona, str]:
    """A new person with a name and an address that speaks of what they do, none of which is in `taken` yet."""
    while True:
        first, last, trade = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES), rng.choice(TRADES)
        domain = f"{last}-{trade}.example".lower()
        if domain not in taken:
            taken.add(domain)
            return random_persona(rng, email=f"{first.lower()}@{domain}"), f"{first} {last}"

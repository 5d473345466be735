"""Buying a plan: what is for sale, to whom, and to which pages the buyer may be sent back.

Stripe sends people wherever a checkout says, and its name lends that page trust: only pages of our own are allowed.
"""

from collections.abc import Collection, Iterable
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import UUID

from domain.billing.subscriptions import TERMINAL
from domain.billing.tiers import PriceBook, Tier
from domain.errors import CheckoutInvalid, Conflict, NotSetUp

MAX_URL = 2000

SETTINGS = {
    Tier.STARTER: "STRIPE_STARTER_PRICE_ID",
    Tier.PRO: "STRIPE_PRO_PRICE_ID",
    Tier.AGENCY: "STRIPE_AGENCY_PRICE_ID",
}


def price_for(tier: Tier | None, price_id: str | None, prices: PriceBook) -> str:
    """Return the price to sell: the one named, or the first that is configured for the tier.

    Raises:
        CheckoutInvalid: not exactly one of both is given, or it is not for sale.
        NotSetUp: the tier has no price here.
    """
    if (tier is None) == (price_id is None):
        raise CheckoutInvalid("name either a tier or a price_id")
    if price_id is not None:
        if price_id not in prices:
            raise CheckoutInvalid("price_id: this price is not for sale here")
        return price_id
    if tier not in SETTINGS:
        raise CheckoutInvalid(f"tier: {tier} is not for sale; {', '.join(SETTINGS)} are")
    found = next((each for each, sold in prices.items() if sold == tier), None)
    if found is None:
        raise NotSetUp(f"{tier} cannot be bought here: {SETTINGS[tier]} is not set")
    return found


def check_return(url: str, origins: Collection[str], name: str) -> str:
    """Return the address itself, if it is a page of one of `origins` (`https://app.example.com`).

    Raises:
        CheckoutInvalid: says what about the argument called `name` is wrong.
        NotSetUp: there are no origins.
    """
    if not origins:
        raise NotSetUp(
            "nobody can be sent back from Stripe: CLERK_AUTHORIZED_PARTIES, the app's own origins, is not set"
        )
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise CheckoutInvalid(f"{name}: an address of at most {MAX_URL} visible ASCII characters, without a backslash")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise CheckoutInvalid(f"{name}: this is no address") from None
    if f"{parts.scheme}://{parts.netloc}" not in origins:
        raise CheckoutInvalid(f"{name}: must begin with one of {', '.join(origins)}")
    return url


def refuse_second(statuses: Iterable[str]) -> None:
    """One subscription a tenant: whoever has one changes it in the portal, also one that waits for its payment.

    `incomplete` is a first payment that failed; it expires by itself, and another try is what the buyer wants.

    Raises:
        Conflict: ALREADY_SUBSCRIBED.
    """
    standing = next((status for status in statuses if status not in TERMINAL and status != "incomplete"), None)
    if standing is not None:
        raise Conflict(
            "ALREADY_SUBSCRIBED",
            f"there is a subscription already ({standing}): change, pay or end it in the billing portal",
        )


def request_key(act: str, tenant_id: UUID, request: str) -> str:
    """Return the key that makes two requests one act at Stripe. A key that a caller chose is theirs alone: another
    tenant with the same one must not be answered with this one's page."""
    return f"{act}:{tenant_id}:{sha256(request.encode()).hexdigest()[:32]}"


def customer_key(tenant_id: UUID, earlier: int) -> str:
    """Return the key under which a tenant gets its next customer after `earlier` deleted ones, once."""
    return f"customer:{tenant_id}:{earlier}"

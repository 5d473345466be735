"""Why a tenant has its plan, in plain sentences: what each of its subscriptions gives, and which of them counts."""

from collections.abc import Iterable
from datetime import datetime

from domain.billing.invoices import Invoice
from domain.billing.standing import Standing, standing
from domain.billing.subscriptions import Subscription
from domain.billing.tiers import PriceBook, Tier

MOST = 20
"""Subscriptions that are told of, the newest first."""


def explain_plan(
    tier: str,
    linked: str | None,
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    prices: PriceBook,
) -> list[str]:
    """Return sentences on why the tenant is on `tier`; `linked` is the subscription that its row names."""
    bills = list(invoices)
    found = sorted((standing(row, bills, prices) for row in subscriptions), key=_newest, reverse=True)
    if not found:
        if tier == Tier.FREE:
            return ["FREE, because no subscription of it is known."]
        return [f"{tier}, as another program or a person wrote it: no subscription of it is known."]
    counts = next((each for each in found if each.row.id == linked and each.gives), None)
    if counts is None:
        sentences = [f"{tier}, because none of its subscriptions gives a plan now."]
    elif counts.tier is None:
        sentences = [f"{tier}, as before: {counts.row.id} gives something, and no setting maps its price to a plan."]
    else:
        others = sum(1 for each in found if each.gives) > 1
        best = " the best of those that give one," if others else ""
        sentences = [f"{tier}, because of {counts.row.id},{best} which is {counts.row.status}."]
    sentences += [_sentence(each) for each in found[:MOST]]
    if len(found) > MOST:
        sentences.append(f"And {len(found) - MOST} older subscriptions.")
    return sentences


def _newest(each: Standing) -> tuple[datetime, str]:
    return each.row.started_at, each.row.id


def _sentence(each: Standing) -> str:
    name = f"{each.row.id} ({each.row.status}, since {_day(each.row.started_at)})"
    sells = "none of its prices is mapped" if each.tier is None else f"gives {each.tier}"
    if each.ends is not None:
        return f"{name} gives nothing since {_day(each.ends)}."
    if each.held_back is not None:
        return f"{name} {sells}; {each.held_back} was ordered and is not paid."
    return f"{name} {sells}, covered until {_day(each.paid_until)}."


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

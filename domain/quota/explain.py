"""A tenant's quota in plain sentences: what it is, why, and where it went."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from domain.billing.invoices import PAID, Invoice
from domain.billing.standing import Standing, standing
from domain.billing.subscriptions import TERMINAL, Subscription
from domain.billing.tiers import PriceBook, Tier
from domain.quota.quota import Quota, add_months, lasting

Entry = Mapping[str, Any]
"""A row of the ledger."""

BY_HAND = ("person:", "operator:")
"""What the causes of people begin with, in the shell and on the operator's page."""

WHO = {
    "job": ("a job", "jobs"),
    "event": ("an event", "events"),
    "person": ("a person", "people"),
    "operator": ("an operator", "operators"),
    "sql": ("another program", "other programs"),
    "migration": ("a migration", "migrations"),
}


@dataclass(frozen=True, slots=True)
class Backing:
    """The part of a plan that stands at Stripe: the moments at which stretches that are paid for begin and end, since
    when collection is paused (None: it is not), the sentences about changes that are not paid, and how many events wait
    to be looked up because they carry a part only. `ends`: when the plan does, as was asked for; None: it goes on."""

    paid: frozenset[datetime] = frozenset()
    paused_since: datetime | None = None
    unpaid: tuple[str, ...] = ()
    waiting: int = 0
    ends: datetime | None = None


NOTHING_BEHIND = Backing()


def backing(subscriptions: Iterable[Subscription], invoices: Iterable[Invoice], prices: PriceBook) -> Backing:
    """Return the backing of all the tenant's subscriptions that have not ended."""
    bills = list(invoices)
    running = [standing(row, bills, prices) for row in subscriptions if row.status not in TERMINAL]
    paid = {moment for bill in bills if bill.status == PAID for line in bill.lines for moment in (line.start, line.end)}
    paused = [each.row.paused_since for each in running if each.row.paused_since]
    giving = [each.row.cancel_at for each in running if each.gives]
    ends = [moment for moment in giving if moment is not None]
    return Backing(
        frozenset(paid),
        min(paused, default=None),
        tuple(_unpaid(each) for each in running if each.held_back),
        ends=max(ends) if ends and len(ends) == len(giving) else None,
    )


def explain(
    plan: str,
    quota: Quota,
    entries: Sequence[Entry],
    held: Sequence[Entry],
    now: datetime,
    *,
    behind: Backing = NOTHING_BEHIND,
    unwritten: bool = False,
) -> list[str]:
    """Return sentences that add up to `quota.remaining`. `entries` are the ledger's of the running period, `held` the
    holds that are open; `unwritten`: nobody has written down yet that the period has begun."""
    sentences = [f"On {plan}: {_concepts(quota.limit)} a month.", *behind.unpaid]
    why, until = _why(entries, quota, behind), _until(quota, now, behind)
    sentences.append(f"This month began on {_day(quota.period_start)}{why}; {until}")
    if unwritten:
        sentences.append("That it began is written down with the next concept, or the next reset.")
    if behind.paused_since:
        since = _day(behind.paused_since)
        sentences.append(f"At Stripe, collection paused since {since}: no invoice follows until it goes on.")
    if behind.waiting:
        sentences.append(_waiting(behind.waiting))
    if quota.counts_from > quota.period_start:
        sentences.append(f"{_who_restarted(entries)} gave a fresh count on {_day(quota.counts_from)}.")
    sentences += _went(entry for entry in entries if entry["taken_at"] >= quota.counts_from)
    held = [hold for hold in held if hold["taken_at"] >= quota.counts_from]
    if held:
        count = sum(hold["count"] for hold in held)
        oldest = min(hold["taken_at"] for hold in held)
        sentences.append(
            f"{count} of these are held by {_by('job', len(held))} at work, the oldest since {_day(oldest)}."
        )
    if quota.granted:
        sentences.append(_granted(quota, entries, now, behind))
    over = (
        f" ({quota.used - quota.allowance} more than this plan has: nothing is owed)"
        if quota.used > quota.allowance
        else ""
    )
    left = f"{quota.remaining} {'is' if quota.remaining == 1 else 'are'} left"
    sentences.append(
        f"So {quota.used} of {quota.allowance} {'is' if quota.used == 1 else 'are'} used{over}, and {left}."
    )
    if quota.drawn_until is not None:
        can = "None of them can be drawn since" if quota.drawn_until <= now else "They can be drawn until"
        sentences.append(f"{can} {_day(quota.drawn_until)}: nothing is paid for after that.")
    return sentences


def explain_as_of(last: Entry | None, entries: Iterable[Entry], at: datetime) -> list[str]:
    """Return sentences on what was used at that moment. `last` is the ledger's last entry then, `entries` those of its
    period, the newest first; what has been entered since is none of them."""
    if last is None:
        return [f"On {_day(at)} nothing had been entered into its ledger: nothing was used."]
    sentences = [
        f"On {_day(at)} it had {_concepts(last['quota_after'])} a month, in the month that began on "
        f"{_day(last['period_start'])}."
    ]
    sentences += _went(takewhile(lambda each: each["kind"] != "reset", entries))
    used, limit = last["used_after"], last["quota_after"]
    sentences.append(f"So {used} of {limit} were used, and {max(0, limit - used)} were left.")
    kind, _, name = last["cause"].partition(":")
    sentences.append(f"The last entry before was a {last['kind']} on {_day(last['at'])}, by {_by(kind, 1)} ({name}).")
    return sentences


def _granted(quota: Quota, entries: Iterable[Entry], now: datetime, behind: Backing) -> str:
    """Say what support gave or took, and who did it last."""
    by = next((f", last by {each['cause'].removeprefix('person:')}" for each in entries if each["kind"] == "extra"), "")
    next_after_end = _next_after_end(quota, behind)
    until = lasting(quota, now) if next_after_end is None else f"until {_day(next_after_end)}, when the next begins"
    if quota.granted > 0:
        return f"{_concepts(quota.granted)} more {'was' if quota.granted == 1 else 'were'} granted{by}, {until}."
    return f"{_concepts(-quota.granted)} {'was' if quota.granted == -1 else 'were'} taken away{by}, {until}."


def _waiting(count: int) -> str:
    events = "1 event that carries" if count == 1 else f"{count} events that carry"
    could = f"Not counted: {events} only a part of what Stripe tells of this customer, and could not be looked up yet"
    return f"{could} (`viral events list --status parked`)."


def _unpaid(each: Standing) -> str:
    if each.tier is None:
        return f"{each.held_back} was ordered, and nothing was ever paid for it: it counts once its invoice is paid."
    return f"{each.held_back} was ordered and is not paid: {each.tier} was last paid for, and counts until it is."


def _until(quota: Quota, now: datetime, behind: Backing) -> str:
    if quota.paid_until is None:
        return f"the next begins on {_day(quota.resets_at)}."
    if quota.resets_at < quota.paid_until:
        covered = f"{'paid' if quota.paid_until in behind.paid else 'covered'} until {_day(quota.paid_until)}"
        return f"the next begins on {_day(quota.resets_at)} ({covered})."
    if behind.ends is not None and (free := _next_after_end(quota, behind)) is not None:
        return (
            f"its plan ends on {_day(behind.ends)}, as was asked for at Stripe, and no invoice follows: then it is on "
            f"{Tier.FREE}, and the next begins on {_day(free)}."
        )
    if quota.resets_at <= now:
        return f"the next was due on {_day(quota.resets_at)} and waits for its invoice to be paid."
    return f"the next begins when the invoice due on {_day(quota.resets_at)} is paid."


def _next_after_end(quota: Quota, behind: Backing) -> datetime | None:
    """Return when the next month begins if the plan ends within this one; None: it does not. Months count from there,
    and what was used until then stays used."""
    if quota.paid_until is None or behind.ends is None or behind.ends > quota.resets_at:
        return None
    return add_months(behind.ends, 1)


def _why(entries: Iterable[Entry], quota: Quota, behind: Backing) -> str:
    """An event begins a month because an invoice is paid, or because of what Stripe says of the subscription itself.
    One that changes the plan too is a grant in the ledger; only where an invoice was paid is it sure to have begun one.
    """
    kinds = ("reset", "grant") if quota.period_start in behind.paid else ("reset",)
    causes = [
        each["cause"]
        for each in entries
        if each["kind"] in kinds
        and each["period_start"] == quota.period_start
        and not each["cause"].startswith(BY_HAND)
    ]
    # The newest entry stands first; the month was begun by the oldest, and changed by the others.
    kind, _, name = causes[-1].partition(":") if causes else ("", "", "")
    cause = "a paid invoice" if quota.period_start in behind.paid else "what Stripe says of the subscription"
    reasons = {
        "event": f", by {cause} (known with event {name})",
        "job": ", by the calendar",
    }
    return reasons.get(kind, "")


def _who_restarted(entries: Iterable[Entry]) -> str:
    names = (
        entry["cause"].partition(":")[2]
        for entry in entries
        if entry["kind"] == "reset" and entry["cause"].startswith(BY_HAND)
    )
    return next(names, "Another program")


def _went(entries: Iterable[Entry]) -> list[str]:
    """Return sentences on what was taken and given back, by whom; grants, extras and resets take nothing."""
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    times: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        if entry["kind"] in ("hold", "settle", "release", "adjust") and entry["amount"]:
            key = entry["kind"], entry["cause"].partition(":")[0]
            sums[key] += entry["amount"]
            times[key] += 1
    return [_sentence(kind, _by(who, times[kind, who]), sums[kind, who]) for kind, who in sums]


def _by(who: str, times: int) -> str:
    one, many = WHO.get(who, (who, who))
    return one if times == 1 else f"{times} {many}"


def _sentence(kind: str, who: str, amount: int) -> str:
    if kind == "hold":
        return f"{amount} were taken by {who}."
    if kind == "settle":
        return f"{-amount} came back from {who}: fewer were made than taken."
    if kind == "release":
        return f"{-amount} came back from {who}: failed, or cancelled."
    return f"{amount:+} were entered by {who}: see `viral quota show`."


def _concepts(count: int) -> str:
    return f"{count} concept{'' if count == 1 else 's'}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

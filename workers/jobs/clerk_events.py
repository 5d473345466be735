"""Many events of Clerk in one transaction: those of people and their logins, which are nearly all that come."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from domain.billing.tiers import PLANS, Tier
from domain.errors import Unavailable
from domain.events.event import Event
from domain.events.outcomes import Ignored, Outcome, Status
from domain.identity.accounts import Account, History
from domain.identity.events import Fact, Login, read
from domain.identity.people import ActiveMembership, Person
from domain.quota import quota
from workers.engine.job import Batch, Tx

OF_MANY = "concerns more than a person's own row"


def apply_clerk_events(batch: Batch) -> None:
    """Apply the events of a batch that concern people alone, and leave the others.

    Raises:
        MalformedEvent: one of them cannot be read.
    """
    events = batch.tx.events.get_many([each.arguments["event_id"] for each in batch.jobs])
    instance = batch.ports.clerk_instance
    facts = [(event, read(event.payload, sent_at=event.occurred_at, instance=instance)) for event in events.values()]
    places = {each.arguments["event_id"]: n for n, each in enumerate(batch.jobs)}
    facts.sort(key=lambda pair: places[pair[0].id])
    outcomes = apply_to_people(batch.tx, facts, batch.now())
    for each in batch.jobs:
        if (status := outcomes.get(each.arguments["event_id"])) is None:
            each.leave(OF_MANY)
        else:
            each.report(outcome=status)


def apply_to_people(tx: Tx, facts: Iterable[tuple[Event, Fact]], now: datetime) -> dict[UUID, Status]:
    """Apply events of people and their logins, each person's as if one came after the other, in a few statements.

    Returns what became of them at their turn, by id. What is rare, and concerns more than a person's own row, is
    missing there, and nothing is written for it: deletions, organizations, memberships, and people whom another program
    has added.
    """
    concerning = of_people(facts)
    if not concerning:
        return {}
    tx.clerk_accounts.lock(concerning)
    accounts = tx.clerk_accounts.load(concerning)
    parked = waiting_logins(tx, [clerk_id for clerk_id in concerning if accounts[clerk_id].person is None])
    at_their_turn: dict[UUID, Status] = {}
    outcomes: dict[UUID, Outcome] = {}
    histories: dict[str, History] = {}
    for clerk_id, theirs in concerning.items():
        account, logins = accounts[clerk_id], parked.get(clerk_id, ())
        if account.ended:
            continue
        history = History(account.person, logins or ())
        for event, fact in theirs:
            if isinstance(fact, Ignored):
                at_their_turn[event.id] = fact.status
                outcomes[event.id] = Outcome(fact.status, fact.detail)
            elif account.is_whole and logins is not None:
                at_their_turn[event.id] = history.apply(event, fact)
        histories[clerk_id] = history
        outcomes |= {event_id: Outcome(status) for event_id, status in history.outcomes.items()}
    followed = [(accounts[clerk_id], history) for clerk_id, history in histories.items()]
    there = [(account, history) for account, history in followed if account.person is not None]
    add_people(tx, [(account, new.person) for account, new in followed if account.person is None and new.person], now)
    save_people(tx, [(account, history.person) for account, history in there if history.changes and history.person])
    rename_tenants(tx, there)
    if outcomes:
        tx.events.mark_many(outcomes)
    return at_their_turn


def of_people(facts: Iterable[tuple[Event, Fact]]) -> dict[str, list[tuple[Event, Person | Login | Ignored]]]:
    """Return the events that concern one person, or one account of which nothing follows, by its id."""
    concerning: defaultdict[str, list[tuple[Event, Person | Login | Ignored]]] = defaultdict(list)
    for event, fact in facts:
        match fact:
            case Login() | Person(deleted_at=None):
                concerning[fact.clerk_id].append((event, fact))
            case Ignored() if event.subject is not None:
                concerning[event.subject].append((event, fact))
            case _:
                pass
    return concerning


def waiting_logins(tx: Tx, newcomers: Sequence[str]) -> dict[str, list[tuple[Event, Login]] | None]:
    """Return the logins that are parked until these people are there; None for whoever more than logins wait for."""
    logins: dict[str, list[tuple[Event, Login]] | None] = {}
    for event in tx.events.waiting("clerk", Status.PARKED_USER, newcomers) if newcomers else ():
        fact = read(event.payload, sent_at=event.occurred_at)
        clerk_id = str(event.subject)
        earlier = logins.setdefault(clerk_id, [])
        if earlier is None or not isinstance(fact, Login):
            logins[clerk_id] = None
        else:
            earlier.append((event, fact))
    return logins


def add_people(tx: Tx, newcomers: Iterable[tuple[Account, Person]], now: datetime) -> None:
    """Add people who were not there, each with a tenant of their own, on the free plan; its months count from now."""
    added: dict[UUID, tuple[Person, UUID, ActiveMembership]] = {}
    for account, person in newcomers:
        own_tenant = tx.new_id()
        added[tx.new_id()] = (person, own_tenant, account.opened(own_tenant).place(person, in_use=False))
    free = quota.first_period(PLANS[Tier.FREE].monthly_quota, now)
    if added and not tx.clerk_accounts.add(added, free):
        raise Unavailable("another program has added one of these people meanwhile", retry_after=timedelta(seconds=1))


def save_people(tx: Tx, changed: Iterable[tuple[Account, Person]]) -> None:
    """Save people who were there before, and where they work."""
    changed = list(changed)
    own_tenants = {account.clerk_id: account.own_tenant for account, _ in changed if account.may_move}
    in_use = tx.clerk_accounts.in_use(own_tenants) if own_tenants else ()
    saved = []
    for account, person in changed:
        at = account.place(person, in_use=account.own_tenant in in_use)
        saved.append((person, None if at == account.active else at))
    if saved:
        tx.clerk_accounts.save(saved)


def rename_tenants(tx: Tx, changed: Iterable[tuple[Account, History]]) -> None:
    """Let the names of people's own tenants follow them."""
    renaming = {account.clerk_id: (account.own_tenant, history) for account, history in changed if history.renames}
    if not renaming:
        return
    names = {}
    own_tenants = {clerk_id: own_tenant for clerk_id, (own_tenant, _) in renaming.items()}
    for clerk_id, (name, alone) in tx.clerk_accounts.lock_names(own_tenants).items():
        own_tenant, history = renaming[clerk_id]
        if (new_name := history.renamed(name, alone=alone)) != name:
            names[own_tenant] = new_name
    if names:
        tx.clerk_accounts.rename(names)

"""Clerk's events become users and organizations, each with a tenant of its own, and decide who works where."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.billing.tiers import PLANS, Tier
from domain.errors import Rejected, Unavailable
from domain.events.event import Event
from domain.events.outcomes import Ignored, Outcome, Priority, Status
from domain.identity.events import Login, read
from domain.identity.people import (
    ActiveMembership,
    Membership,
    Organization,
    Person,
    Role,
    active_membership,
    identifies,
    merged,
    renamed,
    tenant_name,
    without_person,
)
from domain.quota import quota
from domain.text.personal import identifiers
from workers.engine.job import Context, Tx, job
from workers.jobs.clerk_events import apply_clerk_events, apply_to_people

EVENTS_AT_ONCE, EVENTS_FOUND_AT_ONCE = 1000, 200
"""Read, and changed, in one transaction."""
LIVE_JOBS_END = timedelta(days=1)
WEEKS_ARCHIVED = 17
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@job(
    "identity.apply_clerk_event",
    queue="events",
    system=True,
    unique=("event_id",),
    priority=Priority.IDENTITY,
    many=apply_clerk_events,
    max_attempts=10,
)
def apply_clerk_event(ctx: Context, event_id: UUID) -> None:
    """Apply a stored event: change the mirror, then derive from it where the people that the event concerns work."""
    with ctx.finish() as tx:
        ctx.report(outcome=apply_event(ctx, tx, tx.events.get(event_id)))


@job("identity.forget", system=True, unique=("clerk_id",), max_attempts=10, timeout=timedelta(hours=3))
def forget(ctx: Context, clerk_id: str, words: list[str] | None = None, name: str | None = None) -> None:
    """Take a deleted person out of events, names, jobs, attempts, results and the archive.

    `words` are what identifies them, by which they are also found in what is not theirs alone; `name` is looked for in
    what is. Both are kept no longer than this job needs them. Jobs that have not ended, and name the person, are waited
    for.
    """
    sought = words or []
    with ctx.begin() as tx:
        places = tx.forgetting.places(clerk_id, sought)
    reached: UUID | None = UUID(int=0)
    while reached is not None:
        with ctx.begin() as tx:
            reached = tx.forgetting.events(
                places, sought, name, reached, span=EVENTS_AT_ONCE, limit=EVENTS_FOUND_AT_ONCE
            )
    # After the events: whatever one of them has just named is there now, and what is applied later names nobody.
    with ctx.begin() as tx:
        tx.identity.lock_organizations()
        tx.forgetting.rows(clerk_id, places, sought)
    with ctx.begin() as tx:
        tx.forgetting.jobs(clerk_id, places, sought)
    # A transaction for each week of the archive, which is a partition, and one for what should not be there any more.
    week = timedelta(weeks=1)
    monday = (ctx.now() - timedelta(days=ctx.now().weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    since, until = BEGINNING, monday - WEEKS_ARCHIVED * week
    while since <= monday:
        with ctx.begin() as tx:
            tx.forgetting.archived(clerk_id, places, sought, since, until)
        since, until = until, until + week
    with ctx.begin() as tx:
        mentioned = tx.forgetting.mentioned_by_live_jobs(ctx.job.id, sought)
    if mentioned:
        ctx.snooze(LIVE_JOBS_END, "a job that has not ended names the person")
    with ctx.finish() as tx:
        tx.forgetting.own_words(ctx.job.id)


def apply_event(ctx: Context, tx: Tx, event: Event) -> Status:
    """Apply one event, and with it those that have waited for what it brings. Returns what became of it."""
    fact = read(event.payload, sent_at=event.occurred_at, instance=ctx.ports.clerk_instance)
    if (applied := apply_to_people(tx, [(event, fact)], ctx.now()).get(event.id)) is not None:
        return applied
    detail: str | None = None
    match fact:
        case Ignored(status, detail):
            if event.subject is not None:
                forget_if_deleted(tx, event.subject)
        case Person():
            tx.identity.lock_person(fact.clerk_id)
            status = sync_person(ctx, tx, fact)
        case Login(clerk_id, at):
            tx.identity.lock_person(clerk_id)
            exists = tx.identity.person(clerk_id) is not None
            status = sync_person(ctx, tx, Person(clerk_id, last_login_at=at)) if exists else Status.PARKED_USER
        case Membership():
            tx.identity.lock_person(fact.user_id)
            status = sync_membership(tx, fact)
        case Organization():
            tx.identity.lock_organizations()
            status = sync_organization(ctx, tx, fact)
    if status == Status.STALE and event.status.kind == "parked":
        status = Status.APPLIED  # the mirror has it because the event had waited
    tx.events.mark(event.id, Outcome(status, detail))
    return status


def sync_person(ctx: Context, tx: Tx, incoming: Person) -> Status:
    """Bring the person's row, their own tenant and where they work to what the event says."""
    clerk_id = incoming.clerk_id
    before = tx.identity.person(clerk_id)
    after = merged(before, incoming)
    if after.deleted_at:
        if before is not None and not before.deleted_at:
            words = identifiers(*tx.forgetting.identifying_rows(clerk_id))
            forget.enqueue(tx, clerk_id=clerk_id, words=words, name=before.name)
        tx.identity.forget(clerk_id)
    if after == before:
        return Status.STALE
    is_new = before is None or before.source_updated_at is None
    if after.deleted_at or is_new:
        tx.identity.lock_tenants(tx.identity.tenants_of(clerk_id))
    if before is None:
        own_tenant = None if after.deleted_at else open_tenant(ctx, tx, after)
        at = ActiveMembership(own_tenant, Role.MEMBER if after.deleted_at else Role.ADMIN)
        if not tx.identity.add_person(tx.new_id(), after, at):
            raise Unavailable("another program has added this person meanwhile", retry_after=timedelta(seconds=1))
    else:
        tx.identity.save_person(after)
        ensure_own_tenant(tx, after)
        rename_tenant(tx, before, after)
    named_after = tx.identity.tenants_named_after(clerk_id) if after.deleted_at else []
    update_active_membership(tx, after)
    if after.deleted_at:
        tx.identity.disable_own_tenant(clerk_id)
        remove_names(tx, before or after, named_after)
        tx.access.revoke_of_leavers(tx.identity.tenants_of(clerk_id), made_by=clerk_id)
    if is_new:
        for event in tx.events.waiting("clerk", Status.PARKED_USER, [clerk_id]):
            apply_event(ctx, tx, event)
    return Status.APPLIED


def sync_membership(tx: Tx, incoming: Membership) -> Status:
    """Bring the membership to what the event says, and the person to where they work now.

    The mirror keeps the membership even if the person or the organization is not there yet: where the person works is
    derived again when they appear.
    """
    before = tx.identity.membership(incoming.clerk_id)
    after = merged(before, incoming)
    if after != before:
        tx.identity.save(after)
    person = tx.identity.person(incoming.user_id)
    if person is None:
        return Status.PARKED_USER
    if person.deleted_at:
        tx.identity.forget(incoming.user_id)
    if tx.identity.organization(incoming.organization_id) is None:
        return Status.PARKED_ORGANIZATION
    update_active_membership(tx, person)
    own_tenant = tx.identity.own_tenant(incoming.organization_id)
    if after.deleted_at and own_tenant is not None:
        tx.access.revoke_of_leavers([own_tenant], made_by=incoming.user_id)
    return Status.STALE if after == before else Status.APPLIED


def sync_organization(ctx: Context, tx: Tx, incoming: Organization) -> Status:
    """Bring the organization's row and its tenant to what the event says; its deletion ends its memberships."""
    clerk_id = incoming.clerk_id
    before = tx.identity.organization(clerk_id)
    after = merged(before, incoming)
    if after.deleted_at:
        tx.identity.forget(clerk_id)
    if after == before:
        return Status.STALE
    tx.identity.save(after)
    if before is not None:
        rename_tenant(tx, before, after)
    elif not after.deleted_at:
        open_tenant(ctx, tx, after)
    members = tx.identity.members(clerk_id)
    if after.deleted_at:
        for person in filter(None, map(tx.identity.person, members)):
            update_active_membership(tx, person)
        tx.identity.disable_own_tenant(clerk_id)
        remove_names(tx, before or after, tx.identity.tenants_named_after(clerk_id))
        own_tenant = tx.identity.own_tenant(clerk_id)
        tx.access.revoke_of_leavers([own_tenant] if own_tenant else [])
    if before is None:
        about = {"data": {"organization": {"id": clerk_id}}}
        for event in tx.events.waiting("clerk", Status.PARKED_ORGANIZATION, members, containing=about):
            apply_event(ctx, tx, event)
    return Status.APPLIED


def forget_if_deleted(tx: Tx, clerk_id: str) -> None:
    """Reduce what events say of an account that is deleted, also when they come afterwards and whatever they are."""
    tx.identity.lock_person(clerk_id)
    account = tx.identity.person(clerk_id) or tx.identity.organization(clerk_id)
    if account is not None and account.deleted_at:
        tx.identity.forget(clerk_id)


def ensure_own_tenant(tx: Tx, person: Person) -> UUID | None:
    """Return the person's own tenant. For a row that another program made, that is the tenant in which it put them."""
    own_tenant = tx.identity.own_tenant(person.clerk_id)
    if own_tenant is None and (active := tx.identity.active_membership(person.clerk_id)).tenant_id is not None:
        own_tenant = active.tenant_id
        tx.identity.set_own_tenant(person.clerk_id, own_tenant)
    return own_tenant


def update_active_membership(tx: Tx, person: Person) -> None:
    """Let the person work where the mirror says that they belong."""
    now = tx.identity.active_membership(person.clerk_id)
    own_tenant = ensure_own_tenant(tx, person)
    offered = tx.identity.live_memberships(person.clerk_id)
    in_use = False
    if offered and own_tenant is not None and own_tenant == now.tenant_id:
        in_use = own_tenant in tx.clerk_accounts.in_use({person.clerk_id: own_tenant})
    then = active_membership(person, now, own_tenant, own_tenant_in_use=in_use, offered=offered)
    if then != now:
        tx.identity.save_active_membership(person.clerk_id, then)


def open_tenant(ctx: Context, tx: Tx, account: Person | Organization) -> UUID:
    """Make the account's own tenant, on the free plan; its months count from now.

    Raises:
        Rejected: the id is another account's, as no id of Clerk's is: people's and organizations' differ.
    """
    if tx.identity.own_tenant(account.clerk_id) is not None:
        raise Rejected(f"{account.clerk_id} is the id of another account")
    tenant_id = tx.new_id()
    free = quota.first_period(PLANS[Tier.FREE].monthly_quota, ctx.now())
    tx.tenants.create(tenant_id, tenant_name(account), free)
    tx.identity.set_own_tenant(account.clerk_id, tenant_id)
    return tenant_id


def rename_tenant(tx: Tx, before: Person | Organization, after: Person | Organization) -> None:
    """Let the name of the account's own tenant follow the account, until that is deleted (`remove_names`)."""
    unchanged = (before.name, tenant_name(before)) == (after.name, tenant_name(after))
    own_tenant = None if unchanged or after.deleted_at else tx.identity.own_tenant(after.clerk_id)
    if own_tenant is not None:
        alone = not tx.identity.has_others(own_tenant, besides=after.clerk_id)
        name = str(tx.tenants.seen(own_tenant)["name"])
        tx.tenants.rename(own_tenant, was=name, name=renamed(name, before, after, alone=alone))


def remove_names(tx: Tx, was: Person | Organization, tenant_ids: Sequence[UUID]) -> None:
    """Let no name in the tenants of a deleted account (of the tenant itself, of a key) tell who the account was. Where
    others work, a name is theirs too, and loses nothing else."""
    for tenant_id in tenant_ids:
        deserted = not tx.identity.has_others(tenant_id, besides=was.clerk_id)
        called = str(tx.tenants.seen(tenant_id)["name"])
        tx.tenants.rename(tenant_id, was=called, name=name_without(called, was, was.clerk_id, deserted=deserted))
        for key in tx.access.keys(tenant_id):
            name = name_without(key["name"], was, key["prefix"], deserted=deserted)
            if name != key["name"]:
                tx.access.rename_key(tenant_id, key["id"], name)


def name_without(name: str, was: Person | Organization, instead: str, *, deserted: bool) -> str:
    if isinstance(was, Person) and not deserted:
        return without_person(name, was)
    return instead if identifies(name, was, deserted=deserted) else name

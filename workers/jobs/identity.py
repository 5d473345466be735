"""What Clerk tells us becomes users, each with a tenant of their own."""

from uuid import UUID

from domain import quota
from domain.billing import PLANS, Tier
from domain.billing_events import Ignored
from domain.identity import Person, apply, read, tenant_name
from workers.job import Context, Tx, job


@job("identity.apply_clerk_event", queue="events", system=True, unique=("event_id",), max_attempts=10)
def apply_clerk_event(ctx: Context, event_id: UUID) -> None:
    """Let the user's row follow the event; a person seen for the first time gets a tenant."""
    with ctx.finish() as tx:
        event = tx.events.get(event_id)
        fact = read(event.payload, sent_at=event.occurred_at)
        if isinstance(fact, Ignored):
            outcome = f"ignored:{fact.reason}"
        else:
            before, tenant_id = tx.identity.lock_person(fact.clerk_id)
            after = apply(before, fact)
            outcome = "stale" if after is None else "applied"
            if after is not None:
                save(ctx, tx, before, after, tenant_id)
        tx.events.mark(event_id, outcome)
        ctx.report(outcome=outcome)


def save(ctx: Context, tx: Tx, before: Person | None, after: Person, tenant_id: UUID | None) -> None:
    """Write the person. A personal account is called after its owner, as long as nobody gave it another name; after
    a person who is deleted, by their id."""
    if before is None:
        tenant_id = None if after.deleted_at else open_tenant(ctx, tx, tenant_name(after))
        tx.identity.add(tx.new_id(), after, tenant_id, role="ADMIN")
        return
    tx.identity.save(after)
    if tenant_id is not None and tenant_name(before) != tenant_name(after):
        tx.tenants.rename(tenant_id, was=tenant_name(before), name=tenant_name(after))


def open_tenant(ctx: Context, tx: Tx, name: str) -> UUID:
    """A new tenant on the free plan, whose months count from now."""
    tenant_id = tx.new_id()
    tx.tenants.create(tenant_id, name, quota.begin(PLANS[Tier.FREE].monthly_quota, ctx.now()))
    return tenant_id

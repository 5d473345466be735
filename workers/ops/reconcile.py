"""The mirror compared with the books of Stripe and Clerk at once, for whoever does not want to wait for the night."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import NotSetUp
from domain.events.difference import Difference
from workers.app import App
from workers.jobs import reconcile as books
from workers.jobs.reconcile import ComparedPage


def compare_billing(app: App, *, tenant_id: UUID | None, since: datetime | None) -> Iterator[ComparedPage]:
    """Compare with Stripe's books, those of one tenant or all.

    Raises:
        NotSetUp: there is no key to ask Stripe with.
        UnknownTenant: there is no such tenant.
    """
    records = app.ports.records
    if records is None:
        raise NotSetUp("Stripe cannot be asked: STRIPE_SECRET_KEY is not set")
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        customer_id = None if tenant_id is None else tx.tenants.seen(tenant_id)["stripe_customer_id"]
    if tenant_id is None or customer_id is not None:
        begin = partial(app.db.transaction, SYSTEM)
        yield from books.compare_billing(begin, records, now, customer_id=customer_id, since=since)


def compare_identity(app: App) -> Iterator[ComparedPage]:
    """Compare with Clerk's books.

    Raises:
        NotSetUp: there is no key to ask Clerk with.
    """
    records = app.ports.people
    if records is None:
        raise NotSetUp("Clerk cannot be asked: CLERK_SECRET_KEY is not set")
    yield from books.compare_identity(partial(app.db.transaction, SYSTEM), records, app.ports.clerk_instance)


def repair(app: App, differences: Iterable[Difference]) -> int:
    """Store the events that repair the differences, for a worker to apply; return how many are new."""
    with app.db.transaction(SYSTEM) as tx:
        return books.repair(tx, differences)

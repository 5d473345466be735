"""Stored events of Stripe become plans: events applied a second by one worker dyno, each in a commit of its own."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

from benchmarks.measures.drain import watch
from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.servers import BenchError, one
from benchmarks.systems import OURS
from db.events.writer import NewEvent, store_and_commit
from db.transaction import SYSTEM
from domain.quota import quota
from integrations.stripe import webhooks as stripe
from simulators.kinds import KINDS
from simulators.personas import Persona, random_persona
from workers.jobs.billing import apply_stripe_event

PURCHASE = ("checkout.session.completed", "customer.subscription.updated", "invoice.paid")
BATCH = 500


def measure(plan: Plan) -> None:
    """Purchases of as many tenants, three events each, as they are delivered: one tenant's after the other's."""
    for _ in plan.rounds():
        system = plan.system(OURS)
        system.fresh()
        people = [random_persona(Random(n)) for n in range(plan.sizes.jobs // 10)]
        events = [event for who in people for event in purchase(who)]
        with producing(system) as app, app.db.connect(autocommit=True) as connection:
            with app.db.transaction(SYSTEM) as tx:
                for who in people:
                    tx.tenants.create(
                        who.tenant_id, who.email, quota.first_period(10, datetime.now(UTC) - timedelta(days=1))
                    )
            for start in range(0, len(events), BATCH):
                store_and_commit(connection, events[start : start + BATCH])
        system.vacuum()
        plan.settle()
        with system.connect() as connection, system.working("apply", STRIPE_PRO_PRICE_ID="price_pro") as workers:
            plan.report.add("apply", "ours", watch(system, connection, len(events), workers))
            if one(connection, "SELECT count(*) FROM webhook_events WHERE status = 'applied'") != len(events):
                raise BenchError("not every event was applied")


def purchase(who: Persona) -> Iterator[NewEvent]:
    for kind in PURCHASE:
        body = json.dumps(KINDS["stripe"][kind].build(who, datetime.now(UTC)))
        job = apply_stripe_event
        yield NewEvent(
            id=uuid4(),
            source="stripe",
            job_id=uuid4(),
            job_type=job.name,
            queue=job.queue,
            max_attempts=job.max_attempts,
            **stripe.parse_event(body.encode())._asdict(),
        )

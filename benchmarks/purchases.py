"""Purchases of PRO by as many tenants, three signed events of Stripe each, one tenant's after the other's."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import uuid4

import psycopg

from benchmarks.servers import BenchError, one
from db.events.writer import NewEvent
from integrations.stripe import webhooks as stripe
from simulators.kinds import KINDS
from simulators.personas import Persona, random_persona
from workers.jobs.billing import apply_stripe_event

SECRET = "whsec_bench"  # noqa: S105 - of servers that live for a minute
SETTINGS = {"STRIPE_PRO_PRICE_ID": "price_pro"}
"""Of a worker that is to know what was bought."""

EVENTS = ("checkout.session.completed", "customer.subscription.updated", "invoice.paid")
TENANTS = """
INSERT INTO tenants (id, name, quota_anchor, quota_period_start, quota_reset_at)
SELECT id, id::text, at, at, at + interval '1 month'
FROM unnest(%s::uuid[]) AS id, LATERAL (SELECT now() - interval '1 day' AS at) AS moment
"""
RIGHT = """
SELECT count(*) FROM tenants t JOIN stripe_customers c ON c.tenant_id = t.id
                               JOIN stripe_subscriptions s ON s.customer_id = c.id
WHERE t.subscription_tier = 'PRO' AND s.status = 'active' AND t.quota_paid_until = s.period_end
"""
"""Tenants whose plan, subscription and paid period say what was bought."""


@dataclass(frozen=True)
class Purchases:
    """`bodies` are those of the events, in the order in which they are delivered."""

    people: Sequence[Persona]
    bodies: Sequence[bytes]

    def add_tenants(self, connection: psycopg.Connection) -> None:
        connection.execute(TENANTS, ([who.tenant_id for who in self.people],))
        connection.execute("VACUUM ANALYZE tenants")

    def each(self) -> Iterator[tuple[Persona, Sequence[bytes]]]:
        """Yield each person with the bodies of their own events."""
        for n, who in enumerate(self.people):
            yield who, self.bodies[n * len(EVENTS) : (n + 1) * len(EVENTS)]

    def write_signed(self, path: Path) -> None:
        """Signature, tab, body, on a line each. A signature is good for five minutes."""
        now = int(time.time())
        with path.open("wb") as file:
            for body in self.bodies:
                file.write(b"%s\t%s\n" % (stripe.sign(body, SECRET, now).encode(), body))

    def new_events(self) -> Iterator[NewEvent]:
        """What the web process stores of them."""
        job = apply_stripe_event
        for body in self.bodies:
            yield NewEvent(
                id=uuid4(),
                source="stripe",
                job_id=uuid4(),
                job_type=job.name,
                queue=job.queue,
                max_attempts=job.max_attempts,
                **stripe.parse_event(body)._asdict(),
            )

    def check(self, connection: psycopg.Connection) -> None:
        """Raises:
        BenchError: an event was lost or failed, or a tenant has not what was bought.
        """
        applied = one(connection, "SELECT count(*) FROM webhook_events WHERE status = 'applied'")
        right = one(connection, RIGHT)
        if (applied, right) != (len(self.bodies), len(self.people)):
            raise BenchError(
                f"of {len(self.bodies)} events {applied} are applied, of {len(self.people)} tenants {right} are right"
            )


def purchases(count: int) -> Purchases:
    people = [random_persona(Random(n)) for n in range(count)]
    return Purchases(people, [body for who in people for body in _bodies(who, datetime.now(UTC))])


def _bodies(who: Persona, at: datetime) -> Iterator[bytes]:
    for kind in EVENTS:
        yield json.dumps(KINDS["stripe"][kind].build(who, at), separators=(",", ":")).encode()

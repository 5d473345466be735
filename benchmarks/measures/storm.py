"""A storm of logins: sessions of Clerk applied by one worker dyno, and how long a checkout waits amid them."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import httpx
import psycopg

from benchmarks.measures.apply import BATCH
from benchmarks.measures.history import producing
from benchmarks.measures.ingest import serving
from benchmarks.plan import Plan
from benchmarks.purchases import SECRET, SETTINGS, purchases
from benchmarks.servers import BenchError, one, ours, until
from benchmarks.systems import OURS, System
from db.events.writer import NewEvent, store_and_commit
from db.postgres.connection import AppConnection
from integrations.clerk import webhooks as clerk
from integrations.stripe import webhooks as stripe
from simulators.clerk.events import clerk_event, clerk_session, clerk_user
from simulators.personas import Body, Persona, random_persona
from workers.app import App
from workers.jobs.identity import apply_clerk_event

LOGINS_EACH, CHECKOUTS = 5, 100
WITHIN = 120.0
PRO = "SELECT FROM tenants WHERE id = %s AND subscription_tier = 'PRO'"


def measure(plan: Plan) -> None:
    """People sign up, then all of them sign in several times at once; meanwhile one tenant after another buys a plan,
    through the endpoint."""
    now = datetime.now(UTC)
    people = [random_persona(Random(n)) for n in range(plan.sizes.jobs // 2 // LOGINS_EACH)]
    joined = [clerk_event("user.created", clerk_user(who, created_at=now), at=now) for who in people]
    logins = [
        clerk_event("session.created", clerk_session(who, created_at=at), at=at)
        for at in (now + timedelta(minutes=n) for n in range(LOGINS_EACH))
        for who in people
    ]
    bought = purchases(CHECKOUTS)
    for _ in plan.rounds():
        system = plan.system(OURS)
        system.fresh()
        settings = ours(DATABASE_URL=system.urls.app, REDIS_URL=system.urls.redis, STRIPE_WEBHOOK_SECRET=SECRET)
        with (
            producing(system) as app,
            app.db.connect(autocommit=True) as storing,
            system.connect() as looking,
            serving(plan, "ours", settings) as (_, port),
            system.working("storm", **SETTINGS) as workers,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            bought.add_tenants(looking)
            store(app, storing, joined)
            applied(system, looking, len(joined))
            plan.settle()

            def used() -> float:
                postgres = plan.servers.postgres_cpu(storing.info.backend_pid)
                return sum(each.cpu() for each in workers) + postgres

            before, began = used(), time.perf_counter()
            store(app, storing, logins)
            waits: list[float] = []
            for who, bodies in bought.each():
                waits.append(checkout(client, looking, who, bodies))
                if system.left(looking, len(logins)) < len(logins) // 10:
                    break
            applied(system, looking, len(joined) + len(logins))
            plan.report.add("storm", "ours", len(logins) / (time.perf_counter() - began))
            plan.report.add("storm-cpu", "ours", 1e6 * (used() - before) / len(logins))
            plan.report.add("storm-checkout", "ours", max(waits))


def store(app: App, connection: AppConnection, bodies: Sequence[Body]) -> None:
    """Store events of Clerk and notify of them, as the endpoint does."""
    job = apply_clerk_event
    for start in range(0, len(bodies), BATCH):
        batch = [
            NewEvent(
                id=uuid4(),
                source="clerk",
                job_id=uuid4(),
                job_type=job.name,
                queue=job.queue,
                max_attempts=job.max_attempts,
                **clerk.parse_event(json.dumps(body).encode(), f"msg_{uuid4()}")._asdict(),
            )
            for body in bodies[start : start + BATCH]
        ]
        store_and_commit(connection, batch)
        app.notifier.notify({job.queue: {event.job_id: event.priority for event in batch if event.job_id}})


def applied(system: System, looking: psycopg.Connection, count: int) -> None:
    """Wait until nothing is left, and so many events of Clerk are in the mirror. (An older login may come second.)"""
    until(lambda: system.left(looking, count) == 0, "the events of Clerk to be applied", within=WITHIN, every=0.05)
    found = one(
        looking, "SELECT count(*) FROM webhook_events WHERE source = 'clerk' AND status IN ('applied', 'stale')"
    )
    if found != count:
        raise BenchError(f"{found} events of {count} were applied")


def checkout(client: httpx.Client, looking: psycopg.Connection, who: Persona, bodies: Sequence[bytes]) -> float:
    """Return the seconds from sending the first webhook of a purchase until the tenant's row says what was bought."""
    began = time.perf_counter()
    for body in bodies:
        headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, SECRET, int(time.time()))}
        if client.post("/webhooks/stripe", content=body, headers=headers).status_code != httpx.codes.OK:
            raise BenchError("a webhook was not accepted")
    until(lambda: looking.execute(PRO, (who.tenant_id,)).rowcount, "the tenant to change", within=60, every=0.005)
    return time.perf_counter() - began

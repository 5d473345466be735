"""Stored events of Stripe become plans: events applied a second by one worker dyno, and what each of them costs."""

import psycopg

from benchmarks.measures.drain import watch
from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.purchases import SECRET, SETTINGS, Purchases, purchases
from benchmarks.servers import BenchError, until_idle
from benchmarks.systems import OURS, STRIPE_SYNC, System
from db.events.writer import store_and_commit
from workers.jobs.billing import apply_stripe_event

BATCH = 500
COPIED = """
SELECT (SELECT count(*) FROM stripe.checkout_sessions), (SELECT count(*) FROM stripe.subscriptions),
       (SELECT count(*) FROM stripe.invoices)
"""


def measure(plan: Plan) -> None:
    """Of all events that are stored while the dyno, which has started, stands still."""
    bought = purchases(plan.sizes.buyers)
    for _ in plan.rounds():
        applied(plan, bought)
        if plan.takes_part(STRIPE_SYNC.name):
            with plan.turn_of(STRIPE_SYNC.name):
                copied(plan, bought)


def applied(plan: Plan, bought: Purchases) -> None:
    system = plan.system(OURS)
    system.fresh()
    events = len(bought.bodies)
    with system.connect() as connection, system.working("apply", **SETTINGS) as workers:
        bought.add_tenants(connection)
        until_idle(workers)
        with workers[0].suspended():
            store(system, bought)
            system.vacuum()
            plan.settle()
            me = connection.info.backend_pid
            before = [sum(each.cpu() for each in workers), plan.servers.postgres_cpu(me)]
        plan.report.add("apply", "ours", watch(system, connection, events, workers))
        after = [sum(each.cpu() for each in workers), plan.servers.postgres_cpu(me)]
        bought.check(connection)
    costs = [1000 * (now - then) / events for then, now in zip(before, after, strict=True)]
    plan.report.add("apply-cpu", "ours", sum(costs))
    plan.report.add("apply-cpu-postgres", "ours", costs[1])


def store(system: System, bought: Purchases) -> None:
    events = list(bought.new_events())
    with producing(system) as app, app.db.connect(autocommit=True) as connection:
        for start in range(0, len(events), BATCH):
            store_and_commit(connection, events[start : start + BATCH])
        app.notifier.notify({apply_stripe_event.queue: {}})


def copied(plan: Plan, bought: Purchases) -> None:
    """What stripe-sync-engine makes of the same events."""
    system = plan.system(STRIPE_SYNC)
    system.fresh()
    bodies = plan.folder / "apply.tsv"
    bought.write_signed(bodies)
    plan.settle()
    before = plan.servers.postgres_cpu()
    found = system.ask("apply", BENCH_BODIES=str(bodies), STRIPE_WEBHOOK_SECRET=SECRET)
    postgres = plan.servers.postgres_cpu() - before
    with psycopg.connect(plan.servers.superuser(system.database)) as connection:
        counts = connection.execute(COPIED).fetchone()
    if counts != (len(bought.people),) * 3:
        raise BenchError(f"of {len(bought.people)} purchases it has copies of {counts}")
    events = len(bought.bodies)
    plan.report.add("apply", system.name, events / found["seconds"])
    plan.report.add("apply-cpu", system.name, 1000 * (found["cpu"] + postgres) / events)
    plan.report.add("apply-cpu-postgres", system.name, 1000 * postgres / events)

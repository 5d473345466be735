"""From signed webhook to changed tenant: purchases sent as fast as they are taken, until the last tenant is right."""

import time

import psycopg

from benchmarks import load
from benchmarks.measures.ingest import CONNECTIONS, serving
from benchmarks.plan import Plan
from benchmarks.purchases import SECRET, SETTINGS, Purchases, purchases
from benchmarks.servers import BenchError, answer, one, ours, until, until_idle
from benchmarks.systems import OURS

WITHIN = 300.0
"""Seconds, for the whole of it."""

TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
COUNTED_AFTER = 1.5
"""Seconds after which Postgres has counted the transactions of backends that do nothing any more."""

WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"


def measure(plan: Plan) -> None:
    """Three processes as shipped: web, worker dyno, scheduler; and what an event costs each of them, all in all."""
    bought = purchases(plan.sizes.burst_buyers)
    for _ in plan.rounds():
        burst(plan, bought)


def burst(plan: Plan, bought: Purchases) -> None:
    system, events = plan.system(OURS), len(bought.bodies)
    system.fresh()
    bodies = plan.folder / "burst.tsv"
    environment = ours(DATABASE_URL=system.urls.app, REDIS_URL=system.urls.redis, STRIPE_WEBHOOK_SECRET=SECRET)
    with (
        system.connect() as connection,
        system.working("burst", **SETTINGS) as (dyno, scheduler),
        serving(plan, "ours", environment) as (web, port),
    ):
        bought.add_tenants(connection)
        until_idle([dyno, scheduler, web])
        plan.settle()
        bought.write_signed(bodies)
        me = connection.info.backend_pid

        def used() -> list[float]:
            return [web.cpu(), dyno.cpu() + scheduler.cpu(), plan.servers.postgres_cpu(me)]

        before, committed, wal = used(), transactions(connection), one(connection, WAL)
        sender = {load.BODIES: str(bodies)}
        found = answer(load.command(port, CONNECTIONS, WITHIN), ours(**sender), plan.folder)
        if found["failed"] or found["requests"] != events:
            raise BenchError(f"{events} events were sent: {found}")
        until(lambda: system.left(connection, events) == 0, "the last event", within=WITHIN, every=0.02)
        plan.report.add("burst", "ours", time.monotonic() - found["ended"])
        costs = [1000 * (now - then) / events for then, now in zip(before, used(), strict=True)]
        bought.check(connection)
        wal, committed = one(connection, WAL) - wal, transactions(connection) - committed
    plan.report.add("burst-accepted", "ours", events / found["seconds"])
    for name, cost in zip(("web", "worker", "postgres"), costs, strict=True):
        plan.report.add(f"burst-cpu-{name}", "ours", cost)
    plan.report.add("burst-wal", "ours", wal / events)
    plan.report.add("burst-transactions", "ours", committed / events)


def transactions(connection: psycopg.Connection) -> int:
    """All that there were in this database."""
    time.sleep(COUNTED_AFTER)
    count: int = one(connection, TRANSACTIONS)
    return count

"""What the quota ledger takes: a month that begins for everybody at once, and concepts held and settled meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.systems import OURS
from db.transaction import SYSTEM
from workers.app import App
from workers.jobs.quota import TENANTS_PER_TRANSACTION

CROWD = """
INSERT INTO tenants (name, used_quota, quota_anchor, quota_period_start, quota_reset_at)
SELECT n::text, 5, at, at, at + interval '1 month'
FROM generate_series(1, %s) AS n, LATERAL (SELECT now() - interval '32 days' AS at) AS moment
"""


def measure(plan: Plan) -> None:
    """Tenants reset a second; holds settled a second, alone and beside the reset."""
    for _ in plan.rounds():
        system = plan.system(OURS)
        system.fresh()
        with system.connect() as connection:
            connection.execute(CROWD, (plan.sizes.tenants,))
            connection.execute("VACUUM ANALYZE")
            [(tenant_id,)] = connection.execute(
                "INSERT INTO tenants (name, monthly_quota) VALUES ('Ada', 1000000) RETURNING id"
            ).fetchall()
        plan.settle()
        with producing(system) as app:
            waits = list(held(app, tenant_id, plan.sizes.holds))
            plan.report.add("hold", "ours", len(waits) / sum(waits))
            with consuming(app, tenant_id) as beside:
                seconds = reset_all(app)
            plan.report.add("reset", "ours", plan.sizes.tenants / seconds)
            plan.report.add("hold-p99-beside-reset", "ours", percentile(beside, 99) * 1000)


def reset_all(app: App) -> float:
    began, reset = time.perf_counter(), TENANTS_PER_TRANSACTION
    while reset == TENANTS_PER_TRANSACTION:
        with app.db.transaction(SYSTEM) as tx:
            reset = tx.quota.reset_due(datetime.now(UTC), TENANTS_PER_TRANSACTION, "job:bench")
    return time.perf_counter() - began


def held(app: App, tenant_id: UUID, count: int) -> Iterator[float]:
    """Holds one after another, each in a commit of its own, and its settling in another: seconds of each."""
    for _ in range(count):
        began, job_id = time.perf_counter(), uuid4()
        with app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, job_id, 2, datetime.now(UTC))
        with app.db.transaction(tenant_id) as tx:
            tx.quota.settle(tenant_id, job_id, 1)
        yield time.perf_counter() - began


@contextmanager
def consuming(app: App, tenant_id: UUID) -> Iterator[list[float]]:
    """A tenant that holds and settles on a thread of its own, for as long as the block takes."""
    waits: list[float] = []
    over = threading.Event()

    def consume() -> None:
        while not over.is_set():
            waits.extend(held(app, tenant_id, 1))

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()

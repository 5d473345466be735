"""What the quota ledger takes: a month that begins for everybody at once, and concepts held and settled meanwhile."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.systems import OURS, System
from db.transaction import SYSTEM
from workers.app import App
from workers.jobs.generation import TENANTS_PER_TRANSACTION as HELD_AT_ONCE
from workers.jobs.quota import TENANTS_PER_TRANSACTION

THREADS = 8
BUSY = "INSERT INTO tenants (name, monthly_quota) SELECT 'Ada', 1000000 FROM generate_series(1, %s) RETURNING id"

# Each has used something, so that the reset writes all that it ever does. The triggers would enter it one by one.
CROWD = (
    "ALTER TABLE tenants DISABLE TRIGGER USER",
    "ALTER TABLE quota_ledger DISABLE TRIGGER USER",
    """
INSERT INTO tenants (name, used_quota, quota_anchor, quota_period_start, quota_reset_at)
SELECT n::text, 5, at, at, at + interval '1 month'
FROM generate_series(1, {tenants}) AS n, LATERAL (SELECT now() - interval '32 days' AS at) AS moment
""",
    """
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
SELECT id, 'adjust', 5, 5, monthly_quota, quota_period_start, 'sql:bench', quota_period_start FROM tenants
""",
    "ALTER TABLE quota_ledger ENABLE TRIGGER USER",
    "ALTER TABLE tenants ENABLE TRIGGER USER",
    "VACUUM ANALYZE",
)


def measure(plan: Plan) -> None:
    """Tenants reset a second; holds settled a second, alone and beside the reset."""
    for _ in plan.rounds():
        system = plan.system(OURS)
        crowd = filled(system, plan.sizes.tenants)
        plan.settle()
        with producing(system) as app:
            waits = list(held(app, crowd[:1], plan.sizes.holds))
            plan.report.add("hold", "ours", len(waits) / sum(waits))
            plan.report.add("hold-threads", "ours", at_once(app, crowd, plan.sizes.holds))
            plan.report.add("hold-many", "ours", many(app, crowd, plan.sizes.holds))
            with consuming(app, crowd) as beside:
                seconds = reset_all(app)
            plan.report.add("reset", "ours", plan.sizes.tenants / seconds)
            plan.report.add("hold-p99-beside-reset", "ours", percentile(beside, 99) * 1000)


def filled(system: System, tenants: int) -> list[UUID]:
    """Fill a fresh database with tenants that are due. Returns some that are not."""
    system.fresh()
    with system.connect() as connection:
        for statement in CROWD:
            connection.execute(statement.format(tenants=tenants).encode())
        return [row[0] for row in connection.execute(BUSY, (HELD_AT_ONCE,))]


def at_once(app: App, crowd: Sequence[UUID], count: int) -> float:
    """Hold and settle on several threads, each for tenants of its own. Returns how many in a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        parts = [crowd[n::THREADS] for n in range(THREADS)]
        pairs = sum(threads.map(lambda part: len(list(held(app, part, count // THREADS))), parts))
    return pairs / (time.perf_counter() - began)


def many(app: App, crowd: Sequence[UUID], count: int) -> float:
    """Hold for many tenants in a transaction, as the daily concepts do. Returns how many in a second."""
    began, rounds = time.perf_counter(), max(1, 2 * count // len(crowd))
    for _ in range(rounds):
        with app.db.transaction(SYSTEM) as tx:
            tx.quota.hold_many({each: (uuid4(), 2) for each in crowd}, datetime.now(UTC))
    return rounds * len(crowd) / (time.perf_counter() - began)


def reset_all(app: App) -> float:
    began, reset = time.perf_counter(), TENANTS_PER_TRANSACTION
    while reset == TENANTS_PER_TRANSACTION:
        with app.db.transaction(SYSTEM) as tx:
            reset = tx.quota.reset_due(datetime.now(UTC), TENANTS_PER_TRANSACTION, "job:bench")
    return time.perf_counter() - began


def held(app: App, crowd: Sequence[UUID], count: int) -> Iterator[float]:
    """Holds one after another, each in a commit of its own, and its settling in another: seconds of each."""
    for n in range(count):
        began, job_id, tenant_id = time.perf_counter(), uuid4(), crowd[n % len(crowd)]
        with app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, job_id, 2, datetime.now(UTC))
        with app.db.transaction(tenant_id) as tx:
            tx.quota.settle(tenant_id, job_id, 1)
        yield time.perf_counter() - began


@contextmanager
def consuming(app: App, crowd: Sequence[UUID]) -> Iterator[list[float]]:
    """Concepts are held and settled on a thread of its own, for as long as the block takes."""
    waits: list[float] = []
    over = threading.Event()

    def consume() -> None:
        while not over.is_set():
            waits.extend(held(app, crowd, 1))

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()

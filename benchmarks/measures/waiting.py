"""How many jobs that wait for a model one worker dyno holds at once, what that takes, and what it costs the others."""

import threading
import time
from collections.abc import Sequence
from uuid import UUID

import psycopg

from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, one, until, until_idle
from benchmarks.systems import OURS, System
from db.transaction import SYSTEM
from simulators.llm import KEY, llm_simulator
from workers.adapters.writers import LANGUAGE_MODEL
from workers.jobs.generation import generate_concepts

COUNT = 5
"""Concepts of a generation."""
WARM_UP = 3
PAUSE = 0.3
"""Seconds between two jobs of another queue."""

TENANTS = """
INSERT INTO tenants (name, quota_anchor, quota_period_start, quota_reset_at, monthly_quota)
SELECT n::text, now(), now(), now() + interval '1 month', 100 FROM generate_series(1, %s) AS n RETURNING id
"""
LEFT = "SELECT count(*) FROM job_queue WHERE job_type = 'generation.generate_concepts' AND status <> 'completed'"
MADE = "SELECT count(*) FROM generations"
WRONG = "SELECT count(*) FROM tenants WHERE used_quota <> 5"


class Asked:
    """How many calls of a model are unanswered, now and at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def wait(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self._seconds)
        with self._lock:
            self.now -= 1

    def await_all(self, jobs: int) -> None:
        """Wait until so many are unanswered, or the first is answered."""
        until(lambda: self.now == jobs or self.most > self.now, "all to be at the model", within=60)


def measure(plan: Plan) -> None:
    """Concepts for many tenants at once, from a model that takes its time; meanwhile, jobs of another queue."""
    jobs = plan.sizes.waiting_jobs
    for _ in plan.rounds():
        plan.settle()
        system = plan.system(OURS)
        system.fresh()
        asked = Asked(plan.sizes.waiting_seconds)
        with llm_simulator() as model, system.connect() as connection:
            model.before_answering = asked.wait
            tenants = [row[0] for row in connection.execute(TENANTS, (jobs,))]
            settings = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url("anthropic"), "TREND_SOURCES": "none"}
            with system.working("latency", **settings) as workers:
                until_idle(workers)
                began = time.perf_counter()
                enqueue(system, tenants)
                asked.await_all(jobs)
                held = workers[0].pss()
                sent = system.send([PAUSE] * (WARM_UP + plan.sizes.waiting_beside))[WARM_UP:]
                until(lambda: one(connection, LEFT) == 0, "the concepts", within=120, every=0.05)
                seconds = time.perf_counter() - began
                most = max(held, workers[0].pss())
            check(connection, jobs)
        plan.report.add("waiting", "ours", asked.most)
        plan.report.add("waiting-seconds", "ours", seconds)
        plan.report.add("waiting-held", "ours", held)
        plan.report.add("waiting-memory", "ours", most)
        beside = [(started - committing) / 1e6 for _, committing, started in sent]
        plan.report.add("waiting-beside-p50", "ours", percentile(beside, 50))


def enqueue(system: System, tenants: Sequence[UUID]) -> None:
    with producing(system) as app, app.db.transaction(SYSTEM) as tx:
        generate_concepts.enqueue_many(
            tx, [{"tenant_id": str(each), "count": COUNT, "generator": LANGUAGE_MODEL} for each in tenants]
        )


def check(connection: psycopg.Connection, jobs: int) -> None:
    """Raises:
    BenchError: concepts were lost, made twice or not paid for once.
    """
    counts = one(connection, MADE), one(connection, WRONG)
    if counts != (jobs, 0):
        raise BenchError(f"of {jobs} generations {counts[0]} are kept, and {counts[1]} tenants paid for others")

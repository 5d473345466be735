"""R3: Redis forgets everything, and is away for a minute. R4: it hangs, and its connections are reset."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random

import httpx

from db.transaction import SYSTEM
from integrations.stripe import webhooks as stripe
from simulators.kinds import KINDS
from simulators.personas import random_persona
from tests.chaos.faults import Wire
from tests.chaos.fleet import FAST
from tests.chaos.jobs.counted import alone
from tests.chaos.load import Feeder, feeding
from tests.chaos.report import Finding
from tests.chaos.servers import STRIPE_SECRET, System
from tests.chaos.stage import Stage, settle
from tests.wait import until

OLDEST = """
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - scheduled_for)), 0)::float FROM job_queue
WHERE status = 'pending' AND scheduled_for <= now()
"""
APPLIED = "SELECT count(*) FROM job_queue WHERE job_type = 'billing.apply_stripe_event' AND status = 'completed'"
FIRST_MOVE = "SELECT min(started_at) FROM job_queue WHERE started_at > %s"


def forgetting(stage: Stage, finding: Finding) -> None:
    """R3."""
    rng = stage.rng()
    flushes, away = stage.size((20, 60.0), (3, 1.5))
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.scheduler()
        fleet.dynos(2)
        origin = fleet.web()
        fleet.await_signed_on(2)
        with feeding(system, rng, per_second=150) as feeder:
            with sending(origin, rng) as answers:
                thrown = hits = 0
                for _ in range(flushes):
                    time.sleep(rng.uniform(0.1, 0.6))
                    burst(system, feeder)
                    lost = stage.servers.forget_redis()
                    thrown, hits = thrown + lost, hits + bool(lost)
                finding.trials = flushes + 1
                finding.saw("flushes with notifications in them", hits, least=flushes // 2)
                finding.figures["messages_thrown_away"] = thrown
                gone = system.value("SELECT clock_timestamp()")
                stage.servers.redis.stop()
                began = time.monotonic()
                until(lambda: time.monotonic() - began > away, "the outage to pass", seconds=away + 5)
                waiting = system.value("SELECT count(*) FROM job_queue WHERE status = 'pending'")
                stage.servers.redis.start()
                back = system.value("SELECT clock_timestamp()")
                finding.saw("jobs that waited for Redis", waiting)
                until(lambda: system.value(FIRST_MOVE, (back,)), "the first job to move")
                moved = (system.value(FIRST_MOVE, (back,)) - back).total_seconds()
                finding.figures |= {"away_s": (back - gone).total_seconds(), "first_move_s": round(moved, 2)}
                stage.hold_to(5, finding, "first_move_s")
            settle(finding, system, fleet, feeder)
        finding.figures["webhooks"] = dict(answers)
        finding.expect(answers.get(200, 0) and set(answers) == {200}, f"webhook answers, by status: {answers}")
        jobs = system.value(APPLIED)
        finding.expect(jobs == answers.get(200, 0), f"{answers} webhooks accepted, {jobs} of their jobs completed")


def burst(system: System, feeder: Feeder, number: int = 60) -> None:
    """More jobs than threads, on the queue where each is a message, so that messages wait in Redis."""
    with system.app.db.transaction(SYSTEM) as tx:
        ids = [alone.enqueue(tx, name=f"burst{n}", ms=20) for n in range(number)]
    feeder.promised_besides += ids


@contextmanager
def sending(origin: str, rng: Random, per_second: float = 10) -> Iterator[dict[int, int]]:
    """Signed Stripe events, one after the other; yields how often each status was answered (0: none at all).

    Every knock has its answer when this ends: whoever counts the jobs of the accepted settles after it, not within.
    """
    answers: dict[int, int] = {}
    stop = threading.Event()

    def knock() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.wait(1 / per_second):
                body = json.dumps(
                    KINDS["stripe"]["customer.deleted"].build(random_persona(rng), datetime.now(UTC))
                ).encode()
                headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, STRIPE_SECRET, int(time.time()))}
                try:
                    status = client.post(f"{origin}/webhooks/stripe", content=body, headers=headers).status_code
                except httpx.TransportError:
                    status = 0
                answers[status] = answers.get(status, 0) + 1

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join(15)


def hanging(stage: Stage, finding: Finding) -> None:
    """R4: a Redis that accepts and says nothing, then connections that are reset."""
    rng = stage.rng()
    seconds, resets = stage.size((30.0, 40), (3.0, 5))
    oldest = 0.0
    with Wire(stage.servers.redis.port) as wire, stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.environment["REDIS_URL"] = wire.url(system.settings.redis_url)
        fleet.workers(2)
        with feeding(system, rng, per_second=100) as feeder:
            until(lambda: system.value("SELECT count(*) FROM chaos_ledger") > 50, "jobs to run")
            pid = stage.servers.redis.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            try:
                while time.monotonic() - began < seconds:
                    oldest = max(oldest, system.value(OLDEST))
                    time.sleep(0.25)
                waiting = system.value("SELECT count(*) FROM job_queue WHERE status = 'pending'")
            finally:
                os.kill(pid, signal.SIGCONT)
            finding.saw("jobs that waited for the hanging Redis", waiting)
            for _ in range(resets):
                time.sleep(rng.uniform(0.1, 0.5))
                wire.reset_all()
                oldest = max(oldest, system.value(OLDEST))
            finding.trials = 1 + resets
            finding.saw("connections reset", wire.cuts, least=resets)
            settle(finding, system, fleet, feeder, bar=60)
        heard = fleet.logged("redis.away")
        finding.saw("times that a process noticed", heard)
        finding.figures["oldest_pending_s"] = round(oldest, 1)
        stage.hold_to(60, finding, "oldest_pending_s")

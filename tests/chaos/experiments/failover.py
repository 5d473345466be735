"""standby and readonly: a second Postgres takes over from one that is killed; and connections lead to one that only
reads. Nobody's process dies, so no job may lose an attempt by it, or be taken from who runs it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx

from db.transaction import SYSTEM
from tests.chaos.faults import Wire
from tests.chaos.fleet import Fleet, fleet_of
from tests.chaos.ground import Place
from tests.chaos.jobs.counted import effect
from tests.chaos.load import Deliveries, Feeder, delivering, feeding
from tests.chaos.report import Finding
from tests.chaos.stage import BAR, Stage, settle
from tests.chaos.standby import Standby, promote, standby_of, synchronous
from tests.outages import read_only
from tests.wait import until

RECOVERY_BAR = 5.0
"""Seconds from the server's return until webhooks are accepted and jobs are done again."""

BRISK = {"CHAOS_INTERVAL": "1", "CHAOS_LEASE": "4", "CHAOS_SWEEP": "2"}
"""Heartbeat, lease and sweep: an outage outlasts the lease. Shipped are 10 s, 30 s and 10 s."""

DONE = "SELECT count(*) FROM job_queue WHERE status = 'completed'"
BURNED = "SELECT count(*) FROM job_queue WHERE attempts > 1 OR crashes > 0"
TOLD = (
    "job.postponed",
    "worker.cannot_write",
    "worker.heartbeat_missed",
    "webhook_writer.postgres_away",
    "dispatcher.postgres_away",
)


def promoted(stage: Stage, finding: Finding) -> None:
    """standby: the primary is killed -9 amid webhooks and jobs, and its synchronous standby promoted. Clients know both
    hosts."""
    ground, rng = stage.ground, stage.rng()
    jobs, events = stage.size((1000, 10_000), (60, 150))
    with ExitStack() as stack:
        standby = stack.enter_context(standby_of(ground.postgres, ground.folder / "standby", ground.home))
        place = stack.enter_context(ground.place(stage.name, reach=lambda url: either(url, standby)))
        stack.callback(ground.revive_postgres)
        stack.enter_context(synchronous(ground.postgres))
        stack.callback(ground.revive_postgres)
        fleet = stack.enter_context(fleet_of(place, **BRISK))
        with at_work(stage, place, fleet, jobs, events) as (origin, feeder, deliveries):
            until(lambda: deliveries.accepted >= events // 3, "webhooks before the kill", seconds=120)
            assert ground.postgres.pid is not None
            os.kill(ground.postgres.pid, signal.SIGKILL)
            killed = time.monotonic()
            time.sleep(rng.uniform(0.2, 1))
            promote(standby)
            finding.saw("primaries killed", 1)
            back = await_recovery(finding, place, origin, deliveries)
            finding.figures["gap_s"] = round(back - killed, 2)
            finish(stage, finding, place, fleet, feeder, deliveries, events)


def landed_on_reader(stage: Stage, finding: Finding) -> None:
    """readonly: for a while new connections lead to a standby, and stay there when others lead home again; then the
    server itself takes no writes for longer than a lease, as with a disk that its host finds too full."""
    ground = stage.ground
    jobs, events = stage.size((800, 2000), (60, 100))
    with (
        standby_of(ground.postgres, ground.folder / "reader", ground.home) as reader,
        Wire(ground.postgres.port) as wire,
        ground.place(stage.name) as place,
        fleet_of(place, **BRISK) as fleet,
    ):
        fleet.environment["DATABASE_URL"] = wire.url(
            place.settings.database_url, "sslmode=disable&target_session_attrs=any"
        )
        with at_work(stage, place, fleet, jobs, events) as (origin, feeder, deliveries):
            until(lambda: deliveries.accepted >= events // 4, "webhooks before", seconds=60)
            held = hold(place, seconds=stage.size(6, 2))
            feeder.promised_besides += held
            wire.lead_to(reader.port)
            wire.reset_all()
            await_refusal(finding, origin)
            time.sleep(stage.size(3, 0.5))
            wire.lead_to(ground.postgres.port)
            finding.saw("connections that led to a reader", wire.cuts)
            await_recovery(finding, place, origin, deliveries)
            held = hold(place, seconds=stage.size(6, 2))
            feeder.promised_besides += held
            with read_only(ground.postgres):
                await_refusal(finding, origin)
                time.sleep(stage.size(8, 5))
            finding.saw("times that the server took no writes", 1)
            await_recovery(finding, place, origin, deliveries)
            finish(stage, finding, place, fleet, feeder, deliveries, events)


def either(url: str, standby: Standby) -> str:
    """The URL of whichever of the two servers takes writes."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, "target_session_attrs=read-write")))
    return urlunsplit(parts._replace(netloc=f"{parts.netloc},127.0.0.1:{standby.port}", query=query))


@contextmanager
def at_work(
    stage: Stage, place: Place, fleet: Fleet, jobs: int, events: int
) -> Iterator[tuple[str, Feeder, Deliveries]]:
    """Web, scheduler and two workers; who feeds them, and who delivers webhooks."""
    rng = stage.rng()
    origin = fleet.web()
    fleet.scheduler()
    fleet.dynos(2)
    fleet.await_signed_on(2)
    with (
        feeding(place, rng, target=jobs, per_second=stage.size(40, 20)) as feeder,
        # There are webhooks to the end, however long that is in coming.
        delivering(origin, rng, 3 * events, threads=16, per_second=stage.size(200, 15)) as deliveries,
    ):
        yield origin, feeder, deliveries


def hold(place: Place, seconds: float) -> list[UUID]:
    """Jobs that outlast what is coming, half of them begun at least; they go before all others."""
    urgent = effect.with_options(priority=1)
    with place.app.db.transaction(SYSTEM) as tx:
        ids = [urgent.enqueue(tx, name=f"held{n}", ms=int(seconds * 1000)) for n in range(6)]
    running = "SELECT count(*) FROM job_queue WHERE id = ANY(%s) AND status = 'running'"
    until(lambda: place.value(running, (ids,)) >= len(ids) // 2, "the long jobs to be begun")
    return ids


def await_refusal(finding: Finding, origin: str) -> None:
    """Readiness says so."""
    until(lambda: readiness(origin)[0] == 503, "readiness to notice", seconds=60, every=0.1)
    finding.figures.setdefault("readiness_said", []).append(readiness(origin)[1])


def readiness(origin: str) -> tuple[int, str]:
    answer = httpx.get(f"{origin}/readyz", timeout=10)
    return answer.status_code, answer.json()["postgres"]


def await_recovery(finding: Finding, place: Place, origin: str, deliveries: Deliveries) -> float:
    """From now, when the server takes writes. Returns the moment at which everything worked again."""
    served = time.monotonic()
    accepted, done = deliveries.accepted, place.value(DONE)
    until(lambda: deliveries.accepted > accepted, "a webhook to be accepted", seconds=60)
    finding.worst("webhooks_again_s", time.monotonic() - served)
    until(lambda: place.value(DONE) > done, "a job to be done", seconds=60)
    finding.worst("jobs_again_s", time.monotonic() - served)
    until(lambda: readiness(origin)[0] == 200, "readiness to notice", seconds=60, every=0.1)
    finding.worst("ready_again_s", time.monotonic() - served)
    return time.monotonic()


def finish(
    stage: Stage, finding: Finding, place: Place, fleet: Fleet, feeder: Feeder, deliveries: Deliveries, events: int
) -> None:
    until(lambda: deliveries.accepted >= events, "so many events to be accepted", seconds=180)
    deliveries.stop()
    until(lambda: len(feeder.promised) + len(feeder.unknown) >= feeder.target, "every job to be promised", seconds=60)
    settle(finding, place, fleet, feeder, bar=max(BAR, events / 60))
    deliveries.judge(finding, place)
    finding.trials = deliveries.accepted + len(feeder.promised)
    finding.saw("outages told", fleet.said(*TOLD))
    finding.figures["lines_of_outages"] = {event: fleet.said(event) for event in TOLD}
    finding.figures["given_back"] = place.value("SELECT count(*) FROM job_attempts WHERE outcome = 'returned'")
    burned = place.value(BURNED)
    finding.expect(burned == 0, f"{burned} jobs lost an attempt, or were taken from a healthy process")
    finding.expect(not fleet.said("worker.disowned"), "jobs were disowned")
    stage.hold_to(RECOVERY_BAR, finding, "webhooks_again_s", "jobs_again_s", "ready_again_s")

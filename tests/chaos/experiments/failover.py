"""standby and readonly: a second Postgres takes over from one that is killed; and connections lead to one that only
reads. Nobody's process dies, so no job may lose an attempt by it, or be taken from who runs it."""

import os
import signal
import time
from contextlib import AbstractContextManager, ExitStack
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx

from db.transaction import SYSTEM
from tests.chaos.faults import Wire
from tests.chaos.fleet import Fleet, fleet_of
from tests.chaos.jobs.counted import effect
from tests.chaos.load import Traffic, traffic
from tests.chaos.report import Finding
from tests.chaos.servers import System
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
OUTAGE_EVENTS = (
    "job.postponed",
    "worker.cannot_write",
    "worker.heartbeat_missed",
    "webhook_writer.postgres_away",
    "dispatcher.postgres_away",
)


def promoted(stage: Stage, finding: Finding) -> None:
    """standby: the primary is killed -9 amid webhooks and jobs, and its synchronous standby promoted. Clients know both
    hosts."""
    servers, rng = stage.servers, stage.rng()
    jobs, events = stage.size((1000, 10_000), (60, 150))
    with ExitStack() as stack:
        standby = stack.enter_context(standby_of(servers.postgres, servers.folder / "standby", servers.home))
        system = stack.enter_context(servers.system(stage.name, reach=lambda url: either(url, standby)))
        stack.callback(servers.revive_postgres)
        stack.enter_context(synchronous(servers.postgres))
        stack.callback(servers.revive_postgres)
        fleet = stack.enter_context(fleet_of(system, **BRISK))
        with at_work(stage, system, fleet, jobs, events) as load:
            load.await_accepted(1 / 3)
            assert servers.postgres.pid is not None
            os.kill(servers.postgres.pid, signal.SIGKILL)
            killed = time.monotonic()
            time.sleep(rng.uniform(0.2, 1))
            promote(standby)
            finding.saw("primaries killed", 1)
            back = await_recovery(finding, system, load)
            finding.figures["gap_s"] = round(back - killed, 2)
            finish(stage, finding, system, fleet, load)


def landed_on_reader(stage: Stage, finding: Finding) -> None:
    """readonly: for a while new connections lead to a standby, and stay there when others lead home again; then the
    server itself takes no writes for longer than a lease, as with a disk that its host finds too full."""
    servers = stage.servers
    jobs, events = stage.size((800, 2000), (60, 100))
    with (
        standby_of(servers.postgres, servers.folder / "reader", servers.home) as reader,
        Wire(servers.postgres.port) as wire,
        servers.system(stage.name) as system,
        fleet_of(system, **BRISK) as fleet,
    ):
        fleet.environment["DATABASE_URL"] = wire.url(
            system.settings.database_url, "sslmode=disable&target_session_attrs=any"
        )
        with at_work(stage, system, fleet, jobs, events) as load:
            load.await_accepted(1 / 4)
            held = hold(system, seconds=stage.size(6, 2))
            load.feeder.promised_besides += held
            wire.lead_to(reader.port)
            wire.reset_all()
            await_not_ready(finding, load.origin)
            time.sleep(stage.size(3, 0.5))
            wire.lead_to(servers.postgres.port)
            finding.saw("connections that led to a reader", wire.cuts)
            await_recovery(finding, system, load)
            held = hold(system, seconds=stage.size(6, 2))
            load.feeder.promised_besides += held
            with read_only(servers.postgres):
                await_not_ready(finding, load.origin)
                time.sleep(stage.size(8, 5))
            finding.saw("times that the server took no writes", 1)
            await_recovery(finding, system, load)
            finish(stage, finding, system, fleet, load)


def either(url: str, standby: Standby) -> str:
    """The URL of whichever of the two servers takes writes."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, "target_session_attrs=read-write")))
    return urlunsplit(parts._replace(netloc=f"{parts.netloc},127.0.0.1:{standby.port}", query=query))


def at_work(stage: Stage, system: System, fleet: Fleet, jobs: int, events: int) -> AbstractContextManager[Traffic]:
    """There are webhooks to the end, however long that is in coming."""
    rates = {"jobs_per_second": stage.size(40, 20), "events_per_second": stage.size(200, 15)}
    return traffic(system, fleet, stage.rng(), jobs, events, **rates, spare=3)


def hold(system: System, seconds: float) -> list[UUID]:
    """Jobs that outlast what is coming, half of them begun at least; they go before all others."""
    urgent = effect.with_options(priority=1)
    with system.app.db.transaction(SYSTEM) as tx:
        ids = [urgent.enqueue(tx, name=f"held{n}", ms=int(seconds * 1000)) for n in range(6)]
    running = "SELECT count(*) FROM job_queue WHERE id = ANY(%s) AND status = 'running'"
    until(lambda: system.value(running, (ids,)) >= len(ids) // 2, "the long jobs to be begun")
    return ids


def await_not_ready(finding: Finding, origin: str) -> None:
    """Wait until readiness says so."""
    until(lambda: readiness(origin)[0] == 503, "readiness to notice", seconds=60, every=0.1)
    finding.figures.setdefault("readiness_said", []).append(readiness(origin)[1])


def readiness(origin: str) -> tuple[int, str]:
    answer = httpx.get(f"{origin}/readyz", timeout=10)
    return answer.status_code, answer.json()["postgres"]


def await_recovery(finding: Finding, system: System, load: Traffic) -> float:
    """From now, when the server takes writes. Returns the moment at which everything worked again."""
    began, done = time.monotonic(), system.value(DONE)
    finding.worst("webhooks_again_s", load.await_next_webhook())
    until(lambda: system.value(DONE) > done, "a job to be done", seconds=60)
    finding.worst("jobs_again_s", time.monotonic() - began)
    until(lambda: readiness(load.origin)[0] == 200, "readiness to notice", seconds=60, every=0.1)
    finding.worst("ready_again_s", time.monotonic() - began)
    return time.monotonic()


def finish(stage: Stage, finding: Finding, system: System, fleet: Fleet, load: Traffic) -> None:
    load.await_end()
    settle(finding, system, fleet, load.feeder, bar=max(BAR, load.events / 60))
    load.deliveries.judge(finding, system)
    finding.trials = load.deliveries.accepted + len(load.feeder.promised)
    finding.saw("outages logged", fleet.logged(*OUTAGE_EVENTS))
    finding.figures["lines_of_outages"] = {event: fleet.logged(event) for event in OUTAGE_EVENTS}
    finding.figures["given_back"] = system.value("SELECT count(*) FROM job_attempts WHERE outcome = 'returned'")
    burned = system.value(BURNED)
    finding.expect(burned == 0, f"{burned} jobs lost an attempt, or were taken from a healthy process")
    finding.expect(not fleet.logged("worker.disowned"), "jobs were disowned")
    stage.hold_to(RECOVERY_BAR, finding, "webhooks_again_s", "jobs_again_s", "ready_again_s")

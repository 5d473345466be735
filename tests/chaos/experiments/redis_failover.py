"""redis-failover: of two Redis servers the replica is promoted, and the old primary lives on as its replica.

Clients reach the primary by one name. What is connected at that moment stays connected to the server that only reads.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_bytes
from shutil import copy
from typing import Any

import httpx
import redis

import tests.chaos.jobs
import workers.jobs
from db.transaction import SYSTEM
from domain.identity.access import KEY_BYTES, new_key
from local.home import passwords
from local.valkey import EmbeddedRedis
from tests.builders import a_tenant
from tests.chaos.fleet import FAST
from tests.chaos.jobs.counted import alone
from tests.chaos.load import Feeder, traffic
from tests.chaos.report import Finding
from tests.chaos.servers import Servers, System
from tests.chaos.stage import Stage, settle
from tests.proxy import proxied
from tests.wait import until
from workers.app import build

RECOVERY_BAR = 5.0
"""Seconds from a promotion until a new job is begun, and until the API's limit is counted."""

PER_MINUTE = 120
"""Requests that one API key may make."""


def promoted(stage: Stage, finding: Finding) -> None:
    rng = stage.rng()
    jobs, events, promotions = stage.size((1000, 10_000, 4), (60, 150, 1))
    with two_servers(stage.servers) as pair, proxied("127.0.0.1", pair[0].port) as name:
        with stage.system_and_fleet(**FAST) as (system, fleet):
            reach_redis_at(system, name.url(system.settings.redis_url))
            fleet.environment["REDIS_URL"] = system.settings.redis_url
            key = an_api_key(system)
            with (
                traffic(system, fleet, rng, jobs, events, jobs_per_second=stage.size(40, 80)) as load,
                httpx.Client(timeout=10, headers={"Authorization": f"Bearer {key}"}) as client,
            ):

                def counted() -> bool:
                    return "ratelimit" in client.get(f"{load.origin}/api/user").headers

                until(counted, "the API to count requests")
                for n in range(promotions):
                    load.await_accepted((n + 1) / (promotions + 1))
                    old, new = pair[n % 2], pair[(n + 1) % 2]
                    ask(new, "REPLICAOF", "NO", "ONE")
                    ask(old, "REPLICAOF", "127.0.0.1", new.port)
                    name.target = ("127.0.0.1", new.port)
                    finding.worst("job_begun_s", pickup(system, load.feeder))
                    began = time.monotonic()
                    until(counted, "the API to count requests again")
                    finding.worst("limit_counted_s", time.monotonic() - began)
                    until(lambda old=old: in_step(old), "the demoted server to be in step")  # type: ignore[misc]
                load.await_end()
                settle(finding, system, fleet, load.feeder, bar=stage.size(150, 60))
                answers = Counter(client.get(f"{load.origin}/api/user").status_code for _ in range(PER_MINUTE + 60))
            finding.trials = events + jobs
            load.deliveries.judge(finding, system)
            finding.saw("promotions", promotions)
            finding.saw(
                "refused writes that a process noticed", fleet.logged("redis.refuses_writes", "redis.not_ready")
            )
            finding.saw("requests over the limit refused", answers[429])
            stage.hold_to(RECOVERY_BAR, finding, "job_begun_s", "limit_counted_s")


def pickup(system: System, feeder: Feeder) -> float:
    """Seconds until a job that is enqueued now is begun."""
    with system.app.db.transaction(SYSTEM) as tx:
        job_id = alone.enqueue(tx, name="after the promotion")
    feeder.promised_besides.append(job_id)
    begun = "SELECT extract(epoch FROM started_at - created_at)::float FROM job_queue WHERE id = %s"
    until(lambda: system.value(begun, (job_id,)) is not None, "a new job to be begun")
    return float(system.value(begun, (job_id,)))


def an_api_key(system: System) -> str:
    tenant_id = a_tenant(system.app)
    with system.app.db.transaction(tenant_id) as tx:
        key = new_key(
            token_bytes(KEY_BYTES), name="chaos", scopes=["account:read"], expires_at=None, now=tx.now(), others=0
        )
        tx.access.add_key(tx.new_id(), tenant_id, key)
    return key.text


def reach_redis_at(system: System, url: str) -> None:
    """The harness itself enqueues through the name too."""
    system.app.close()
    system.settings = system.settings.model_copy(update={"redis_url": url})
    system.app = build(system.settings, name="chaos", pool_size=6, packages=(workers.jobs, tests.chaos.jobs))


@contextmanager
def two_servers(servers: Servers) -> Iterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    """The harness's own Redis, and a replica of it with the same password."""
    home = servers.home / "second"
    home.mkdir(mode=0o700, exist_ok=True)
    copy(servers.home / "secrets.json", home)
    with EmbeddedRedis(home, persist=False) as second:
        pair = (servers.redis, second)
        for server in pair:
            ask(server, "CONFIG", "SET", "masterauth", passwords(home)["redis"])
            ask(server, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
        ask(second, "REPLICAOF", "127.0.0.1", servers.redis.port)
        until(lambda: in_step(second), "the replica to be in step")
        try:
            yield pair
        finally:
            ask(servers.redis, "REPLICAOF", "NO", "ONE")


def in_step(server: EmbeddedRedis) -> bool:
    return bool(ask(server, "INFO", "replication").get("master_link_status") == "up")


def ask(server: EmbeddedRedis, *command: Any) -> Any:
    with redis.Redis.from_url(server.url(), decode_responses=True) as client:
        return client.execute_command(*command)

"""What operators are told of a Redis that is not the one on the table: doctor, explain, and the start of a process."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.cli.shell import Shell
from tests.cli.test_doctor import finding
from tests.cli.test_operations import a_job, a_worker, running, sql
from tests.redis_servers import RedisServer, a_redis
from workers.app import App


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    with a_redis(tmp_path) as server:
        yield server


def verdict(viral: Shell, url: str) -> tuple[int, str, str]:
    """The exit code, and what the doctor says of Redis."""
    result = viral("doctor", "--json", REDIS_URL=url)
    assert result.err == ""
    assert "kret" not in result.out
    return result.code, *finding(result, "redis")


def test_a_redis_that_takes_writes_is_well_and_a_ping_is_not_enough(viral: Shell, own: RedisServer) -> None:
    code, state, says = verdict(viral, own.url)
    assert (code, state) == (0, "ok")
    assert says.endswith("takes writes")
    assert own.ask("TTL", "{viral}:probe") > 0


def test_what_will_be_trouble_is_warned_of_all_at_once(viral: Shell, own: RedisServer, tmp_path: Path) -> None:
    own.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    own.ask("CONFIG", "SET", "maxmemory", int(own.ask("INFO", "memory")["used_memory"]) + 20_000)
    own.ask("CONFIG", "SET", "replica-read-only", "no")
    own.ask("REPLICAOF", "127.0.0.1", "1")
    code, state, says = verdict(viral, own.url)
    assert (code, state) == (0, "warn")
    for words in ("it is a replica", "maxmemory-policy is allkeys-lru", "set it to noeviction", "of its maxmemory is"):
        assert words in says


@pytest.mark.parametrize("policy", ["allkeys-random", "volatile-ttl", "volatile-lru"])
def test_every_policy_but_noeviction_is_warned_of(viral: Shell, own: RedisServer, policy: str) -> None:
    own.ask("CONFIG", "SET", "maxmemory-policy", policy)
    assert verdict(viral, own.url)[1] == "warn"


def test_a_replica_and_a_full_memory_are_warnings_since_no_work_is_lost(viral: Shell, own: RedisServer) -> None:
    own.ask("CONFIG", "SET", "maxmemory", "1")
    code, state, says = verdict(viral, own.url)
    assert (code, state) == (0, "warn")
    assert says.startswith("Redis refuses writes (OOM command not allowed when used memory > 'maxmemory'.): ")
    own.ask("CONFIG", "SET", "maxmemory", "0")
    own.ask("REPLICAOF", "127.0.0.1", "1")
    code, state, says = verdict(viral, own.url)
    assert (code, state) == (0, "warn")
    assert says.startswith("Redis refuses writes (READONLY You can't write against a read only replica.): ")


def test_what_only_we_can_mend_is_a_failure_and_a_redis_that_is_away_a_warning(viral: Shell, own: RedisServer) -> None:
    for url in (own.url.replace("sekret", "seckret"), own.url.replace(":sekret@", ""), own.url[:-1] + "99"):
        code, state, says = verdict(viral, url)
        assert (code, state) == (1, "fail")
        assert says.startswith("Redis does not let us in (")
    own.stop()
    code, state, says = verdict(viral, own.url)
    assert (code, state) == (0, "warn")
    assert says.startswith("Redis does not answer (")


def test_a_cluster_is_a_failure_and_no_process_starts_on_it(viral: Shell, tmp_path: Path) -> None:
    with a_redis(tmp_path, "--cluster-enabled", "yes") as server:
        code, state, says = verdict(viral, server.url)
        assert (code, state) == (1, "fail")
        assert says.startswith("Redis is in cluster mode: use one without cluster mode")
        for command in ("web", "worker", "scheduler", "up"):
            line = viral.refused(command, REDIS_URL=server.url)
            assert line.startswith("viral: REDIS_URL: this Redis is in cluster mode: use one without cluster mode")


def test_explain_says_that_redis_refuses_and_not_that_a_job_waits(viral: Shell, app: App, own: RedisServer) -> None:
    a_worker(app)
    job_id = a_job(app)
    own.ask("CONFIG", "SET", "maxmemory", "1")
    [line] = viral("jobs", "explain", job_id, REDIS_URL=own.url).lines[1:]
    assert line.startswith("redis_refuses_writes  due since ")
    assert "no worker can be told of it: Redis refuses writes (OOM " in line
    assert "`viral doctor`" in line
    own.stop()
    [line] = viral("jobs", "explain", job_id, REDIS_URL=own.url).lines[1:]
    assert line.startswith("redis_away  ")
    [line] = viral("jobs", "explain", job_id).lines[1:]
    assert line.startswith("waiting  ")


# --- a ready job waits longer than its bound


def overdue(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return tx.health.violations("a ready job is begun within a minute")


def make_older(app: App, job_id: UUID) -> UUID:
    sql(app, "UPDATE job_queue SET scheduled_for = scheduled_for - interval '2 minutes' WHERE id = %s", job_id)
    return job_id


def test_a_ready_job_that_waits_beside_a_live_worker_is_found(viral: Shell, app: App) -> None:
    make_older(app, a_job(app))
    a_job(app)
    assert overdue(app) == 0, "nobody serves its queue, which is another finding"
    worker_id = a_worker(app, queues=("default",))
    assert overdue(app) == 0, "the worker has only just begun"
    sql(app, "UPDATE workers SET started_at = started_at - interval '2 minutes'")
    assert overdue(app) == 1
    result = viral.done("doctor", "--json")
    state, says = finding(result, "a ready job is begun within a minute")
    assert (state, says[:27]) == ("warn", "1 row contradicts it: more ")
    sql(app, "UPDATE workers SET draining = true WHERE id = %s", worker_id)
    assert overdue(app) == 0


def test_a_job_that_waits_rightly_is_not(app: App) -> None:
    """Paused, limited, behind another of its key, or ready only since that ended."""
    worker_id = a_worker(app)
    sql(app, "UPDATE workers SET started_at = started_at - interval '2 minutes'")
    ada, bob, eve = a_tenant(app), a_tenant(app), a_tenant(app)
    for tenant_id in (ada, bob, eve):
        make_older(app, a_job(app, tenant_id=tenant_id))
    make_older(app, a_job(app, queue="llm"))
    assert overdue(app) == 4
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("llm")
        tx.queues.pause("default", ada)
        tx.queues.limit("default", bob, max_running=1)
    assert overdue(app) == 2, "a limit under which nothing runs is no reason to wait"
    running(app, worker_id, a_job(app, tenant_id=bob))
    assert overdue(app) == 1
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.limit("default", per_tenant=1)
    assert overdue(app) == 1
    running(app, worker_id, a_job(app, tenant_id=eve))
    assert overdue(app) == 0
    first = a_job(app, ordering_key="cus_1")
    second = make_older(app, a_job(app, ordering_key="cus_1"))
    sql(app, "UPDATE job_queue SET wake_at = now() + interval '1 hour' WHERE id = %s", second)
    assert overdue(app) == 0
    sql(app, "UPDATE job_queue SET status = 'completed', completed_at = now() WHERE id = %s", first)
    sql(app, "UPDATE job_queue SET wake_at = NULL WHERE id = %s", second)
    assert overdue(app) == 0
    sql(app, "UPDATE job_queue SET completed_at = now() - interval '2 minutes' WHERE id = %s", first)
    assert overdue(app) == 1

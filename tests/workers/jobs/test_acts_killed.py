"""A worker is killed by SIGKILL within an operator's act, or within a delivery: nothing is lost, nothing is done twice.

It is held at a chosen moment by a row that somebody else has locked, or by the receiver itself."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest

from db.ops.tenant_rows import KEPT
from db.transaction import SYSTEM
from domain.ops.actions import target
from domain.queue.job_filters import JobFilter
from simulators.loopback import Loopback, Reply, Request
from tests.builders import a_tenant, tenant
from tests.wait import until
from tests.workers.jobs.test_generation import A_WORKER, again
from tests.workers.jobs.test_outgoing import KEY, Shop, bring_forward, run
from tests.workers.ops.test_tenant_deletion import counts, sql
from workers.app import App, build
from workers.engine.outcomes import rescue
from workers.jobs.outgoing import find_due
from workers.ops.actions import perform
from workers.ops.bulk import begin, bulk, preview
from workers.settings import Settings

ADA = "person:ada"


@pytest.fixture
def receiver() -> Iterator["Holding"]:
    with Holding() as server:
        yield server


class Holding(Loopback):
    """Its first answer waits until it is let go."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.asked, self.let_go = threading.Event(), threading.Event()

    def _answer(self, request: Request) -> Reply:
        self.asked.set()
        self.let_go.wait(60)
        return Reply()


@pytest.fixture
def telling(settings: Settings, receiver: Holding) -> Iterator[App]:
    changed = {"token_encryption_keys": KEY, "webhook_receiver_base_url": receiver.url}
    app = build(Settings.model_validate(settings.model_dump() | changed), name="tests", pool_size=10)
    yield app
    app.close()


def killed_when(app: App, there: Callable[[], object], what: str, **environment: str) -> None:
    """Let a worker process do what there is to do, kill it at that moment, and have its jobs rescued."""
    urls = {name.upper(): str(value) for name, value in app.settings.model_dump().items() if name.endswith("_url")}
    variables = os.environ | {name: url for name, url in urls.items() if url} | environment
    worker = subprocess.Popen([sys.executable, "-c", A_WORKER], env=variables)
    try:
        until(there, what)
    finally:
        worker.kill()
        worker.wait()
    sql(app, "UPDATE workers SET lease_until = now() - interval '1 second'")


def waits_for_a_lock(owner_url: str) -> bool:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        query = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'
        """
        row = connection.execute(query).fetchone()
    return row is not None and row[0] > 0


@pytest.mark.proof
def test_a_worker_killed_within_a_deletion_leaves_what_the_next_one_deletes(app: App, owner_url: str) -> None:
    doomed, other = a_tenant(app), a_tenant(app)
    for of in (doomed, other):
        sql(app, "INSERT INTO generations (tenant_id) SELECT %s FROM generate_series(1, 1500)", of)
        sql(app, "INSERT INTO api_keys (tenant_id, name, prefix, key_hash) VALUES (%s, 'k', 'p', %s)", of, of.bytes)
    before = counts(app, other)
    performed = perform(
        app, "tenant.delete", target(f"tenant:{doomed}"), {"name": str(doomed)}, who=ADA, reason="asked for"
    )
    job_id = UUID(str(performed.after["job_id"]))
    with psycopg.connect(owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute("SELECT FROM generations WHERE tenant_id = %s ORDER BY ctid DESC LIMIT 1 FOR UPDATE", (doomed,))
        killed_when(app, lambda: waits_for_a_lock(owner_url), "the deletion to wait for a row")
    assert 0 < counts(app, doomed)["generations"] < 1500, "it was killed within"
    assert tenant(app, doomed)["deletion_began_at"] is not None
    assert rescue(app.db, app.job_types) == 1
    assert again(app, job_id)["status"] == "completed"
    assert {name for name, count in counts(app, doomed).items() if count} <= KEPT.keys()
    assert counts(app, other) == before
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT outcome FROM operator_actions WHERE action = 'tenant.delete' AND target = %s"
        assert tx.driver.execute(query, (f"tenant:{doomed}",)).fetchall() == [("done",)]


@pytest.mark.proof
def test_a_worker_killed_within_a_bulk_action_acts_on_each_thing_once(app: App, owner_url: str) -> None:
    """Some of its transactions are committed by then, one is not, and the others have not begun."""
    sql(
        app,
        "INSERT INTO job_queue (job_type, status, completed_at, attempts, max_attempts)"
        " SELECT 'gone', 'failed', now(), 3, 3 FROM generate_series(1, 350)",
    )
    chosen = preview(app, "job.retry", who=ADA, wanted=JobFilter(state="failed"))
    begun = begin(app, chosen.id, who=ADA, reason="mended")
    assert begun.items == 350
    assert begun.job_id is not None
    with psycopg.connect(owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")
        held = "SELECT split_part(target, ':', 2)::uuid FROM bulk_items WHERE bulk_id = %s AND position = 250"
        owner.execute(f"SELECT FROM job_queue WHERE id = ({held}) FOR UPDATE", (begun.id,))
        killed_when(app, lambda: waits_for_a_lock(owner_url), "the action to wait for a row")
    halfway = bulk(app, begun.id)
    assert 0 < halfway.counts["done"] < 250, "it was killed within"
    assert rescue(app.db, app.job_types) == 1
    assert again(app, begun.job_id)["status"] == "completed"
    assert (bulk(app, begun.id).state, bulk(app, begun.id).counts) == ("completed", {"done": 350})
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT status, max_attempts, count(*) FROM job_queue WHERE job_type = 'gone' GROUP BY 1, 2"
        assert tx.driver.execute(query).fetchall() == [("pending", 4, 350)], "each was given one more attempt"
        query = "SELECT count(*), count(DISTINCT target) FROM bulk_items WHERE bulk_id = %s AND outcome = 'done'"
        assert tx.driver.execute(query, (begun.id,)).fetchall() == [(350, 350)]
        query = "SELECT count(*) FROM operator_actions WHERE bulk_id = %s"
        assert tx.driver.execute(query, (begun.id,)).fetchall() == [(1,)]


def test_a_worker_killed_while_the_receiver_holds_its_answer_sends_it_again_with_the_same_id(
    telling: App, receiver: Holding
) -> None:
    shop = Shop(telling, receiver)
    shop.publish(shop.posts[0])
    with telling.db.transaction(SYSTEM) as tx:
        find_due.enqueue(tx)
    keys = {"TOKEN_ENCRYPTION_KEYS": KEY, "WEBHOOK_RECEIVER_BASE_URL": receiver.url}
    killed_when(telling, receiver.asked.is_set, "the receiver to be asked", **keys)
    receiver.let_go.set()
    [delivery] = shop.deliveries()
    assert (delivery["attempts"], delivery["delivered_at"]) == (1, None)
    assert rescue(telling.db, telling.job_types) == 1
    bring_forward(telling)
    sql(telling, "UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")
    run(telling)
    [delivery] = shop.deliveries()
    assert (delivery["attempts"], delivery["status_code"], delivery["delivered_at"] is not None) == (2, 200, True)
    first, second = shop.arrived()
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    run(telling)
    assert len(shop.arrived()) == 2

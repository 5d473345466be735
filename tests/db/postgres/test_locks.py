"""The order of locks (`db/__init__.py`): each write path with many threads on *one* tenant, customer, person or key,
alone and all together. Postgres counts its deadlocks, also those that a retry hides."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select

import db.postgres.locks
from db.queue.enqueue import NewJob
from db.schema.queue import job_attempts
from db.transaction import SYSTEM, Database
from domain.concepts.generation import Generation
from domain.dexie.records import read
from domain.errors import Rejected
from domain.events.difference import Difference
from domain.ops.actions import target
from simulators.clerk.events import clerk_deleted_user, clerk_event, clerk_membership, clerk_organization, clerk_user
from simulators.personas import Persona
from simulators.stripe.events import customer, invoice, stripe_event, subscription
from tests.builders import NOV_22, a_clerk_event, a_stripe_event, a_tenant, new_id
from tests.conftest import Servers
from tests.wait import until
from tests.web.api.test_api import Api, a_key
from workers.app import App, build
from workers.engine.heartbeat import LEASE
from workers.engine.job import JobType
from workers.engine.runner import Runner
from workers.jobs.billing import release_parked
from workers.jobs.generation import daily, generate_concepts
from workers.jobs.quota import reset_due
from workers.jobs.reconcile import repair
from workers.ops.actions import perform
from workers.ops.support import change_quota
from workers.settings import Settings

THREADS, TIMES = 8, 2
MONTH = timedelta(days=30)
EVERYTHING = ("account:read", "generations:read", "generations:write", "keys:write")


@dataclass
class Crowd:
    """Many threads that work for one tenant, who is one Stripe customer and one person."""

    app: App
    runner: Runner
    who: Persona
    key: str
    api: Api
    numbers: Iterator[int] = field(default_factory=count)

    @cached_property
    def others(self) -> Database:
        """For a transaction beside one that this thread has open."""
        return self.app.db.separate()

    @property
    def id(self) -> UUID:
        return self.who.tenant_id

    def ask(self, method: str, path: str, *wanted: int, **options: Any) -> Any:
        answer = self.api(method, path, self.key, **options)
        assert answer.status_code in wanted, answer.text
        return answer.json() if answer.content else None

    def run(self, job_id: UUID) -> None:
        """Carry a job on until it has ended, as any of the threads may."""
        until(lambda: self._ended(job_id), f"job {job_id} to end")

    def enqueue(self, job_type: JobType[Any], **arguments: Any) -> UUID:
        with self.app.db.transaction(SYSTEM) as tx:
            return job_type.enqueue_payload(tx, arguments)

    def _ended(self, job_id: UUID) -> bool:
        self.runner.run_one(job_id)
        with self.app.db.transaction(SYSTEM) as tx:
            row = tx.jobs.get(job_id)
        return row is None or row["status"] not in ("pending", "running")


@pytest.fixture
def crowd(settings: Settings) -> Iterator[Crowd]:
    app = build(
        Settings.model_validate(settings.model_dump() | {"trend_sources": "none"}),
        name="tests",
        pool_size=THREADS,
        clock=lambda: NOV_22,
    )
    tenant_id = a_tenant(app, subscription_tier="AGENCY", monthly_quota=500, daily_enabled=True, daily_hour=NOV_22.hour)
    runner = app.runner()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
    who = Persona(tenant_id, "cus_1", "sub_1", "user_1", "ada@example.com", price_id="price_agency")
    yield Crowd(app, runner, who, a_key(app, tenant_id, *EVERYTHING), Api(app))
    app.close()


# --- the write paths ----------------------------------------------------------------------------------------


def generate(crowd: Crowd) -> None:
    job = crowd.ask("POST", "/generate", 202, json={"count": 1, "generator": "local-grammar/v1"})
    crowd.run(UUID(job["id"]))


def fail_to_generate(crowd: Crowd) -> None:
    """The hold is given back in the transaction that ends the job."""
    job_id = crowd.enqueue(generate_concepts, tenant_id=str(crowd.id), generator="nobody")
    with crowd.app.db.transaction(SYSTEM) as tx:
        tx.quota.hold(crowd.id, job_id, 1, NOV_22)
    crowd.run(job_id)


def stripe_events(crowd: Crowd) -> None:
    """The first of them links the customer, which changes a key of the tenant."""
    n = next(crowd.numbers)
    at = NOV_22 + timedelta(seconds=n)
    body = subscription(crowd.who, NOV_22, (NOV_22, NOV_22 + MONTH))
    events = [
        stripe_event("customer.subscription.updated", body, at=at, previous={}),
        stripe_event("invoice.paid", invoice(crowd.who, (NOV_22, NOV_22 + MONTH + timedelta(seconds=n)), at=at), at=at),
        stripe_event("customer.created", customer(crowd.who, created_at=at), at=at),
    ]
    for body in events:
        crowd.run(a_stripe_event(crowd.app, body))


def another_customer(crowd: Crowd) -> None:
    """Of the same tenant; it is not linked, so its events are parked, and released when the linked one is deleted."""
    n = next(crowd.numbers)
    other = replace(crowd.who, customer_id=f"cus_other_{n % 3}", subscription_id=f"sub_other_{n % 3}")
    at = NOV_22 + timedelta(seconds=n)
    body = subscription(other, NOV_22, (NOV_22, NOV_22 + MONTH))
    crowd.run(a_stripe_event(crowd.app, stripe_event("customer.subscription.created", body, at=at)))
    gone = customer(other, created_at=at) | {"deleted": True}
    crowd.run(a_stripe_event(crowd.app, stripe_event("customer.deleted", gone, at=at + MONTH)))
    crowd.run(crowd.enqueue(release_parked))


def clerk_events(crowd: Crowd) -> None:
    """Of a person and of their organizations; six threads are at each person."""
    n = next(crowd.numbers)
    at = NOV_22 + timedelta(seconds=n)
    who = replace(crowd.who, user_id=f"user_{n // 6}", organization_id=f"org_{n % 3}")
    member = clerk_membership(who, created_at=at, updated_at=at)
    events = [
        clerk_event("organizationMembership.created", member, at=at),
        clerk_event("user.updated", clerk_user(who, created_at=NOV_22, updated_at=at), at=at),
        clerk_event("organization.updated", clerk_organization(who, created_at=NOV_22, updated_at=at), at=at),
    ]
    if n % 6 == 4:
        events.append(clerk_event("organizationMembership.deleted", member, at=at))
    if n % 6 == 5:
        events.append(clerk_event("user.deleted", clerk_deleted_user(who), at=at))
    for number, event in enumerate(events):
        crowd.run(a_clerk_event(crowd.app, event, f"msg_{n}_{number}"))


def keys(crowd: Crowd) -> None:
    key = {"name": "another", "scopes": ["account:read", "keys:write"]}
    made = crowd.ask("POST", "/keys", 201, 422, json=key)
    if made and "id" in made:
        crowd.api("POST", "/keys", made["key"], json=key)
        crowd.ask("DELETE", f"/keys/{made['id']}", 204)
    crowd.ask("GET", "/user", 200)


def favorites_and_feedback(crowd: Crowd) -> None:
    """On one generation that others delete and put back meanwhile."""
    generation_id = UUID(int=7)
    generation = Generation(generation_id, NOV_22, [{"id": "c1"}], [])
    with crowd.app.db.transaction(crowd.id) as tx:
        tx.generations.save(crowd.id, generation)
    crowd.ask("PUT", f"/generations/{generation_id}/favorite", 200, 404, json={"is_favorite": True})
    feedback = {"generation_id": str(generation_id), "concept_id": "c1", "platform": "tiktok", "views": 1}
    if next(crowd.numbers) % 3 == 0:
        crowd.ask("POST", "/feedback", 201, 404, json=feedback)
    crowd.ask("DELETE", f"/generations/{generation_id}", 204, 404, 409)


def months_and_days(crowd: Crowd) -> None:
    """What calendar and operators write."""
    with crowd.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SELECT FROM tenants ORDER BY id FOR NO KEY UPDATE")
        tx.driver.execute("UPDATE tenants SET quota_reset_at = %s, daily_last_on = NULL", (NOV_22,))
        tx.driver.execute("UPDATE tenants SET daily_enabled = true, daily_hour = %s", (NOV_22.hour,))
    crowd.run(crowd.enqueue(reset_due))
    crowd.run(crowd.enqueue(daily))
    with crowd.app.db.transaction(SYSTEM) as tx:
        tx.quota.restart(crowd.id, "person:ada")
        tx.generating.set_preferences(crowd.id, {"region": "DE"})


def support(crowd: Crowd) -> None:
    """Grants, takes and a fresh count, by the database's own clock: the month that the others begin is over by then."""
    n = next(crowd.numbers)
    change_quota(crowd.app, crowd.id, 3, who="ada", reason="an apology", key=f"{n % 3}")
    with suppress(Rejected):
        change_quota(crowd.app, crowd.id, -2, who="ada", reason="granted twice")
    for action, arguments in (("quota.grant", {"count": 1}), ("quota.reset", {})):
        done = perform(crowd.app, action, target(f"tenant:{crowd.id}"), arguments, who="operator:ops", reason="y")
        assert done.well, done.says
    with crowd.app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("what a tenant has used is what the ledger says") == 0


def import_records(crowd: Crowd) -> None:
    """One import at a time, beside all the others."""
    records = [
        {"id": f"old-{n}", "date": "2024-01-01T00:00:00Z", "concepts": [], "trends": [], "isFavorite": False}
        for n in range(20)
    ]
    with crowd.app.db.transaction(crowd.id) as tx:
        if tx.dexie.try_lock():
            tx.dexie.add(crowd.id, "generations", [read("generations", record) for record in records])


def ordered(crowd: Crowd) -> None:
    """Jobs of two ordering keys, claimed many at once."""
    with crowd.app.db.transaction(SYSTEM) as tx:
        jobs = [NewJob(new_id(), reset_due.name, "default", ordering_key=f"key {n % 2}") for n in range(4)]
        ids = tx.enqueue_many(jobs)
    crowd.runner.run("default", [str(job_id) for job_id in ids])
    for job_id in ids:
        crowd.run(job_id)


def repaired_events(crowd: Crowd) -> None:
    """The same events, each time in another order."""
    bodies = [{"id": f"evt_{n}", "object": "event", "type": "plan.created", "data": {}} for n in range(8)]
    mixed = Random(next(crowd.numbers)).sample(bodies, len(bodies))
    with crowd.app.db.transaction(SYSTEM) as tx:
        repair(tx, tuple(Difference("stripe", "event", body["id"], None, body) for body in mixed))


WRITES: list[Callable[[Crowd], None]] = [
    generate,
    fail_to_generate,
    stripe_events,
    another_customer,
    clerk_events,
    keys,
    favorites_and_feedback,
    months_and_days,
    support,
    import_records,
    ordered,
    repaired_events,
]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_many_threads_of_one_tenant(
    crowd: Crowd, servers: Servers, database: str, write: Callable[[Crowd], None]
) -> None:
    together(crowd, [write] * THREADS)
    assert deadlocks(crowd, servers, database) == 0


def test_all_that_a_tenant_can_do_at_once(crowd: Crowd, servers: Servers, database: str) -> None:
    mixed = WRITES * TIMES
    Random(7).shuffle(mixed)
    together(crowd, mixed)
    assert deadlocks(crowd, servers, database) == 0


def together(crowd: Crowd, writes: list[Callable[[Crowd], None]]) -> None:
    """All done, none failed, none retried because of another, and the quota is right afterwards."""
    with ThreadPoolExecutor(THREADS) as pool:
        for outcome in [pool.submit(write, crowd) for write in writes]:
            outcome.result()
    with crowd.app.db.transaction(SYSTEM) as tx:
        failed = tx.sql.execute(select(job_attempts.c.error_class, job_attempts.c.error_message)).all()
        assert [each for each in failed if each.error_class != "GeneratorUnknown"] == []


def deadlocks(crowd: Crowd, servers: Servers, database: str) -> int:
    """Postgres' own count; a backend's is written when it ends."""
    crowd.app.close()
    with servers.admin() as connection:
        left = "SELECT FROM pg_stat_activity WHERE datname = %s"
        until(lambda: connection.execute(left, (database,)).fetchone() is None, "the connections to end")
        [(found,)] = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", (database,))
    return int(found)


# --- the modes of locks -------------------------------------------------------------------------------------

SHARED_KEYS = """
SELECT DISTINCT i.indexrelid::regclass::text FROM pg_index i
JOIN pg_constraint c ON c.contype = 'f' AND c.confrelid = i.indrelid
WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT i.indisprimary AND i.indexrelid <> c.conindid
"""


def test_only_what_is_deleted_is_locked_as_if_it_were() -> None:
    """FOR UPDATE waits for everybody who added a child, and FOR NO KEY UPDATE does not."""
    folder = Path(db.postgres.locks.__file__).parents[1]
    for path in folder.rglob("*.py"):
        code = path.read_text()
        if path.name != "locks.py":
            assert ".with_for_update(" not in code, f"{path.name}: use db.locks"
        if path.name not in ("locks.py", "media.py"):
            assert "against_references(" not in code, f"{path.name}: against_changes is enough for what is not deleted"
        if path.name not in ("locks.py", "archive.py", "media.py", "operators.py", "tenant_rows.py"):
            assert "FOR UPDATE" not in code, f"{path.name}: FOR NO KEY UPDATE is enough for what is not deleted"


def test_no_change_of_a_column_is_a_change_of_a_key(owner_url: str) -> None:
    """Whole unique indexes of tables that others refer to, but for those referred to; an update never changes these."""
    with psycopg.connect(owner_url) as owner:
        found = {name for (name,) in owner.execute(SHARED_KEYS)}
    assert found == {
        "api_keys_key_hash_key",
        "autopilot_chains_tenant_id_day_place_key",
        "generations_tenant_id_job_id_key",
        "generations_tenant_id_source_id_key",
        "media_tenant_id_sha256_key",
        "operator_tokens_token_hash_key",
        "social_accounts_tenant_id_platform_external_id_key",
        "social_posts_tenant_id_video_id_account_id_attempt_group_key",
    }


# --- who would have waited in a circle ----------------------------------------------------------------------


def test_a_new_link_waits_for_nobody_who_has_added_something_to_the_tenant(crowd: Crowd) -> None:
    """A change of the customer was a change of a key: this waited for the other, who then waited for this."""
    job_id = crowd.enqueue(generate_concepts, tenant_id=str(crowd.id), count=1)
    with crowd.app.db.transaction(crowd.id) as tx:
        tx.quota.hold(crowd.id, job_id, 1, NOV_22)
    with crowd.app.db.transaction(crowd.id) as saving:
        saving.generations.save(crowd.id, Generation(UUID(int=8), NOV_22, [], [], job_id=job_id))
        with crowd.others.transaction(SYSTEM) as linking:
            before = linking.plans.lock_one(crowd.id)
            linking.driver.execute("SET LOCAL lock_timeout = '5s'")
            linking.plans.save({crowd.id: replace(before, customer_id="cus_new")})
        saving.quota.settle(crowd.id, job_id, 1)


def test_events_that_arrive_twice_at_once_are_stored_in_one_order(crowd: Crowd) -> None:
    """Each of two holds the first, and waits for one that is being stored, if they do not agree which is the first."""

    def tell(*names: str) -> None:
        bodies = [{"id": name, "object": "event", "type": "plan.created", "data": {}} for name in names]
        with crowd.app.db.transaction(SYSTEM) as tx:
            repair(tx, tuple(Difference("stripe", "event", body["id"], None, body) for body in bodies))

    with ThreadPoolExecutor(2) as pool:
        with crowd.app.db.transaction(SYSTEM) as tx:
            tx.events.add(new_id(), "stripe", "evt_m", {"id": "evt_m", "type": "plan.created"}, None)
            futures = [pool.submit(tell, "evt_a", "evt_m", "evt_z"), pool.submit(tell, "evt_z", "evt_m", "evt_a")]
            until(lambda: waits_for_a_row(crowd, 2), "both to wait")
        for each in futures:
            each.result()


def test_who_is_deleted_waits_for_a_tenant_without_holding_another_that_comes_after_it(
    crowd: Crowd, servers: Servers, database: str
) -> None:
    """The organization's tenant is the older one; the person's own is renamed, and keys are revoked in both."""
    member = clerk_membership(crowd.who, created_at=NOV_22)
    events = [
        clerk_event("organization.created", clerk_organization(crowd.who, created_at=NOV_22), at=NOV_22),
        clerk_event("user.created", clerk_user(crowd.who, created_at=NOV_22), at=NOV_22),
        clerk_event("organizationMembership.created", member, at=NOV_22),
    ]
    for n, body in enumerate(events):
        crowd.run(a_clerk_event(crowd.app, body, f"msg_{n}"))
    gone = a_clerk_event(crowd.app, clerk_event("user.deleted", clerk_deleted_user(crowd.who), at=NOV_22), "msg_gone")
    deleting = threading.Thread(target=crowd.run, args=(gone,))
    with crowd.app.db.transaction(SYSTEM) as tx:
        first, second = sorted(tx.identity.tenants_of(crowd.who.user_id))
        tx.identity.lock_tenants([first])
        deleting.start()
        until(lambda: waits_for_a_row(crowd), "the deletion to wait for the first tenant")
        tx.driver.execute("SET LOCAL lock_timeout = '5s'")
        tx.identity.lock_tenants([second])
    deleting.join(30)
    assert not deleting.is_alive()
    assert deadlocks(crowd, servers, database) == 0


def waits_for_a_row(crowd: Crowd, count: int = 1) -> bool:
    with crowd.others.transaction(SYSTEM) as tx:
        query = "SELECT count(*) FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted"
        return int(tx.driver.execute(query).fetchall()[0][0]) >= count

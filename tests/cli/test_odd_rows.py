"""The dashboard and operators write these tables by plain SQL: a bad row costs itself, and never a neighbour."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from db.transaction import SYSTEM
from scheduler.dispatcher import UNDECLARED_PER_ROUND, Dispatcher
from scheduler.main import Rescuer
from scheduler.schedule import SCHEDULES, Calendar
from tests.builders import NOV_22, a_tenant, tenant
from tests.cli.shell import Shell
from workers.app import App
from workers.engine.heartbeat import LEASE
from workers.engine.job import Context, job
from workers.engine.queues import QUEUES, notifications_key
from workers.engine.runner import Runner
from workers.jobs.generation import release_hold
from workers.runtime.redis_client import connect

TIMES = (
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC'",
    "'0001-01-01Z'",
    "'294276-12-31Z'",
    "'10000-01-01Z'",
    "NULL",
    "now()",
)
SMALL = ("-32768", "-1", "0", "1", "2147", "2148", "32767")
INTEGERS = (*SMALL, "-2147483648", "2147483646", "2147483647")
DEEP = "[" * 2000 + "]" * 2000
PAYLOADS = (
    "'{}'",
    f"""'{{"n": {"9" * 5000}}}'""",
    f"""'{{"n": -{"9" * 4301}}}'""",
    f"""'{{"deep": {DEEP}}}'""",
    f"""'{{"n": {"9" * 400}.5}}'""",
    """'{"tenant_id": null, "count": "many", "": 0}'""",
    """'{"count": 2147483648}'""",
)
CONTRADICTED = re.compile(r"(1 row contradicts|[0-9]+ rows contradict) it.*", re.DOTALL)
JOBS = {
    "job_type": ("'testing.honest'", "'testing.unknown'", "'testing.paid'", "'upkeep.prune'", "''"),
    "queue": ("'default'", "'events'", "'llm'", "'no such queue'", "''", "'" + "q" * 3000 + "'"),
    "status": ("'pending'", "'pending'", "'pending'", "'running'", "'failed'", "'completed'", "'cancelled'"),
    "priority": SMALL,
    "payload": PAYLOADS,
    "result": (*PAYLOADS, "NULL"),
    "error_message": ("NULL", "E'\\x01\\x1b[31m \\u2028 \\U0001F600'"),
    "attempts": INTEGERS,
    "max_attempts": INTEGERS,
    "scheduled_for": TIMES,
    "created_at": TIMES,
    "started_at": TIMES,
    "completed_at": TIMES,
    "wake_at": TIMES,
    "deadline_at": TIMES,
    "cancel_requested_at": TIMES,
    "wake_count": SMALL,
    "cost": INTEGERS,
    "payload_version": SMALL,
    "crashes": SMALL,
    "snoozes": INTEGERS,
    "ordering_key": ("NULL", "''", "'odd'"),
    "unique_key": ("NULL", "''", "gen_random_uuid()::text"),
    "follows_batch": ("false", "true"),
    "batch_id": ("NULL", "gen_random_uuid()"),
    "worker_id": ("NULL", "gen_random_uuid()"),
    "lease_token": ("NULL", "0", "-1", "9223372036854775807"),
}
TENANTS = {
    **dict.fromkeys(("quota_anchor", "quota_period_start", "quota_reset_at", "quota_paid_until"), TIMES),
    **dict.fromkeys(("quota_restarted_at", "created_at", "updated_at"), TIMES),
    "daily_last_on": ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "NULL"),
    "daily_enabled": ("true",),
    "daily_hour": ("0", "12", "23"),
    "timezone": ("'UTC'", "'Nowhere/At all'", "''", "'../../etc/passwd'"),
    "monthly_quota": INTEGERS,
    "used_quota": INTEGERS,
    "subscription_status": ("'none'", "'odd'"),
}
USERS = dict.fromkeys(("last_login_at", "source_updated_at", "deleted_at", "created_at", "updated_at"), TIMES)

ran: list[UUID]


@pytest.fixture(autouse=True)
def _forget() -> None:
    global ran  # noqa: PLW0603
    ran = []


@job("testing.honest", system=True)
def honest(ctx: Context) -> None:
    ran.append(ctx.job.id)
    with ctx.finish():
        pass


@job("testing.paid", on_failure=release_hold)
def paid(ctx: Context, tenant_id: UUID, count: int = 1) -> None:
    with ctx.begin() as tx:
        tx.quota.hold(tenant_id, ctx.job.id, count, ctx.now())
    with ctx.finish() as tx:
        tx.quota.settle(tenant_id, ctx.job.id, count)


class Place:
    """A system with one dispatcher and one worker process, and a dashboard beside it."""

    def __init__(self, app: App, dashboard: psycopg.Connection[Any]) -> None:
        self.app = replace(app, job_types={**app.job_types, honest.name: honest, paid.name: paid})
        self.dashboard = dashboard
        self.dispatcher = self.a_dispatcher()
        # However busy the machine is, no job takes its time.
        self.runner: Runner = self.app.runner(stopwatch=lambda: 0.0)
        with app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(self.runner.worker_id, hostname="h", pid=1, queues=tuple(QUEUES), version="", lease=LEASE)

    def a_dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app.db, self.app.notifier, stopwatch=lambda: 0.0)

    def insert(self, table: str, row: dict[str, str]) -> bool:
        """Insert a row of SQL expressions, as a dashboard does; False if the database refuses it."""
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.SQL, row.values())),
        )
        try:
            self.dashboard.execute(statement)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.OperationalError):
            return False
        return True

    def drop_rules(self) -> None:
        """A database in which such rows have been from before there were rules."""
        found = self.dashboard.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint "
            "WHERE contype = 'c' AND conrelid = ANY(%s::regclass[])",
            (["job_queue", "tenants", "users", "schedule_fires"],),
        ).fetchall()
        for table, name in found:
            self.dashboard.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")

    def work(self, rounds: int) -> None:
        """Let the dispatcher and the worker work so many times each."""
        client = connect(self.app.settings.redis_url)
        for _ in range(rounds):
            self.dispatcher.dispatch()
            for queue in QUEUES:
                self.runner.run(queue, [each.decode() for each, _ in client.zpopmin(notifications_key(queue), 1000)])
        client.close()

    def work_until(self, wanted: Sequence[UUID], *, rounds: int) -> None:
        for _ in range(rounds):
            self.work(1)
            if self.statuses(wanted) == {"completed"}:
                return
        with self.app.db.transaction(SYSTEM) as tx:
            left = [row for row in map(tx.jobs.get, wanted) if row is not None and row["status"] != "completed"]
        assert left == []

    def statuses(self, job_ids: Sequence[UUID]) -> set[str]:
        with self.app.db.transaction(SYSTEM) as tx:
            query = "SELECT DISTINCT status FROM job_queue WHERE id = ANY(%s)"
            return {row[0] for row in tx.driver.execute(query, (list(job_ids),))}

    def enqueue(self, count: int, queue: str = "default") -> list[UUID]:
        with self.app.db.transaction(SYSTEM) as tx:
            declared = replace(honest, queue=queue)
            return declared.enqueue_many(tx, [{}] * count)


@pytest.fixture
def place(app: App) -> Iterator[Place]:
    with psycopg.connect(app.settings.direct_url, autocommit=True) as dashboard:
        dashboard.execute("SET app.tenant_id = '*'")
        yield Place(app, dashboard)


def some(rng: random.Random, columns: dict[str, Sequence[str]], most: int) -> dict[str, str]:
    """Strange values for a few of the columns; the others have their defaults."""
    return {name: rng.choice(columns[name]) for name in rng.sample(sorted(columns), rng.randint(1, most))}


def leave_odd_rows(place: Place, rng: random.Random) -> None:
    for _ in range(60):
        own = some(rng, TENANTS, 4)
        place.insert("tenants", {"name": "'odd'"} | own)
        place.insert("users", {"tenant_id": "(SELECT min(id::text)::uuid FROM tenants)"} | some(rng, USERS, 3))
        place.insert("schedule_fires", {"schedule": "'quota.reset_due'", "fire_at": rng.choice(TIMES)})
        place.insert("schedule_fires", {"schedule": "'generation.daily'", "fire_at": rng.choice(TIMES[:4])})
    for _ in range(300):
        row = {"job_type": "'testing.honest'"} | some(rng, JOBS, 6)
        if row.get("status") == "running":
            row = {"worker_id": "gen_random_uuid()", "lease_token": "nextval('job_lease_token')"} | row
        if rng.random() < 0.3:
            row["tenant_id"] = "(SELECT id FROM tenants ORDER BY random() LIMIT 1)"
        place.insert("job_queue", row)


@pytest.mark.proof(but=["without"])
@pytest.mark.parametrize(("seed", "rules"), [(1, True), (2, False)], ids=["with the rules", "without"])
def test_honest_neighbours_of_hundreds_of_odd_rows_run_and_are_listed(
    place: Place, viral: Shell, seed: int, rules: bool
) -> None:
    rng = random.Random(seed)
    if not rules:
        place.drop_rules()
    due = a_tenant(place.app, created_at=NOV_22 - timedelta(days=400), used_quota=3)
    leave_odd_rows(place, rng)
    ours = [job_id for queue in QUEUES for job_id in place.enqueue(5, queue)]
    calendar = [place.app.job_types[name] for name in ("quota.reset_due", "generation.daily", "upkeep.prune")]
    with place.app.db.transaction(SYSTEM) as tx:
        ours += [each.enqueue(tx) for each in calendar]
    lost = place.enqueue(5)
    place.app.runner().claim(lost, quarantined=True)

    Calendar(place.app.db, SCHEDULES).fire()
    Rescuer(place.app.db, place.app.job_types).rescue()
    place.work_until([*ours, *lost], rounds=30)
    assert tenant(place.app, due)["quota_reset_at"] > tenant(place.app, due)["created_at"] + timedelta(days=300)

    listed = viral.json("jobs", "list", "-n", 10_000)
    assert {str(each) for each in ours} <= {row["id"] for row in listed}
    viral.done("jobs", "list", "-n", 10_000)
    for row in rng.sample(listed, 5):
        viral.json("jobs", "show", row["id"])
        viral.done("jobs", "show", row["id"])
        viral.json("jobs", "explain", row["id"])
        viral.done("jobs", "explain", row["id"])
    for row in rng.sample(viral.json("tenants", "list", "-n", 10_000), 3):
        viral.json("tenants", "show", row["id"])
        viral.json("quota", "show", row["id"])
        viral.json("quota", "explain", row["id"])
    for words in (("tenants", "list"), ("queues", "list"), ("workers", "list"), ("schedules", "list")):
        viral.json(*words)
        viral.done(*words)
    findings = {each["check"]: each for each in json.loads(viral("doctor", "--json").out)}
    assert findings["rows hold only what can be meant"]["state"] == "warn"
    assert all(CONTRADICTED.fullmatch(each["says"]) for each in findings.values() if each["state"] == "fail")
    odd_times = "SELECT id::text FROM job_queue WHERE cancel_requested_at IN ('infinity', '-infinity') LIMIT 1"
    assert bool(place.dashboard.execute(odd_times).fetchall()) != rules


EXTREME = {
    "priority": SMALL,
    "payload": PAYLOADS,
    "attempts": ("2147483647",),
    "crashes": ("32767",),
    "snoozes": ("2147483647",),
    "cost": ("2147483647",),
    "cancel_requested_at": ("'infinity'", "'-infinity'", "'0044-03-15 BC'"),
    "created_at": ("'infinity'", "'0044-03-15 BC'"),
    "wake_count": ("-32768", "32767"),
}


def test_a_row_with_one_extreme_value_is_claimed_beside_its_neighbours(place: Place) -> None:
    """Each column by itself, all in one claim, and all of them behind jobs that are less urgent."""
    place.drop_rules()
    odd = [{"job_type": "'testing.honest'", name: value} for name, values in EXTREME.items() for value in values]
    assert all(place.insert("job_queue", row) for row in odd)
    ours = place.enqueue(10)
    with place.app.db.transaction(SYSTEM) as tx:
        everything = [row["id"] for row in tx.jobs.list_recent(limit=100).rows]
    claimed, quarantined = place.runner.claim(everything, quarantined=False)
    assert set(ours) <= {each.id for each in claimed}
    assert len(claimed) + len(quarantined) == len(everything)
    with place.app.db.transaction(SYSTEM) as tx:
        tx.transitions.give_back(claimed)
        scores = [ready.score for ready in tx.dispatch.next("default", 1000, {})]
    assert (min(scores) < -32_767_000_000, max(scores) > 32_767_000_000) == (True, True)


def test_a_row_that_the_database_refuses_to_change_costs_only_its_own_claim(place: Place) -> None:
    """Another program's trigger or rule is no reason to stop."""
    bad, *ours = place.enqueue(8)
    place.dashboard.execute(
        sql.SQL("ALTER TABLE job_queue ADD CONSTRAINT stuck CHECK (id <> {} OR status = 'pending')").format(bad)
    )
    place.runner.run("default", [str(job_id) for job_id in (*ours[:4], bad, *ours[4:])])
    place.runner.run("default", [str(job_id) for job_id in (*ours[:4], bad, *ours[4:])])
    assert place.statuses(ours) == {"completed"}
    assert place.statuses([bad]) == {"pending"}


def test_a_tenant_with_odd_times_keeps_no_other_from_a_month_or_a_day(place: Place) -> None:
    place.drop_rules()
    now = "date_trunc('hour', now())"
    for anchor in TIMES[:6]:
        for paid_until in ("NULL", *TIMES[:6]):
            row = {"quota_anchor": anchor, "quota_paid_until": paid_until, "quota_reset_at": "'-infinity'"}
            place.insert("tenants", {"name": "'odd'", "daily_enabled": "true"} | row)
        row = {"daily_last_on": TENANTS["daily_last_on"][0], "created_at": anchor, "quota_period_start": anchor}
        place.insert("tenants", {"name": "'odd'", "daily_enabled": "true", "timezone": "'Nowhere'"} | row)
    due = a_tenant(place.app, created_at=NOV_22 - timedelta(days=400))
    daily = {"name": "'daily'", "daily_enabled": "true", "daily_hour": f"extract(hour FROM {now} AT TIME ZONE 'UTC')"}
    assert place.insert("tenants", daily)
    with place.app.db.transaction(SYSTEM) as tx:
        calendar = [place.app.job_types[name].enqueue(tx) for name in ("quota.reset_due", "generation.daily")]
    for job_id in calendar:
        place.runner.run_one(job_id)
    assert place.statuses(calendar) == {"completed"}
    assert tenant(place.app, due)["quota_reset_at"] > NOV_22 - timedelta(days=1)
    served = "SELECT daily_last_on IS NOT NULL FROM tenants WHERE name = 'daily'"
    assert place.dashboard.execute(served).fetchall() == [(True,)]


@pytest.mark.proof
def test_two_thousand_queues_that_nobody_declares_delay_none_that_is_declared(place: Place) -> None:
    place.dashboard.execute(
        "INSERT INTO job_queue (job_type, queue, priority) "
        "SELECT 'testing.honest', 'undeclared ' || n, 0 FROM generate_series(1, 2000) AS n"
    )
    ours = place.enqueue(20)
    seen: list[str] = []
    with place.app.db.transaction(SYSTEM) as tx:
        seen = tx.dispatch.ready_queues(tuple(QUEUES), start="", limit=UNDECLARED_PER_ROUND)
    assert seen[0] == "default"
    assert len(seen) == 1 + UNDECLARED_PER_ROUND
    place.work_until(ours, rounds=3)
    dispatcher = place.a_dispatcher()
    looks = 0
    while not looks or dispatcher.next_undeclared:
        dispatcher.dispatch()
        looks += 1
    assert looks >= 2000 // UNDECLARED_PER_ROUND, "each of them is looked at, and no round reads them all"


def test_what_no_release_can_read_does_not_stand_in_the_way_of_what_it_can(place: Place) -> None:
    """However much of it there is: once offered to a worker, it is looked at again ever more rarely."""
    place.dashboard.execute(
        "INSERT INTO job_queue (job_type, priority, payload_version) "
        "SELECT 'testing.' || n % 2, -100, 1 FROM generate_series(1, 300) AS n"
    )
    place.dashboard.execute(
        "INSERT INTO job_queue (job_type, priority, payload_version) VALUES ('testing.honest', -100, 9)"
    )
    ours = place.enqueue(5)
    place.work_until(ours, rounds=3)
    with place.app.db.transaction(SYSTEM) as tx:
        assert tx.dispatch.next("default", 1000, {}) == []
        waits = "SELECT DISTINCT wake_count FROM job_queue WHERE status = 'pending' AND wake_at > now()"
        assert tx.driver.execute(waits).fetchall() == [(1,)]


def test_the_doctor_names_each_odd_row_and_its_columns(place: Place, viral: Shell) -> None:
    place.drop_rules()
    place.dashboard.execute(
        "INSERT INTO tenants (id, name, quota_anchor, daily_last_on) "
        "VALUES ('00000000-0000-4000-8000-000000000001', 'odd', '-infinity', 'infinity')"
    )
    place.dashboard.execute(
        "INSERT INTO users (id, tenant_id, last_login_at) "
        "VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', '0044-03-15 BC')"
    )
    place.dashboard.execute("INSERT INTO schedule_fires (schedule, fire_at) VALUES ('quota.reset_due', 'infinity')")
    job_id = "00000000-0000-7000-8000-00000000000"
    rows = (
        {"id": f"'{job_id}1'", "attempts": "-1", "cancel_requested_at": "'infinity'"},
        {"id": f"'{job_id}2'", "payload": PAYLOADS[1]},
        {"id": f"'{job_id}3'", "payload": PAYLOADS[3]},
        {"id": f"'{job_id}4'", "attempts": "3"},
    )
    assert all(place.insert("job_queue", {"job_type": "'x'"} | row) for row in rows)
    place.enqueue(3)
    findings = {each["check"]: each for each in json.loads(viral("doctor", "--json").out)}
    found = findings["rows hold only what can be meant"]
    assert found["state"] == "warn"
    for named in (
        f"job_queue {job_id}1: cancel_requested_at, attempts",
        f"job_queue {job_id}2: payload",
        f"job_queue {job_id}3: payload",
        f"job_queue {job_id}4: attempts",
        "tenants 00000000-0000-4000-8000-000000000001: quota_anchor, daily_last_on",
        "users 00000000-0000-4000-8000-000000000002: last_login_at",
        "schedule_fires quota.reset_due at infinity: fire_at",
    ):
        assert named in found["says"]
    assert found["says"].count("job_queue") == 4

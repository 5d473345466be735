"""`viral doctor` as a gate: each check is made to fail for real, none hangs it, none reads a table from end to end."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db.ops import health
from db.transaction import SYSTEM, Tx
from domain.ops.skew import Reading, furthest
from local.postgres import SUPERUSER
from tests.builders import NOV_22, a_tenant
from tests.conftest import Servers
from tests.pooler import NOT_RUN, find, pooling
from tests.wait import until
from workers.app import App, build
from workers.ops.doctor import ABOUT, WAITS_FOR_A_PERSON, Check, Step, examine, steps
from workers.ops.server_checks import check_clocks, check_pooler, check_proxies, check_tables, check_transactions
from workers.settings import Settings


def states(settings: Settings, **options: Any) -> dict[str, tuple[str, str]]:
    return {each["check"]: (each["state"], each["says"]) for each in examine(settings, (), **options)}


def at(settings: Settings, **changes: Any) -> Settings:
    return Settings.model_validate(settings.model_dump() | changes)


def sql(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


# --- it never hangs, and it never falls


def test_a_check_that_hangs_or_raises_is_a_finding_and_the_next_ones_go_on(app: App, settings: Settings) -> None:
    forever = threading.Event()

    def hang(app: App, tx: Tx) -> tuple[str, str]:
        tx.now()  # the only connection is its own
        forever.wait()
        return "ok", "never"

    def fall(app: App, tx: Tx) -> tuple[str, str]:
        raise KeyError("sekret-less")

    def look(app: App, tx: Tx) -> tuple[str, str]:
        return "ok", f"{tx.now():%Y}"

    begun = monotonic()
    more = [Step("hangs", hang), Step("falls", fall), Step("hangs again", hang), Step("looks", look)]
    try:
        found = states(settings, within=2.0, more=more)
    finally:
        forever.set()
        until(lambda: not any(each.name.startswith("check ") for each in threading.enumerate()), "them to end")
    assert monotonic() - begun < 20
    assert found["hangs"] == ("fail", "no answer within 2 s: is the server overloaded, or far away?")
    assert found["falls"] == ("fail", "'sekret-less'")
    assert found["hangs again"][0] == "fail"
    assert found["looks"][0] == "ok"


def test_what_there_was_no_time_for_does_not_pass(settings: Settings) -> None:
    found = states(settings, all_within=-1.0)
    assert found["redis"][0] == "fail"
    assert {state for state, _ in (found[each.name] for each in steps(())[1:])} == {"skipped"}


def test_every_check_is_in_the_list_whatever_fails(settings: Settings) -> None:
    """A gate compares lists of two deploys by their names."""
    away = states(at(settings, database_url="postgresql://viral:sekret@127.0.0.1:1/viral"))
    names = [each.name for each in steps(())]
    assert list(away)[-len(names) :] == names
    assert away["postgres"][0] == "fail"
    assert away["redis"][0] == "ok"
    assert away["writes"] == ("skipped", "not looked at, since the check 'postgres' fails")
    assert "sekret" not in str(away)


def test_every_invariant_has_a_way_out() -> None:
    assert ABOUT.keys() == health.INVARIANTS.keys()
    assert ABOUT.keys() > WAITS_FOR_A_PERSON


# --- servers


def verdict(settings: Settings, check: Check, **changes: Any) -> tuple[str, str]:
    """What one check says, by other settings than those of the test."""
    app = build(at(settings, **changes), name="tests", pool_size=1)
    try:
        with app.db.transaction(SYSTEM) as tx:
            return check(app, tx)
    finally:
        app.close()


def test_a_database_that_only_reads_fails(app: App, settings: Settings, database: str, owner_url: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    found = states(settings)
    assert found["postgres"][0] == "fail"
    assert "read-only" in found["postgres"][1]


def test_a_table_whose_rule_does_not_bind_its_owner_fails(settings: Settings, owner_url: str) -> None:
    assert verdict(settings, check_tables) == ("ok", "on, and forced, on every table of ours")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE social_posts NO FORCE ROW LEVEL SECURITY")
        owner.execute("DROP POLICY scope ON videos")
    state, says = verdict(settings, check_tables)
    assert state == "fail"
    assert "social_posts, videos: as the owner, ALTER TABLE social_posts FORCE ROW LEVEL SECURITY" in says


def test_a_session_that_has_a_scope_of_its_own_fails(settings: Settings, servers: Servers, database: str) -> None:
    assert verdict(settings, check_transactions)[0] == "ok"
    with psycopg.connect(servers.postgres.url(SUPERUSER, database), autocommit=True) as superuser:
        superuser.execute(f"ALTER DATABASE {database} SET app.tenant_id = '*'")
    state, says = verdict(settings, check_transactions)
    assert state == "fail"
    assert "a session has a scope (app.tenant_id) outside any transaction" in says


def test_a_rule_that_lets_nobody_see_tenants_fails(app: App, settings: Settings, owner_url: str) -> None:
    a_tenant(app)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("CREATE POLICY careless ON tenants USING (true)")
    state, says = verdict(settings, check_transactions)
    assert (state, says) == ("fail", "in the scope of nobody, rows of tenants are seen: run `viral migrate`")


@pytest.mark.skipif(find() is None, reason=NOT_RUN)
def test_poolers_are_told_apart_and_transactions_keep_their_scope_through_them(
    app: App, settings: Settings, owner_url: str, database_url: str
) -> None:
    a_tenant(app)
    assert verdict(settings, check_pooler) == ("ok", "none: each connection of ours is a session of the server")
    with pooling(owner_url, database_url, pool_size=2) as pooler:
        url = pooler.url(database_url)
        assert verdict(settings, check_transactions, database_url=url)[0] == "ok"
        assert verdict(settings, check_pooler, database_url=url) == (
            "ok",
            "one in transaction mode: many connections share few sessions, and no statement is prepared by name",
        )
        state, says = verdict(settings, check_pooler, database_url=url, direct_url="")
        assert state == "warn"
        assert says.endswith("migrations run through it too: set DIRECT_URL to the server's own address")
        # Somebody else sets a scope for the length of a session that they share with us.
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SET app.tenant_id = '*'")
        state, says = verdict(settings, check_transactions, database_url=url)
        assert state == "fail"
        assert "outside any transaction" in says
    with pooling(owner_url, database_url, pool_size=6, pool_mode="session") as pooler:
        state, says = verdict(settings, check_pooler, database_url=pooler.url(database_url))
        assert (state, says[:19]) == ("ok", "one in session mode")


def test_clocks_that_are_apart_are_named(app: App, settings: Settings) -> None:
    def by(**shift: int) -> tuple[str, str]:
        return verdict(settings, partial(check_clocks, wall=lambda: datetime.now(UTC) + timedelta(**shift)))

    assert by(seconds=0) == ("ok", "those of this process, Postgres and Redis agree within 2 s")
    state, says = by(seconds=20)
    assert state == "warn"
    assert says.startswith("the clocks of this process and ")
    assert says.endswith("apart: let NTP set the clocks of both machines")
    state, says = by(hours=-1)
    assert state == "fail"
    assert "webhooks and session tokens are refused" in says
    state, says = verdict(settings, check_clocks, redis_url="redis://127.0.0.1:1/0")
    assert (state, says) == ("ok", "those of this process and Postgres agree within 2 s; Redis was not asked")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    second = timedelta(seconds=1)
    slow = Reading("Postgres", NOV_22, NOV_22 + 4 * second, NOV_22 + 5 * second)
    assert furthest([slow])[0] == timedelta()
    late = Reading("Redis", NOV_22, NOV_22 + 9 * second, NOV_22 + 5 * second)
    assert furthest([slow, late]) == (4 * second, "the clocks of this process and Redis")
    behind = Reading("Redis", NOV_22, NOV_22 - 9 * second, NOV_22)
    assert furthest([slow, behind]) == (9 * second, "the clocks of this process and Redis")


def test_a_proxy_that_nobody_named_is_warned_of(settings: Settings) -> None:
    public = "https://viral.example.com"
    assert verdict(settings, check_proxies)[0] == "ok"
    assert verdict(settings, check_proxies, public_url=public)[0] == "warn"
    assert verdict(settings, check_proxies, public_url=public, trusted_proxies="10.0.0.0/8")[0] == "ok"


# --- invariants


def a_job_past_its_deadline(app: App) -> None:
    sql(
        app,
        "INSERT INTO job_queue (job_type, status, worker_id, lease_token, started_at, deadline_at)"
        " VALUES ('upkeep.prune', 'running', gen_random_uuid(), 1, now(), now() - interval '3 minutes')",
    )


def a_hold_of_no_job(app: App) -> None:
    sql(
        app,
        "INSERT INTO quota_holds (job_id, tenant_id, count, created_at)"
        " VALUES (%s, %s, 1, now() - interval '10 minutes')",
        uuid4(),
        a_tenant(app),
    )


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (a_job_past_its_deadline, "no running job is long past its deadline"),
        (a_hold_of_no_job, "held quota is of a job that lives"),
    ],
)
def test_an_invariant_that_is_broken_fails(app: App, plant: Callable[[App], None], name: str) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations(name) == 0
    plant(app)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations(name) == 1


def test_a_count_that_the_ledger_does_not_know_fails(app: App, owner_url: str) -> None:
    sql(app, "UPDATE tenants SET used_quota = 3 WHERE id = %s", a_tenant(app))
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("UPDATE quota_ledger SET amount = 2")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("what a tenant has used is what the ledger says") == 1


def test_a_count_stops_where_nobody_reads_on(app: App, settings: Settings) -> None:
    sql(
        app,
        "INSERT INTO job_queue (job_type, status, completed_at)"
        " SELECT 'upkeep.prune', 'failed', now() FROM generate_series(1, %s)",
        health.MOST + 5,
    )
    [step] = [each for each in steps(()) if each.name == "no job waits for a person"]
    assert "more than 10,000 rows contradict it" in verdict(settings, step.check)[1]


GROWING = ("job_queue", "job_archive", "job_attempts", "webhook_events", "quota_ledger", "quota_holds", "social_posts")


@pytest.mark.parametrize("name", health.INVARIANTS)
def test_no_invariant_reads_a_table_that_grows_from_end_to_end(app: App, name: str) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {health.violating(name)}".encode()))
    assert not [
        line for line in plan.splitlines() if "Seq Scan on" in line and any(each in line for each in GROWING)
    ], plan
    assert "Limit" in plan


def test_every_check_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "doctor.md").read_text()
    assert [each.name for each in steps(()) if f"`{each.name}`" not in text] == []

"""What `viral doctor` finds, each trouble made, and the exit codes by which a deploy is let through or not."""

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.cli.shell import NOWHERE, Result, Shell, a_process
from tests.cli.test_commands import an_event
from tests.cli.test_jobs import a_failed_job, a_pending_job
from tests.conftest import Servers
from tests.drain import drain as drain_app
from workers.app import App
from workers.jobs.quota import reset_due

# --- doctor


def test_the_doctor_finds_nothing_wrong_with_a_fresh_system(viral: Shell, app: App) -> None:
    drain_app(app)  # a worker has signed on
    with app.db.transaction(SYSTEM) as tx:
        tx.schedule_runs.register(reset_due.name, tx.now())  # and a scheduler
    findings = viral.json("doctor")
    assert [each["check"] for each in findings if each["state"] != "ok"] == ["people are notified"], "of nobody"
    lines = viral.done("doctor").lines
    assert len(lines) == len(findings) > 10
    assert sum(not line.startswith("ok    ") for line in lines) == 1


def finding(result: Result, check: str) -> tuple[str, str]:
    return next((each["state"], each["says"]) for each in json.loads(result.out) if each["check"] == check)


def test_the_doctor_says_which_settings_are_missing(viral: Shell) -> None:
    result = viral.done("doctor", "--json", STRIPE_WEBHOOK_SECRET="", STRIPE_PRO_PRICE_ID="")
    assert finding(result, "STRIPE_WEBHOOK_SECRET")[0] == "warn"
    assert finding(result, "STRIPE_{STARTER,PRO,AGENCY}_PRICE_ID")[0] == "warn"
    assert finding(result, "CLERK_WEBHOOK_SIGNING_SECRET") == ("ok", "set")
    assert finding(result, "CLERK_ISSUER") == ("ok", "set")
    result = viral.done("doctor", "--json", CLERK_JWKS_URL="")
    assert finding(result, "CLERK_JWKS_URL or CLERK_JWT_KEY")[0] == "warn"
    assert finding(result, "workers") == ("warn", "none is alive, so jobs wait: start one with `viral worker`")


def test_the_doctor_sums_up_the_connections(viral: Shell, database: str, owner_url: str) -> None:
    def says(**env: str) -> tuple[str, str]:
        return finding(viral.done("doctor", "--json", **env), "connections")

    assert says()[0] == "ok"
    hold = "one web, 3 worker processes and one scheduler hold up to {} connections with these settings"
    state, text = says(WORKER_PROCESSES="3", DB_POOL_SIZE="2")
    assert (state, text.partition(";")[0]) == ("ok", hold.format(5 + 9 + 2))
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 15")
    state, text = says(WORKER_PROCESSES="3", DB_POOL_SIZE="2")
    assert state == "warn"
    assert "the server allows 15, of which" in text
    assert text.endswith("lower WORKER_PROCESSES or DB_POOL_SIZE")


def test_the_doctor_is_a_gate(viral: Shell, database_url: str) -> None:
    """0: nothing is broken; 1: something is, or with --strict wants attention; 2: the command makes no sense."""
    assert viral("doctor").code == 0, "no worker runs, which is a warning"
    assert viral("doctor", "--strict").code == 1
    assert viral("doctor", "--sternly").code == 2
    result = viral("doctor", DATABASE_URL=NOWHERE)
    assert result.code == 1
    assert result.lines[-1].startswith("skip  ")
    assert result.lines[-1].endswith(" checks: not looked at, since the check 'postgres' fails")
    result = viral("doctor", "--json", WORKER_THREADS="many")
    assert (result.code, result.err) == (1, "")
    [shown] = json.loads(result.out)
    assert (shown["check"], shown["state"]) == ("settings", "fail")
    assert shown["says"].startswith("WORKER_THREADS: ")


def test_the_doctor_says_what_has_no_effect_in_the_url(viral: Shell, database_url: str) -> None:
    result = viral.done("doctor", "--json", DATABASE_URL=f"{database_url}?schema=public&statement_cache_size=0")
    assert finding(result, "DATABASE_URL") == (
        "ok",
        "set; without effect here: statement_cache_size: there is no cache of statements to size",
    )


def test_the_doctor_looks_on_without_postgres_or_redis(viral: Shell) -> None:
    result = viral("doctor", "--json", DATABASE_URL=NOWHERE, REDIS_URL="redis://:sekret@127.0.0.1:1/0")
    assert result.code == 1
    assert finding(result, "postgres")[0] == "fail"
    assert finding(result, "redis")[0] == "warn"
    assert "sekret" not in result.out + result.err


def test_the_doctor_sends_whoever_forgot_to_migrate_to_do_it(
    viral: Shell, servers: Servers, empty_database: str
) -> None:
    url = servers.postgres.url("viral_app", empty_database)
    result = viral("doctor", "--json", DATABASE_URL=url)
    assert result.code == 1
    state, says = finding(result, "schema")
    assert state == "fail"
    assert "run `viral migrate`" in says
    assert "run `viral migrate`" in viral.refused("jobs", "list", DATABASE_URL=url)


def test_after_a_rollback_the_schema_may_be_newer_than_the_code(
    viral: Shell, servers: Servers, database: str, owner_url: str
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    result = viral("doctor", "--json")
    assert result.code == 1
    state, says = finding(result, "schema")
    assert state == "fail"
    assert "at 9999, which this release does not know" in says
    assert "viral migrate" not in says
    assert "at 9999, which this release does not know" in viral.refused("migrate", DIRECT_URL=owner_url)
    [line] = viral.done("migrate", "--allow-newer", DIRECT_URL=owner_url).lines
    assert line.startswith("schema: stays at 9999, which a newer release made; this one (it expects ")
    state, says = finding(viral("doctor", "--json"), "schema")
    assert state == "warn"
    assert says.startswith("at 9999, of a newer release; this one (it expects ")


@pytest.fixture
def unbound_url(servers: Servers, database: str, owner_url: str) -> Iterator[str]:
    """As an owner of tables who may not become the application's role: row-level security does not bind it."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE careless LOGIN PASSWORD 'careless'")
        try:
            connection.execute("GRANT careless TO CURRENT_USER")
            connection.execute("GRANT CREATE ON SCHEMA public TO careless")
            connection.execute("GRANT SELECT ON alembic_version TO careless")
            connection.execute("ALTER TABLE tenants OWNER TO careless")
            host = servers.postgres.url("viral_app", database).rpartition("@")[2]
            yield f"postgresql://careless:careless@{host}"
        finally:
            connection.execute("REASSIGN OWNED BY careless TO CURRENT_USER")
            connection.execute("DROP OWNED BY careless")
            connection.execute("DROP ROLE careless")


def test_the_doctor_fails_an_owner_whom_row_level_security_does_not_bind(viral: Shell, unbound_url: str) -> None:
    result = viral("doctor", "--json", DATABASE_URL=unbound_url)
    assert result.code == 1
    state, says = finding(result, "role")
    assert state == "fail"
    assert says.startswith("careless owns the tables and is no member of viral_app: GRANT viral_app TO careless")


@pytest.mark.proof
@pytest.mark.parametrize("command", [("worker",), ("web",), ("scheduler",), ("jobs", "list")])
def test_a_role_without_rights_is_explanation_in_one_line(
    viral: Shell, owner_url: str, command: tuple[str, ...]
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM viral_app")
    process = a_process(viral.environment | {"PORT": "0"}, *command, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "run `viral migrate`" in err
    assert "Traceback" not in err
    findings = {each["check"]: each for each in json.loads(viral("doctor", "--json").out)}
    assert "GRANT" in findings["role"]["says"]
    assert findings["schema"]["state"] == "skipped", "what follows from the missing rights is not told again"


def test_migrate_fails_where_the_processes_would_refuse_to_work(viral: Shell, unbound_url: str) -> None:
    result = viral("migrate", DATABASE_URL=unbound_url)
    assert result.code == 1
    assert "GRANT viral_app TO careless" in result.err


def test_the_doctor_names_what_waits_for_what_never_comes(viral: Shell, app: App) -> None:
    sql(app, "INSERT INTO job_queue (job_type, wake_at) VALUES ('upkeep.prune', '9998-01-01')")
    sql(app, "INSERT INTO job_queue (job_type, scheduled_for) VALUES ('of nobody', now() - interval '2 hours')")
    sql(app, "UPDATE tenants SET quota_reset_at = '9998-01-01' WHERE id = %s", a_tenant(app))
    result = viral.done("doctor", "--json")
    state, says = finding(result, "rows hold only what can be meant")
    assert state == "warn"
    assert "wake_at" in says
    assert "quota_reset_at" in says
    assert finding(result, "types of waiting jobs")[1].startswith("1 of 'of nobody' waited for over an hour")


def a_lost_job(app: App) -> None:
    sql(
        app,
        """
        UPDATE job_queue SET status = 'running', worker_id = gen_random_uuid(), lease_token = 1,
                             started_at = now() - interval '3 minutes' WHERE id = %s
        """,
        a_pending_job(app),
    )


def an_overdue_deferred_job(app: App) -> None:
    sql(app, "UPDATE job_queue SET wake_at = now() - interval '2 minutes' WHERE id = %s", a_pending_job(app))


def an_event_without_its_job(app: App) -> None:
    event_id = an_event(app, "evt_1")
    sql(app, "DELETE FROM job_queue WHERE payload ->> 'event_id' = %s::text", event_id)
    sql(app, "UPDATE webhook_events SET received_at = now() - interval '1 hour' WHERE id = %s", event_id)


def an_event_parked_for_long(app: App) -> None:
    event_id = an_event(app, "evt_1", status="parked:unknown_customer")
    sql(app, "UPDATE webhook_events SET received_at = now() - interval '16 minutes' WHERE id = %s", event_id)


def a_flagged_event(app: App) -> None:
    sql(app, "UPDATE webhook_events SET flag = 'refund' WHERE id = %s", an_event(app, "evt_1"))


def sql(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


@pytest.mark.parametrize(
    ("provoke", "check", "state", "advice"),
    [
        (a_failed_job, "no job waits for a person", "warn", "viral jobs list --status failed"),
        (
            an_event_parked_for_long,
            "no event is parked for over 15 minutes",
            "warn",
            "viral events list --status parked",
        ),
        (a_flagged_event, "no event of the last 30 days is flagged", "warn", "viral events list --flagged"),
        (
            lambda app: a_tenant(app, subscription_tier="PRO"),
            "a paying tenant has a person",
            "warn",
            "viral tenants list --deserted",
        ),
        (an_overdue_deferred_job, "deferred jobs are woken within a minute", "warn", "viral scheduler"),
        (
            lambda app: a_tenant(app, quota_reset_at=datetime.now(UTC) - timedelta(hours=3)),
            "due quotas are reset within two hours",
            "warn",
            "viral scheduler",
        ),
        (a_lost_job, "running jobs belong to a live worker", "fail", "1 row contradicts it"),
        (an_event_without_its_job, "a stored event has its job", "fail", "1 row contradicts it"),
        (
            lambda app: sql(app, "UPDATE tenants SET quota_period_start = quota_reset_at WHERE id = %s", a_tenant(app)),
            "quota periods end after they begin",
            "fail",
            "1 row contradicts it",
        ),
    ],
)
def test_the_doctor_finds_what_a_sound_system_never_has(
    viral: Shell, app: App, provoke: Callable[[App], object], check: str, state: str, advice: str
) -> None:
    """A warning is no failure: it waits for a person, the system itself is sound."""
    provoke(app)
    result = viral("doctor", "--json")
    assert finding(result, check)[0] == state
    assert advice in finding(result, check)[1]
    assert result.code == (1 if "fail" in {each["state"] for each in json.loads(result.out)} else 0)

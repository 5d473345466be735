"""Models, migrations and contract say the same of the database.

The migrated schema is held against one made from `db.schema.tables` in a second database, catalog against catalog:
that sees what alembic's comparison does not (checks, index predicates, storage parameters, identities, sequences,
functions and triggers).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from db.migrate.upgrade import MIGRATIONS, owners_engine
from db.schema.tables import metadata
from domain.quota import quota
from local.postgres import OWNER
from tests.builders import job_row
from tests.conftest import Servers
from tests.db.catalog import catalog, rows
from workers.app import App


def test_the_migrated_schema_is_the_one_that_the_models_describe(
    servers: Servers, owner_url: str, empty_database: str
) -> None:
    drawn = servers.postgres.url(OWNER, empty_database)
    engine = owners_engine(drawn)
    metadata.create_all(engine)
    migrated, described = catalog(owner_url), catalog(drawn)
    differences = {
        name: (migrated.get(name), described.get(name))
        for name in migrated.keys() | described.keys()
        if migrated.get(name) != described.get(name)
    }
    assert differences == {}
    assert {"job_queue", "job_lease_token", "job_queue.status", "job_queue_ready_idx"} <= migrated.keys()
    assert {"job_archive", "job_archive.steps", "job_archive_id_idx"} <= migrated.keys()
    assert {"function complete_job(uuid,bigint,jsonb)", "function app_scope()"} <= migrated.keys()
    assert "trigger quota_agrees_with_ledger" in migrated


def test_alembic_finds_nothing_to_migrate(owner_url: str) -> None:
    """What a developer would be offered by `alembic revision --autogenerate`."""
    with owners_engine(owner_url).connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_what_a_developer_is_offered_does_not_touch_the_archives_weeks(owner_url: str, tmp_path: Path) -> None:
    """`alembic check`, as a person runs it, with `migrations/env.py`."""
    rows(owner_url, "SELECT make_job_archive_week(now())")
    environment = os.environ | {"DIRECT_URL": owner_url}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=MIGRATIONS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- the contract with other programs -----------------------------------------------------------------------

CONTRACT = {
    "tenants": "name subscription_tier subscription_status stripe_customer_id stripe_subscription_id monthly_quota "
    "used_quota quota_anchor quota_reset_at",
    "users": "clerk_id email name image_url tenant_id role last_login_at",
    "api_keys": "key_hash",
    "webhook_events": "source external_id type api_version livemode payload occurred_at received_at status job_id",
    "generations": "tenant_id date concepts trends is_favorite",
    "videos": "",
    "social_accounts": "",
    "social_posts": "",
    "performance_feedback": "",
    "analytics_snapshots": "",
    "self_critiques": "",
    "reflexion_insights": "",
    "scoring_adjustments": "",
    "audio_trends": "",
    "competitor_videos": "",
    "quota_holds": "",
    "quota_ledger": "",
    "job_queue": "tenant_id job_type queue status priority payload result error_message attempts max_attempts "
    "scheduled_for started_at completed_at created_at unique_key ordering_key",
    "job_attempts": "",
    "job_steps": "",
    "job_archive": "tenant_id job_type queue status priority payload result error_message attempts max_attempts "
    "scheduled_for started_at completed_at created_at unique_key ordering_key batch_id attempt_history steps",
    "workers": "",
    "schedule_fires": "",
    "system_metrics": "",
    "api_usage": "",
}


def test_the_tables_and_columns_that_others_rely_on_are_there(owner_url: str) -> None:
    there = {(table, column): kind for table, column, kind in rows(owner_url, INFORMATION)}
    promised = {(table, column) for table, names in CONTRACT.items() for column in [*names.split(), *_ids(table)]}
    assert promised - there.keys() == set()
    assert [name for name, kind in there.items() if kind == "timestamp without time zone"] == []


INFORMATION = """
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
"""


def _ids(table: str) -> list[str]:
    keyed_otherwise = {"quota_holds", "job_steps", "schedule_fires"}
    return [] if table in keyed_otherwise else ["id"]


def owner(url: str, query: str, *values: Any) -> dict[str, Any]:
    """One statement as the dashboard would send it: the owner's role, no scope, any session time zone."""
    with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("SET timezone = 'America/New_York'")
        row = connection.execute(query, values).fetchone()
    assert row is not None
    return row


def test_a_job_inserted_by_plain_sql_is_enqueued_and_runs(app: App, owner_url: str, drain: Callable[[], int]) -> None:
    row = owner(owner_url, "INSERT INTO job_queue (job_type) VALUES ('quota.reset_due') RETURNING *")
    expected = {"status": "pending", "queue": "default", "priority": 5, "max_attempts": 3, "attempts": 0, "payload": {}}
    assert {name: row[name] for name in expected} == expected
    assert (row["scheduled_for"], row["wake_at"]) == (row["created_at"], None)
    assert row["id"].version == 7
    assert abs((row["id"].int >> 80) / 1000 - row["created_at"].timestamp()) < 60
    assert drain() == 1
    assert job_row(app, row["id"])["status"] == "completed"


def test_a_tenant_inserted_by_plain_sql_is_on_the_free_plan_from_now_on(owner_url: str) -> None:
    row = owner(owner_url, "INSERT INTO tenants (name) VALUES ('Ada') RETURNING *")
    now = row["created_at"]
    free = quota.first_period(10, now)
    assert (row["subscription_tier"], row["subscription_status"]) == ("FREE", "none")
    assert (row["monthly_quota"], row["used_quota"], row["quota_paid_until"]) == (free.limit, free.used, None)
    assert (row["quota_anchor"], row["quota_period_start"]) == (now, now)
    assert row["quota_reset_at"] == free.resets_at


def test_a_user_inserted_by_plain_sql_is_a_member(owner_url: str) -> None:
    tenant_id = owner(owner_url, "INSERT INTO tenants (name) VALUES ('Ada') RETURNING id")["id"]
    row = owner(owner_url, "INSERT INTO users (clerk_id, tenant_id) VALUES ('user_1', %s) RETURNING *", tenant_id)
    assert (row["role"], row["email"], row["deleted_at"]) == ("MEMBER", None, None)
    # Mail addresses are reused after a deletion, and many people have none: they are not unique.
    for clerk_id, email in (("user_2", "a@example.com"), ("user_3", "a@example.com"), ("user_4", ""), ("user_5", "")):
        query = "INSERT INTO users (clerk_id, email, tenant_id) VALUES (%s, %s, %s) RETURNING id"
        owner(owner_url, query, clerk_id, email, tenant_id)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "'waiting'"),
        ("status", "'running'"),
        ("payload", "'[]'"),
        ("payload", "'null'"),
        ("max_attempts", "0"),
        ("scheduled_for", "'infinity'"),
        ("cancel_requested_at", "'infinity'"),
        ("created_at", "'0044-03-15 BC'"),
        ("attempts", "-1"),
        ("crashes", "-1"),
        ("payload_version", "0"),
        ("tenant_id", "gen_random_uuid()"),
    ],
)
def test_a_job_that_could_never_run_is_refused(owner_url: str, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        owner(owner_url, f"INSERT INTO job_queue (job_type, {column}) VALUES ('x', {value}) RETURNING id")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("used_quota", "-1"), ("monthly_quota", "-1"), ("subscription_tier", "'GOLD'")),
        *(("quota_anchor", "'-infinity'"), ("quota_reset_at", "'infinity'"), ("daily_last_on", "'infinity'")),
    ],
)
def test_a_tenant_cannot_have_what_no_plan_has(owner_url: str, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        owner(owner_url, f"INSERT INTO tenants (name, {column}) VALUES ('Ada', {value}) RETURNING id")

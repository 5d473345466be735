"""Every value that Postgres holds can be read, and whoever may read it may go on after a migration."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db.postgres.values import DEEPEST, UnreadableJson
from db.transaction import SYSTEM, DatabaseUnavailable, Tx
from tests.builders import new_id
from workers.app import App
from workers.jobs.quota import reset_due


def read(app: App, expression: str) -> Any:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute(f"SELECT {expression}".encode()).fetchall()[0][0]


def nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


@pytest.mark.parametrize(
    ("written", "year"),
    [("infinity", 9999), ("-infinity", 1), ("4713-01-01 BC", 1), ("0044-03-15 BC", 1), ("294276-12-31Z", 9999)],
)
def test_a_time_that_python_has_not_is_the_nearest_that_it_has(app: App, written: str, year: int) -> None:
    moment = read(app, f"'{written}'::timestamptz")
    assert (moment.year, moment.tzinfo is not None) == (year, True)
    for zone in ("Pacific/Kiritimati", "Pacific/Midway"):
        assert moment.astimezone(ZoneInfo(zone))
    assert read(app, f"'{written.removesuffix('Z')}'::date").year == year


def test_other_times_are_read_as_ever(app: App) -> None:
    assert read(app, "'2026-11-22 12:00:00.123456Z'::timestamptz") == datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
    assert read(app, "'2026-11-22'::date") == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("written", "readable"),
    [
        ("9" * 4300, True),
        ("9" * 4301, False),
        ('{"n": [-' + "9" * 5000 + "]}", False),
        (nested(DEEPEST), True),
        (nested(DEEPEST + 1), False),
        (nested(2000), False),
        ("[" + ", ".join(["[]"] * 1000) + "]", True),
        ('"' + "[" * 1000 + '"', True),
        ('{"a": "' + "[{" * 1000 + '"}', True),
    ],
    ids=str,
)
def test_json_that_python_does_not_read_is_its_text(app: App, written: str, readable: bool) -> None:
    value = read(app, f"'{written}'::jsonb")
    assert isinstance(value, UnreadableJson) is not readable
    assert readable or value.replace(" ", "") == written.replace(" ", "")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text('ab[]{}"\\') | st.floats(-1e9, 1e9), st.lists))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_other_json_is_read_as_ever(app: App, value: Any) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT %s::jsonb", (psycopg.types.json.Jsonb(value),)).fetchall() == [(value,)]


READS: dict[str, Callable[[Tx], object]] = {
    "job_queue": lambda tx: (tx.jobs.list_recent(limit=1).rows, tx.jobs.get(new_id())),
    "job_attempts": lambda tx: tx.jobs.attempts(new_id()),
    "job_archive": lambda tx: tx.archive.get(new_id()),
    "workers": lambda tx: tx.workers.all(),
    "queue_policies": lambda tx: tx.queues.policies(),
    "webhook_events": lambda tx: (tx.events.find(str(new_id())), tx.events.find("evt_1"), tx.events.recent(limit=1)),
    "generations": lambda tx: (tx.generating.recent(1), tx.generating.get(new_id())),
    "tenants": lambda tx: tx.tenants.recent(limit=1),
}


@pytest.mark.parametrize("table", READS)
def test_who_has_read_a_table_often_reads_it_after_a_migration_too(app: App, owner_url: str, table: str) -> None:
    """`viral jobs enqueue --wait` looks again and again while a release step adds a column."""
    for n in range(3):
        for _ in range(8):
            with app.db.transaction(SYSTEM) as tx:
                READS[table](tx)
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute(f"ALTER TABLE {table} ADD COLUMN new_{n} text".encode())


def test_a_statement_whose_columns_a_migration_changed_is_refused_once_and_prepared_anew(
    app: App, owner_url: str
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    for _ in range(8):
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("SELECT priority FROM job_queue", prepare=True)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE job_queue ALTER COLUMN priority TYPE integer")
    with pytest.raises(DatabaseUnavailable, match="migration"), app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SELECT priority FROM job_queue", prepare=True)
    for _ in range(3):
        with app.db.transaction(SYSTEM) as tx:
            assert tx.driver.execute("SELECT priority FROM job_queue", prepare=True).fetchall() == [(5,)]

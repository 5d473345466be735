"""Postgres takes every text and JSON value of Python, and every value that it holds can be read."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from sqlalchemy import insert, select

from db.postgres.values import DEEPEST, UnreadableJson, adapt
from db.queue.enqueue import NewJob
from db.schema.concepts import generations
from db.schema.tenants import tenants
from db.transaction import SYSTEM
from domain.text.storable import storable, storable_text
from tests.builders import NOV_22, a_tenant, job_row
from tests.conftest import Servers
from tests.domain.text.test_storable import TEXTS, VALUES
from workers.app import App


@pytest.fixture(scope="module")
def connection(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    with servers.admin() as connection:
        adapt(connection)
        yield connection


def as_read(value: Any) -> Any:
    """Numbers as floats: Postgres tells 1e300 digit by digit, which Python reads as a whole number."""
    match value:
        case bool() | None | str():
            return value
        case dict():
            return {key: as_read(each) for key, each in value.items()}
        case list():
            return [as_read(each) for each in value]
    return float(value)


@given(st.lists(TEXTS, min_size=1, max_size=3), VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_everything_written_is_read_back_clean(
    connection: psycopg.Connection[Any], texts: list[str], value: Any
) -> None:
    row = connection.execute(
        "SELECT %s, %b::text, %s::text[], %b::text[], %s::jsonb, %b::jsonb",
        (texts[0], texts[0], texts, texts, Jsonb(value), Jsonb(value)),
    ).fetchone()
    clean = list(map(storable_text, texts))
    json = as_read(storable(value)[0])
    assert row is not None
    assert [*row[:4], *map(as_read, row[4:])] == [clean[0], clean[0], clean, clean, json, json]


@given(TEXTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_also_where_the_value_is_written_into_the_statement(connection: psycopg.Connection[Any], text: str) -> None:
    statement = psycopg.sql.SQL("SELECT {}::text").format(text)
    assert connection.execute(statement).fetchall() == [(storable_text(text),)]


@pytest.mark.parametrize("text", ["a\0b", "a\ud83db"])
def test_every_way_to_the_database_is_that_way(app: App, text: str) -> None:
    clean, payload = "a\ufffdb", {"text": text, "number": float("nan")}
    tenant_id = a_tenant(app, name=text)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.sql.execute(select(tenants.c.name).where(tenants.c.name == text)).scalars().all() == [clean]
        values = {"tenant_id": tenant_id, "date": NOV_22, "concepts": [payload], "trends": []}
        tx.sql.execute(insert(generations).values(values))
        assert tx.sql.execute(select(generations.c.concepts)).scalar_one() == [{"text": clean, "number": None}]
        twins = [NewJob(uuid4(), "t", "default", payload=payload, unique_key=text) for _ in range(2)]
        assert tx.enqueue_many(twins) == [twins[0].id] * 2
        by_itself = NewJob(uuid4(), text, "default", payload=payload)
        tx.enqueue(by_itself)
    with app.db.transaction(SYSTEM) as tx:
        plain = NewJob(uuid4(), text, "default", payload=payload)
        tx.enqueue(plain)
    for job in (twins[0], by_itself, plain):
        assert job_row(app, job.id)["payload"] == {"text": clean, "number": None}
    assert job_row(app, plain.id)["job_type"] == job_row(app, by_itself.id)["job_type"] == clean


# --- values that Postgres holds -------------------------------------------------------------------------------


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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
def test_other_json_is_read_as_ever(app: App, value: Any) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT %s::jsonb", (psycopg.types.json.Jsonb(value),)).fetchall() == [(value,)]

"""Whatever a text or a JSON value holds, Postgres takes it and gives it back as `domain.text.storable` has it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from sqlalchemy import insert, select

from db.postgres.values import adapt
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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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

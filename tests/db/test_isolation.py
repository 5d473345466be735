"""No tenant reaches another's rows, whatever SQL is sent: held for every table of the models, with rows in it."""

import random
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Identity, Table, delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from db.schema.learning import pooled_priors
from db.schema.tables import metadata
from db.schema.tenants import quota_ledger, tenants
from db.security import SCOPE_NOT_SET
from db.transaction import SYSTEM, Database, Scope, Tx
from domain.errors import TenantContextNotSet
from local.postgres import APP, OWNER
from tests.conftest import Servers, a_database
from workers.app import App
from workers.runtime.ids import Ids

TENANT_OWNED = [table for table in metadata.sorted_tables if "tenant_id" in table.c or table is tenants]
SYSTEM_ONLY = [table for table in metadata.sorted_tables if table not in TENANT_OWNED]
# Figures of many tenants together, which every tenant's posts are predicted with; only the system writes them.
READ_BY_ALL = [pooled_priors]

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)

Row = Mapping[str, Any]


def owner_of(table: Table) -> Column[Any]:
    return table.c.id if table is tenants else table.c.tenant_id


@dataclass(frozen=True)
class World:
    """Two tenants with one row each in every table that has tenants, and one row in every other table."""

    app: App
    a: UUID
    b: UUID
    rows: Mapping[tuple[UUID | None, str], Row]

    def row(self, owner: UUID | None, table: Table) -> Row:
        return self.rows[owner, table.name]

    def refused(self, scope: Scope, statement: Any) -> str | None:
        """The SQLSTATE with which the statement is refused in this scope; None if it is not."""
        try:
            with self.app.db.transaction(scope) as tx:
                tx.sql.execute(statement)
                raise _Undo
        except _Undo:
            return None
        except DBAPIError as error:
            sqlstate: str = error.orig.sqlstate  # type: ignore[union-attr]
            return sqlstate


class _Undo(Exception):
    pass


@dataclass(frozen=True)
class Filled:
    """The rows of `World`, and the database that has them, which each test gets a copy of."""

    database: str
    a: UUID
    b: UUID
    rows: Mapping[tuple[UUID | None, str], Row]


@pytest.fixture(scope="module")
def filled(servers: Servers, template: str) -> Iterator[Filled]:
    a, b = uuid4(), uuid4()
    with a_database(servers, template) as name:
        db = Database(servers.postgres.url(APP, name), pool_size=1, new_id=Ids(), application_name="tests")
        rows = fill(db, a, b)
        db.close()
        yield Filled(name, a, b, rows)


@pytest.fixture
def database(servers: Servers, filled: Filled) -> Iterator[str]:
    with a_database(servers, filled.database) as name:
        yield name


@pytest.fixture
def world(app: App, filled: Filled) -> World:
    return World(app, filled.a, filled.b, filled.rows)


def a_world(app: App) -> World:
    """Make one in the database of a test."""
    a, b = uuid4(), uuid4()
    return World(app, a, b, fill(app.db, a, b))


def fill(db: Database, a: UUID, b: UUID) -> Mapping[tuple[UUID | None, str], Row]:
    rows: dict[tuple[UUID | None, str], Row] = {}
    with db.transaction(SYSTEM) as tx:
        tx.archive.make_week(MOMENT)
        for owner in (a, b, None):
            for table in TENANT_OWNED if owner else SYSTEM_ONLY:
                values = _values(table, owner, {name: row for (of, name), row in rows.items() if of in (owner, a)})
                rows[owner, table.name] = tx.sql.execute(insert(table).values(values).returning(table)).mappings().one()
    return rows


def _values(table: Table, owner: UUID | None, rows: Mapping[str, Row]) -> dict[str, Any]:
    """What the row needs, and every reference that it can have, to this owner's rows."""
    values = {
        column.name: _value(table, column)
        for column in table.columns
        if not column.nullable and column.server_default is None and not isinstance(column.identity, Identity)
    }
    for constraint in table.foreign_key_constraints:
        if constraint.referred_table.name in rows and constraint.referred_table is not table:
            values |= {e.parent.name: rows[e.column.table.name][e.column.name] for e in constraint.elements}
    # The ledger's row says that one concept is used, and the tenant's has to agree.
    values |= {"used_quota": 1} if table is tenants else {}
    return values | ({owner_of(table).name: owner} if owner else {})


def _references(table: Table) -> list[ForeignKeyConstraint]:
    return [
        each
        for each in table.constraints
        if isinstance(each, ForeignKeyConstraint) and each.referred_table is not tenants
    ]


def _value(table: Table, column: Column[Any]) -> Any:
    for constraint in table.constraints:
        listed = re.match(rf"{column.name} IN \('([^']+)'", str(getattr(constraint, "sqltext", "")))
        if isinstance(constraint, CheckConstraint) and listed:
            return listed[1]
    kinds: dict[type, Any] = {
        str: f"x{uuid4().hex}",
        int: 1,
        float: 1.0,
        Decimal: 1,
        bytes: uuid4().bytes * 2,  # a SHA-256 has 32
        list: [],
        object: {},
        UUID: uuid4(),
        datetime: MOMENT,
        date: MOMENT.date(),
        timedelta: timedelta(minutes=1),
    }
    return kinds[column.type.python_type]


def offenders(outcomes: Mapping[str, Any], expected: Any) -> dict[str, Any]:
    return {name: outcome for name, outcome in outcomes.items() if outcome != expected}


# --- a tenant's scope ---------------------------------------------------------------------------------------


def test_a_tenant_sees_their_own_rows_and_no_others(world: World) -> None:
    with world.app.db.transaction(world.a) as tx:
        seen = {table.name: tx.sql.execute(select(owner_of(table))).scalars().all() for table in TENANT_OWNED}
    assert offenders(seen, [world.a]) == {}


def test_asking_for_anothers_rows_by_id_finds_nothing(world: World) -> None:
    with world.app.db.transaction(world.a) as tx:
        found = {
            table.name: tx.sql.execute(select(table).where(owner_of(table) == world.b)).all() for table in TENANT_OWNED
        }
    assert offenders(found, []) == {}


def test_updating_and_deleting_everything_reaches_only_their_own(world: World) -> None:
    changeable = [table for table in TENANT_OWNED if table is not quota_ledger]
    gone = [table for table in changeable if table is not tenants]  # whose ledger stays
    with world.app.db.transaction(world.a) as tx:
        updated = {t.name: tx.sql.execute(update(t).values({owner_of(t): owner_of(t)})).rowcount for t in changeable}
        deleted = {t.name: tx.sql.execute(delete(t)).rowcount for t in reversed(gone)}
    assert offenders(updated, 1) == {}
    assert offenders(deleted, 1) == {}
    with world.app.db.transaction(SYSTEM) as tx:
        left = {table.name: tx.sql.execute(select(table)).mappings().all() for table in gone}
    assert {name: rows for name, rows in left.items() if rows != [world.rows[world.b, name]]} == {}


def test_a_row_cannot_be_added_for_another_tenant(world: World) -> None:
    sqlstates = {}
    for table in TENANT_OWNED:
        rows = {name: row for (of, name), row in world.rows.items() if of == world.b}
        values = _values(table, uuid4() if table is tenants else world.b, rows)
        sqlstates[table.name] = world.refused(world.a, insert(table).values(values))
    assert offenders(sqlstates, "42501") == {}


def test_a_row_cannot_be_handed_over_to_another_tenant(world: World) -> None:
    sqlstates = {
        table.name: world.refused(world.a, update(table).values({owner_of(table): world.b})) for table in TENANT_OWNED
    }
    assert offenders(sqlstates, "42501") == {}


def test_a_row_cannot_refer_to_another_tenants(world: World) -> None:
    """Row-level security does not look at references; the foreign keys carry the tenant instead."""
    sqlstates = {}
    for table in TENANT_OWNED:
        for reference in _references(table):
            local, foreign = zip(*[(e.parent.name, e.column.name) for e in reference.elements], strict=True)
            target = world.row(world.b, reference.referred_table)
            own = dict(zip(local, (target[name] for name in foreign), strict=True)) | {"tenant_id": world.a}
            for scope in (world.a, SYSTEM):
                statement = update(table).where(table.c.tenant_id == world.a).values(own)
                sqlstates[f"{table.name}({', '.join(local)}) in {scope}"] = world.refused(scope, statement)
    assert offenders(sqlstates, "23503") == {}
    assert len(sqlstates) >= 2 * 6


def test_no_reference_between_tenants_rows_leaves_the_tenant_out() -> None:
    loose = [
        f"{table.name}.{'+'.join(reference.column_keys)}"
        for table in TENANT_OWNED
        for reference in _references(table)
        if reference.referred_table in TENANT_OWNED and "tenant_id" not in reference.column_keys
    ]
    assert loose == []


def test_what_belongs_to_no_tenant_is_the_systems_alone(world: World) -> None:
    with world.app.db.transaction(SYSTEM) as tx:
        there = {table.name: len(tx.sql.execute(select(table)).all()) for table in SYSTEM_ONLY}
    with world.app.db.transaction(world.a) as tx:
        seen = {
            table.name: len(tx.sql.execute(select(table)).all()) for table in SYSTEM_ONLY if table not in READ_BY_ALL
        }
        changed = {
            t.name: tx.sql.execute(update(t).values({t.columns[0]: t.columns[0]})).rowcount
            for t in SYSTEM_ONLY
            if not t.columns[0].identity
        }
        deleted = {table.name: tx.sql.execute(delete(table)).rowcount for table in SYSTEM_ONLY}
    sqlstates = {
        table.name: world.refused(world.a, insert(table).values(_values(table, None, _of(world, world.a))))
        for table in SYSTEM_ONLY
    }
    assert [name for name, rows in there.items() if rows < 1] == []
    assert offenders(seen | changed | deleted, 0) == {}
    assert offenders(sqlstates, "42501") == {}


def _of(world: World, owner: UUID) -> dict[str, Row]:
    return {name: row for (of, name), row in world.rows.items() if of == owner}


def test_a_tenant_that_does_not_exist_sees_nothing(world: World) -> None:
    with world.app.db.transaction(uuid4()) as tx:
        seen = {t.name: tx.sql.execute(select(t)).all() for t in metadata.sorted_tables if t not in READ_BY_ALL}
    assert offenders(seen, []) == {}


# --- no scope -----------------------------------------------------------------------------------------------


def statements(table: Table) -> dict[str, str]:
    reading = {f"SELECT {table.name}": f"SELECT * FROM {table.name}"}
    if table is quota_ledger:  # nobody may change it anyway
        return reading
    return reading | {
        f"UPDATE {table.name}": f"UPDATE {table.name} SET {_harmless(table)}",
        f"DELETE {table.name}": f"DELETE FROM {table.name}",
    }


def _harmless(table: Table) -> str:
    column = next(column.name for column in table.columns if not column.identity)
    return f"{column} = {column}"


def test_without_a_scope_every_table_refuses_with_a_state_of_its_own(world: World, database_url: str) -> None:
    sqlstates = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in metadata.sorted_tables:
            for name, statement in statements(table).items():
                with pytest.raises(psycopg.Error) as error:
                    connection.execute(statement)
                sqlstates[name] = error.value.sqlstate
    assert offenders(sqlstates, SCOPE_NOT_SET) == {}
    assert SCOPE_NOT_SET == "VD001"


@pytest.mark.parametrize("forget", ["RESET app.tenant_id", "SET LOCAL app.tenant_id = ''"])
def test_losing_the_scope_in_a_transaction_is_an_error_with_a_name(world: World, forget: str) -> None:
    for table in metadata.sorted_tables:
        for statement in statements(table).values():
            with pytest.raises(TenantContextNotSet), world.app.db.transaction(world.a) as tx:
                tx.driver.execute(forget)  # type: ignore[call-overload]
                tx.driver.execute(statement)  # type: ignore[call-overload]


def test_the_same_error_comes_through_sqlalchemy(world: World) -> None:
    with pytest.raises(TenantContextNotSet), world.app.db.transaction(world.a) as tx:
        tx.driver.execute("RESET app.tenant_id")
        tx.tenants.get(world.a)


def test_no_scope_is_left_behind_by_a_transaction(app: App, world: World) -> None:
    """On the very connections that go back to the pool, whichever way the transactions end."""
    connections: set[psycopg.Connection[Any]] = set()
    seen: list[tuple[UUID, list[UUID]]] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(25):
            tenant_id = rng.choice([world.a, world.b])
            with _ending(rng.choice(["commit", "error", "sql error", "cancelled", "savepoint"]), app, tenant_id) as tx:
                connections.add(tx.driver)
                seen.append((tenant_id, list(tx.sql.execute(select(tenants.c.id)).scalars())))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 100
    assert [each for each in seen if each[1] != [each[0]]] == []
    for connection in connections:
        with pytest.raises(psycopg.Error) as error:
            connection.execute("SELECT * FROM tenants")
        connection.rollback()
        assert error.value.sqlstate == SCOPE_NOT_SET


@contextmanager
def _ending(how: str, app: App, tenant_id: UUID) -> Iterator[Tx]:
    try:
        with app.db.transaction(tenant_id) as tx:
            yield tx
            if how == "error":
                raise _Undo
            if how == "sql error":
                tx.driver.execute("SELECT 1 / 0")
            if how == "cancelled":
                tx.driver.execute("SET LOCAL statement_timeout = 1")
                tx.driver.execute("SELECT pg_sleep(60)")
            if how == "savepoint":
                with tx.savepoint(SYSTEM):
                    tx.driver.execute("SELECT 1 / 0")
    except (_Undo, psycopg.errors.DivisionByZero, psycopg.errors.QueryCanceled):
        pass


def test_a_savepoint_that_failed_leaves_the_scope_as_it_was(world: World) -> None:
    def seen(tx: Tx) -> list[UUID]:
        return list(tx.sql.execute(select(tenants.c.id)).scalars())

    with world.app.db.transaction(world.a) as tx:
        for end in ("SELECT 1 / 0", "SET LOCAL app.tenant_id = '*'; SELECT 1 / 0"):
            with pytest.raises(psycopg.errors.DivisionByZero), tx.savepoint(world.b):
                assert seen(tx) == [world.b]
                tx.driver.execute(end)
            assert seen(tx) == [world.a]
        tx.work_as(world.b)
        assert seen(tx) == [world.b]


# --- the role -----------------------------------------------------------------------------------------------

ESCAPES = [
    "SET ROLE viral_owner",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION viral_owner",
    "ALTER TABLE tenants DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE tenants ADD COLUMN more text",
    "ALTER ROLE viral_app BYPASSRLS",
    "DROP POLICY scope ON tenants",
    "CREATE POLICY open ON tenants USING (true)",
    "ALTER POLICY scope ON tenants USING (true)",
    "CREATE OR REPLACE FUNCTION app_scope() RETURNS text LANGUAGE sql AS $$ SELECT '*' $$",
    "CREATE TABLE mine (id int)",
    "CREATE VIEW all_tenants AS SELECT * FROM tenants",
    "TRUNCATE system_metrics",
    "DROP TABLE tenants",
    "GRANT viral_owner TO viral_app",
    "DROP TABLE job_archive",
    "CREATE TABLE job_archive_mine PARTITION OF job_archive DEFAULT",
    "CREATE OR REPLACE FUNCTION drop_job_archive_weeks(timestamptz) RETURNS integer LANGUAGE sql AS $$ SELECT 0 $$",
    "ALTER FUNCTION make_job_archive_week(timestamptz) SET search_path = mine",
]


def test_the_applications_role_cannot_escape(database_url: str) -> None:
    sqlstates: dict[str, str | None] = {}
    for escape in ESCAPES:
        with psycopg.connect(database_url, autocommit=True) as connection:
            try:
                connection.execute(escape)  # type: ignore[call-overload]
                sqlstates[escape] = None
            except psycopg.Error as error:
                sqlstates[escape] = error.sqlstate
    assert offenders(sqlstates, "42501") == {}


def test_switching_row_security_off_is_refused_as_soon_as_it_would_matter(world: World) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="affected by row-level security"):
        with world.app.db.transaction(world.a) as tx:
            tx.driver.execute("SET LOCAL row_security = off")
            tx.driver.execute("SELECT * FROM tenants")


def test_with_the_owners_url_the_applications_role_is_at_work_all_the_same(world: World, owner_url: str) -> None:
    database = Database(owner_url, pool_size=1, new_id=uuid4)
    for _ in range(2):
        with database.transaction(world.a) as tx:
            row = tx.driver.execute("SELECT current_user, session_user, count(*) FROM tenants").fetchone()
            assert row == (APP, "viral_owner", 1)
    database.close()


def test_nothing_of_a_transaction_stays_in_the_session(world: World, owner_url: str) -> None:
    """Behind a pooler the next transaction of the session is somebody else's."""
    database = Database(owner_url, pool_size=1, new_id=uuid4)
    names = ("role", "app.tenant_id", "statement_timeout", "lock_timeout", "TimeZone")
    asked = "SELECT " + ", ".join(f"current_setting('{name}', true)" for name in names)
    with database.connect(autocommit=True) as fresh:
        before = fresh.execute(asked).fetchone()
    with database.transaction(world.a) as tx:
        driver = tx.driver
        assert driver.execute(asked).fetchone() == (APP, str(world.a), "30s", "15s", "UTC")
    assert driver.execute(asked).fetchone() == before
    driver.rollback()
    database.close()


def test_the_owner_who_names_no_scope_reaches_nothing(world: World, servers: Servers, database: str) -> None:
    with psycopg.connect(servers.postgres.url(OWNER, database), autocommit=True) as owner:
        for table in metadata.sorted_tables:
            with pytest.raises(psycopg.Error, match="tenant context not set") as error:
                owner.execute(f"SELECT * FROM {table.name}")  # type: ignore[call-overload]
            assert error.value.sqlstate == SCOPE_NOT_SET
            assert error.value.diag.message_hint is not None
        owner.execute("SELECT set_config('app.tenant_id', %s, false)", (str(world.a),))
        assert owner.execute("SELECT id FROM tenants").fetchall() == [(world.a,)]

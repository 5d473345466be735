"""No query group reaches another tenant's rows: every public method of every group, with all that is known of them."""

import enum
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import psycopg
import pytest

from db.schema.tenants import tenants
from db.transaction import SYSTEM, Scope, Tx, lazy
from domain.dexie.trials import Trial
from tests.db.test_isolation import MOMENT, TENANT_OWNED, World, a_world
from workers.app import App

Method = Callable[..., Any]


@pytest.fixture
def world(app: App) -> World:
    return a_world(app)


def methods(world: World) -> Iterator[tuple[str, str, Method]]:
    """Every public method of every query group, with the name by which the group is reached."""
    with world.app.db.transaction(SYSTEM) as tx:
        members = [name for name, each in vars(Tx).items() if isinstance(each, lazy)]
        groups = {name: type(getattr(tx, name)) for name in members if not name.startswith("_")}
    for group, kind in groups.items():
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if kind.__module__.startswith("db.") and not name.startswith("_"):
                yield group, name, method


def values_of(world: World, owner: UUID) -> dict[str, Any]:
    """Values of the rows of a tenant, by the names of their columns; ids also as `job_id`, `video_id`, …"""
    values: dict[str, Any] = {}
    for table in TENANT_OWNED:
        row = world.row(owner, table)
        values |= {name: value for name, value in row.items() if value is not None and name != "id"}
        values |= {
            f"{word}_id": row["id"] for word in (table.name.rstrip("s"), table.name.split("_")[0]) if "id" in row
        }
    # A filter of jobs takes states of jobs only.
    return values | {"tenant_id": owner, "id": values["job_id"], "name": str(values["job_id"]), "state": "failed"}


def argument(kind: Any, name: str, values: Mapping[str, Any]) -> Any:
    """Return a value of this type: the tenant's own of this name, or some other."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return values.get(name)
    if origin in (Union, types.UnionType):
        return argument(next(each for each in inner if each is not type(None)), name, values)
    if origin is tuple:
        return tuple(argument(each, name, values) for each in inner if each is not Ellipsis)
    if origin in (Sequence, Collection, Iterable, list):
        return [argument(inner[0], name, values)]
    if origin is frozenset:
        return frozenset({argument(inner[0], name, values)})
    if origin is type:
        return inner[0].__constraints__[0] if isinstance(inner[0], TypeVar) else inner[0]
    if Mapping in (origin, kind) or dict in (origin, kind):
        return {}
    if getattr(kind, "_is_protocol", False):
        getters = {each: value.fget for each, value in vars(kind).items() if isinstance(value, property)}
        return SimpleNamespace(
            **{each: argument(get_type_hints(get)["return"], each, values) for each, get in getters.items()}
        )
    if inspect.isclass(kind) and isinstance(values.get(name), kind):
        return values[name]
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        names = kind._fields if hasattr(kind, "_fields") else [each.name for each in fields(kind) if each.init]
        # A row that may hold others of its kind holds none.
        return kind(
            **{each: argument(hints[each], each, values) for each in names if kind not in get_args(hints[each])}
        )
    if origin is Callable:
        return lambda *_: values["id"]
    plain: Mapping[Any, Any] = {
        UUID: values["id"],
        str: "x",
        int: 1,
        float: 1.0,
        bool: True,
        bytes: b"x",
        Decimal: Decimal(1),
        datetime: MOMENT,
        date: MOMENT.date(),
        timedelta: timedelta(hours=1),
        Trial: None,  # an import that is only tried leaves nothing behind
    }
    return None if isinstance(kind, TypeVar) else plain[kind]


def call(world: World, scope: Scope, group: str, name: str, method: Method, values: Mapping[str, Any]) -> Any:
    """Return the method's result, None if it raises."""
    hints = get_type_hints(method)
    arguments = {each: argument(kind, each, values) for each, kind in hints.items() if each != "return"}
    returned = None
    with suppress(Refused, psycopg.IntegrityError), world.app.db.transaction(scope) as tx:  # a COMMIT may refuse too
        try:
            returned = getattr(getattr(tx, group), name)(**arguments)
            returned = list(returned) if isinstance(returned, Iterator) else returned
        except Exception as error:
            raise Refused from error
    return returned


class Refused(Exception):
    pass


def rows_of(world: World, owner: UUID) -> list[Any]:
    """Every row of the tenant, as text."""
    owned = [(table.name, "id" if table is tenants else "tenant_id") for table in TENANT_OWNED]
    query = " UNION ALL ".join(
        f"SELECT to_jsonb(t)::text FROM {name} t WHERE {column} = %(owner)s" for name, column in owned
    )
    with world.app.db.transaction(SYSTEM) as tx:
        return sorted(tx.driver.execute(query, {"owner": owner}).fetchall())  # type: ignore[call-overload]


def test_in_a_tenants_scope_no_query_reads_or_changes_anothers_rows(world: World) -> None:
    values, before = values_of(world, world.b), rows_of(world, world.b)
    answers = 0
    for group, name, method in methods(world):
        returned = call(world, world.a, group, name, method, values)
        assert str(world.b) not in repr(returned), f"{group}.{name} returned rows of another tenant: {returned}"
        assert rows_of(world, world.b) == before, f"{group}.{name} changed another tenant's rows"
        answers += returned is not None
    assert answers > 40, "most of them did something"


def test_without_row_level_security_a_query_for_one_tenant_stays_with_that_tenant(world: World) -> None:
    """In the system scope, where the rule lets everything through: the queries' own conditions hold all the same."""
    values, before = values_of(world, world.b) | {"tenant_id": world.a}, rows_of(world, world.b)
    of_a_tenant = [each for each in methods(world) if get_type_hints(each[2]).get("tenant_id") is UUID]
    for group, name, method in of_a_tenant:
        returned = call(world, SYSTEM, group, name, method, values)
        assert str(world.b) not in repr(returned), f"{group}.{name} told of another tenant: {returned}"
        assert rows_of(world, world.b) == before, f"{group}.{name} changed another tenant's rows"
    assert len(of_a_tenant) >= 10


NAMED_OUTSIDE = {
    "provider_jobs_bought_idx",
    "tenants_stripe_customer_id_key",
    "users_clerk_id_key",
    "api_keys_key_hash_key",
    "oauth_states_pkey",
}
"""Unique across tenants, because they are another system's name for one of ours, or are 256 random bits."""


def test_nothing_unique_tells_whether_another_tenant_has_it(world: World) -> None:
    """A refused insert must not answer "somebody else has this": uniqueness ends at the tenant, or is of random ids."""
    query = """
        SELECT i.relname, array_agg(a.attname::text)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(x.indkey)
        WHERE x.indisunique AND t.relname = ANY(%s) GROUP BY i.relname
    """
    with world.app.db.transaction(SYSTEM) as tx:
        indexes = tx.driver.execute(query, ([table.name for table in TENANT_OWNED],)).fetchall()
    telling = {name for name, columns in indexes if "tenant_id" not in columns and columns not in (["id"], ["job_id"])}
    assert telling == NAMED_OUTSIDE

"""The metadata of all tables, and the columns and constraints that many of them have.

A family's module declares its tables, and below them the functions and triggers that guard them. `db/schema/tables.py`
is the whole schema.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from db.security import CREATE_SCOPE_FUNCTION

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

EARLIEST, LATEST = "1970-01-01Z", "9999-01-01Z"
"""Every time that other programs may write lies between these: not all programs can read another."""


def before_tables(*statements: str) -> None:
    """`metadata.create_all` runs these statements before it creates the tables."""
    _run_with("before_create", statements)


def after_tables(*statements: str) -> None:
    """`metadata.create_all` runs these statements when all tables are there."""
    _run_with("after_create", statements)


def _run_with(moment: str, statements: tuple[str, ...]) -> None:
    for statement in statements:
        sa.event.listen(metadata, moment, sa.DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]


before_tables(CREATE_SCOPE_FUNCTION)


def table(name: str, *items: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *items, **options)


def one_of(column: str, values: Iterable[str]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def readable_times(*times: str) -> sa.CheckConstraint:
    """The times are within those that every program can read. One constraint holds all of them, because a statement
    pays for each constraint of its table whenever it is executed."""
    listed = ", ".join(times)
    return sa.CheckConstraint(f"least({listed}) >= '{EARLIEST}' AND greatest({listed}) <= '{LATEST}'", name="times")


def uuid_key() -> sa.Column[Any]:
    return sa.Column("id", UUID(), primary_key=True, server_default=sa.text("gen_random_uuid()"))


def timestamp(name: str, *, nullable: bool = True, now: bool = False) -> sa.Column[Any]:
    """A moment; with `now`, never NULL and by default the start of the transaction."""
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable and not now)


def tenant_id() -> sa.Column[Any]:
    return sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id"), nullable=False)


def string(name: str, *, default: str | None = None, nullable: bool = True, unique: bool = False) -> sa.Column[Any]:
    server_default = None if default is None else sa.text(f"'{default}'")
    return sa.Column(name, sa.Text, server_default=server_default, nullable=nullable and default is None, unique=unique)


def count(name: str, default: int = 0, kind: type[sa.Integer] = sa.Integer) -> sa.Column[Any]:
    return sa.Column(name, kind, server_default=sa.text(str(default)), nullable=False)


def boolean(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, server_default=sa.text("false"), nullable=False)


def jsonb(name: str, default: str | None = None) -> sa.Column[Any]:
    """A JSON value; without a default it may be NULL."""
    server_default = None if default is None else sa.text(f"'{default}'::jsonb")
    return sa.Column(name, JSONB, server_default=server_default, nullable=default is None)


def within_tenant(column: str, parent: str) -> sa.ForeignKeyConstraint:
    """A foreign key that cannot leave its tenant."""
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{parent}.tenant_id", f"{parent}.id"])

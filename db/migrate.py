"""Brings a database to the newest schema."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from db.security import CREATE_APP_ROLE, GRANT_RIGHTS, GRANT_ROLE_TO_OWNER
from db.url import parse
from domain.errors import Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Two release dynos may start at once: the second waits, and then finds nothing to do. It asks again and again, since
# an index that is built concurrently would wait for the end of a statement that waits for it. The lock is held by a
# transaction of its own, which is all that holds a place behind a pooler.
TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({0x766972616C02})")
HOLD = text("SET LOCAL idle_in_transaction_session_timeout = 0")
ASK_EVERY = 0.2

Revisions = tuple[str | None, str | None]


class MigrationRefused(Unavailable):
    """Postgres could not be brought to the schema asked for; what was done before the refused step stays."""


def upgrade(url: str, revision: str = "head") -> Revisions:
    """Migrate up to `revision`. Returns the revisions before and after.

    Raises:
        MigrationRefused: the server cannot be reached or refused a step, of which nothing was kept.
    """
    return _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> Revisions:
    """Migrate down to `revision` ("base": nothing). Returns the revisions before and after."""
    return _run(url, lambda config: command.downgrade(config, revision))


def newest() -> str | None:
    """The revision that the code in this folder expects."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def knows(revision: str) -> bool:
    """Whether the code in this folder has this revision. If not, a newer release made it."""
    return any(each.revision == revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


def owners_engine(url: str) -> Engine:
    """For migrations; nothing is connected yet. SQLAlchemy sees no URL: it knows neither several hosts nor a % in the
    name of a database."""
    connect = partial(psycopg.connect, parse(url).conninfo, prepare_threshold=None)
    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


def _run(url: str, act: Callable[[Config], None]) -> Revisions:
    engine = owners_engine(url)
    try:
        with engine.connect() as guard, engine.connect() as connection:
            _wait_for_lock(guard)
            before = _current(connection)
            if before is not None and not knows(before):
                unknown = f"the schema is at {before}, which this release does not know: a newer release made it"
                raise MigrationRefused(unknown)
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            act(config)
            connection.commit()
            after = _current(connection)
            if after is not None:
                _give_rights(connection)
            return before, after
    except DBAPIError as error:
        raise MigrationRefused(f"the schema was not changed as asked: {' '.join(str(error.orig).split())}") from error


def _wait_for_lock(guard: Connection) -> None:
    """Hold the lock until the transaction of `guard` ends."""
    while True:
        guard.execute(HOLD)
        if guard.execute(TRY_LOCK).scalar_one():
            return
        guard.rollback()
        time.sleep(ASK_EVERY)


def _give_rights(connection: Connection) -> None:
    """Make the application's role, where that is allowed, and give it its rights: it may be newer than the tables."""
    for statement in (CREATE_APP_ROLE, GRANT_ROLE_TO_OWNER, GRANT_RIGHTS):
        connection.execute(text(statement))
    connection.commit()


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return revision

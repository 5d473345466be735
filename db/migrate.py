"""Brings a database to the newest schema."""

import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from db.url import sqlalchemy
from domain.errors import Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Two release dynos may start at once: the second waits, and then finds nothing to do. It asks again and again, since
# an index that is built concurrently would wait for the end of a statement that waits for it.
TRY_LOCK = text(f"SELECT pg_try_advisory_lock({0x766972616C02})")
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


def _run(url: str, act: Callable[[Config], None]) -> Revisions:
    engine = create_engine(sqlalchemy(url), poolclass=NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            _wait_for_lock(connection)
            before = _current(connection)
            if before is not None and not knows(before):
                unknown = f"the schema is at {before}, which this release does not know: a newer release made it"
                raise MigrationRefused(unknown)
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            act(config)
            connection.commit()
            return before, _current(connection)
    except DBAPIError as error:
        raise MigrationRefused(f"the schema was not changed as asked: {' '.join(str(error.orig).split())}") from error


def _wait_for_lock(connection: Connection) -> None:
    while True:
        locked = connection.execute(TRY_LOCK).scalar_one()
        connection.commit()
        if locked:
            return
        time.sleep(ASK_EVERY)


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return revision

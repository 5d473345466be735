"""Brings a database to the newest schema."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from db.url import sqlalchemy

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Two release dynos may start at once: the second waits, and then finds nothing to do.
LOCK = text(f"SELECT pg_advisory_lock({0x766972616C02})")

Revisions = tuple[str | None, str | None]


def upgrade(url: str, revision: str = "head") -> Revisions:
    """Migrate up to `revision`. Returns the revisions before and after.

    Raises:
        sqlalchemy.exc.OperationalError: the server cannot be reached, or a lock was not to be had in time.
    """
    return _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> Revisions:
    """Migrate down to `revision` ("base": nothing). Returns the revisions before and after."""
    return _run(url, lambda config: command.downgrade(config, revision))


def newest() -> str | None:
    """The revision that the code in this folder expects."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def _run(url: str, act: Callable[[Config], None]) -> Revisions:
    engine = create_engine(sqlalchemy(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(LOCK)
        connection.commit()
        before = _current(connection)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        act(config)
        connection.commit()
        return before, _current(connection)


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return revision

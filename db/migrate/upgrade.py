"""Migrates a database to the schema of a revision, under one lock, with a text for each refusal."""

import time
from collections.abc import Callable, Collection
from functools import partial

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from db.migrate.revisions import MIGRATIONS as MIGRATIONS
from db.migrate.revisions import compatibility_comment, compatible_releases, known_revisions
from db.migrate.revisions import newest as newest
from db.postgres.errors import is_contended
from db.postgres.url import parse
from db.security import CREATE_APP_ROLE, GRANT_RIGHTS, GRANT_ROLE_TO_OWNER, SYSTEM_SCOPE
from domain.errors import Unavailable

# Two release dynos may start at once: the second waits, and then finds nothing to do. It polls, because an index that
# is built concurrently would wait for the end of a statement that waits for the lock. The lock belongs to a transaction
# of its own, since behind a pooler a session cannot hold one.
TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({0x766972616C02})")
NEVER_IDLE_TOO_LONG = text("SET LOCAL idle_in_transaction_session_timeout = 0")
POLL_SECONDS = 0.2

Revisions = tuple[str | None, str | None]


class MigrationRefused(Unavailable):
    """Postgres refused a step of the migration; the steps before it stay."""


RECORD_CHANGE = text(
    "INSERT INTO changes (kind, subject, before, after, cause) VALUES ('migration', 'schema', "
    "jsonb_build_object('revision', CAST(:before AS text)), "
    "jsonb_build_object('revision', CAST(:after AS text)), :cause)"
)


def upgrade(url: str, revision: str = "head", *, allow_newer: bool = False, cause: str | None = None) -> Revisions:
    """Migrate up to `revision`. Returns the revisions before and after. `cause` is who does it, for the record.

    The release that the schema was made for may go on working on the new one, until its processes are replaced.
    `allow_newer` is for going back to this release: a schema that a newer one made is left as it is, and this release
    may work on it from now on.

    Raises:
        MigrationRefused: the server does not answer, or refused a step, of which nothing was kept.
    """

    def move(connection: Connection, config: Config, before: str | None) -> None:
        if before is not None and before not in known_revisions():
            comment = "SELECT obj_description('alembic_version'::regclass, 'pg_class')"
            _name_compatible(connection, {*compatible_releases(connection.execute(text(comment)).scalar()), newest()})
            return
        command.upgrade(config, revision)
        if before is not None and _current(connection) != before:
            _name_compatible(connection, {before})

    return _run(url, move, allow_newer=allow_newer, cause=cause)


def downgrade(url: str, revision: str) -> Revisions:
    """Migrate down to `revision` ("base": nothing). Returns the revisions before and after."""

    def move(connection: Connection, config: Config, before: str | None) -> None:
        command.downgrade(config, revision)
        _name_compatible(connection, ())

    return _run(url, move)


def owners_engine(url: str) -> Engine:
    """Create an engine for migrations, which is not connected yet. SQLAlchemy sees no URL: it knows neither several
    hosts nor a % in the name of a database."""
    connect = partial(psycopg.connect, parse(url).conninfo, prepare_threshold=None)
    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


def _run(
    url: str,
    move: Callable[[Connection, Config, str | None], None],
    *,
    allow_newer: bool = False,
    cause: str | None = None,
) -> Revisions:
    engine = owners_engine(url)
    try:
        with engine.connect() as guard, engine.connect() as connection:
            _wait_for_lock(guard)
            before = _current(connection)
            if before is not None and before not in known_revisions() and not allow_newer:
                raise MigrationRefused(
                    f"the schema is at {before}, which this release does not know: a newer release made it"
                    " (to go back to this release, run `viral migrate --allow-newer`)"
                )
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            move(connection, config, before)
            connection.commit()
            after = _current(connection)
            if after is not None:
                _grant_rights(connection)
            if before is not None and before != after:
                _record(connection, before, after, cause)
            return before, after
    except DBAPIError as error:
        raise MigrationRefused(_why_refused(error)) from error


def _why_refused(error: DBAPIError) -> str:
    answer = " ".join(str(error.orig).split())
    if is_contended(error):
        return (
            f"a table was in use by others for too long ({answer}); nothing of this step was kept: try again, and if it"
            " happens again, when fewer jobs run or without the long transaction that holds the table"
        )
    if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
        answer += "; DIRECT_URL, else DATABASE_URL, has to log in as the owner of the tables"
    return f"the schema was not changed as asked: {answer}"


def _name_compatible(connection: Connection, releases: Collection[str]) -> None:
    """Name the older releases that may work on this schema; see `db.migrate.revisions`."""
    # The comment is made of revisions, which hold no quotes.
    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{compatibility_comment(releases)}'"))
    connection.commit()


def _wait_for_lock(guard: Connection) -> None:
    """Hold the lock until the transaction of `guard` ends."""
    while True:
        guard.execute(NEVER_IDLE_TOO_LONG)
        if guard.execute(TRY_LOCK).scalar_one():
            return
        guard.rollback()
        time.sleep(POLL_SECONDS)


def _grant_rights(connection: Connection) -> None:
    """Create the application's role, where that is allowed, and grant it its rights: the tables may be older."""
    for statement in (CREATE_APP_ROLE, GRANT_ROLE_TO_OWNER, GRANT_RIGHTS):
        connection.execute(text(statement))
    connection.commit()


def _record(connection: Connection, before: str, after: str | None, cause: str | None) -> None:
    """Record the migration as a change. What was migrated stays so if that cannot be done: the schema says it too."""
    try:
        connection.execute(text(f"SET LOCAL app.tenant_id = '{SYSTEM_SCOPE}'"))
        if connection.execute(text("SELECT to_regclass('changes') IS NOT NULL")).scalar_one():
            connection.execute(RECORD_CHANGE, {"before": before, "after": after, "cause": cause})
        connection.commit()
    except DBAPIError:
        connection.rollback()


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return revision

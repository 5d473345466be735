"""An application, or one transaction of it, for the length of one command."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from uuid import UUID

from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable

from cli.configuration import resolve
from db.postgres.errors import DatabaseUnavailable, PoolTimeout, WritesRefused
from db.security import RoleRefused
from db.transaction import SYSTEM, Tx
from domain.errors import ViralError
from domain.ops.causes import Cause
from workers.app import App, build
from workers.runtime import logs
from workers.runtime.work import Work, working


class DatabaseAway(DatabaseUnavailable):
    """Postgres did not answer a command, which says where to look."""


class SchemaTooOld(ViralError):
    """The database lacks something that this code works with."""


@contextmanager
def session(*, log_level: str = "WARNING") -> Iterator[App]:
    """Put an application together for one command. Ctrl-C is heeded at its end, and in `interruptible_sleep`. A command
    whose answer says what is away asks for a higher `log_level`: it need not be logged too.

    Raises:
        DatabaseAway: Postgres does not answer.
        SchemaTooOld: the command met a table or column that is not there.
        RoleRefused: the role of the database lacks a right.
    """
    settings, _ = resolve()
    logs.configure("console", log_level)
    with _interrupts_held_back():
        app = build(settings, name="viral shell", pool_size=2)
        try:
            with app.tracing.shell("viral") as span, working(Work(str(Cause.of_person(person())), span.traceparent)):
                yield app
        except Exception as error:
            cause = getattr(error, "orig", error)
            if isinstance(cause, UndefinedTable | UndefinedColumn):
                old = "the database's schema is not what this code expects: run `viral migrate`"
                raise SchemaTooOld(old) from error
            if isinstance(cause, InsufficientPrivilege):
                denied = cause.diag.message_primary
                raise RoleRefused(f"{denied}: run `viral migrate`; `viral doctor` names each GRANT") from error
            if isinstance(error, DatabaseUnavailable) and not isinstance(error, WritesRefused | PoolTimeout):
                raise DatabaseAway(f"{error} (`viral doctor` looks closer)") from error
            raise
        finally:
            app.close()


def person() -> str:
    """Return the name by which the machine knows whoever uses the shell."""
    try:
        return getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


@contextmanager
def for_system() -> Iterator[Tx]:
    """Open one transaction that sees the rows of every tenant."""
    with session() as app, app.db.transaction(SYSTEM) as tx:
        yield tx


@contextmanager
def for_tenant(tenant_id: UUID) -> Iterator[Tx]:
    """Open one transaction that sees the rows of this tenant."""
    with session() as app, app.db.transaction(tenant_id) as tx:
        yield tx


def interruptible_sleep(seconds: float) -> None:
    """Sleep in the middle of a session.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, now or since the last time.
    """
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        time.sleep(seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait for the end: in the middle of a commit it would leave connections open and doubt behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

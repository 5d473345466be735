"""Connections: kept alive, tried by BEGIN when they have rested, and bound to nothing of a session.

Between us and Postgres there may be a pooler that gives each transaction another session (Neon's pooled address,
PgBouncer). So each transaction sets its own role, timeouts, time zone and scope, in the round trip that begins it, and
no statement is prepared by name where a pooler was found.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Engine, PoolProxiedConnection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from db.postgres.error_text import one_line
from db.postgres.errors import NO_LEASE, CommitUnknown, LeaseMissing, session_ended
from db.postgres.url import DatabaseUrl
from db.postgres.values import adapt
from db.security import IDENTIFY, Login, role_to_take

IDLE_BEFORE_TRIAL = 2.0
"""Seconds that a pooled connection may rest before it has to begin its transaction to be used: a server that restarted
meanwhile is noticed there."""


@dataclass(frozen=True)
class TransactionSettings:
    """The settings of every transaction: the longest that a statement takes, waits for a lock, and is waited for."""

    statement_timeout: timedelta = timedelta(seconds=30)
    lock_timeout: timedelta = timedelta(seconds=15)
    idle_in_transaction_session_timeout: timedelta = timedelta(seconds=60)

    def values(self, role: str) -> dict[str, str]:
        """Return each parameter of Postgres and its value; `role` is "" where the login role itself does the work."""
        timeouts = {name: str(_milliseconds(limit)) for name, limit in vars(self).items()}
        return ({"role": role} if role else {}) | timeouts | {"TimeZone": "UTC"}


DEFAULT_SETTINGS = TransactionSettings()


class AppConnection(psycopg.Connection[Any]):
    """A connection that knows how each of its transactions begins.

    `pooled`: its transactions may run in different sessions of the server.
    """

    pooled = False
    settings: dict[str, str]
    beginning: str

    def work_as(self, role: str, settings: TransactionSettings) -> None:
        """Let every transaction on this connection run as `role`, with these settings."""
        self.settings = settings.values(role)
        self.beginning = "BEGIN; " + "".join(f"SET LOCAL {name} = '{value}'; " for name, value in self.settings.items())


def connect(
    url: DatabaseUrl, *, application_name: str, settings: TransactionSettings, autocommit: bool
) -> AppConnection:
    """Connect to a database, and find out how transactions begin there.

    A server that does not write is refused, unless the URL asks for another kind (`target_session_attrs`): of several
    hosts the one that writes is found, and one that was demoted is left alone.

    Raises:
        psycopg.OperationalError: the server does not answer.
        RoleRefused: nothing would keep one tenant's rows from another.
    """
    connection = AppConnection.connect(url.conninfo, autocommit=True, application_name=application_name)
    try:
        adapt(connection)
        login = Login(*connection.execute(IDENTIFY, prepare=False).fetchall()[0])
        connection.work_as(role_to_take(login), settings)
        # A pooler deals out cancel keys of its own, so the process that it names is not the one that answers.
        connection.pooled = url.pooled or login.backend_pid != connection.info.backend_pid
        if connection.pooled:
            connection.prepare_threshold = None
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def begin_commands(driver: AppConnection, scope: str, *, durable: bool, timeout: timedelta | None) -> bytes:
    """Return the commands that begin a transaction and give it its role, settings and scope."""
    commands = f"{driver.beginning}SET LOCAL app.tenant_id = '{scope}'; "
    if not durable:
        commands += "SET LOCAL synchronous_commit = off; "
    if timeout is not None:
        commands += f"SET LOCAL statement_timeout = {_milliseconds(timeout)}; "
    return commands.encode()


def together(driver: psycopg.Connection[Any]) -> AbstractContextManager[object]:
    """Send what the block executes in one round trip. On a connection that is in pipeline mode already it is the first
    reading of a result that waits; read the last one first, so that none of the others does."""
    return nullcontext() if driver.pgconn.pipeline_status else driver.pipeline()


def run_commands(driver: psycopg.Connection[Any], commands: bytes) -> None:
    """Run commands that have neither parameters nor results, in one round trip."""
    result = driver.pgconn.exec_(commands)
    if result.status != ExecStatus.COMMAND_OK:
        error = error_from_result(result)
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def begin_in_pipeline(
    driver: AppConnection, scope: str, *, durable: bool = True, timeout: timedelta | None = None
) -> None:
    """Begin a transaction as `begin_commands` does, on a connection in pipeline mode, where a message holds one
    statement."""
    settings = driver.settings
    if not durable:
        settings = settings | {"synchronous_commit": "off"}
    if timeout is not None:
        settings = settings | {"statement_timeout": str(_milliseconds(timeout))}
    driver.execute("BEGIN")
    set_all = "".join(f"set_config('{name}', '{value}', true), " for name, value in settings.items())
    driver.execute(f"SELECT {set_all}set_config('app.tenant_id', %s, true)".encode(), (scope,))


def commit(driver: psycopg.Connection[Any], last: bytes) -> None:
    """Commit, in one round trip with the statements `last`.

    Raises:
        CommitUnknown: the connection was lost.
        LeaseMissing: the lease does not own the job that `last` completes.
        psycopg.Error: the server refused; nothing is kept.
    """
    refuse_failed(driver)
    with _committing(driver, last):
        run_commands(driver, last + b"COMMIT")


def commit_in_pipeline(driver: psycopg.Connection[Any], last: bytes, leave: Callable[[], object]) -> None:
    """`commit` on a connection in pipeline mode, which `leave` ends; what was sent before belongs to the round trip."""
    try:
        with _committing(driver, last):
            if last:
                driver.execute(last)
            answer = driver.execute("COMMIT")
            leave()
    except psycopg.errors.PipelineAborted as error:
        raise _failed_before() from error
    if answer.statusmessage != "COMMIT":
        raise _failed_before()


@contextmanager
def _committing(driver: psycopg.Connection[Any], last: bytes) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.PipelineAborted:
        raise
    except psycopg.Error as error:
        # A refusal by the server (a deadlock, a deferred check) has a SQLSTATE and leaves the connection usable.
        if driver.closed or error.sqlstate is None or session_ended(error):
            raise CommitUnknown(f"the connection was lost during COMMIT: {one_line(error)}") from error
        if last and error.sqlstate == NO_LEASE:
            raise LeaseMissing from error
        raise


def refuse_failed(driver: psycopg.Connection[Any]) -> None:
    """Refuse to go on in a transaction whose COMMIT would be answered with a silent ROLLBACK.

    Raises:
        psycopg.errors.InFailedSqlTransaction: an error of a statement was caught.
    """
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise _failed_before()


def _failed_before() -> psycopg.Error:
    return psycopg.errors.InFailedSqlTransaction("a statement of this transaction failed, and the error was caught")


@contextmanager
def savepoint(driver: psycopg.Connection[Any], scope: str, *, first: bool) -> Iterator[None]:
    """Set a savepoint, instead of the one before it, and the scope, in one round trip. An error undoes the block."""
    release = "" if first else "RELEASE SAVEPOINT job; "
    run_commands(driver, f"{release}SAVEPOINT job; SET LOCAL app.tenant_id = '{scope}'".encode())
    try:
        yield
        refuse_failed(driver)
    except BaseException:
        if not driver.closed:
            run_commands(driver, b"ROLLBACK TO SAVEPOINT job")
        raise


def put_back(pooled: PoolProxiedConnection, driver: psycopg.Connection[Any], *, keep: bool) -> None:
    """Give a connection back to its pool, rolled back; close it if that fails, or if it is not to be kept."""
    try:
        if driver.pgconn.transaction_status != TransactionStatus.IDLE:
            driver.rollback()
        if driver.autocommit:
            driver.autocommit = False  # a pipelined transaction had it
    except psycopg.Error:
        keep = False
    if not keep and pooled.is_valid:
        pooled.invalidate()
    pooled.close()


class PoolGuard:
    """Keeps an engine's pool from handing out connections that are no good any more.

    When one has met an outage, all that are as old are replaced: they may lead to a server that was demoted meanwhile,
    and would refuse writes for as long as they live. Of each that is handed out, `has_rested` says whether to try it.
    """

    def __init__(self, engine: Engine) -> None:
        self._outage_at = float("-inf")
        event.listen(engine, "connect", self._remember_birth)
        event.listen(engine, "checkin", self._remember_rest)
        event.listen(engine, "checkout", self._examine)

    def note_outage(self) -> None:
        self._outage_at = time.monotonic()

    def _remember_birth(self, driver: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        record.info["born_at"] = time.monotonic()

    def _remember_rest(self, driver: psycopg.Connection[Any] | None, record: ConnectionPoolEntry) -> None:
        record.info["rested_since"] = time.monotonic()

    def _examine(self, driver: psycopg.Connection[Any], record: ConnectionPoolEntry, proxy: object) -> None:
        if record.info["born_at"] < self._outage_at:
            raise DisconnectionError
        rested = time.monotonic() - record.info.get("rested_since", time.monotonic())
        record.info["rested"] = rested >= IDLE_BEFORE_TRIAL


def has_rested(pooled: PoolProxiedConnection) -> bool:
    """Whether the connection was unused for so long that the server may have gone away without a word."""
    return bool(pooled.info.get("rested"))


def _milliseconds(limit: timedelta) -> int:
    return max(1, int(limit.total_seconds() * 1000))

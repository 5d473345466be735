"""Connections: kept alive, tried before use when they have rested, and bound to nothing of a session.

Between us and Postgres there may be a pooler that gives each transaction another session (Neon's pooled address,
PgBouncer). So each transaction sets its own role, timeouts, time zone and scope, in the round trip that begins it, and
no statement is prepared by name where a pooler was found. Here is also what it means when a connection is lost.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure, error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Engine, PoolProxiedConnection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from db.postgres.adapters import adapt
from db.postgres.loading import load_leniently
from db.postgres.outage import session_ended
from db.postgres.url import DatabaseUrl
from db.postgres.wording import one_line
from db.queue.claim import NO_LEASE
from db.security import IDENTIFY, Login, role_to_take
from domain.errors import Unavailable

IDLE_BEFORE_PING = 2.0
"""Seconds that a pooled connection may rest before it is tried on checkout: a server restart is noticed here."""


class DatabaseUnavailable(Unavailable):
    """Postgres cannot be reached, or went away in the middle. Nothing of the transaction was kept."""


class PoolTimeout(DatabaseUnavailable):
    """Every connection of the pool was in use for as long as one may wait for it. Postgres itself may be well."""


class Contended(Unavailable):
    """Somebody else held, for too long, what this needs. Nothing of the transaction was kept; try again."""


class LeaseMissing(Exception):
    """What was to be completed by the COMMIT is not ours any more: the transaction was rolled back."""


class CommitUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may have happened. Read the rows before acting."""


NO_ANSWER: Final = (DatabaseUnavailable, CommitUnknown)
"""What a process outlives: the database is away, and will be back."""


@dataclass(frozen=True)
class TransactionSettings:
    """The settings of every transaction: how long a statement may take, or wait for a lock, and we may let it wait."""

    statement_timeout: timedelta = timedelta(seconds=30)
    lock_timeout: timedelta = timedelta(seconds=15)
    idle_in_transaction_session_timeout: timedelta = timedelta(seconds=60)

    def values(self, role: str) -> dict[str, str]:
        """Each parameter of Postgres and its value; `role` is empty where the login role itself does the work."""
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
        """Let every transaction that `opening` or `begin_in_pipeline` begins run as `role`, with these settings."""
        self.settings = settings.values(role)
        self.beginning = "BEGIN; " + "".join(f"SET LOCAL {name} = '{value}'; " for name, value in self.settings.items())


def connect(
    url: DatabaseUrl, *, application_name: str, settings: TransactionSettings, autocommit: bool
) -> AppConnection:
    """Connect to a database, and find out how transactions are to be begun there.

    A server that does not write is refused, unless the URL asks for another kind (`target_session_attrs`): of several
    hosts the one that writes is found, and one that was demoted is left alone.

    Raises:
        psycopg.OperationalError: the server does not answer.
        RoleRefused: nothing would keep one tenant's rows from another.
    """
    connection = AppConnection.connect(
        url.conninfo,
        autocommit=True,
        application_name=application_name,
    )
    try:
        adapt(connection)
        load_leniently(connection)
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


def opening(driver: AppConnection, scope: str, *, durable: bool, timeout: timedelta | None) -> bytes:
    """The commands that begin a transaction and give it its role, settings and scope, in one round trip."""
    commands = f"{driver.beginning}SET LOCAL app.tenant_id = '{scope}'; "
    if not durable:
        commands += "SET LOCAL synchronous_commit = off; "
    if timeout is not None:
        commands += f"SET LOCAL statement_timeout = {_milliseconds(timeout)}; "
    return commands.encode()


def begin_in_pipeline(driver: AppConnection, scope: str) -> None:
    """`opening` for a connection in pipeline mode, where a message holds one statement."""
    settings = driver.settings | {"app.tenant_id": scope}
    driver.execute("BEGIN")
    driver.execute(
        f"SELECT {', '.join(['set_config(%s, %s, true)'] * len(settings))}",
        [word for setting in settings.items() for word in setting],
    )


def begin(driver: psycopg.Connection[Any], commands: bytes) -> None:
    result = driver.pgconn.exec_(commands)
    if result.status != ExecStatus.COMMAND_OK:
        refusal = error_from_result(result)
        raise refusal if refusal.sqlstate else psycopg.OperationalError(str(refusal))


def commit(driver: psycopg.Connection[Any], last: bytes) -> None:
    """Commit, in one round trip with the statements `last`.

    Raises:
        CommitUnknown: the connection was lost.
        LeaseMissing: the job that was to be completed is not ours any more.
        psycopg.Error: the server refused; nothing is kept.
    """
    refuse_failed(driver)
    try:
        result = driver.pgconn.exec_(last + b"COMMIT")
    except psycopg.OperationalError as error:
        raise CommitUnknown(f"the connection was lost during COMMIT: {one_line(error)}") from error
    if result.status == ExecStatus.COMMAND_OK:
        return
    refusal = error_from_result(result)
    # A refusal that the server spoke (a deadlock, a deferred check) leaves the connection usable: rolled back.
    if driver.closed or session_ended(refusal):
        raise CommitUnknown(f"the connection was lost during COMMIT: {one_line(refusal)}") from refusal
    if last and refusal.sqlstate == NO_LEASE:
        raise LeaseMissing from refusal
    raise refusal


def refuse_failed(driver: psycopg.Connection[Any]) -> None:
    """A COMMIT now would be answered with a silent ROLLBACK.

    Raises:
        psycopg.errors.InFailedSqlTransaction: an error of a statement was caught.
    """
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction("a statement of this transaction failed, and the error was caught")


@contextmanager
def savepoint(driver: psycopg.Connection[Any], scope: str, *, first: bool) -> Iterator[None]:
    """Set a savepoint, instead of the one before it, and the scope, in one round trip. An error undoes the block."""
    release = "" if first else "RELEASE SAVEPOINT job; "
    _tell(driver, f"{release}SAVEPOINT job; SET LOCAL app.tenant_id = '{scope}'")
    try:
        yield
        refuse_failed(driver)
    except BaseException:
        if not driver.closed:
            _tell(driver, "ROLLBACK TO SAVEPOINT job")
        raise


def _tell(driver: psycopg.Connection[Any], commands: str) -> None:
    result = driver.pgconn.exec_(commands.encode())
    if result.status != ExecStatus.COMMAND_OK:
        raise error_from_result(result)


def put_back(pooled: PoolProxiedConnection, driver: psycopg.Connection[Any], *, keep: bool) -> None:
    """Give a connection back to its pool, rolled back; close it if that fails, or if it is not to be kept."""
    try:
        driver.rollback()
    except psycopg.Error:
        keep = False
    if not keep and pooled.is_valid:
        pooled.invalidate()
    pooled.close()


def is_contended(error: BaseException) -> bool:
    """Whether a statement waited in vain for what another transaction holds, or for one that waited for it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, LockNotAvailable | DeadlockDetected | SerializationFailure)


def is_stale_plan(error: BaseException) -> bool:
    """Whether a migration has changed what a prepared statement returns: on this connection it fails from now on."""
    return (
        isinstance(error, psycopg.errors.FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"
    )


class PoolGuard:
    """Keeps an engine's pool from handing out connections that are no good any more.

    Those that rested are tried first. When one has met an outage, all that are as old are replaced: they may lead to a
    server that was demoted meanwhile, and would refuse writes for as long as they live.
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
        if time.monotonic() - record.info.get("rested_since", time.monotonic()) < IDLE_BEFORE_PING:
            return
        try:
            driver.execute("SELECT 1")
            driver.rollback()
        except psycopg.Error as error:
            raise DisconnectionError from error


def _milliseconds(limit: timedelta) -> int:
    return max(1, int(limit.total_seconds() * 1000))

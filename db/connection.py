"""Connections: as the application's role, kept alive, tried before use when they have rested. Each transaction is begun
and committed in one round trip; and here is what it means when the connection is lost in between."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, PoolProxiedConnection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from db.claims import NO_LEASE
from db.security import APP_ROLE, MAY_BECOME
from domain.errors import Unavailable

IDLE_BEFORE_PING = 2.0
"""Seconds that a pooled connection may rest before it is tried on checkout: a server restart is noticed here."""

KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class DatabaseUnavailable(Unavailable):
    """Postgres cannot be reached, or went away in the middle. Nothing of the transaction was kept."""


class LeaseMissing(Exception):
    """What was to be completed by the COMMIT is not ours any more: the transaction was rolled back."""


class CommitUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may have happened. Read the rows before acting."""


def connect(url: str, *, application_name: str, options: str, autocommit: bool) -> psycopg.Connection[Any]:
    """Connect to a libpq URL, and work as the application's role.

    Raises:
        psycopg.OperationalError: the server does not answer.
    """
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        application_name=application_name,
        options=options,
        **KEEPALIVE,  # type: ignore[arg-type]
    )
    set_json_loads(_json, connection)
    _drop_privileges(connection)
    connection.autocommit = autocommit
    return connection


def opening(scope: str, *, durable: bool, timeout: timedelta | None) -> bytes:
    """What begins a transaction and sets its scope: one round trip, as every transaction of the engine pays for it."""
    commands = f"BEGIN; SET LOCAL app.tenant_id = '{scope}'; "
    if not durable:
        commands += "SET LOCAL synchronous_commit = off; "
    if timeout is not None:
        commands += f"SET LOCAL statement_timeout = {max(1, int(timeout.total_seconds() * 1000))}; "
    return commands.encode()


def begin(driver: psycopg.Connection[Any], commands: bytes) -> None:
    result = driver.pgconn.exec_(commands)
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.OperationalError(result.get_error_message())


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
    if driver.closed:
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


def put_back(pooled: PoolProxiedConnection, driver: psycopg.Connection[Any]) -> None:
    try:
        driver.rollback()
    except psycopg.Error:
        if pooled.is_valid:
            pooled.invalidate()
    pooled.close()


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _json(data: str | bytes) -> Any:
    """Without the guess at the encoding, which takes as long as all the rest of a small value. (orjson would be faster
    still, but refuses numbers that Postgres takes: one such payload would stop the claim of all jobs beside it.)"""
    return json.loads(data if isinstance(data, str) else str(data, "utf-8"))


def try_after_rest(engine: Engine) -> None:
    """Have the engine's pool try connections that rested before it hands them out."""
    event.listen(engine, "checkin", _remember_rest)
    event.listen(engine, "checkout", _try_after_rest)


def _drop_privileges(connection: psycopg.Connection[Any]) -> None:
    """Whoever the URL says, work as the application's role, which cannot bypass row-level security."""
    connection.execute(
        f"""
        SELECT set_config('role', rolname, false) FROM pg_roles
        WHERE rolname = %s AND current_user <> rolname AND pg_has_role(current_user, oid, {MAY_BECOME})
        """,
        (APP_ROLE,),
    )


def _remember_rest(driver: psycopg.Connection[Any] | None, record: ConnectionPoolEntry) -> None:
    record.info["rested_since"] = time.monotonic()


def _try_after_rest(driver: psycopg.Connection[Any], record: ConnectionPoolEntry, proxy: object) -> None:
    if time.monotonic() - record.info.get("rested_since", time.monotonic()) < IDLE_BEFORE_PING:
        return
    try:
        driver.execute("SELECT 1")
        driver.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error

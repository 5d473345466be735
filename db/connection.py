"""Connections: as the application's role, kept alive, and tried before use when they have rested."""

import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from db.security import APP_ROLE, MAY_BECOME

IDLE_BEFORE_PING = 2.0
"""Seconds that a pooled connection may rest before it is tried on checkout: a server restart is noticed here."""

KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


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
    _drop_privileges(connection)
    connection.autocommit = autocommit
    return connection


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

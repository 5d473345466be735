"""The errors of transactions, and the one classification of what Postgres answers.

A server that answers and refuses to write is away, like one that does not answer: a demoted primary, a full disk, one
that is starting or stopping, one without a free connection. The caller who gets such an answer drops the connection,
because another one may lead to a server that does write, and tries again; nothing is wrong with the request.
"""

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure
from psycopg.errors import UniqueViolation as UniqueViolation
from sqlalchemy.exc import DBAPIError

from domain.errors import Unavailable


class DatabaseUnavailable(Unavailable):
    """Postgres cannot be reached, or went away in the middle. Nothing of the transaction was kept."""


class WritesRefused(DatabaseUnavailable):
    """Postgres answers, and takes no writes: it is a standby, or was made read-only. Who only looks may ask
    `Database.reading`."""


class PoolTimeout(DatabaseUnavailable):
    """Every connection of the pool was in use for as long as one may wait for it. Postgres itself may be well."""


class Contended(Unavailable):
    """Another transaction held for too long what this one needs. Nothing of it was kept; try again."""


class LeaseMissing(Exception):
    """The lease does not own the job that the COMMIT was to complete: the transaction was rolled back."""


class CommitUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may have happened. Read the rows before acting."""


NO_LEASE: Final = "VD002"
"""SQLSTATE that the database's function `complete_job` raises when the lease does not own the job any more."""

TENANT_DELETED: Final = "VD003"
"""SQLSTATE of what would begin something for a deleted tenant (`db/schema/deletion.py`)."""

NO_ANSWER: Final = (DatabaseUnavailable, CommitUnknown)
"""Errors that a process outlives: the database is away, and will be back."""

AWAY: Final[Mapping[str, str]] = {
    "25006": "read-only",
    "53000": "short of resources",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "out of connections",
    "57P01": "shutting down",
    "57P02": "crashed",
    "57P03": "starting or shutting down",
    "57P05": "closed an idle connection",
    "58000": "system error",
    "58030": "cannot read or write its files",
}
"""The one list of answers by which Postgres says that it cannot serve a write *now*, by SQLSTATE. Class 08 (the
connection broke; a pooler's own refusals) belongs to them."""

AWAY_AT_CONNECT: Final[Mapping[str, str]] = {
    "session is read-only": "read-only",
    "hot standby": "read-only",
    "too many": "out of connections",
    "remaining connection slots": "out of connections",
    "starting up": "starting or shutting down",
    "shutting down": "starting or shutting down",
    "not yet accepting connections": "starting or shutting down",
    "in recovery mode": "starting or shutting down",
}
"""By the words of a refused connection: psycopg gives no SQLSTATE for it, and any such refusal means "away"."""


def why_away(error: BaseException) -> str | None:
    """Return in a word or two why the server of this error cannot serve writes now; None for every other error."""
    cause = cause_of(error)
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is not None:
        return AWAY.get(sqlstate) or ("connection broken" if sqlstate.startswith("08") else None)
    if isinstance(cause, psycopg.OperationalError):
        text = str(cause)
        return next((why for words, why in AWAY_AT_CONNECT.items() if words in text), None)
    return None


def cause_of(error: BaseException) -> BaseException:
    """Return the driver's own error, if SQLAlchemy or we wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error


def session_ended(error: psycopg.Error) -> bool:
    """Whether the server ended the session with this answer, which does not say what became of a COMMIT."""
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def is_contended(error: BaseException) -> bool:
    """Whether a statement waited in vain for what another transaction holds, or for one that waited for it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, LockNotAvailable | DeadlockDetected | SerializationFailure)


def is_stale_plan(error: BaseException) -> bool:
    """Whether a migration has changed what a prepared statement returns: on this connection it fails from now on."""
    return (
        isinstance(error, psycopg.errors.FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"
    )

"""The one list of answers by which Postgres says that it cannot serve a write *now*.

A server that answers and refuses to write is away, like one that does not answer: a demoted primary, a full disk, one
that is starting or stopping, one without a free connection. Whoever gets such an answer drops the connection, because
another one may lead to a server that does write, and tries again; nothing is wrong with what was asked.
"""

from collections.abc import Mapping
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

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
"""By SQLSTATE. Class 08 (the connection broke; a pooler's own refusals) belongs to them."""

AT_CONNECT: Final[Mapping[str, str]] = {
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


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error, if SQLAlchemy or we wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error


def why_away(error: BaseException) -> str | None:
    """Why the server of this error cannot serve writes now, in a word or two. None for every other error."""
    cause = cause_of(error)
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is not None:
        return AWAY.get(sqlstate) or ("connection broken" if sqlstate.startswith("08") else None)
    if isinstance(cause, psycopg.OperationalError):
        said = str(cause)
        return next((why for words, why in AT_CONNECT.items() if words in said), None)
    return None


def session_ended(error: psycopg.Error) -> bool:
    """Whether the server ended the session with this answer: what became of a COMMIT, it does not say."""
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}

"""The texts of Postgres's errors, and of any other error, without the values of statements and rows.

Postgres repeats values in DETAIL ("Key (email)=(…) already exists", "Failing row contains …") and in CONTEXT,
SQLAlchemy repeats its parameters, and Python what it could not read.
"""

from collections.abc import Mapping
from typing import Final

import psycopg
from sqlalchemy.exc import StatementError

from domain.errors import ViralError
from domain.text.redaction import location, without_addresses, without_values

NAMING: Final = (AttributeError, ImportError, NameError, TypeError)
"""Errors whose quoted words are names in code."""


def text_of(error: BaseException) -> str:
    """Return the error's text without values, "" if it has none. Raises what its `__str__` raises."""
    if isinstance(error, StatementError) and error.orig is not None:
        error = error.orig
    if isinstance(error, psycopg.Error):
        return _of_postgres(error)
    if isinstance(error, (ViralError, *NAMING)):
        return without_addresses(str(error))
    return _of_validation(error) or without_values(str(error))


def one_line(error: BaseException) -> str:
    """Return `text_of` on one line, or the error's class if it has no text."""
    return " ".join(text_of(error).split()) or type(error).__name__


def _of_postgres(error: psycopg.Error) -> str:
    message, sqlstate = error.diag.message_primary, error.sqlstate or ""
    if message is None:
        # It is the client's own error: an outage names hosts and no rows; any other, what it could not send.
        outage = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return without_addresses(str(error)) if outage else without_values(str(error))
    if sqlstate.startswith("22"):  # a data exception: `invalid input syntax for type uuid: "…"`
        return without_values(message)
    return without_addresses(message)


def _of_validation(error: BaseException) -> str | None:
    """Pydantic's errors, and FastAPI's like them, repeat what was validated; the places and kinds of faults do not."""
    faults = getattr(error, "errors", None)
    found = faults() if callable(faults) else None
    if not isinstance(found, list | tuple) or not all(
        isinstance(fault, Mapping) and "type" in fault for fault in found
    ):
        return None
    return "; ".join(f"{location(fault.get('loc', ()))}: {fault['type']}" for fault in found)

"""Tests whether a webhook would be stored now, by storing one and rolling it back.

Nothing less is a proof. A server may answer every query and be read-only, full, locked, without a right for our role,
or wait in each COMMIT for a standby that is gone. So an event and its job are inserted as the webhook writer does it,
in a savepoint that is rolled back, and the transaction around it, with nothing in it, is committed.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import psycopg
from psycopg import errors

from db.postgres.connection import AppConnection, begin_commands, run_commands
from db.postgres.errors import cause_of, is_contended, why_away
from db.security import SYSTEM_SCOPE

OK: Final = "ok"
NOT_MIGRATED: Final = "not migrated"
LIMIT: Final = 2.0
"""Seconds after which a probe that is not answered has failed."""

STATEMENT_LIMIT = timedelta(seconds=1.5)
"""It is less than `LIMIT`, and more than the lock timeout below: so the server says what it waits for."""

STORE: Final = """
SET LOCAL lock_timeout = '1s';
SAVEPOINT probe;
WITH stored AS (
    INSERT INTO webhook_events (source, external_id, type) VALUES ('probe', gen_random_uuid()::text, 'probe')
    RETURNING id
)
INSERT INTO job_queue (job_type, payload) SELECT 'probe', jsonb_build_object('event_id', id) FROM stored;
ROLLBACK TO SAVEPOINT probe;
"""
"""The rolled back rows are in the server's log, so that the COMMIT has to reach the disk, and the standby."""


class WriteProbe:
    """Probes on one connection of its own, one probe at a time, however many callers ask."""

    def __init__(self, connect: Callable[[], AppConnection]) -> None:
        self._connect = connect
        self._connection: AppConnection | None = None
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._waits_for = ""
        self._answer = ""

    def ask(self, limit: float = LIMIT) -> str:
        """Return `OK`, or in a few words why nothing can be stored now, after `limit` seconds at the latest.

        While a probe hangs, no other is begun: on a server whose commits hang, each would hold one connection more.
        Never raises.
        """
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._answer = ""
                # A daemon: it must not keep a process alive that wants to end.
                self._asking = threading.Thread(target=self._ask, name="write-probe", daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(limit)
        return self._answer or f"no answer to {self._waits_for}"

    def close(self) -> None:
        """Cancel a probe that hangs, and close the connection."""
        asking, connection = self._asking, self._connection
        if asking is not None and asking.is_alive() and connection is not None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=1.0)
            asking.join(1.0)
        if asking is None or not asking.is_alive():
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self) -> None:
        kept = self._connection is not None
        try:
            self._store()
        except Exception as error:
            self._drop()
            if kept and _is_away(error):
                # Perhaps only this connection is lost, which was good when it was last used.
                self._ask()
            else:
                self._answer = _in_words(error)
        else:
            self._answer = OK

    def _store(self) -> None:
        if self._connection is None or self._connection.closed:
            self._waits_for = "a connection"
            self._connection = self._connect()
            self._connection.autocommit = True
        self._waits_for = "a write"
        commands = begin_commands(self._connection, SYSTEM_SCOPE, durable=True, timeout=STATEMENT_LIMIT)
        run_commands(self._connection, commands)
        self._connection.execute(STORE)
        self._waits_for = "COMMIT: is a synchronous standby missing?"
        self._connection.execute("COMMIT")


def _is_away(error: Exception) -> bool:
    return why_away(error) is not None or isinstance(cause_of(error), psycopg.OperationalError)


def _in_words(error: Exception) -> str:
    if (why := why_away(error)) is not None:
        return why
    if is_contended(error):
        return "locked"
    match cause_of(error):
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return NOT_MIGRATED
        case errors.InsufficientPrivilege() as refused:
            return str(refused.diag.message_primary)
        case errors.QueryCanceled():
            return "too slow"
    return "unreachable" if _is_away(error) else type(error).__name__

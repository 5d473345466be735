"""Tokens and sessions of operators. Of both only hashes are stored; what is compared with is the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from domain.ops.operators import NewToken

SHOWN = "id, name, role, created_at, last_used_at, revoked_at"
ADD = f"""
INSERT INTO operator_tokens (id, name, role, token_hash) VALUES (%(id)s, %(name)s, %(role)s, %(hash)s)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING {SHOWN}
"""
LIST = f"SELECT {SHOWN} FROM operator_tokens ORDER BY revoked_at DESC NULLS FIRST, created_at DESC, id"
REVOKE = f"""
UPDATE operator_tokens SET revoked_at = now() WHERE name = %(name)s AND revoked_at IS NULL RETURNING {SHOWN}
"""
BY_HASH = """
SELECT id, name, role, last_used_at IS NULL OR last_used_at < now() - %(every)s AS use_is_due
FROM operator_tokens WHERE token_hash = %(hash)s AND revoked_at IS NULL
"""
NOTE_USE = """
UPDATE operator_tokens SET last_used_at = now() WHERE id = %(id)s AND revoked_at IS NULL
AND (last_used_at IS NULL OR last_used_at < now() - %(every)s)
"""
BEGIN = """
INSERT INTO operator_sessions (session_hash, token_id, expires_at) VALUES (%(hash)s, %(token_id)s, now() + %(lasts)s)
"""
# Sessions that are over go when another begins; only a few at once, since whoever signs in waits for it.
SWEEP = """
DELETE FROM operator_sessions WHERE session_hash IN (
    SELECT session_hash FROM operator_sessions WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""
SESSIONS = """
SELECT s.session_hash, s.token_id, t.name, t.role, now() - s.seen_at AS idle
FROM operator_sessions s LEFT JOIN operator_tokens t ON t.id = s.token_id
WHERE s.expires_at > now() AND t.revoked_at IS NULL
AND (s.session_hash = ANY(%(hashes)s) AND s.token_id IS NOT NULL
     OR s.session_hash = ANY(%(ops_hashes)s) AND s.token_id IS NULL)
"""
TOUCH = """
UPDATE operator_sessions SET seen_at = now() WHERE session_hash IN (
    SELECT session_hash FROM operator_sessions WHERE session_hash = ANY(%(hashes)s) AND seen_at < now() - %(every)s
    ORDER BY session_hash FOR UPDATE
)
"""


@dataclass(frozen=True, slots=True)
class LiveToken:
    """`use_is_due`: `last_used_at` is to be written again."""

    id: UUID
    name: str
    role: str
    use_is_due: bool


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session whose time is not over, and whose token is not revoked. Without a token it was begun with OPS_TOKEN.
    `idle`: how long ago it was noted that somebody used it."""

    session_hash: bytes
    token_id: UUID | None
    name: str | None
    role: str | None
    idle: timedelta


class Operators:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def add(self, token_id: UUID, token: NewToken) -> dict[str, Any] | None:
        """Store the token and return its row, without the hash; None if a live one has its name."""
        values = {"id": token_id, "name": token.name, "role": token.role, "hash": token.hash}
        return self._dicts(ADD, values).fetchone()

    def all(self) -> list[dict[str, Any]]:
        """Return all tokens without their hashes: live ones, newest first, then revoked ones."""
        return self._dicts(LIST).fetchall()

    def revoke(self, name: str) -> dict[str, Any] | None:
        """Revoke the live token of this name and end its sessions; returns its row, None if there is none."""
        row = self._dicts(REVOKE, {"name": name}).fetchone()
        if row is not None:
            self._driver.execute("DELETE FROM operator_sessions WHERE token_id = %s", (row["id"],))
        return row

    def were_ever_made(self) -> bool:
        """Return whether there is a token, revoked ones included."""
        cursor = self._driver.cursor(row_factory=scalar_row)
        return bool(cursor.execute("SELECT EXISTS (SELECT FROM operator_tokens)").fetchone())

    def find(self, token_hash: bytes, *, noted_every: timedelta) -> LiveToken | None:
        cursor = self._driver.cursor(row_factory=class_row(LiveToken))
        return cursor.execute(BY_HASH, {"hash": token_hash, "every": noted_every}).fetchone()

    def note_use(self, token_id: UUID, *, noted_every: timedelta) -> None:
        self._driver.execute(NOTE_USE, {"id": token_id, "every": noted_every})

    def begin_session(self, session_hash: bytes, token_id: UUID | None, lasts: timedelta) -> None:
        self._driver.execute(SWEEP)
        self._driver.execute(BEGIN, {"hash": session_hash, "token_id": token_id, "lasts": lasts})

    def sessions(self, hashes: Sequence[bytes], ops_hashes: Sequence[bytes]) -> list[LiveSession]:
        """Find sessions: those of `hashes` that a named token began, those of `ops_hashes` that OPS_TOKEN did."""
        cursor = self._driver.cursor(row_factory=class_row(LiveSession))
        return cursor.execute(SESSIONS, {"hashes": [*hashes], "ops_hashes": [*ops_hashes]}).fetchall()

    def touch(self, hashes: Sequence[bytes], *, noted_every: timedelta) -> None:
        """Write down that sessions are used, of those of which it was written down longer ago."""
        self._driver.execute(TOUCH, {"hashes": [*hashes], "every": noted_every})

    def end_session(self, session_hash: bytes) -> None:
        self._driver.execute("DELETE FROM operator_sessions WHERE session_hash = %s", (session_hash,))

    def _dicts(self, statement: str, values: dict[str, Any] | None = None) -> psycopg.Cursor[dict[str, Any]]:
        return self._driver.cursor(row_factory=dict_row).execute(statement, values)

"""Connections that somebody began in a browser, and this installation as each Mastodon instance knows it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from domain.errors import SealUnknown

BEGIN = """
INSERT INTO oauth_states (state_hash, tenant_id, platform, server, redirect_uri, return_to, verifier, created_at,
    expires_at)
VALUES (%(state_hash)s, %(tenant_id)s, %(platform)s, %(server)s, %(redirect_uri)s, %(return_to)s, %(verifier)s,
    %(now)s, %(expires_at)s)
"""

COLUMNS = "tenant_id, platform, server, redirect_uri, return_to, verifier, expires_at, used_at, account_id"

USE = f"""
UPDATE oauth_states SET used_at = %(now)s
WHERE state_hash = %(state_hash)s AND platform = %(platform)s AND used_at IS NULL AND expires_at > %(now)s
RETURNING {COLUMNS}
"""

GET = f"SELECT {COLUMNS} FROM oauth_states WHERE state_hash = %(state_hash)s AND platform = %(platform)s"

CONNECTED = """
UPDATE oauth_states SET account_id = %(account_id)s WHERE tenant_id = %(tenant_id)s AND state_hash = %(state_hash)s
"""

APP = "SELECT client_id, client_secret FROM mastodon_apps WHERE server = %s AND redirect_uri = %s"

# Of two that register at once the first one's stays: both are good.
ADD_APP = """
INSERT INTO mastodon_apps (server, redirect_uri, client_id, client_secret)
VALUES (%(server)s, %(redirect_uri)s, %(client_id)s, %(client_secret)s)
ON CONFLICT (server, redirect_uri) DO NOTHING
"""

APPS = "SELECT server, redirect_uri, client_secret FROM mastodon_apps ORDER BY server, redirect_uri FOR NO KEY UPDATE"

CHANGE_APP = "UPDATE mastodon_apps SET client_secret = %s WHERE server = %s AND redirect_uri = %s"


class Connections:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def begin(
        self,
        tenant_id: UUID,
        state_hash: bytes,
        *,
        platform: str,
        server: str,
        redirect_uri: str,
        return_to: str | None,
        verifier: bytes,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        """Keep a connection that was begun, so that its callback is known."""
        values: dict[str, Any] = {"tenant_id": tenant_id, "state_hash": state_hash, "platform": platform}
        values |= {"server": server, "redirect_uri": redirect_uri, "return_to": return_to, "verifier": verifier}
        self._driver.execute(BEGIN, values | {"now": now, "expires_at": expires_at})

    def use(self, state_hash: bytes, platform: str, now: datetime) -> dict[str, Any] | None:
        """Use a state, which nobody can a second time, and return its row; None if there is none to be used: it is
        unknown, another platform's, used or over. System scope, because nobody knows yet whose it is."""
        return row_of(self._driver, USE, {"state_hash": state_hash, "platform": platform, "now": now})

    def get(self, state_hash: bytes, platform: str) -> dict[str, Any] | None:
        """Return a state as it is. System scope."""
        return row_of(self._driver, GET, {"state_hash": state_hash, "platform": platform})

    def connected(self, tenant_id: UUID, state_hash: bytes, account_id: UUID) -> None:
        """Note which account it led to, for whoever loads the callback's page again."""
        values = {"tenant_id": tenant_id, "state_hash": state_hash, "account_id": account_id}
        self._driver.execute(CONNECTED, values)

    def app(self, server: str, redirect_uri: str) -> tuple[str, bytes] | None:
        """Return the id and the encrypted secret by which a Mastodon instance knows us."""
        row = row_of(self._driver, APP, (server, redirect_uri))
        return None if row is None else (row["client_id"], bytes(row["client_secret"]))

    def add_app(self, server: str, redirect_uri: str, client_id: str, client_secret: bytes) -> None:
        values = {"server": server, "redirect_uri": redirect_uri}
        self._driver.execute(ADD_APP, values | {"client_id": client_id, "client_secret": client_secret})

    def reseal(self, reseal: Callable[[bytes], bytes | None]) -> tuple[int, int, int]:
        """Encrypt the secrets by which instances know us anew. Returns how many there are, were changed, and are under
        an unknown key."""
        changed = unreadable = 0
        rows = rows_of(self._driver, APPS)
        for row in rows:
            try:
                fresh = reseal(bytes(row["client_secret"]))
            except SealUnknown:
                unreadable += 1
                continue
            if fresh is not None:
                self._driver.execute(CHANGE_APP, (fresh, row["server"], row["redirect_uri"]))
                changed += 1
        return len(rows), changed, unreadable

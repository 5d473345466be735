"""A Postgres that answers and does not serve: read-only, full, locked, or waiting for a standby that is gone.

What is set for a whole server is so for every database of it, as long as the block lasts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from local.postgres import SUPERUSER, EmbeddedPostgres
from tests.wait import until


def admin(server: EmbeddedPostgres) -> psycopg.Connection[Any]:
    return psycopg.connect(server.url(SUPERUSER, "postgres"), autocommit=True, connect_timeout=5)


@contextmanager
def setting(server: EmbeddedPostgres, name: str, value: str) -> Iterator[None]:
    """Change a setting of the running server; sessions that are open heed it too."""
    with admin(server) as connection:
        before = connection.execute(f"SHOW {name}").fetchone()
        assert before is not None
        shown = f"SELECT current_setting('{name}') = %s"
        try:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            reload(connection)
            until(lambda: connection.execute(shown, (value,)).fetchone() == (True,), f"{name} to be {value}")
            reload(connection)
            yield
        finally:
            connection.execute(f"ALTER SYSTEM RESET {name}")
            reload(connection)
            until(lambda: connection.execute(shown, before).fetchone() == (True,), f"{name} to be as before")


def reload(connection: psycopg.Connection[Any]) -> None:
    """Have the server read its settings again; returns when our session has. The sessions are told one after the other:
    that all of them were, is sure when a second time has come to ours."""
    loaded = "SELECT pg_conf_load_time()"
    before = connection.execute(loaded).fetchone()
    connection.execute("SELECT pg_reload_conf()")
    until(lambda: connection.execute(loaded).fetchone() != before, "the settings to be read")


def read_only(server: EmbeddedPostgres) -> Any:
    """Every session of the server may read, and may not write."""
    return setting(server, "default_transaction_read_only", "on")


@contextmanager
def commits_hang(server: EmbeddedPostgres) -> Iterator[None]:
    """A COMMIT is answered when the block ends: it waits for a standby that does not come."""
    with admin(server) as looking, admin(server) as trying:
        asked, waits = trying.pgconn, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"

        def hangs() -> bool:
            asked.consume_input()
            if not asked.is_busy():
                while asked.get_result():
                    pass
                asked.send_query(b"SELECT pg_logical_emit_message(true, 'tests', '')")
            return looking.execute(waits, (asked.backend_pid,)).fetchone() == (True,)

        with setting(server, "synchronous_standby_names", "nobody"):
            # A background process of the server tells the others, when it comes to it.
            until(hangs, "a COMMIT to hang")
            yield
        while asked.get_result():
            pass


@contextmanager
def locked(owner_url: str, table: str) -> Iterator[None]:
    """Somebody holds the table."""
    with psycopg.connect(owner_url) as other:
        other.execute(f"LOCK TABLE {table}")
        yield
        other.rollback()


@contextmanager
def refusing(owner_url: str, table: str, sqlstate: str) -> Iterator[None]:
    """Every row that is written to the table is refused, as by a server in that trouble (`53100`: its disk is full)."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{sqlstate}'; END $$"
        )
        owner.execute(
            f"CREATE TRIGGER refusing BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        try:
            yield
        finally:
            owner.execute(f"DROP TRIGGER refusing ON {table}")
            owner.execute("DROP FUNCTION refuse()")

"""What the embedded Postgres finds in its data folder: a cluster made by initdb, three roles and one database."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from local.footing import Footing, server_environment
from local.spawn import EmbeddedError, end, fresh_log, spawn, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

SUPERUSER, OWNER, APP = "postgres", "viral_owner", "viral_app"
DATABASE = "viral"
INITDB = (
    "--auth=scram-sha-256",
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",  # three times as fast; what is written later is synced as ever
    "--no-instructions",
)


def create_cluster(footing: Footing, password: str, log: Path) -> None:
    """All or nothing: initdb works in a folder beside, which then takes the name. `password` is the superuser's."""
    draft = footing.data.with_name("postgres.new")
    password_file = footing.data.with_name("postgres.new.password")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600, exist_ok=False)
        password_file.write_text(password, encoding="utf-8")
        for path in (draft, password_file):
            os.chown(path, footing.uid, footing.gid)
        run_initdb(footing, draft, password_file, log)
        if footing.data.exists():
            footing.data.rmdir()
        draft.rename(footing.data)
    except OSError as error:
        raise EmbeddedError(f"The data folder {footing.data} cannot be created: {error}.") from error
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def run_initdb(footing: Footing, folder: Path, password_file: Path, log: Path) -> None:
    with fresh_log(log) as file:
        initdb = spawn(
            [footing.binaries / "initdb", *INITDB, f"--pwfile={password_file}", f"--pgdata={folder}"],
            env=server_environment(),
            death_signal=signal.SIGTERM,
            stdout=file,
            cwd=Path("/"),
            become=footing.become,
        )
    try:
        code = initdb.wait(120)
    finally:
        end(initdb)
    if code != 0:
        raise EmbeddedError(f"Postgres could not create its data folder; its log ({log}) ends: {tail(log)}")


def refuse_other_version(footing: Footing) -> None:
    made_by = (footing.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by != str(footing.major):
        raise EmbeddedError(
            f"{footing.data} was made by Postgres {made_by}, but this is Postgres {footing.major}: set POSTGRES_BIN"
            f" to the bin folder of a Postgres {made_by}, or move {footing.data} away to start empty."
        )


def ensure_database(connection: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    """Roles first, the database last: that it exists says that all is done."""
    from psycopg.sql import SQL, Identifier, Literal

    if connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
        return
    for role, may in ((OWNER, "createrole createdb"), (APP, "nocreaterole nocreatedb")):
        known = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
        connection.execute(
            SQL("{} role {} login nosuperuser nobypassrls noreplication {} password {}").format(
                SQL("alter" if known else "create"), Identifier(role), SQL(may), Literal(passwords[role])
            )
        )
    connection.execute(SQL("grant {} to {} with admin option").format(Identifier(APP), Identifier(OWNER)))
    connection.execute(SQL("create database {} owner {}").format(Identifier(DATABASE), Identifier(OWNER)))

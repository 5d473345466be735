"""A second Postgres that follows the first: made by the server's own `pg_basebackup`, fed by streaming replication."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.home import make_home
from local.postgres import SUPERUSER, EmbeddedPostgres, wheel_binaries
from local.privileges import choose_user
from local.spawn import server_environment, spawn
from tests.outages import admin
from tests.wait import until

NAME = "chaos_standby"
SECRETS = "secrets.json"


class Standby(EmbeddedPostgres):
    """Answers reads and refuses writes until it is promoted. Its roles and passwords are the primary's."""

    ready_states = frozenset({"standby", "ready"})


@contextmanager
def standby_of(primary: EmbeddedPostgres, home: Path, primary_home: Path) -> Iterator[Standby]:
    """A running standby on `home`, which must not exist; both are on loopback and need the primary's password."""
    make_home(home)
    shutil.copy(primary_home / SECRETS, home / SECRETS)
    copy(primary, home)
    standby = Standby(home)
    try:
        standby.start()
        yield standby
    finally:
        data = standby.data
        standby.stop()
        if data.parent.name.startswith("viral-") and not data.is_relative_to(home):
            shutil.rmtree(data.parent, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def copy(primary: EmbeddedPostgres, home: Path) -> None:
    """The primary's data folder as it is now, with the settings that make a server follow it."""
    run_as = choose_user(home / "postgres", wheel_binaries())
    beside = run_as.data.with_name("postgres.copy")
    program = spawn(
        [
            run_as.binaries / "pg_basebackup",
            f"--dbname={primary.url(SUPERUSER, 'postgres')}?application_name={NAME}",
            f"--pgdata={beside}",
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        ],
        env=server_environment(),
        death_signal=signal.SIGKILL,
        stdout=subprocess.PIPE,
        cwd=Path("/"),
    )
    logged = program.communicate(timeout=120)[0].decode(errors="replace")
    if program.returncode:
        raise RuntimeError(f"pg_basebackup: {logged}")
    beside.rename(run_as.data)
    choose_user(home / "postgres", wheel_binaries())  # gives the folder to the user that the server runs as


@contextmanager
def synchronous(primary: EmbeddedPostgres) -> Iterator[None]:
    """From here on no commit of the primary is answered before the standby has it on disk."""
    with admin(primary) as connection:
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        connection.execute("SELECT pg_reload_conf()")
        followers = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        until(lambda: connection.execute(followers).fetchone() == (1,), "the standby to be synchronous")
    try:
        yield
    finally:
        with admin(primary) as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")


def promote(standby: EmbeddedPostgres) -> None:
    """The standby takes writes when this returns."""
    with admin(standby) as connection:
        connection.execute("SELECT pg_promote(true, 60)")

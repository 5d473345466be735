"""`viral migrate`"""

from typing import Annotated

import typer

from cli.arguments import person
from cli.configuration import resolve
from cli.output import console, progress
from db.migrate.revisions import known_revisions
from db.migrate.upgrade import newest, upgrade
from db.postgres.errors import DatabaseUnavailable
from workers.app import build
from workers.settings import Settings


def migrate(
    allow_newer: Annotated[
        bool,
        typer.Option(
            "--allow-newer",
            help="For going back to this release: leave a newer release's schema as it is, and work on it.",
        ),
    ] = False,
) -> None:
    """Bring the database to the newest schema.

    Connects as the owner of the tables: DIRECT_URL, else DATABASE_URL.

    \b
    viral migrate
    """
    settings, _ = resolve()
    migrate_schema(settings, allow_newer=allow_newer)


def migrate_schema(settings: Settings, *, allow_newer: bool = False) -> None:
    """Migrate, say what was done, and log in once as the processes will.

    Raises:
        MigrationRefused: the server does not answer, or refused a step, of which nothing was kept.
        RoleRefused: all is migrated, and the processes would refuse to work with DATABASE_URL.
    """
    with progress("schema"):
        before, after = upgrade(settings.owner_url, allow_newer=allow_newer, cause=f"person:{person()}")
    done = f"already at {after}" if before == after else f"from {before or 'nothing'} to {after}"
    if after is not None and after not in known_revisions():
        done = f"stays at {after}, which a newer release made; this one (it expects {newest()}) may work on it now"
    console().print(f"schema: {done}")
    _check_role(settings)


def _check_role(settings: Settings) -> None:
    """A release step that ends well with a login that every process refuses would bring all of them down."""
    app = build(settings, name="viral migrate", pool_size=1)
    try:
        app.db.connect().close()
    except DatabaseUnavailable:  # another address than the one that was migrated; its processes will wait
        pass
    finally:
        app.close()

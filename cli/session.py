"""What a command works with: the settings, from the environment or from the servers that `viral up` runs here."""

import json
import os
import secrets
import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from domain.errors import ViralError
from local.home import EmbeddedUrls, State, make_home, read_state, write_private
from local.spawn import EmbeddedError

if TYPE_CHECKING:
    from workers.app import App
    from workers.settings import Settings


NEEDED = ("DATABASE_URL", "REDIS_URL")


class SchemaTooOld(ViralError):
    """The database lacks something that this code works with."""


def resolve() -> "tuple[Settings, State | None]":
    """The settings of this shell. What has no URL in the environment is looked for under VIRAL_HOME.

    Raises:
        SettingsInvalid: names every setting that is malformed or missing.
    """
    from workers.settings import Settings, SettingsInvalid, load

    faults: tuple[str, ...] = ()
    try:
        settings = load()
    except SettingsInvalid as error:
        faults = error.faults
        settings = Settings.model_construct(viral_home=Path(os.environ.get("VIRAL_HOME") or ".viral"))
    missing = [name for name in NEEDED if not os.environ.get(name)]
    state = read_state(settings.viral_home) if missing else None
    if missing and state is None:
        where = settings.viral_home.absolute()
        faults += (
            f"{' and '.join(missing)} not set, and nothing runs under {where}: start it with `viral up`, or set them",
        )
    if faults:
        raise SettingsInvalid(faults)
    if state is None:
        return settings, None
    return load(os.environ | environment_of(settings, state.urls)), state


def known() -> "Settings":
    """The settings of this shell, and of what runs here if anything does, for commands that need no server.

    Raises:
        SettingsInvalid: names every setting that is malformed.
    """
    from workers.settings import load

    settings = load()
    state = read_state(settings.viral_home)
    return settings if state is None else load(os.environ | environment_of(settings, state.urls))


def environment_of(settings: "Settings", urls: EmbeddedUrls) -> dict[str, str]:
    """What this shell's environment lacks and the servers under VIRAL_HOME provide."""
    found = dict(development(settings.viral_home))
    if not settings.database_url:
        found |= {"DATABASE_URL": urls.app_database_url, "DIRECT_URL": urls.database_url}
    if not settings.redis_url:
        found["REDIS_URL"] = urls.redis_url
    return {name: value for name, value in found.items() if not os.environ.get(name)}


def development(home: Path) -> dict[str, str]:
    """Secrets and prices for people without a Stripe or Clerk account: made once, kept under `home`."""
    path = home / "development.json"
    if not path.exists():
        make_home(home)
        write_private(
            path,
            {
                "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
                "CLERK_WEBHOOK_SIGNING_SECRET": f"whsec_{b64encode(secrets.token_bytes(24)).decode()}",
                "STRIPE_STARTER_PRICE_ID": "price_starter",
                "STRIPE_PRO_PRICE_ID": "price_pro",
                "STRIPE_AGENCY_PRICE_ID": "price_agency",
            },
        )
    try:
        known: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise EmbeddedError(f"{path} is damaged: delete it, and new secrets are made.") from error
    return known


def rest(seconds: float) -> None:
    """Sleep in the middle of a session; an interrupt is heeded here.

    Raises:
        KeyboardInterrupt: Ctrl-C, now or since the last rest.
    """
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        time.sleep(seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits for the end: in the middle of a commit it would leave connections open and doubt behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def session() -> "Iterator[App]":
    """An application for the length of one command. An interrupt is heeded where it rests, and at its end.

    Raises:
        SchemaTooOld: the command met a table or column that is not there.
    """
    from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable

    from db.security import RoleRefused
    from workers.app import build
    from workers.runtime import logs

    settings, _ = resolve()
    logs.configure("console", "WARNING")
    with _undisturbed():
        app = build(settings, name="viral shell", pool_size=2)
        try:
            yield app
        except Exception as error:
            cause = getattr(error, "orig", error)
            if isinstance(cause, UndefinedTable | UndefinedColumn):
                old = "the database's schema is not what this code expects: run `viral migrate`"
                raise SchemaTooOld(old) from error
            if isinstance(cause, InsufficientPrivilege):
                said = cause.diag.message_primary
                raise RoleRefused(f"{said}: run `viral migrate`; `viral doctor` names each GRANT") from error
            raise
        finally:
            app.close()


def run_migrations(settings: "Settings", *, allow_newer: bool = False) -> None:
    """Raises:
    MigrationRefused: the server does not answer, or refused a step, of which nothing was kept.
    RoleRefused: all is migrated, and the processes would refuse to work with DATABASE_URL.
    """
    from cli.output import console
    from db.migrate.revisions import known_revisions
    from db.migrate.upgrade import newest, upgrade

    before, after = upgrade(settings.owner_url, allow_newer=allow_newer)
    done = f"already at {after}" if before == after else f"from {before or 'nothing'} to {after}"
    if after is not None and after not in known_revisions():
        done = f"stays at {after}, which a newer release made; this one (it expects {newest()}) may work on it now"
    console().print(f"schema: {done}")
    _try_role(settings)


def _try_role(settings: "Settings") -> None:
    """A release step that ends well with a login that every process refuses would bring all of them down."""
    from db.transaction import DatabaseUnavailable
    from workers.app import build

    app = build(settings, name="viral migrate", pool_size=1)
    try:
        app.db.connect().close()
    except DatabaseUnavailable:  # another address than the one that was migrated; its processes will wait
        pass
    finally:
        app.close()

"""What a command works with: the settings, from the environment or from the servers that `viral up` runs here."""

import json
import os
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cli.local.home import EmbeddedUrls, State, make_home, read_state, write_private
from cli.local.spawn import EmbeddedError
from db.url import libpq
from domain.errors import ViralError

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
    from workers.settings import SettingsInvalid, load

    settings, faults = read_settings()
    missing = [name for name in NEEDED if not os.environ.get(name)]
    home = settings.viral_home if settings else Path(os.environ.get("VIRAL_HOME") or ".viral")
    state = read_state(home) if missing else None
    if missing and state is None:
        faults.append(
            f"{' and '.join(missing)} not set, and nothing runs under {home.absolute()}: "
            "start it with `viral up`, or set them"
        )
    if settings is None or faults:
        raise SettingsInvalid(told(faults))
    if state is None:
        return settings, None
    return load(os.environ | environment_of(settings, state.urls)), state


def well_formed() -> "Settings":
    """The settings, for whoever brings what is missing.

    Raises:
        SettingsInvalid: names every setting that is malformed.
    """
    from workers.settings import SettingsInvalid

    settings, faults = read_settings()
    if settings is None or faults:
        raise SettingsInvalid(told(faults))
    return settings


def read_settings() -> "tuple[Settings | None, list[str]]":
    """The settings, and what is wrong with them. No fault repeats a value: it may be a secret in the wrong place."""
    from workers.settings import SettingsInvalid, load

    faults = [
        f"{name}: should look like {shape}"
        for name, fits, shape in URLS
        if os.environ.get(name) and not fits(os.environ[name])
    ]
    try:
        return load(), faults
    except SettingsInvalid as error:
        return None, [line.strip() for line in str(error).splitlines()[1:]] + faults


def told(faults: list[str]) -> str:
    return faults[0] if len(faults) == 1 else "\n  ".join(["these settings cannot be used:", *faults])


def is_postgres(url: str) -> bool:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        ports = str(conninfo_to_dict(libpq(url)).get("port") or 5432)
    except psycopg.Error:
        return False
    return "://" in url and all(port.isdigit() for port in ports.split(","))


def is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


POSTGRES = "postgresql://user:password@host:5432/database"
URLS: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    ("DATABASE_URL", is_postgres, POSTGRES),
    ("DIRECT_URL", is_postgres, POSTGRES),
    ("REDIS_URL", is_redis, "redis://:password@host:6379/0"),
)


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


@contextmanager
def session() -> "Iterator[App]":
    """An application for the length of one command.

    Raises:
        SchemaTooOld: the command met a table or column that is not there.
    """
    from psycopg.errors import UndefinedColumn, UndefinedTable

    from workers import logs
    from workers.app import build

    settings, _ = resolve()
    logs.configure("console", "WARNING")
    app = build(settings, name="viral shell", pool_size=2)
    try:
        yield app
    except Exception as error:
        if isinstance(getattr(error, "orig", error), UndefinedTable | UndefinedColumn):
            raise SchemaTooOld("the database's schema is not what this code expects: run `viral migrate`") from error
        raise
    finally:
        app.close()


def run_migrations(settings: "Settings") -> None:
    """Raises:
    MigrationRefused: the server does not answer, or refused a step, of which nothing was kept.
    """
    from cli.output import console
    from db.migrate import upgrade

    before, after = upgrade(settings.owner_url)
    done = f"already at {after}" if before == after else f"from {before or 'nothing'} to {after}"
    console().print(f"schema: {done}")

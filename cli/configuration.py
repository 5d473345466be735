"""The settings of this shell: from the environment, or of the servers that `viral up` runs under VIRAL_HOME."""

import fcntl
import json
import os
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from local.home import (
    EmbeddedUrls,
    State,
    is_simulated,
    last_state,
    make_home,
    private_file,
    read_state,
    write_private,
)
from local.spawn import EmbeddedError
from workers.settings import Settings, SettingsInvalid, load

NEEDED = ("DATABASE_URL", "REDIS_URL")


def resolve() -> tuple[Settings, State | None]:
    """Return the settings, and what `viral up` runs here if it provides a URL that the environment lacks.

    Raises:
        SettingsInvalid: names every setting that is malformed or missing.
    """
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
    return (settings, None) if state is None else (_completed(settings, state), state)


def resolve_offline() -> Settings:
    """Return the settings for a command that needs no server; what `viral up` provides is used if it runs.

    Raises:
        SettingsInvalid: names every setting that is malformed.
    """
    settings = load()
    state = read_state(settings.viral_home)
    return settings if state is None else _completed(settings, state)


def _completed(settings: Settings, state: State) -> Settings:
    # Addresses that this shell shows lead to the web process that runs, on whichever port.
    public = {"PUBLIC_URL": state.web_url} if state.web_url and not settings.public_url else {}
    return load(os.environ | embedded_environment(settings, state.urls) | public | dict(state.simulated))


def has_simulated_data(settings: Settings) -> bool:
    """Return whether the database is the one of a home whose data are made up, and not somebody's that is elsewhere."""
    state = last_state(settings.viral_home)
    own = (state.urls.app_database_url, state.urls.database_url) if state else ()
    return settings.database_url in own and is_simulated(settings.viral_home)


def embedded_environment(settings: Settings, urls: EmbeddedUrls) -> dict[str, str]:
    """Return the variables that this shell's environment lacks and the servers under VIRAL_HOME provide."""
    provided = dict(development_settings(settings.viral_home))
    if not settings.database_url:
        provided |= {"DATABASE_URL": urls.app_database_url, "DIRECT_URL": urls.database_url}
    if not settings.redis_url:
        provided["REDIS_URL"] = urls.redis_url
    return {name: value for name, value in provided.items() if not os.environ.get(name)}


def development_settings(home: Path) -> dict[str, str]:
    """Return secrets and prices for people without a Stripe or Clerk account, and a key for the tokens of social
    accounts: made once, kept under `home`.

    Raises:
        EmbeddedError: the file that keeps them is damaged.
    """
    path = home / "development.json"
    kept = _kept(path)
    if DEVELOPMENT.keys() <= kept.keys():
        return kept
    make_home(home)
    with private_file(home / "development.lock") as lock:  # of two that make a key, one would be lost
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _kept(path)
        kept |= {name: make() for name, make in DEVELOPMENT.items() if name not in kept}
        write_private(path, kept)
    return kept


def _kept(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EmbeddedError(f"{path} is damaged: delete it, and new secrets are made.") from error


DEVELOPMENT: Mapping[str, Callable[[], str]] = {
    "STRIPE_WEBHOOK_SECRET": lambda: f"whsec_{secrets.token_hex(16)}",
    "CLERK_WEBHOOK_SIGNING_SECRET": lambda: f"whsec_{b64encode(secrets.token_bytes(24)).decode()}",
    "STRIPE_STARTER_PRICE_ID": lambda: "price_starter",
    "STRIPE_PRO_PRICE_ID": lambda: "price_pro",
    "STRIPE_AGENCY_PRICE_ID": lambda: "price_agency",
    "TOKEN_ENCRYPTION_KEYS": lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}
"""How each of these settings is made. A file of an earlier release lacks those that came after it."""

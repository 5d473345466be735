"""The platforms that videos are posted to, as the settings open them. Each is imported when it is first asked."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from domain.ports import Login, Publisher, Vault
from domain.posting.accounts import AppRegistration
from workers.adapters.lazy import lazy
from workers.runtime.metrics import Metrics
from workers.runtime.version import AGENT
from workers.settings import Settings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from integrations.http.client import Http
    from integrations.platforms.bluesky import Bluesky
    from integrations.platforms.instagram import Instagram
    from integrations.platforms.mastodon import Mastodon
    from integrations.platforms.tiktok import TikTok
    from integrations.platforms.youtube import YouTube

WITHOUT_REGISTRATION = frozenset({"bluesky", "mastodon"})
"""Platforms that accounts can be connected of without an app of ours: by a password, or by an app for each server."""


def publishers(settings: Settings, metrics: Metrics | None = None) -> dict[str, Publisher]:
    """Return all platforms by name: to post there, an account's own tokens are enough."""
    return {**_all(settings, metrics)}


def logins(settings: Settings, metrics: Metrics | None = None) -> dict[str, Login]:
    """Return the platforms that accounts can be connected of: those that this installation is registered with, and
    those that ask for no registration."""
    registered = login_apps(settings).keys() | WITHOUT_REGISTRATION
    return {name: each for name, each in _all(settings, metrics).items() if name in registered}


def login_apps(settings: Settings) -> Mapping[str, AppRegistration]:
    """Return how this installation is known to the platforms, where the settings say so."""
    found = {
        "tiktok": _app(settings.tiktok_client_key, settings.tiktok_client_secret),
        "youtube-shorts": _app(settings.google_client_id, settings.google_client_secret),
        "instagram-reels": _app(settings.meta_app_id, settings.meta_app_secret),
    }
    return {name: app for name, app in found.items() if app is not None}


def vault(settings: Settings) -> Vault | None:
    """Return what encrypts tokens; None without a key."""
    keys = settings.reveal(settings.token_encryption_keys)
    if not keys:
        return None
    from integrations.vault import FernetVault  # noqa: PLC0415 - most processes never encrypt

    return FernetVault(keys)


def _app(client_id: str, secret: "SecretStr | None") -> AppRegistration | None:
    return AppRegistration(client_id, secret.get_secret_value()) if client_id and secret else None


def _all(settings: Settings, metrics: Metrics | None) -> dict[str, Any]:
    return {name: lazy(partial(make, settings, _http(settings, name, metrics))) for name, make in _PLATFORMS.items()}


def _http(settings: Settings, platform: str, metrics: Metrics | None) -> Callable[[], "Http"]:
    """Return what makes the client that asks this platform."""

    def make() -> "Http":
        from integrations.http.client import Http  # noqa: PLC0415 - see the module's first lines
        from workers.adapters.requests import observing  # noqa: PLC0415

        observe = observing(metrics or Metrics(), platform.partition("-")[0])
        return Http(AGENT, private_hosts=settings.outbound_private_hosts, observe=observe)

    return make


def _instagram(settings: Settings, http: Callable[[], "Http"]) -> "Instagram":
    from integrations.platforms.instagram import Instagram  # noqa: PLC0415 - see the module's first lines

    return Instagram(http(), base_url=settings.meta_base_url)


def _tiktok(settings: Settings, http: Callable[[], "Http"]) -> "TikTok":
    from integrations.platforms.tiktok import TikTok  # noqa: PLC0415 - as above

    return TikTok(http(), base_url=settings.tiktok_base_url)


def _youtube(settings: Settings, http: Callable[[], "Http"]) -> "YouTube":
    from integrations.platforms.youtube import YouTube  # noqa: PLC0415 - as above

    return YouTube(http(), base_url=settings.google_base_url)


def _bluesky(settings: Settings, http: Callable[[], "Http"]) -> "Bluesky":
    from integrations.platforms.bluesky import Bluesky  # noqa: PLC0415 - see the module's first lines

    return Bluesky(http(), base_url=settings.bluesky_base_url)


def _mastodon(settings: Settings, http: Callable[[], "Http"]) -> "Mastodon":
    from integrations.platforms.mastodon import Mastodon  # noqa: PLC0415 - see the module's first lines

    return Mastodon(http(), base_url=settings.mastodon_base_url)


_PLATFORMS: Mapping[str, Callable[[Settings, Callable[[], "Http"]], Any]] = {
    "instagram-reels": _instagram,
    "tiktok": _tiktok,
    "youtube-shorts": _youtube,
    "bluesky": _bluesky,
    "mastodon": _mastodon,
}
"""What makes each platform's client, which is its `Publisher` and its `Login`."""

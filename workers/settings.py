"""Settings from the environment: every missing or malformed one reported at once, by name, and never its value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from db.url import is_postgres
from domain.billing import PriceBook, Tier
from domain.errors import ViralError
from workers import redis_url

Words = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


TREND_SOURCES = ("google-trends", "wikimedia", "hacker-news", "reddit", "youtube", "gnews")
NO_SOURCES = ("none",)
LOOPBACK = "127.0.0.1"


class SettingsInvalid(ViralError):
    """The environment does not describe a system that can start. No fault repeats a value: it may be a secret."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        one = len(self.faults) == 1
        super().__init__(self.faults[0] if one else "\n  ".join(["these settings cannot be used:", *self.faults]))


class Settings(BaseSettings):
    """What the processes are told from outside. Lists are comma-separated."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True)

    database_url: str = Field(default="", repr=False)
    direct_url: str = Field(default="", repr=False)
    db_pool_size: int = Field(default=0, ge=0, le=1000)
    redis_url: str = Field(default="", repr=False)
    host: str = ""
    port: int = Field(default=8000, ge=0, le=65535)

    stripe_livemode: bool | None = None
    stripe_secret_key: SecretStr = SecretStr("")
    stripe_api_base: str = ""
    stripe_webhook_secret: Secrets = ()
    stripe_starter_price_id: Words = ()
    stripe_pro_price_id: Words = ()
    stripe_agency_price_id: Words = ()
    clerk_webhook_signing_secret: Secrets = ()
    clerk_instance_id: str | None = None
    clerk_jwks_url: str = ""
    clerk_jwt_key: str = Field(default="", repr=False)
    clerk_issuer: str = ""
    clerk_authorized_parties: Words = ()

    anthropic_api_key: SecretStr | None = None
    anthropic_base_url: str = ""

    trend_sources: Words = TREND_SOURCES
    trends_contact: str = "viral-dashboard-workers/0.1 (trend collector; contact the operator of this service)"
    google_trends_base_url: str = "https://trends.google.com"
    wikimedia_base_url: str = "https://wikimedia.org"
    hacker_news_base_url: str = "https://hn.algolia.com"
    reddit_base_url: str = "https://www.reddit.com"
    reddit_api_base_url: str = "https://oauth.reddit.com"
    reddit_client_id: str = ""
    reddit_client_secret: SecretStr | None = None
    youtube_api_key: SecretStr | None = None
    youtube_base_url: str = "https://www.googleapis.com"
    gnews_api_key: SecretStr | None = None
    gnews_base_url: str = "https://gnews.io"

    rate_limit_per_caller: int = Field(default=120, ge=1, le=10_000_000)
    rate_limit_per_tenant: int = Field(default=600, ge=1, le=10_000_000)
    """Requests a minute."""

    log_format: Literal["console", "json"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    viral_home: Path = Path(".viral")
    postgres_bin: Path | None = None

    worker_processes: int = Field(default=2, ge=1, le=64)
    worker_threads: int = Field(default=8, ge=1, le=256)
    worker_grace_seconds: int = Field(default=20, ge=1, le=3600)

    @field_validator(
        "stripe_webhook_secret",
        "clerk_webhook_signing_secret",
        "clerk_authorized_parties",
        "stripe_starter_price_id",
        "stripe_pro_price_id",
        "stripe_agency_price_id",
        "trend_sources",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("database_url", "direct_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        if value and not is_postgres(value):
            raise ValueError("should look like postgresql://user:password@host:5432/database")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        return redis_url.checked(value) if value else value

    @field_validator("stripe_secret_key")
    @classmethod
    def _secret_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        key = value.get_secret_value()
        if key and not (key.isascii() and key.isprintable() and key.startswith(("sk_", "rk_"))):
            raise ValueError("should be a secret or restricted key of Stripe: sk_live_…, sk_test_… or rk_…")
        livemode = info.data.get("stripe_livemode")
        if key and livemode is not None and livemode != ("_live_" in key):
            raise ValueError("is a key of the other mode than STRIPE_LIVEMODE says")
        return value

    @field_validator("clerk_jwks_url", "clerk_issuer", "stripe_api_base")
    @classmethod
    def _https(cls, value: str) -> str:
        if value and not _is_https(value):
            raise ValueError("should be an https address (plain http is for this machine only)")
        return value.rstrip("/")

    @field_validator("clerk_jwt_key")
    @classmethod
    def _pem(cls, value: str) -> str:
        if value and "-----BEGIN " not in value:
            raise ValueError("should be a PEM public key: -----BEGIN PUBLIC KEY----- …")
        return value

    @field_validator("clerk_authorized_parties")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_is_origin(each) for each in value):
            raise ValueError("should be origins, comma-separated: https://app.example.com,http://localhost:3000")
        return value

    @field_validator("trend_sources")
    @classmethod
    def _known_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != NO_SOURCES and set(value) - set(TREND_SOURCES):
            raise ValueError(f"should name some of {', '.join(TREND_SOURCES)}, or be none")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def owner_url(self) -> str:
        """For migrations: the role that owns the tables."""
        return self.direct_url or self.database_url

    @property
    def web_host(self) -> str:
        """What the web server listens on; empty: every address of this machine.

        Who sets PORT without HOST is a platform whose router calls from outside.
        """
        return self.host or ("" if "port" in self.model_fields_set else LOOPBACK)

    @property
    def web_url(self) -> str:
        """Where programs on this machine reach the web server."""
        host = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}.get(self.web_host, self.web_host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def prices(self) -> PriceBook:
        """Which tier each configured Stripe price buys."""
        return {
            **dict.fromkeys(self.stripe_starter_price_id, Tier.STARTER),
            **dict.fromkeys(self.stripe_pro_price_id, Tier.PRO),
            **dict.fromkeys(self.stripe_agency_price_id, Tier.AGENCY),
        }

    def reveal(self, secrets: tuple[SecretStr, ...]) -> tuple[str, ...]:
        return tuple(secret.get_secret_value() for secret in secrets)


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `environment` stands in for the process's own.

    Raises:
        SettingsInvalid: names every variable that is malformed, and what it should be.
    """
    try:
        if environment is None:
            return Settings()
        known = Settings.model_fields
        given = {name.lower(): value for name, value in environment.items() if value and name.lower() in known}
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsInvalid(
            [
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            ]
        ) from None


def require(settings: Settings, *names: str) -> None:
    """Raises:
    SettingsInvalid: lists every one of `names` that is empty.
    """
    missing = [name.upper() for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsInvalid(
            [f"{name} is not set; set it, or start everything here with `viral up`" for name in missing]
        )


def _is_https(url: str) -> bool:
    """Plain http is for this machine only: whoever can change an answer on the way chooses the keys."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        )
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    """As browsers write it: no path, no slash at the end. Extensions and apps have schemes of their own."""
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and parts.netloc) and text == f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return False

"""Settings from the environment: every missing or malformed one reported at once, by name, and never its value."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.billing import PriceBook, Tier
from domain.errors import ViralError

Words = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class SettingsInvalid(ViralError):
    """The environment does not describe a system that can start."""


class Settings(BaseSettings):
    """What the processes are told from outside. Lists are comma-separated."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: str = Field(default="", repr=False)
    direct_url: str = Field(default="", repr=False)
    db_pool_size: int = Field(default=0, ge=0, le=1000)
    redis_url: str = Field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)

    stripe_webhook_secret: Secrets = ()
    stripe_starter_price_id: Words = ()
    stripe_pro_price_id: Words = ()
    stripe_agency_price_id: Words = ()
    clerk_webhook_signing_secret: Secrets = ()

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
        "stripe_starter_price_id",
        "stripe_pro_price_id",
        "stripe_agency_price_id",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
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
        given = {name.lower(): value for name, value in environment.items() if name.lower() in Settings.model_fields}
        return Settings.model_validate(given)
    except ValidationError as error:
        faults = [
            f"  {'_'.join(str(part) for part in fault['loc'][:1]).upper()}: {fault['msg']}" for fault in error.errors()
        ]
        raise SettingsInvalid("these settings cannot be used:\n" + "\n".join(faults)) from None


def require(settings: Settings, *names: str) -> None:
    """Raises:
    SettingsInvalid: lists every one of `names` that is empty.
    """
    missing = [name.upper() for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsInvalid(
            "these settings are missing:\n"
            + "\n".join(f"  {name}" for name in missing)
            + "\nSet them, or start everything here with `viral up`."
        )

"""Settings from the environment: every missing or malformed one reported at once, by name, and never its value."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from db.postgres.url import parse
from domain.billing.tiers import PriceBook, Tier
from domain.errors import ViralError
from domain.ops.connections import PROCESSES, THREADS
from workers.runtime.setting_types import (
    ApiKey,
    ClerkInstance,
    ClerkKey,
    ClerkSigningSecrets,
    Collector,
    EncryptionKeys,
    Header,
    Host,
    HostNames,
    Https,
    Networks,
    NotifyUrls,
    OpsToken,
    Origins,
    OtlpHeaders,
    PostgresUrl,
    Prices,
    PublicKey,
    QuietHoursText,
    RedisUrl,
    Release,
    SentryDsn,
    StripeKey,
    StripeSigningSecrets,
    TimeZone,
    WebhookSecret,
    Words,
)
from workers.runtime.version import VERSION

TREND_SOURCES = ("google-trends", "wikimedia", "hacker-news", "reddit", "youtube", "gnews")
NO_SOURCES = ("none",)
NEED_A_KEY = {"youtube": "youtube_api_key", "gnews": "gnews_api_key"}
"""The setting that a source needs: without it the source returns nothing."""
APP_IDS = {
    "tiktok_client_secret": "tiktok_client_key",
    "google_client_secret": "google_client_id",
    "meta_app_secret": "meta_app_id",
}
COMMITS = ("heroku_slug_commit", "render_git_commit", "railway_git_commit_sha", "source_version")
"""The settings in which platforms name the commit that they run."""
LOOPBACK = "127.0.0.1"
JWKS_PATH = "/.well-known/jwks.json"


class SettingsInvalid(ViralError):
    """The environment does not describe a system that can start. No fault repeats a value: it may be a secret."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        one = len(self.faults) == 1
        super().__init__(self.faults[0] if one else "\n  ".join(["these settings cannot be used:", *self.faults]))


class Settings(BaseModel):
    """The environment of the processes. Lists are comma-separated.

    The text below a setting is its meaning in docs/reference/settings.md; it is of all settings directly above it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, validate_default=True)

    database_url: PostgresUrl = Field(default="", repr=False)
    """Postgres 15 or later, as libpq or Prisma writes it. Whoever it connects as, the processes work as the role
    `viral_app`, which row-level security binds. Unset: `viral up` starts a server of its own."""
    direct_url: PostgresUrl = Field(default="", repr=False)
    """The owner of the tables, without a pooler, for `viral migrate`. Unset: DATABASE_URL."""
    db_pool_size: int = Field(default=0, ge=0, le=1000)
    """Connections in the pool of each process. 0: 4 in `web` and `worker`, 2 in `scheduler`."""
    redis_url: RedisUrl = Field(default="", repr=False)
    """Any Redis-compatible server but a cluster; it holds nothing that cannot be lost. Unset: `viral up` starts one."""
    host: Host = ""
    """Where `web` listens. Unset: 127.0.0.1, or every address if PORT is set."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port of `web`."""
    public_url: Https = ""
    """Where others reach the web server; without it, only programs on this machine do. Owners of social accounts come
    back to `PUBLIC_URL/oauth/PLATFORM/callback`."""
    trusted_proxies: Networks = ()
    """The proxies in front of us, whose word about a client's address and scheme is believed."""
    ops_token: OpsToken | None = None
    """The first token for `/ops`, of role `act`; afterwards `viral ops token create` makes one for each person."""

    release: Release = ""
    """The release that runs; unset: the commit that the platform names, below, or our version."""
    heroku_slug_commit: Release = ""
    render_git_commit: Release = ""
    railway_git_commit_sha: Release = ""
    source_version: Release = ""
    """The commit that runs, as the platform names it."""

    stripe_livemode: bool | None = None
    """`true` or `false`: events of Stripe's other mode are kept and ignored. Unset: both are applied."""
    stripe_secret_key: StripeKey = SecretStr("")
    """To sell plans, open the portal, look up thin events and compare with Stripe's books. Without it none of this
    happens, all else does."""
    stripe_api_base: Https = ""
    """Where Stripe's API is, if not at its own address."""
    stripe_webhook_secret: StripeSigningSecrets = ()
    """What Stripe signs with: `whsec_…`, several while one is rolled."""
    stripe_starter_price_id: Prices = ()
    stripe_pro_price_id: Prices = ()
    stripe_agency_price_id: Prices = ()
    """The prices that buy the plan; a checkout by tier sells the first. A price buys one plan."""
    clerk_webhook_signing_secret: ClerkSigningSecrets = ()
    """What Clerk signs with: `whsec_…`, several while one is rolled."""
    clerk_instance_id: ClerkInstance = None
    """`ins_…`: events of other Clerk instances are stored and ignored. Unset: all are ours."""
    clerk_secret_key: ClerkKey = SecretStr("")
    """`sk_…`, to compare people, organizations and memberships with Clerk's own books. Without it, an event that never
    came is not missed."""
    clerk_api_base: Https = "https://api.clerk.com"
    """Where Clerk's Backend API is."""
    clerk_jwks_url: Https = ""
    """Sign-in: where Clerk publishes its keys, such as `https://clerk.example.com/.well-known/jwks.json`."""
    clerk_jwt_key: PublicKey = Field(default="", repr=False)
    """Sign-in without a look-up: Clerk's public key as PEM."""
    clerk_issuer: Https = ""
    """What session tokens must name as issuer. Unset: the origin of CLERK_JWKS_URL."""
    clerk_authorized_parties: Origins = ()
    """Origins of the pages that may use session tokens, call the API, and be returned to from Stripe and platforms."""

    anthropic_api_key: ApiKey | None = None
    """Concepts and critiques are written by Claude. Without any model's key: by the offline grammar and critic."""
    anthropic_base_url: Https = ""
    """Where Anthropic's API is, if not at its own address."""
    openai_api_key: ApiKey | None = None
    """The same by OpenAI's models."""
    openai_base_url: Https = ""
    """Where OpenAI's API is, if not at its own address; it ends in `/v1`."""

    runwayml_api_secret: ApiKey | None = None
    """Clips of Runway, for money. Without any provider's key videos are storyboards, drawn here."""
    runwayml_base_url: Https = ""
    """Where Runway's API is, if not at its own address."""
    gemini_api_key: ApiKey | None = None
    """Clips of Google's Veo, for money, and concepts by Gemini."""
    gemini_base_url: Https = ""
    """Where Gemini's API is, if not at its own address."""
    luma_agents_api_key: ApiKey | None = None
    """Clips of Luma, for money."""
    luma_agents_base_url: Https = ""
    """Where Luma's API is, if not at its own address; it ends in `/v1`."""

    tiktok_client_key: str = ""
    tiktok_client_secret: ApiKey | None = None
    """How this installation is registered with TikTok, so that accounts can be connected. Both or neither."""
    tiktok_base_url: Https = ""
    """In place of all hosts of TikTok."""
    google_client_id: str = ""
    google_client_secret: ApiKey | None = None
    """How this installation is registered with Google, for YouTube. Both or neither."""
    google_base_url: Https = ""
    """In place of all hosts of YouTube."""
    meta_app_id: str = ""
    meta_app_secret: ApiKey | None = None
    """How this installation is registered with Meta, for Instagram. Both or neither."""
    meta_base_url: Https = ""
    """In place of all hosts of Instagram."""
    bluesky_base_url: Https = ""
    """In place of all hosts of Bluesky, which needs no registration."""
    mastodon_base_url: Https = ""
    """The one instance of Mastodon that may be at a private address; Mastodon needs no registration."""
    token_encryption_keys: EncryptionKeys = ()
    """What the tokens of social accounts are encrypted with, the newest first. Without one, no account can be
    connected."""

    ffmpeg_bin: Path | None = None
    ffprobe_bin: Path | None = None
    """The programs that draw and look at videos. Unset: in `PATH`, or of a wheel."""
    fonts_dir: Path | None = None
    """A folder of more fonts."""

    media_dir: Path | None = None
    """Where files of videos are kept: a folder that `web` and the workers see. Unset: `media` in VIRAL_HOME."""
    s3_bucket: str = ""
    """A bucket instead of that folder."""
    s3_endpoint_url: Https = ""
    """Where the bucket's S3 is, if not AWS."""
    cdn_base_url: Https = ""
    """An address in front of the store, which readers are sent to."""
    media_most_bytes: int = Field(default=1024**3, ge=1024**2, le=64 * 1024**3)
    """The largest file that can be uploaded through us."""
    media_tenant_bytes: int = Field(default=20 * 1024**3, ge=1024**2, le=1024**5)
    """All files of one tenant together, from which on no more are taken. What we make is kept in any case."""

    outbound_private_hosts: HostNames = ()
    """Hosts that outbound calls may reach at private addresses: a gateway in one's own network."""

    trends_contact: Header = "viral-dashboard-workers/0.1 (trend collector; contact the operator of this service)"
    """Who we are to the sources of trends, with an address: Wikimedia and Reddit demand it."""
    google_trends_base_url: Https = "https://trends.google.com"
    wikimedia_base_url: Https = "https://wikimedia.org"
    hacker_news_base_url: Https = "https://hn.algolia.com"
    reddit_base_url: Https = "https://www.reddit.com"
    reddit_api_base_url: Https = "https://oauth.reddit.com"
    """Where the source is, to try things out."""
    reddit_client_id: str = ""
    reddit_client_secret: ApiKey | None = None
    """More of Reddit. Both or neither."""
    youtube_api_key: ApiKey | None = None
    """YouTube as a source of trends, which it is only with a key."""
    youtube_base_url: Https = "https://www.googleapis.com"
    """Where the source is, to try things out."""
    gnews_api_key: ApiKey | None = None
    """GNews as a source of trends, which it is only with a key."""
    gnews_base_url: Https = "https://gnews.io"
    """Where the source is, to try things out."""
    trend_sources: Words = TREND_SOURCES
    """Who is asked for trends, or `none`."""

    rate_limit_per_caller: int = Field(default=120, ge=1, le=10_000_000)
    """Requests a minute that an API key or a person may make."""
    rate_limit_per_tenant: int = Field(default=600, ge=1, le=10_000_000)
    """Requests a minute that a tenant may make."""
    rate_limit_per_address: int = Field(default=60, ge=1, le=10_000_000)
    """Unknown credentials a minute that one address may send; whoever is known is not limited by it."""

    log_format: Annotated[Literal["console", "json"], BeforeValidator(str.lower)] = "json"
    """How log lines look."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = "INFO"
    """The least important lines that are logged."""
    otel_exporter_otlp_endpoint: Collector = ""
    otel_exporter_otlp_traces_endpoint: Collector = ""
    """Where traces are sent: a collector, or its address for traces; without either, nothing is traced."""
    otel_exporter_otlp_headers: OtlpHeaders = SecretStr("")
    """What the collector wants to see: `name=value,name=value`."""
    sentry_dsn: SentryDsn = SecretStr("")
    """Where errors that nobody foresaw are reported; without it, they are only logged. Needs the extra `sentry`."""
    notify_urls: NotifyUrls = ()
    """Where people of the operator are notified of what hurts; without any, nobody is."""
    notify_webhook_secret: WebhookSecret = SecretStr("")
    """What is sent to plain web addresses of NOTIFY_URLS is signed with it."""
    notify_quiet_hours: QuietHoursText = ""
    """When people are notified only of what is urgent, such as `22:00-07:00`."""
    notify_timezone: TimeZone = "UTC"
    """The time zone of the quiet hours."""
    webhook_receiver_base_url: Https = ""
    """The one place at which a tenant's endpoint may be a private address: a receiver on this machine, to try it."""
    viral_home: Path = Path(".viral")
    """Where `viral up` keeps its data."""
    postgres_bin: Path | None = None
    """The programs of another Postgres for `viral up` to run."""

    worker_processes: int = Field(default=PROCESSES, ge=1, le=64)
    """Processes of one worker dyno."""
    worker_threads: int = Field(default=THREADS, ge=1, le=256)
    """Messages of `default` that one worker process handles at once."""
    worker_waiting: int = Field(default=100, ge=1, le=1000)
    """Jobs of `llm`, of `media` and of `social` that one worker process runs at once."""
    worker_grace_seconds: int = Field(default=20, ge=1, le=3600)
    """Seconds that jobs have to end after SIGTERM."""
    render_at_once: int = Field(default=0, ge=0, le=64)
    """Videos that one worker process draws at once, up to 400 MB each; 0: its share of the cores."""

    idle_interval: int = Field(default=15, ge=1, le=3600)
    """Seconds for which each process leaves Postgres alone, while nothing runs and nothing is due."""

    # A rule over several settings is checked at the last of them: `data` has the valid ones before it.

    @field_validator("direct_url")
    @classmethod
    def _direct_url_needs_database_url(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("database_url") == "":
            raise ValueError("is set and DATABASE_URL is not: what is migrated would not be what is worked on")
        return value

    @field_validator("stripe_secret_key")
    @classmethod
    def _key_is_of_the_mode(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        key, livemode = value.get_secret_value(), info.data.get("stripe_livemode")
        if key and livemode is not None and livemode != ("_live_" in key):
            raise ValueError("is a key of the other mode than STRIPE_LIVEMODE says")
        return value

    @field_validator("stripe_pro_price_id", "stripe_agency_price_id")
    @classmethod
    def _price_buys_one_plan(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for other in ("stripe_starter_price_id", "stripe_pro_price_id"):
            if info.field_name != other and (both := set(value).intersection(info.data.get(other, ()))):
                raise ValueError(f"{min(both)} is in {other.upper()} too, and a price buys one plan")
        return value

    @field_validator("reddit_client_secret")
    @classmethod
    def _reddit_has_both(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if bool(value) != bool(info.data.get("reddit_client_id")):
            raise ValueError("REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET belong together; set both or neither")
        return value

    @field_validator("tiktok_client_secret", "google_client_secret", "meta_app_secret")
    @classmethod
    def _app_has_both(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        secret = info.field_name or ""
        name = APP_IDS[secret]
        if bool(value) != bool(info.data.get(name)):
            raise ValueError(f"{name.upper()} and {secret.upper()} belong together; set both or neither")
        return value

    @field_validator("trend_sources")
    @classmethod
    def _sources_exist(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value != NO_SOURCES and set(value) - set(TREND_SOURCES):
            raise ValueError(f"should name some of {', '.join(TREND_SOURCES)}, or be none")
        for source, key in NEED_A_KEY.items():
            if value != TREND_SOURCES and source in value and info.data.get(key, ...) is None:
                raise ValueError(f"names {source}, which needs {key.upper()}")
        return value

    @property
    def pool_size(self) -> int:
        """DB_POOL_SIZE, else `connection_limit` of DATABASE_URL; 0 if neither is set."""
        return self.db_pool_size or parse(self.database_url).pool_size or 0

    @property
    def owner_url(self) -> str:
        """The URL of the role that owns the tables, for migrations."""
        return self.direct_url or self.database_url

    @property
    def web_host(self) -> str:
        """The host that the web server listens on; empty: every address of this machine.

        PORT without HOST is set by a platform whose router calls from outside.
        """
        return self.host or ("" if "port" in self.model_fields_set else LOOPBACK)

    @property
    def web_url(self) -> str:
        """The address at which programs on this machine reach the web server."""
        host = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}.get(self.web_host, self.web_host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def session_issuer(self) -> str | None:
        """The issuer that session tokens must name: CLERK_ISSUER, else the address that the JWKS is published under
        (Clerk's frontend API, perhaps proxied under a path); None if neither tells."""
        published = self.clerk_jwks_url.endswith(JWKS_PATH)
        return self.clerk_issuer or (self.clerk_jwks_url.removesuffix(JWKS_PATH) if published else None)

    @property
    def prices(self) -> PriceBook:
        """The tier that each configured Stripe price buys."""
        return {
            **dict.fromkeys(self.stripe_starter_price_id, Tier.STARTER),
            **dict.fromkeys(self.stripe_pro_price_id, Tier.PRO),
            **dict.fromkeys(self.stripe_agency_price_id, Tier.AGENCY),
        }

    @property
    def release_name(self) -> str:
        """The name of the release that runs: RELEASE, else the commit that the platform names, else our version."""
        commits = (getattr(self, name)[:12] for name in COMMITS)
        return self.release or next(filter(None, commits), VERSION)

    def reveal(self, secrets: tuple[SecretStr, ...]) -> tuple[str, ...]:
        return tuple(secret.get_secret_value() for secret in secrets)


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `environment` stands in for the process's own. Space around a value is not part of it.

    Raises:
        SettingsInvalid: names every variable that is malformed, and what it should be.
    """
    variables = os.environ if environment is None else environment
    stripped = {name.lower(): value.strip() for name, value in variables.items()}
    try:
        return Settings.model_validate(
            {name: value for name, value in stripped.items() if value and name in Settings.model_fields}
        )
    except ValidationError as error:
        raise SettingsInvalid(
            [
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            ]
        ) from None


def require(settings: Settings, *names: str) -> None:
    """Check that the settings of these names are set.

    Raises:
        SettingsInvalid: lists every one that is empty.
    """
    missing = [name.upper() for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsInvalid(
            [f"{name} is not set; set it, or start everything here with `viral up`" for name in missing]
        )

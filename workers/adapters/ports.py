"""The ports as the settings open them.

A vendor's module, and with it the vendor's library, is imported when it is first asked: Stripe's SDK costs a quarter of
a second and 30 MB, the SDKs of language models cost 2 seconds and 90 MB, and most processes never ask.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from pydantic import SecretStr

from db.transaction import Database
from domain.concepts.generation import LOCAL_GRAMMAR
from domain.concepts.grammar import LocalGrammar
from domain.learning.critique.critiques import LOCAL_CRITIC
from domain.learning.critique.offline import LocalCritic
from domain.ops.connections import Role
from domain.ports import ClipProvider, ConceptWriter, Critic, MediaStore, Ports, Studio, SubmissionMarks
from workers.adapters import platforms
from workers.adapters.lazy import lazy
from workers.adapters.store_watch import INTERVAL, StoreWatch
from workers.adapters.writers import LANGUAGE_MODEL, LanguageModelCritic, LanguageModelWriter
from workers.engine.job import JobTypes
from workers.runtime.metrics import Metrics
from workers.runtime.redis_client import connect
from workers.runtime.version import AGENT
from workers.settings import Settings

if TYPE_CHECKING:
    from integrations.clerk.api import ClerkApi
    from integrations.dexie import OldAppExports
    from integrations.llm.models import LanguageModels
    from integrations.store.folder import FolderStore
    from integrations.stripe.api import StripeApi
    from workers.adapters.many_things import ManyThingsInDatabase
    from workers.adapters.outgoing import SignedWebhooks
    from workers.adapters.trends import Collector


def open_ports(
    settings: Settings, db: Database, metrics: Metrics | None = None, job_types: JobTypes | None = None
) -> Ports:
    """Return the world outside, as far as these settings open it. Nothing is asked yet; what will be is counted."""
    metrics = metrics or Metrics()
    stripe = lazy(partial(_stripe, settings, metrics)) if settings.stripe_secret_key.get_secret_value() else None
    clerk = lazy(partial(_clerk, settings, metrics)) if settings.clerk_secret_key.get_secret_value() else None
    writers: dict[str, ConceptWriter] = {}
    critics: dict[str, Critic] = {}
    if _model_keys(settings):
        models = lazy(partial(_language_models, settings, metrics))
        writers[LANGUAGE_MODEL] = LanguageModelWriter(db, models)
        critics[LANGUAGE_MODEL] = LanguageModelCritic(db, models)
    return Ports(
        prices=settings.prices,
        trends=lazy(partial(_trends, settings, db, metrics)),
        writers=writers | {LOCAL_GRAMMAR: LocalGrammar()},
        critics=critics | {LOCAL_CRITIC: LocalCritic()},
        clips=_clips(settings, metrics),
        studio=lazy(partial(open_studio, settings)),
        media=lazy(partial(_media, settings)),
        publishers=platforms.publishers(settings, metrics),
        logins=platforms.logins(settings, metrics),
        login_apps=platforms.login_apps(settings),
        vault=platforms.vault(settings),
        marks=lazy(partial(_marks, settings)),
        old_app=lazy(_old_app),
        webhooks=lazy(partial(_webhooks, settings)),
        livemode=settings.stripe_livemode,
        clerk_instance=settings.clerk_instance_id,
        people=clerk,
        # The method itself is not read here, since that would import the SDK.
        fetch_event=(lambda event: stripe.fetch_event(event)) if stripe else None,  # noqa: PLW0108
        cashier=stripe,
        records=stripe,
        many=None if job_types is None else lazy(partial(_many, db, job_types)),
    )


def open_studio(settings: Settings) -> Studio:
    """Return what draws and looks at videos; it needs no database."""
    from integrations.studio.studio import FfmpegStudio  # noqa: PLC0415 - see the module's first lines

    return FfmpegStudio(ffmpeg=settings.ffmpeg_bin, ffprobe=settings.ffprobe_bin, fonts=settings.fonts_dir)


def _stripe(settings: Settings, metrics: Metrics) -> "StripeApi":
    from integrations.stripe.api import StripeApi  # noqa: PLC0415 - see the module's first lines
    from workers.adapters.requests import observing  # noqa: PLC0415

    key, private = settings.stripe_secret_key.get_secret_value(), settings.outbound_private_hosts
    observe = observing(metrics, "stripe")
    return StripeApi(key, base=settings.stripe_api_base, private_hosts=private, observe=observe)


def _clerk(settings: Settings, metrics: Metrics) -> "ClerkApi":
    from integrations.clerk.api import ClerkApi  # noqa: PLC0415 - see the module's first lines
    from integrations.http.client import Http  # noqa: PLC0415
    from workers.adapters.requests import observing  # noqa: PLC0415

    http = Http(AGENT, private_hosts=settings.outbound_private_hosts, observe=observing(metrics, "clerk"))
    return ClerkApi(settings.clerk_secret_key.get_secret_value(), http, base=settings.clerk_api_base)


def _language_models(settings: Settings, metrics: Metrics) -> "LanguageModels":
    from integrations.llm.models import LanguageModels  # noqa: PLC0415 - see the module's first lines
    from integrations.llm.providers import Access  # noqa: PLC0415
    from workers.adapters.requests import observing  # noqa: PLC0415

    access = {name: Access(key.get_secret_value(), base) for name, key, base in _model_keys(settings)}
    private, observe = settings.outbound_private_hosts, partial(observing, metrics)
    return LanguageModels(access, private_hosts=private, observe=observe)


def preload_language_models(settings: Settings) -> None:
    """Import now what asking a language model takes, if there is a key for one: processes that are forked afterwards
    have it in memory once."""
    if providers := [name for name, _, _ in _model_keys(settings)]:
        from integrations.llm import models  # noqa: F401, PLC0415 - see the module's first lines
        from integrations.llm.providers import preload  # noqa: PLC0415

        preload(providers)


def _model_keys(settings: Settings) -> list[tuple[str, SecretStr, str]]:
    """Return the providers of language models that there is a key for, with it and where they are asked."""
    found = [
        ("anthropic", settings.anthropic_api_key, settings.anthropic_base_url),
        ("openai", settings.openai_api_key, settings.openai_base_url),
        ("google", settings.gemini_api_key, settings.gemini_base_url),
    ]
    return [(name, key, base) for name, key, base in found if key]


def _clips(settings: Settings, metrics: Metrics) -> dict[str, ClipProvider]:
    """Return the providers of clips that there is a key for."""
    made: dict[str, Callable[[], ClipProvider]] = {}
    if settings.runwayml_api_secret:
        made["runway"] = partial(_runway, settings, metrics, settings.runwayml_api_secret.get_secret_value())
    if settings.gemini_api_key:
        made["google"] = partial(_google, settings, metrics, settings.gemini_api_key.get_secret_value())
    if settings.luma_agents_api_key:
        made["luma"] = partial(_luma, settings, metrics, settings.luma_agents_api_key.get_secret_value())
    return {name: lazy(make) for name, make in made.items()}


def _runway(settings: Settings, metrics: Metrics, key: str) -> ClipProvider:
    from integrations.video.runway import Runway  # noqa: PLC0415 - see the module's first lines
    from workers.adapters.requests import observing  # noqa: PLC0415

    private, observe = settings.outbound_private_hosts, observing(metrics, "runway")
    return Runway(key, base_url=settings.runwayml_base_url, private_hosts=private, observe=observe)


def _google(settings: Settings, metrics: Metrics, key: str) -> ClipProvider:
    from integrations.video.google import Omni  # noqa: PLC0415 - see the module's first lines
    from workers.adapters.requests import observing  # noqa: PLC0415

    private, observe = settings.outbound_private_hosts, observing(metrics, "google")
    return Omni(key, base_url=settings.gemini_base_url, private_hosts=private, observe=observe)


def _luma(settings: Settings, metrics: Metrics, key: str) -> ClipProvider:
    from integrations.video.luma import Luma  # noqa: PLC0415 - see the module's first lines
    from workers.adapters.requests import observing  # noqa: PLC0415

    private, observe = settings.outbound_private_hosts, observing(metrics, "luma")
    return Luma(key, base_url=settings.luma_agents_base_url, private_hosts=private, observe=observe)


def _marks(settings: Settings) -> SubmissionMarks:
    from workers.adapters.submission_marks import RedisAndFileMarks  # noqa: PLC0415 - most processes post nothing

    client = connect(settings.redis_url, used_for="remembering submissions")
    return RedisAndFileMarks(client, settings.viral_home / "submissions")


def _many(db: Database, job_types: JobTypes) -> "ManyThingsInDatabase":
    from workers.adapters.many_things import ManyThingsInDatabase  # noqa: PLC0415 - it imports jobs

    return ManyThingsInDatabase(db, job_types)


def _webhooks(settings: Settings) -> "SignedWebhooks":
    from workers.adapters.outgoing import SignedWebhooks  # noqa: PLC0415 - see the module's first lines

    return SignedWebhooks(platforms.vault(settings), home=settings.webhook_receiver_base_url)


def _old_app() -> "OldAppExports":
    from integrations.dexie import OldAppExports  # noqa: PLC0415 - see the module's first lines

    return OldAppExports()


def media_folder(settings: Settings) -> "FolderStore":
    """Return the folder where media are kept, where no bucket is set."""
    from integrations.store.folder import FolderStore  # noqa: PLC0415 - see the module's first lines

    web = settings.cdn_base_url or settings.public_url or settings.web_url
    return FolderStore(settings.media_dir or settings.viral_home / "media", web=web)


def store_watch(settings: Settings, db: Database, role: Role) -> StoreWatch:
    """Return what tells `viral doctor` which store this process sees."""
    interval = max(INTERVAL, timedelta(seconds=settings.idle_interval))
    if settings.s3_bucket:
        name = f"bucket {settings.s3_bucket} at {settings.s3_endpoint_url or 'Amazon'}"
        return StoreWatch(db, None, store=name, role=role, interval=interval)
    folder = media_folder(settings)
    return StoreWatch(db, folder, store=f"folder {folder.folder.absolute()}", role=role, interval=interval)


def _media(settings: Settings) -> MediaStore:
    if not settings.s3_bucket:
        return media_folder(settings)
    from integrations.store.s3 import S3Store  # noqa: PLC0415 - see the module's first lines

    return S3Store(settings.s3_bucket, endpoint=settings.s3_endpoint_url, cdn=settings.cdn_base_url)


def _trends(settings: Settings, db: Database, metrics: Metrics) -> "Collector":
    from workers.adapters.trends import Collector, http, sources  # noqa: PLC0415 - see the module's first lines

    return Collector(db, http(settings, metrics), sources(settings))

"""Makes the environment of each process that we start: what it needs, and no secret that only another uses.

Whoever may trace a process reads its environment, and it is copied into crash reports. So a server gets what a program
needs to run at all; our own processes get the settings, of the secrets only those that they use. The owner of the
tables is nobody's but the migration's, which the parent does itself.
"""

import re
from collections.abc import Mapping

from workers.settings import Settings

WEB, WORKER, SCHEDULER = "web", "worker", "scheduler"

SECRETS: Mapping[str, frozenset[str]] = {
    "DATABASE_URL": frozenset({WEB, WORKER, SCHEDULER}),
    "DIRECT_URL": frozenset(),
    "REDIS_URL": frozenset({WEB, WORKER, SCHEDULER}),
    "OPS_TOKEN": frozenset({WEB}),
    "STRIPE_SECRET_KEY": frozenset({WEB, WORKER}),
    "STRIPE_WEBHOOK_SECRET": frozenset({WEB}),
    "CLERK_SECRET_KEY": frozenset({WORKER}),
    "CLERK_WEBHOOK_SIGNING_SECRET": frozenset({WEB}),
    "ANTHROPIC_API_KEY": frozenset({WORKER}),
    "OPENAI_API_KEY": frozenset({WORKER}),
    "REDDIT_CLIENT_SECRET": frozenset({WORKER}),
    "YOUTUBE_API_KEY": frozenset({WORKER}),
    "GNEWS_API_KEY": frozenset({WORKER}),
    "RUNWAYML_API_SECRET": frozenset({WORKER}),
    "GEMINI_API_KEY": frozenset({WORKER}),
    "LUMA_AGENTS_API_KEY": frozenset({WORKER}),
    # Web connects accounts, workers refresh their tokens.
    "TIKTOK_CLIENT_SECRET": frozenset({WEB, WORKER}),
    "GOOGLE_CLIENT_SECRET": frozenset({WEB, WORKER}),
    "META_APP_SECRET": frozenset({WEB, WORKER}),
    "TOKEN_ENCRYPTION_KEYS": frozenset({WEB, WORKER}),
    "OTEL_EXPORTER_OTLP_HEADERS": frozenset({WEB, WORKER, SCHEDULER}),
    "SENTRY_DSN": frozenset({WEB, WORKER, SCHEDULER}),
    "NOTIFY_URLS": frozenset({WEB, WORKER, SCHEDULER}),
    "NOTIFY_WEBHOOK_SECRET": frozenset({WEB, WORKER, SCHEDULER}),
    # Not settings of ours: the S3 client reads them itself. Web signs addresses with them.
    "AWS_ACCESS_KEY_ID": frozenset({WEB, WORKER}),
    "AWS_SECRET_ACCESS_KEY": frozenset({WEB, WORKER}),
    "AWS_SESSION_TOKEN": frozenset({WEB, WORKER}),
}
"""The processes that use each of the secret settings. Every process gets the other settings."""

SHOWN_AS_SET = frozenset(
    {
        *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "REDDIT_CLIENT_SECRET", "YOUTUBE_API_KEY", "GNEWS_API_KEY"),
        *("RUNWAYML_API_SECRET", "GEMINI_API_KEY", "LUMA_AGENTS_API_KEY"),
        *("TIKTOK_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET", "META_APP_SECRET"),
    }
)
"""Secrets whose presence other processes see too: which generators and providers there are, and what goes together."""

KEPT_ELSEWHERE = "kept-from-this-process"

_ORDINARY = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TZ|TMPDIR|TMP|TEMP|TERM|COLORTERM|(NO|FORCE)_COLOR|LANG|LANGUAGE|LC_\w+"
    r"|PYTHON\w*|VIRTUAL_ENV|COVERAGE_\w+|(LD|DYLD)_LIBRARY_PATH|LD_PRELOAD|MALLOC_\w+"
    r"|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(HTTPS?|ALL|NO)_PROXY|AWS_\w+",
    re.IGNORECASE,
)
_LIBPQ = re.compile(r"PG[A-Z]+")
"""Variables that libpq reads, for the URL of a database that is not ours."""


def environment_of_child(process: str, environment: Mapping[str, str], *, foreign_database: bool) -> dict[str, str]:
    """Return what a process that runs beside others on this machine gets of `environment`."""
    settings = {name.upper() for name in Settings.model_fields}
    kept = {
        name: value
        for name, value in environment.items()
        if name.upper() in settings or _ORDINARY.fullmatch(name) or (foreign_database and _LIBPQ.fullmatch(name))
    }
    return without_secrets_of_others(process, kept)


def without_secrets_of_others(process: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the secrets that only other processes use."""
    others = {name for name, users in SECRETS.items() if process not in users}
    hidden = {
        name: KEPT_ELSEWHERE for name, value in environment.items() if name.upper() in others & SHOWN_AS_SET and value
    }
    return {name: value for name, value in environment.items() if name.upper() not in others} | hidden

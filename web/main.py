"""The web process: the webhook endpoints, the API, and the health and readiness checks."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol
from uuid import UUID

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from db.events.probe import OK, WriteProbe
from db.postgres.connection import AppConnection
from db.queue.notifications import Notifications
from domain.errors import Unavailable
from domain.ops.connections import Role, usual_pool
from web.api.admission import PATIENCE
from web.api.app import create_api
from web.api.rate_limit import RateLimiter, RateLimits
from web.api.usage import UsageLog
from web.error_responses import http_error, internal_error
from web.media import MediaFiles
from web.metrics import MetricsEndpoint
from web.oauth import OAuthCallback
from web.ops.access import OpsAccess
from web.ops.app import ops_routes
from web.ops.live import MOST_STREAMS, Live
from web.server.body import LargeBodies
from web.server.clients import BehindProxies
from web.server.connections import Server, connection_limits
from web.server.listen import bind
from web.server.requests import Requests
from web.session_verifier import session_verifier
from web.webhook_writer import WebhookWriter
from web.webhooks import EVENT_READERS, WebhookEndpoint, WebhooksFirst, usable_secrets
from workers.adapters.ports import media_folder, store_watch
from workers.app import build
from workers.engine.job import JobType
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.ops.changes import start_note
from workers.ops.notices import NoticeWatch
from workers.ops.schedules import Timetable
from workers.runtime import logs
from workers.runtime.ids import Ids
from workers.runtime.metrics import Metrics, MetricsReport, MetricsThread
from workers.runtime.redis_client import SAYS, Trouble, connect, diagnose
from workers.runtime.sentry import open_errors
from workers.runtime.tracing import Tracing
from workers.settings import Settings

READY_FOR = 1.0
"""Seconds that a result of `/readyz` is used again, so that nobody can make us open connections at will."""

FRESH_FOR = 2.0
"""Seconds that a page of `/ops` is shown to others too: it is less than the time between two looks."""

ADMITTED_FOR = 10.0
"""Seconds for which an operator who was looked up is not looked up again: two looks of an open page."""

log = structlog.get_logger()


class Background(Protocol):
    """Works on threads of its own, from the first request to the last."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Finish the work begun; blocks for some seconds at most."""


@dataclass(frozen=True)
class WebDeps:
    """The dependencies of the web application. `connect` gives a connection of the application's role.

    `notify` does not wait for Redis. `redis_ping` has a short timeout, and raises if Redis does not answer.
    `clock` is Unix seconds. Several secrets of one source are valid at once while one is rolled.
    """

    stripe_secrets: tuple[str, ...]
    clerk_secrets: tuple[str, ...]
    connect: Callable[[], AppConnection]
    notify: Callable[[Notifications], object]
    redis_ping: Callable[[], None]
    clock: Callable[[], float]
    make_id: Callable[[], UUID]
    stripe_job: JobType[Any]
    clerk_job: JobType[Any]
    api: ASGIApp
    background: Sequence[Background] = ()
    media: ASGIApp | None = None
    """Hands out media files, where they are in a folder."""
    ops: Sequence[BaseRoute] = ()
    """The operator's page."""
    tracing: Tracing = field(default_factory=Tracing)
    oauth: ASGIApp | None = None
    """Where owners of social accounts come back to when they have given access."""
    metrics: Metrics = field(default_factory=Metrics)
    exposition: Callable[[Callable[[], str]], ASGIApp] | None = None
    """Makes what answers `/metrics`, given what tries to write to Postgres and says "ok"."""


def run(settings: Settings, *, calendar: Sequence[Timetable] = (), simulated: bool = False) -> None:
    """The web process: serve until SIGTERM or SIGINT; accepted events are stored before it ends. `calendar` is the
    scheduler's, which is an entrypoint of its own: `/metrics` and `/ops/schedules` say what of it is overdue. That all
    data are `simulated` is said on each page of `/ops`.

    Raises:
        SettingsInvalid: a setting that the process needs is missing.
        CannotListen: HOST or PORT cannot be had.
        SchemaNewer: this release must not work on this database.
    """
    errors = open_errors(settings.sentry_dsn.get_secret_value(), "web")
    logs.configure(settings.log_format, settings.log_level, report=errors.report if errors else None)
    sockets = bind(settings.web_host, settings.port)
    log.info("web.starting", addresses=[each.getsockname()[:2] for each in sockets])
    app = build(settings, name="viral web", pool_size=usual_pool(Role.WEB), pool_timeout=PATIENCE)
    try:
        app.check_schema()
    except Unavailable as error:  # webhooks are answered 503, and readiness says why, until it is there
        log.warning("web.waits", reason=str(error))
    sessions = session_verifier(settings)
    if sessions is not None:
        sessions.prepare()
    usage = UsageLog(app.db.separate())
    redis = connect(settings.redis_url, used_for="the limits of requests")
    rate_limiter = RateLimiter(redis, metrics=app.metrics)
    report = MetricsReport(app.db, app.metrics, role=Role.WEB, release=app.release)
    limits = connection_limits()
    access = OpsAccess(app, fresh_for=ADMITTED_FOR, simulated=simulated)
    live = Live(most=min(MOST_STREAMS, limits.others // 4))
    deps = WebDeps(
        stripe_secrets=settings.reveal(settings.stripe_webhook_secret),
        clerk_secrets=settings.reveal(settings.clerk_webhook_signing_secret),
        connect=app.db.connect,
        notify=app.committed,
        redis_ping=app.notifier.probe,
        clock=time.time,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
        api=create_api(
            app,
            sessions=sessions,
            clock=time.time,
            origins=settings.clerk_authorized_parties,
            rate_limiter=rate_limiter,
            usage=usage,
        ),
        background=(
            *(app, usage, store_watch(settings, app.db, Role.WEB), MetricsThread(report)),
            start_note(app, Role.WEB),
            NoticeWatch(app),
        ),
        media=None if settings.s3_bucket else MediaFiles(media_folder(settings)),
        ops=ops_routes(app, live, access, fresh_for=FRESH_FOR, calendar=calendar, simulated=simulated),
        tracing=app.tracing,
        oauth=OAuthCallback(app, RateLimits(rate_limiter, settings)),
        metrics=app.metrics,
        exposition=partial(
            MetricsEndpoint, app, write_redis=app.notifier.probe, may_look=access.may_look, calendar=calendar
        ),
    )
    server = Server(BehindProxies(create_app(deps), settings.trusted_proxies), limits, ending=live.end)
    _stop_on_signals(server)
    # Everything loaded by now stays. Unfrozen, every full collection walks it, and all requests wait for 70 ms.
    gc.collect()
    gc.freeze()
    # Python's own choice of 700 new objects has it look for garbage every few requests, a twelfth of a webhook's time.
    gc.set_threshold(10_000)
    server.run(sockets)
    rate_limiter.close()
    app.close()
    if errors is not None:
        errors.close()


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Have a signal only stop the server. uvicorn would raise it again, which ends the process before its last acts."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def create_app(web: WebDeps) -> WebhooksFirst:
    """Put the application together. Nothing is connected or started before its lifespan begins."""
    writer = WebhookWriter(web.connect, web.notify, metrics=web.metrics)
    bodies = LargeBodies()
    endpoints = [
        WebhookEndpoint(
            source,
            EVENT_READERS[source],
            usable_secrets(source, secrets),
            job,
            writer,
            web.clock,
            web.make_id,
            bodies,
            web.metrics,
            web.tracing,
        )
        for source, secrets, job in (
            ("stripe", web.stripe_secrets, web.stripe_job),
            ("clerk", web.clerk_secrets, web.clerk_job),
        )
    ]
    probe = WriteProbe(web.connect)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        background = (*web.background, writer)
        for each in background:
            each.start()
        log.info("web.ready", webhooks=[each.source for each in endpoints if each.secrets])
        yield
        for each in reversed(background):
            await asyncio.to_thread(each.stop)
        probe.close()

    rest = Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", Readiness(probe.ask, web.redis_ping).answer),
            Mount("/api", web.api),
            *([Route("/metrics", web.exposition(probe.ask))] if web.exposition else []),
            *web.ops,
            *([Route("/oauth/{platform}/callback", web.oauth)] if web.oauth else []),
            *([Route("/media/{tenant}/{name}", web.media, methods=["GET"])] if web.media else []),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: http_error, Exception: internal_error},
    )
    rest.router.redirect_slashes = False  # a redirect would repeat the Host header, which anybody may have written
    return WebhooksFirst(endpoints, rest, Requests(web.tracing))


async def index(request: Request) -> Response:
    return JSONResponse(
        {
            "name": "Viral Dashboard workers",
            "links": {"health": "/healthz", "ready": "/readyz", "api": "/api/docs"},
            "webhooks": ["/webhooks/stripe", "/webhooks/clerk"],
        }
    )


async def healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class Readiness:
    """Has Postgres store something, and asks Redis, once a second at most.

    `try_write` returns "ok", or in a few words why nothing can be stored; it has a time limit of its own.
    """

    def __init__(self, try_write: Callable[[], str], redis_ping: Callable[[], None]) -> None:
        self._try_write = try_write
        self._redis_ping = redis_ping
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._parts: dict[str, str] = {}

    async def answer(self, request: Request) -> Response:
        """503 if Postgres stores nothing. Without Redis it is 200: the dispatcher notifies later."""
        async with self._asking:
            if time.monotonic() - self._asked_at > READY_FOR:
                postgres, redis = await asyncio.gather(
                    asyncio.to_thread(self._postgres), asyncio.to_thread(self._redis)
                )
                self._parts = {"postgres": postgres, "redis": redis}
                self._asked_at = time.monotonic()
        parts = self._parts
        ready = parts["postgres"] == OK
        status = "not ready" if not ready else "ready" if parts["redis"] == "ok" else "degraded"
        return JSONResponse({"status": status, **parts}, status_code=200 if ready else 503)

    def _postgres(self) -> str:
        answer = self._try_write()
        if answer != OK:
            log.warning("readiness.no_postgres", reason=answer, seldom=True)
        return answer

    def _redis(self) -> str:
        try:
            self._redis_ping()
        except Exception as error:
            trouble = diagnose(error)  # the client has logged it
            return "unreachable" if trouble is Trouble.AWAY else SAYS[trouble].removeprefix("Redis ")
        return "ok"

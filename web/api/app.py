"""The JSON API, mounted at `/api`: how it is put together, and how an error becomes a response.

Handlers are plain functions: FastAPI runs them in threads, so they may wait for the database. Each group of routes is a
module beside `web/api/keys.py`, listed in `create_api`.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache

import structlog
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.ops.requests import Request as Answered
from db.transaction import PoolTimeout
from domain.errors import (
    AccountPending,
    BudgetExceeded,
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotSetUp,
    PostInvalid,
    ProviderRefused,
    QuotaExceeded,
    Rejected,
    StillUsed,
    TenantContextNotSet,
    Unavailable,
    UnknownAccount,
    UnknownChain,
    UnknownConcept,
    UnknownEndpoint,
    UnknownGeneration,
    UnknownKey,
    UnknownMedia,
    UnknownPost,
    UnknownTenant,
    UnknownVideo,
    ViralError,
)
from domain.videos.media import StoreFull, StoreUnavailable, TenantFull
from integrations.clerk.sessions import Verifier
from web.api import (
    accounts,
    accuracy,
    analytics,
    autopilot,
    billing,
    feedback,
    generations,
    imports,
    jobs,
    keys,
    media,
    posts,
    reflexion,
    trends,
    user,
    videos,
    webhooks,
)
from web.api.admission import Admission
from web.api.authentication import Authenticator
from web.api.cors import Cors
from web.api.openapi import DescribedApi, add_docs
from web.api.rate_limit import UNCOUNTED_HEADERS, RateLimiter, RateLimits
from web.api.usage import UsageLog
from web.api.validation import invalid_request
from web.error_responses import (
    RETRY_AFTER,
    ApiError,
    documented,
    error_response,
    http_error,
    internal_error,
    overloaded,
    retry_later,
)
from workers.app import App
from workers.runtime.error_text import text_of

EVERY_ROUTE = documented(
    _401="who calls is not known: `code` says what is wrong with the credential",
    _403="the caller lacks the scope, is banned, or is still being set up",
    _408="`TOO_SLOW`: the body was not here in time",
    _413="the body is larger than 16 kB",
    _415="`NOT_JSON`: the body's `Content-Type` is not `application/json`; `ENCODING_UNSUPPORTED`: it is compressed",
    _422="something that was sent is not as it should be: `details` says where",
    _429="`RATE_LIMITED`: too many requests; try again after `Retry-After` seconds",
    _503="this cannot be answered now (`OVERLOADED`: too much is asked at once); try again after `Retry-After` seconds",
)
"""The error responses of every route."""

WITH_DETAILS: dict[type[ViralError], int] = {TenantFull: 413, PostInvalid: 422}
"""The status of errors with details, where it is not 402."""

STORE_AWAY = "files can be neither kept nor read now"

CHALLENGE = 'Bearer realm="viral"'

log = structlog.get_logger()


def create_api(
    app: App,
    *,
    sessions: Verifier | None,
    clock: Callable[[], float],
    origins: Sequence[str] = (),
    rate_limiter: RateLimiter | None = None,
    usage: UsageLog | None = None,
) -> ASGIApp:
    """Put the API together. Scripts of pages of `origins` may call it; `clock` is Unix seconds.

    Without `rate_limiter` nobody is limited; without `usage` no request is recorded.
    """
    api = DescribedApi(
        title="Viral Dashboard",
        version=app.version,
        description="Send `Authorization: Bearer` with an API key or a session token of Clerk.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header, which anybody may have written
        routes=list(_routes()),
        exception_handlers={
            HTTPException: framework_error,
            RequestValidationError: invalid_request,
            ApiError: api_error,
            PoolTimeout: _pool_timeout,
            StoreUnavailable: _store_unavailable,
            ViralError: domain_error,
            Exception: internal_error,
        },
    )
    api.state.app = app
    api.state.rate_limits = rate_limiter and RateLimits(rate_limiter, app.settings)
    api.state.admission = Admission()
    api.state.uploads = media.uploading()
    api.state.checks = media.checking()
    api.state.imports = imports.importing()
    api.state.exports = imports.exporting()
    api.state.authenticator = Authenticator(app.db, sessions, clock)
    add_docs(api)
    observed = CallerMiddleware(api, usage)
    # Outermost, so that a page's script can read error responses too.
    return Cors(observed, origins) if origins else observed


@cache
def _routes() -> Sequence[BaseRoute]:
    """Return the routes of all groups. They know nothing of an application, and are read from the handlers' signatures
    at the first request, which takes 80 ms: once for all APIs of a process, of which its tests have hundreds."""
    all_groups = APIRouter(responses=EVERY_ROUTE)
    groups = (
        user,
        keys,
        generations,
        jobs,
        videos,
        feedback,
        billing,
        media,
        accounts,
        accuracy,
        posts,
        analytics,
        autopilot,
        imports,
        reflexion,
        trends,
        webhooks,
    )
    for group in groups:
        all_groups.include_router(group.routes)
    all_groups.include_router(media.uploads)
    all_groups.include_router(imports.files)
    all_groups.include_router(generations.large)
    return all_groups.routes


class CallerMiddleware:
    """Adds the rate limit's headers to the response of an identified caller, and records the request."""

    def __init__(self, app: ASGIApp, usage: UsageLog | None) -> None:
        self._app = app
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope["state"] = dict(scope.get("state", {}))
        began = time.monotonic()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                if "rate_limit" in state:
                    result = state["rate_limit"]
                    MutableHeaders(scope=message).update(result.headers() if result else UNCOUNTED_HEADERS)
                if self._usage is not None and "caller" in state:
                    name = f"{scope['method']} {_route(scope)}"
                    duration_ms = round((time.monotonic() - began) * 1000)
                    self._usage.record(Answered(state["caller"].tenant_id, name, message["status"], duration_ms))
            await send(message)

        return await self._app(scope, receive, observed)


def _route(scope: Scope) -> str:
    """Return the route for logs: the path itself has whatever its caller wrote."""
    return getattr(scope.get("route"), "path", "?")


async def api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error.response()


async def framework_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 400:
        # A body that is not UTF-8: to a caller as wrong as any other.
        return error_response(422, "body: it cannot be read as JSON", "INVALID")
    return await http_error(request, error)


async def domain_error(request: Request, error: Exception) -> Response:
    """Answer an error of our own rules."""
    if isinstance(error, NotAuthenticated | NotAllowed):
        log.info("api.refused", route=_route(request.scope), code=error.code)
    match error:
        case NotAuthenticated():
            challenge = CHALLENGE if error.code == "CREDENTIAL_MISSING" else f'{CHALLENGE}, error="invalid_token"'
            return error_response(401, str(error), error.code, headers={"WWW-Authenticate": challenge})
        case AccountPending():
            return retry_later(str(error), error.code, round(error.retry_after.total_seconds()), status=403).response()
        case NotAllowed():
            return error_response(403, str(error), error.code)
        case QuotaExceeded() | BudgetExceeded() | TenantFull() | PostInvalid():
            status = next((number for kind, number in WITH_DETAILS.items() if isinstance(error, kind)), 402)
            return error_response(status, str(error), error.code, error.details)
        case StillUsed():
            return error_response(409, str(error), "STILL_USED")
        case (
            UnknownTenant()
            | UnknownKey()
            | UnknownGeneration()
            | UnknownConcept()
            | UnknownVideo()
            | UnknownMedia()
            | UnknownAccount()
            | UnknownPost()
            | UnknownChain()
            | UnknownEndpoint()
        ):
            return error_response(404, str(error), "NOT_FOUND")
        case Conflict():
            return error_response(409, str(error), error.code)
        case ProviderRefused():
            log.error("api.provider_refused", route=_route(request.scope), code=error.code, reason=text_of(error))
            text = "somebody that we rely on refuses this; it has been logged"
            return error_response(502, text, "PROVIDER_REFUSED", {"reason": error.code})
        case Rejected() if not isinstance(error, TenantContextNotSet):  # that is a bug of ours
            return error_response(422, str(error), "INVALID")
        case NotSetUp():
            return error_response(503, str(error), "NOT_SET_UP")
        case Unavailable():
            log.warning("api.unavailable", route=_route(request.scope), reason=str(error), seldom=True)
            seconds = round(error.retry_after.total_seconds()) if error.retry_after else RETRY_AFTER
            return retry_later("this cannot be answered now; try again later", "UNAVAILABLE", seconds).response()
    raise error


async def _pool_timeout(request: Request, error: Exception) -> Response:
    log.warning("api.unavailable", route=_route(request.scope), reason=str(error))
    return overloaded("more is asked for at once than can be answered; try again later").response()


async def _store_unavailable(request: Request, error: Exception) -> Response:
    log.error("api.store_unavailable", route=_route(request.scope), reason=str(error), seldom=True)
    # Its own text is for operators: it names settings and folders.
    text = "there is no space left to keep files in" if isinstance(error, StoreFull) else STORE_AWAY
    return retry_later(f"{text}; try again later", "STORE_UNAVAILABLE").response()

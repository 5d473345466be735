"""The JSON API, mounted at `/api`: how it is put together, and what its refusals look like.

Handlers are plain functions: FastAPI runs them in threads, so they may wait for the database. Each group of routes is a
module beside `web/api/keys.py`, listed in `create_api`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.ops.requests import Request as Answered
from db.transaction import PoolTimeout
from domain.errors import (
    AccountPending,
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotSetUp,
    ProviderRefused,
    QuotaExceeded,
    Rejected,
    StillUsed,
    TenantContextNotSet,
    Unavailable,
    UnknownKey,
    UnknownTenant,
    ViralError,
)
from integrations.clerk.sessions import Verifier
from web.api import billing, feedback, generations, jobs, keys, limits, user
from web.api.access import Authenticator
from web.api.admission import Admission
from web.api.description import Described
from web.api.docs import add_docs
from web.api.preflight import Preflighted
from web.api.refusals import RETRY_AFTER, Refusal, Refused, overloaded, refusal
from web.api.strict import fields_of, unknown_field
from web.api.usage import UsageLog, milliseconds_since
from web.server.body import LONGEST_NAME
from web.throttle import Throttle
from workers.app import App
from workers.engine.failures import text_of

CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
REFUSALS = {
    401: "who calls is not known: `code` says what is wrong with the credential",
    403: "the caller lacks the scope, is banned, or is still being set up",
    408: "`TOO_SLOW`: the body was not here in time",
    413: "the body is larger than 16 kB",
    415: "`NOT_JSON`: the body's `Content-Type` is not `application/json`; `ENCODING_UNSUPPORTED`: it is compressed",
    422: "something that was sent is not as it should be: `details` says where",
    429: "`RATE_LIMITED`: too many requests; try again after `Retry-After` seconds",
    503: "this cannot be answered now (`OVERLOADED`: too much is asked at once); try again after `Retry-After` seconds",
}
"""Of every route."""
MOST_FAULTS = 20
"""Places that are named of a body that is wrong everywhere."""
CHALLENGE = 'Bearer realm="viral"'

log = structlog.get_logger()


def create_api(
    app: App,
    *,
    sessions: Verifier | None,
    clock: Callable[[], float],
    origins: Sequence[str] = (),
    throttle: Throttle | None = None,
    usage: UsageLog | None = None,
) -> ASGIApp:
    """`origins`: of the pages whose scripts may call; `clock` is Unix seconds.

    Without `throttle` nobody is limited; without `usage` no request is recorded.
    """
    api = Described(
        title="Viral Dashboard",
        version=app.version,
        description="Send `Authorization: Bearer` with an API key or a session token of Clerk.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header, which anybody may have written
        responses={status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()},
        exception_handlers={
            HTTPException: _http_error,
            RequestValidationError: _invalid,
            Refused: _only_here,
            PoolTimeout: _too_busy,
            ViralError: _refused,
            Exception: _own_error,
        },
    )
    api.state.app = app
    api.state.throttle = throttle
    api.state.policies = limits.policies(app.settings)
    api.state.admission = Admission()
    api.state.strangers = limits.of_strangers(app.settings)
    api.state.authenticator = Authenticator(app.db, sessions, clock)
    for group in (user, keys, generations, jobs, feedback, billing):
        api.include_router(group.routes)
    add_docs(api)
    served = Observed(api, usage)
    if not origins:
        return served
    # Outermost, so that a page's script can read refusals and failures too.
    return Preflighted(
        served,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["Location", "RateLimit", "RateLimit-Policy", "RateLimit-Status", "Retry-After"],
        max_age=600,
    )


class Observed:
    """Tells every known caller what is left of their requests, and keeps that they asked."""

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
                if "taken" in state:
                    MutableHeaders(scope=message).update(limits.headers(state["taken"]))
                if self._usage is not None and "caller" in state:
                    route = getattr(scope.get("route"), "path", "?")
                    name = f"{scope['method']} {route}"
                    duration = milliseconds_since(began)
                    self._usage.record(Answered(state["caller"].tenant_id, name, message["status"], duration))
            await send(message)

        return await self._app(scope, receive, observed)


def _route(request: Request) -> str:
    """For logs: the path itself has whatever its caller wrote."""
    return getattr(request.scope.get("route"), "path", "?")


async def _only_here(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: no such path, another method."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 400:  # a body that is not UTF-8: to a caller as wrong as any other
        return refusal(422, "body: it cannot be read as JSON", "INVALID")
    return refusal(error.status_code, error.detail, CODES.get(error.status_code, "HTTP_ERROR"), headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """Names each place and what is wrong there. The values are not repeated: they may be secret."""
    if not isinstance(error, RequestValidationError):
        raise error
    if any(isinstance(fault.get("input"), bytes) for fault in error.errors()):  # FastAPI did not try to read the body
        return refusal(415, "send the body as JSON, with `Content-Type: application/json`", "NOT_JSON")
    faults = [
        {"where": ".".join(str(part)[:LONGEST_NAME] for part in fault["loc"]), "what": _what(request, fault)}
        for fault in error.errors()[:MOST_FAULTS]
    ]
    return refusal(422, f"{faults[0]['where']}: {faults[0]['what']}", "INVALID", faults)


def _what(request: Request, fault: Mapping[str, Any]) -> str:
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"]).removeprefix("Value error, ")
    place, *_, name = fault["loc"]
    return unknown_field(str(name), fields_of(request.scope["route"], str(place)))


async def _refused(request: Request, error: Exception) -> Response:
    """What our own rules refuse."""
    if isinstance(error, NotAuthenticated | NotAllowed):
        log.info("api.refused", route=_route(request), code=error.code)
    match error:
        case NotAuthenticated():
            challenge = CHALLENGE if error.code == "CREDENTIAL_MISSING" else f'{CHALLENGE}, error="invalid_token"'
            return refusal(401, str(error), error.code, headers={"WWW-Authenticate": challenge})
        case AccountPending():
            seconds = round(error.retry_after.total_seconds())
            return refusal(403, str(error), error.code, {"retry_after": seconds}, {"Retry-After": str(seconds)})
        case NotAllowed():
            return refusal(403, str(error), error.code)
        case QuotaExceeded():
            return refusal(402, str(error), "QUOTA_EXCEEDED", error.details)
        case StillUsed():
            return refusal(409, str(error), "STILL_USED")
        case UnknownTenant() | UnknownKey():
            return refusal(404, str(error), "NOT_FOUND")
        case Conflict():
            return refusal(409, str(error), error.code)
        case ProviderRefused():
            log.error("api.provider_refused", route=_route(request), code=error.code, reason=text_of(error))
            text = "somebody that we rely on refuses this; it has been logged"
            return refusal(502, text, "PROVIDER_REFUSED", {"reason": error.code})
        case Rejected() if not isinstance(error, TenantContextNotSet):  # that is a bug of ours
            return refusal(422, str(error), "INVALID")
        case NotSetUp():
            return refusal(503, str(error), "NOT_SET_UP")
        case Unavailable():
            log.warning("api.unavailable", route=_route(request), reason=str(error), seldom=True)
            seconds = round(error.retry_after.total_seconds()) if error.retry_after else RETRY_AFTER
            return refusal(
                503,
                "this cannot be answered now; try again later",
                "UNAVAILABLE",
                {"retry_after": seconds},
                {"Retry-After": str(seconds)},
            )
    raise error


async def _too_busy(request: Request, error: Exception) -> Response:
    log.warning("api.unavailable", route=_route(request), reason=str(error))
    return overloaded("more is asked for at once than can be answered; try again later").response()


async def _own_error(request: Request, error: Exception) -> Response:
    return refusal(500, "an error of our own; it has been logged", "INTERNAL")

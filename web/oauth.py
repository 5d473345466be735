"""`GET /oauth/{platform}/callback`: where a platform sends an account's owner back to, with a code.

Whoever comes is known by the state in the address alone, which is good for one use. The address is never logged, nor
shown: the response is a redirect to the page of our own that they came from, or a page that says what became of it.
"""

from html import escape
from typing import Final

import structlog
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from domain.errors import Rejected, Unavailable
from web.api.rate_limit import RateLimits
from web.error_responses import ApiError, error_response, not_found, overloaded, retry_later
from workers.app import App
from workers.ops.accounts import platform_of
from workers.ops.connecting import Outcome, finish_connect

AT_ONCE = 32
"""Callbacks that are answered at once; each may wait for its platform."""
THREADS = 8
COUNTED = ("state_unknown", "state_used")
"""Outcomes of whoever tries states."""
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head>
<body><h1>{title}</h1><p>{message}</p>{hint}</body></html>
"""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

log = structlog.get_logger()


class OAuthCallback:
    """The endpoint. Without `limits` nobody is limited."""

    def __init__(self, app: App, limits: RateLimits | None = None) -> None:
        self._app = app
        self._limits = limits
        self._limiter: CapacityLimiter | None = None
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._at_work >= AT_ONCE:
            busy = overloaded("too many accounts are being connected at once; load this page again").response()
            await busy(scope, receive, send)
            return
        self._at_work += 1
        try:
            response = await self._answer(Request(scope))
        finally:
            self._at_work -= 1
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "GET":  # whoever only looks at an address does not use it up
            return error_response(405, "only GET is understood here", "METHOD_NOT_ALLOWED", headers={"Allow": "GET"})
        limiter = self._limiter = self._limiter or CapacityLimiter(THREADS)
        try:
            platform = platform_of(request.path_params["platform"])
        except Rejected:
            return not_found("platform of this name").response()
        params = dict(request.query_params)
        address = request.client.host if request.client else None
        try:
            outcome = await to_thread.run_sync(self._finish, platform, params, address, limiter=limiter)
        except ApiError as error:
            return error.response()
        except Unavailable as error:
            log.warning("oauth.unavailable", platform=platform, reason=str(error), seldom=True)
            return retry_later("this cannot be answered now; load this page again", "UNAVAILABLE").response()
        if outcome.address is not None:
            return RedirectResponse(outcome.address, 303, headers=HEADERS)
        return _page(outcome)

    def _finish(self, platform: str, params: dict[str, str], address: str | None) -> Outcome:
        outcome = finish_connect(self._app, platform, params)
        if outcome.code in COUNTED and self._limits is not None:
            self._limits.count_unknown(address)
        return outcome


def _page(outcome: Outcome) -> Response:
    connected = outcome.account_id is not None
    title = "Connected" if connected else "Not connected"
    hint = f"<p>{escape(outcome.hint)}</p>" if outcome.hint else ""
    content = PAGE.format(title=title, message=escape(outcome.message), hint=hint)
    return HTMLResponse(content, 200 if connected else 400, headers=HEADERS)

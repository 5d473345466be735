"""What stands before `/ops`: everything below it passes `Guard`, which has whoever asks admitted
(`web/ops/access.py`), signs in and out, reads forms, and gives every response its headers."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, quote

from jinja2 import Environment
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.ops.operators import HOME, SESSION_LIFE, place_after
from web.ops.access import OpsAccess
from web.ops.origins import HEADERS, check_own_origin
from web.ops.signed_in import COOKIE, COOKIE_OVER_HTTPS, Refused, check_form, session_of
from web.server.body import Body, BodyTooLarge, Disconnected
from web.server.headers import is_https

LOGIN: Final = "/ops/login"
LOGOUT: Final = "/ops/logout"
STATIC: Final = "/ops/static/"

MAX_FORM = 8 * 1024
MAX_FIELDS = 8


class Guard(BaseRoute):
    """`/ops` and all below it: the routes of `inside` for whoever is admitted, who is in `request.state.signed_in`.

    Every response has the headers of `/ops`, whichever part gives it.
    """

    def __init__(self, access: OpsAccess, inside: ASGIApp, environment: Environment) -> None:
        self._access = access
        self.inside = inside
        self._environment = environment

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        mine = scope["type"] == "http" and (scope["path"] == HOME or scope["path"].startswith(f"{HOME}/"))
        return (Match.FULL if mine else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NotImplementedError("pages are linked to by their paths")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                for name, value in HEADERS.items():
                    headers[name] = value
                message["headers"] = headers.raw
            await send(message)

        request = Request(scope, receive)
        try:
            try:
                await self._answer(request, scope, receive, send_with_headers)
            except Refused as refused:
                response = self._error_response(request, refused)
                await response(scope, receive, send_with_headers)
            except HTTPException as error:
                says = {404: "there is no such page", 405: "this method is not understood here"}
                text = says.get(error.status_code, "this request is not understood")
                response = self._plain(error.status_code, text, error.headers)
                await response(scope, receive, send_with_headers)
        except Disconnected:
            return
        except Exception:
            if not started:
                response = self._plain(500, "an error of our own; it has been logged")
                await response(scope, receive, send_with_headers)
            raise

    async def _answer(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(STATIC):  # the same for everybody
            await self.inside(scope, receive, send)
            return
        if path in (LOGIN, LOGOUT):
            response = await (self._login(request) if path == LOGIN else self._logout(request))
        else:
            if request.method not in ("GET", "HEAD"):
                check_own_origin(request, self._access._public_origin)
            request.state.signed_in = await self._access.admitted(request)
            await self.inside(scope, receive, send)
            return
        await response(scope, receive, send)

    async def _login(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return self._login_page(200, place_after(request.query_params.get("next")))
        if request.method != "POST":
            raise HTTPException(405, headers={"Allow": "GET, POST"})
        check_own_origin(request, self._access._public_origin)
        form = await read_form(request)
        place = place_after(form.get("next"))
        try:
            session = await self._access.run(self._access.sign_in, request, form.get("token", "").strip())
        except Refused as refused:
            return self._login_page(refused.status, place, refused.says, refused.headers)
        response = RedirectResponse(place, 303)
        _set_session(response, request, session)
        return response

    async def _logout(self, request: Request) -> Response:
        if request.method != "POST":
            raise HTTPException(405, headers={"Allow": "POST"})
        check_own_origin(request, self._access._public_origin)
        form = await read_form(request)
        session = session_of(request)
        if session is not None:
            check_form(request, form.get("form_token", ""))
            await self._access.run(self._access.sign_out, session)
        response = RedirectResponse(LOGIN, 303)
        for name, path, secure in ((COOKIE, HOME, False), (COOKIE_OVER_HTTPS, "/", True)):
            response.delete_cookie(name, path=path, secure=secure, httponly=True, samesite="lax")
        return response

    def _error_response(self, request: Request, refused: Refused) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers
        wants_page = wants_page and "authorization" not in request.headers
        if refused.status == 401 and wants_page and request.method in ("GET", "HEAD"):
            query = f"?{request.url.query}" if request.url.query else ""
            raw = request.scope.get("raw_path") or b""
            place = place_after(raw.decode("latin-1").partition("?")[0] + query)
            return RedirectResponse(LOGIN if place == HOME else f"{LOGIN}?next={quote(place, safe='')}", 303)
        return self._plain(refused.status, refused.says, refused.headers)

    def _login_page(
        self, status: int, place: str, says: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        text = self._environment.get_template("login.html").render(place=place, says=says, home=HOME)
        return HTMLResponse(text, status, headers)

    def _plain(self, status: int, says: str, headers: Mapping[str, str] | None = None) -> Response:
        text = self._environment.get_template("refused.html").render(status=status, says=says, home=HOME)
        return HTMLResponse(text, status, headers)


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a small form; of a field that is sent twice, the first. Raises what `read_fields` does."""
    return {name: values[0] for name, values in (await read_fields(request)).items()}


async def read_fields(request: Request, size: int = MAX_FORM, fields: int = MAX_FIELDS) -> dict[str, list[str]]:
    """Return the fields of a form of at most `size` bytes and so many fields, each with all its values.

    Raises:
        Refused: 413, 415 or 400: it is no such form.
        Disconnected: it did not arrive.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Refused(415, "send a form: application/x-www-form-urlencoded")
    with Body() as body:
        try:
            content = await body.read(request.scope, request.receive, size)
        except BodyTooLarge as error:
            raise Refused(413, str(error)) from None
    try:
        return parse_qs(content.decode("ascii"), keep_blank_values=True, max_num_fields=fields)
    except ValueError:
        raise Refused(400, "this form is not understood") from None


def _set_session(response: Response, request: Request, session: str) -> None:
    """SameSite is Lax and not Strict: whoever follows a link in a mail about an alert is to be signed in there. A GET
    changes nothing, and what changes something asks for more than a cookie."""
    secure = is_https(request.scope) or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(
        COOKIE_OVER_HTTPS if secure else COOKIE,
        session,
        max_age=int(SESSION_LIFE.total_seconds()),
        path="/" if secure else HOME,
        secure=secure,
        httponly=True,
        samesite="lax",
    )

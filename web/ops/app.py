"""`/ops`, the operator's page: it shows what `workers/ops` answers, and changes nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from web.ops.filters import with_query
from web.ops.page import Look, NothingThere, Page, WrongFilter, templates
from web.ops.pages.workers import WORKERS
from workers.app import App

PAGES: Final[Sequence[Page]] = (WORKERS,)
"""In the order of the menu."""

STATIC: Final = Path(__file__).parent / "static"

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}


THEMES: Final = ("light", "dark")
THEME_COOKIE: Final = "ops_theme"
A_YEAR: Final = 365 * 24 * 3600


def ops_routes(app: App) -> list[Route | Mount]:
    """The routes of `/ops`."""
    environment = templates()
    return [
        *(Route(f"/ops{page.path}", Answer(app, page, environment), methods=["GET"]) for page in PAGES),
        Mount("/ops/static", StaticFiles(directory=STATIC)),
    ]


class Answer:
    """Answers one page of `/ops` to whoever may look."""

    def __init__(self, app: App, page: Page, environment: Environment) -> None:
        self._app = app
        self._page = page
        self._environment = environment

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await asyncio.to_thread(self._answer, Request(scope))
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        query = dict(request.query_params)
        if "theme" in query:
            return _keep_theme(request, query["theme"])
        look = Look(self._app, request.path_params, query, role="look")
        try:
            return self._rendered(request, self._page.template, self._page.view(look))
        except NothingThere as error:
            return self._rendered(request, "nothing.html", {"says": str(error)}, status=404)
        except WrongFilter as error:
            return self._rendered(request, "nothing.html", {"says": str(error)}, status=400)

    def _rendered(self, request: Request, template: str, shown: Mapping[str, Any], *, status: int = 200) -> Response:
        theme = request.cookies.get(THEME_COOKIE)
        frame = {
            "page": self._page,
            "menu": [page for page in PAGES if page.in_menu],
            "here": _here(request),
            "query": request.query_params,
            "theme": theme if theme in THEMES else None,
        }
        text = self._environment.get_template(template).render({**frame, **shown})
        return HTMLResponse(text, status, HEADERS)


def _here(request: Request) -> str:
    """Return the path and the filters of this page, in which nothing is left of how they were sent."""
    return with_query(request.url.path + "?" + request.url.query, theme=None)


def _keep_theme(request: Request, theme: str) -> Response:
    """Have the browser keep the choice of a theme, and show the same page again."""
    response = RedirectResponse(_here(request), 303, HEADERS)
    if theme in THEMES:
        secure = request.url.scheme == "https"
        response.set_cookie(
            THEME_COOKIE, theme, max_age=A_YEAR, path="/ops", secure=secure, httponly=True, samesite="lax"
        )
    else:
        response.delete_cookie(THEME_COOKIE, path="/ops")
    return response

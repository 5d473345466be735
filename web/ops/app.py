"""`/ops`, the operator's page: it shows what `workers/ops` answers, and changes nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

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
        look = Look(self._app, request.path_params, dict(request.query_params), role="look")
        try:
            return self._rendered(self._page.template, self._page.view(look))
        except NothingThere as error:
            return self._rendered("nothing.html", {"says": str(error)}, status=404)
        except WrongFilter as error:
            return self._rendered("nothing.html", {"says": str(error)}, status=400)

    def _rendered(self, template: str, shown: Mapping[str, Any], *, status: int = 200) -> Response:
        menu = [page for page in PAGES if page.in_menu]
        text = self._environment.get_template(template).render({**shown, "page": self._page, "menu": menu})
        return HTMLResponse(text, status, HEADERS)

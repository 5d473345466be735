"""The frame of all pages of `/ops`: the menu, who is signed in, the theme, and what is done to the thing of a page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from web.ops.filters import with_query
from web.ops.origins import HEADERS
from web.ops.page import Page, Titled
from web.ops.signed_in import signed_in

THEMES: Final = ("light", "dark")
THEME_COOKIE: Final = "ops_theme"
A_YEAR: Final = 365 * 24 * 3600


class Frame:
    """Renders a template within the frame. A page that is `still` does not follow what happens: it has a form that
    somebody fills in."""

    def __init__(self, environment: Environment, pages: Sequence[Page]) -> None:
        self._environment = environment
        self._menu = [page for page in pages if page.in_menu]

    def rendered(
        self, request: Request, page: Titled, template: str, shown: Mapping[str, Any], status: int = 200
    ) -> HTMLResponse:
        theme = request.cookies.get(THEME_COOKIE)
        frame = {
            "page": page,
            "menu": self._menu,
            "here": here(request),
            "query": request.query_params,
            "theme": theme if theme in THEMES else None,
            "signed_in": signed_in(request),
            "refuses_writes": False,
            "still": False,
            "about": None,
            "done": None,
        }
        text = self._environment.get_template(template).render({**frame, **shown})
        return HTMLResponse(text, status, HEADERS)


def here(request: Request) -> str:
    """Return the path and the filters of this page, in which nothing is left of how they were sent."""
    path, query = quote(request.scope["path"], safe="/~@:!$&'()*+,;="), request.scope["query_string"]
    return with_query(f"{path}?{query.decode('latin-1')}", theme=None)


def keep_theme(request: Request, theme: str) -> Response:
    """Have the browser keep the choice of a theme, and show the same page again."""
    response = RedirectResponse(here(request), 303, HEADERS)
    if theme in THEMES:
        secure = request.url.scheme == "https"
        response.set_cookie(
            THEME_COOKIE, theme, max_age=A_YEAR, path="/ops", secure=secure, httponly=True, samesite="lax"
        )
    else:
        response.delete_cookie(THEME_COOKIE, path="/ops")
    return response

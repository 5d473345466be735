"""`/api/docs`: the API's description as a page to read and to try things on. All of it is served by us.

FastAPI's own page loads Swagger UI from a public network, which a browser behind a firewall does not reach and which
could change what runs on our origin. The files are in `web/api/assets` instead, and the page's policy allows no others.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

ASSETS: Final = Path(__file__).parent / "assets"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Swagger UI's style sheet holds its icons
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
REVALIDATE: Final = "no-cache"
"""A browser keeps its copy, and asks each time whether it is still the newest."""


class Assets(StaticFiles):
    """Files that a browser may keep: they are the same for everybody."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = REVALIDATE
        return response


def add_docs(api: FastAPI) -> None:
    """Serve the page at `/docs` of `api`, its files, and what it shows; `api` was made without FastAPI's own."""
    api.add_route("/docs", page, include_in_schema=False)
    api.add_route("/openapi.json", _description_of(api), include_in_schema=False)
    api.mount("/docs/assets", Assets(directory=ASSETS))


async def page(request: Request) -> Response:
    return FileResponse(ASSETS / "docs.html", headers={"Content-Security-Policy": POLICY, "Cache-Control": REVALIDATE})


def _description_of(api: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """FastAPI's own answer writes the whole document anew each time: 5 ms, for anybody who asks."""
    written: dict[str, bytes] = {}

    async def description(request: Request) -> Response:
        mounted_at = request.scope.get("root_path", "")
        if mounted_at not in written:
            servers = {"servers": [{"url": mounted_at}]} if mounted_at else {}
            written[mounted_at] = json.dumps(api.openapi() | servers).encode()
        return Response(written[mounted_at], media_type="application/json")

    return description

"""The API's OpenAPI document, and `/api/docs`, a page to read it and to try things on. All of it is served by us.

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

CONTENT_POLICY: Final = "; ".join(
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

TEXT = {"type": "string"}
SECONDS = {"type": "integer", "minimum": 0}

LOCATION = {"Location": {"description": "Where the job is.", "schema": TEXT}}
RATE_LIMIT = {
    "RateLimit-Policy": {"description": 'What is allowed: `"key";q=120;w=60`, 120 in 60 s.', "schema": TEXT},
    "RateLimit": {"description": 'What is left: `"key";r=119;t=1`, all of it again in 1 s.', "schema": TEXT},
    "RateLimit-Status": {"description": "`uncounted`: it passed, as nobody can count at the moment.", "schema": TEXT},
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds after which it is worth trying again.", "schema": SECONDS}}
CHALLENGE = {"WWW-Authenticate": {"description": "How to come in, as in RFC 6750.", "schema": TEXT}}

UNCOUNTED_STATUSES = {"401", "413"}
"""Responses to callers that are not identified yet, whose requests are not counted."""
STATUS_HEADERS = {"202": LOCATION, "401": CHALLENGE, "403": RETRY_AFTER, "429": RETRY_AFTER, "503": RETRY_AFTER}


class DescribedApi(FastAPI):
    """FastAPI, whose OpenAPI document describes the headers of responses too."""

    def openapi(self) -> dict[str, Any]:
        made = self.openapi_schema is not None
        document = super().openapi()
        if not made:
            for path in document["paths"].values():
                for operation in path.values():
                    for status, response in operation["responses"].items():
                        counted = {} if status in UNCOUNTED_STATUSES else RATE_LIMIT
                        response.setdefault("headers", {}).update(counted | STATUS_HEADERS.get(status, {}))
        return document


class Assets(StaticFiles):
    """Files that a browser may keep: they are the same for everybody."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = REVALIDATE
        return response


def add_docs(api: FastAPI) -> None:
    """Serve the page at `/docs` of `api`, its files and the document; `api` was made without FastAPI's own page."""
    api.add_route("/docs", page, include_in_schema=False)
    api.add_route("/openapi.json", _document_of(api), include_in_schema=False)
    api.mount("/docs/assets", Assets(directory=ASSETS))


async def page(request: Request) -> Response:
    headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": REVALIDATE}
    return FileResponse(ASSETS / "docs.html", headers=headers)


def _document_of(api: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """Return a route that writes the document once; FastAPI's own writes it anew for each request, which costs 5 ms."""
    written: dict[str, bytes] = {}

    async def document(request: Request) -> Response:
        mounted_at = request.scope.get("root_path", "")
        if mounted_at not in written:
            servers = {"servers": [{"url": mounted_at}]} if mounted_at else {}
            written[mounted_at] = json.dumps(api.openapi() | servers).encode()
        return Response(written[mounted_at], media_type="application/json")

    return document

"""CORS: the scripts of some web pages may call the API, and a refused preflight has the form of all error responses."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from web.error_responses import error_response


class Cors(CORSMiddleware):
    """Starlette's middleware, which answers a preflight in plain text, made to answer it in JSON."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Location", "RateLimit", "RateLimit-Policy", "RateLimit-Status", "Retry-After"],
            max_age=600,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        if answer.status_code == 200:
            return Response(headers=kept)
        refused = bytes(answer.body).decode().removeprefix("Disallowed CORS ").split(", ")
        text = f"a page's script may not call like this: not allowed is its {', its '.join(refused)}"
        return error_response(answer.status_code, text, "CORS_REFUSED", {"refused": refused}, kept)

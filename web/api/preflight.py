"""CORS: which pages' scripts may call; and what a browser that asks first is told, in the form of all other answers."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from web.api.refusals import refusal


class Preflighted(CORSMiddleware):
    """Starlette's, which answers in plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        if answer.status_code == 200:
            return Response(headers=kept)
        refused = bytes(answer.body).decode().removeprefix("Disallowed CORS ").split(", ")
        text = f"a page's script may not call like this: not allowed is its {', its '.join(refused)}"
        return refusal(answer.status_code, text, "CORS_REFUSED", {"refused": refused}, kept)

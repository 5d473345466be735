"""Google's interactions on this machine, as far as clips need them: orders in the background, their states, the files.

The files lie on the same host, and want the key, too. So do its language models (`simulators/llm.py`), which the same
settings lead to.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from simulators.llm import answered
from simulators.loopback import Reply, Request, json_reply
from simulators.video.clips import Asked, ClipSimulator, ErrorResponse, Order, only, serving

USD_PER_SECOND = Decimal("0.105")
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
STATES = {
    "queued": "queued",
    "running": "in_progress",
    "unknown": "pondering",
    "succeeded": "completed",
    "failed": "failed",
    "moderated": "failed",
    "cancelled": "cancelled",
}


class GoogleSimulator(ClipSimulator):
    refunds = "nothing"

    def authorized(self, request: Request) -> bool:
        return request.headers.get("x-goog-api-key") == self.key

    def route(self, request: Request) -> Reply:
        interaction = request.path.removeprefix("/v1/interactions/")
        file = request.path.removeprefix("/v1beta/files/").removesuffix(":download")
        match request.method, request.path:
            case "POST", "/v1/interactions":
                return self.order(_asked(self, request.body))
            case "POST", path if path != interaction and path.endswith("/cancel"):
                return json_reply(self._shown(self.cancel(interaction.removesuffix("/cancel"))))
            case "GET", path if path != interaction:
                return json_reply(self._shown(self.find(interaction)))
            case "GET", path if path == f"/v1beta/files/{file}:download" and request.params.get("alt") == "media":
                return self.media_of(request, file)
            case "POST", path if path.endswith(":generateContent"):
                return answered(request, key=self.key)
        return self.error(404, "not_found", "Requested entity was not found.")

    @property
    def posts(self) -> int:
        return sum(request.path == "/v1/interactions" for request in self.server.requests)

    def error(self, status: int, code: str, message: str, **headers: str) -> Reply:
        error: dict[str, Any] = {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}
        if "retry_after" in headers:  # Google says it in the body
            wait = f"{headers.pop('retry_after')}s"
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": wait}]
        return json_reply({"error": error}, status, **headers)

    def moderated(self) -> Reply:
        return self.error(400, "blocked", "The prompt was blocked. It violates Google's usage policies.")

    def taken(self, order: Order) -> Reply:
        return json_reply(self._shown(order) | {"status": "in_progress"})

    def address(self, order: Order) -> str:
        return f"{self.server.url}/v1beta/files/{order.id}"

    def _shown(self, order: Order) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": order.id, "object": "interaction", "status": STATES[order.state]}
        shown |= {"model": order.model, "labels": {"submission": order.key}}
        if order.state == "succeeded":
            video = {"type": "video", "mime_type": "video/mp4", "uri": self.address(order)}
            shown["steps"] = [{"type": "model_output", "content": [video]}]
        if order.state == "moderated":
            shown["errors"] = [{"code": "safety", "message": "The video was filtered for safety."}]
        if order.state == "failed":
            shown["errors"] = [{"code": "internal", "message": "An internal error has occurred."}]
        return shown


@contextmanager
def google_simulator(
    media: bytes, *, key: str = "AIzaSimulated0123456789", held_seconds: float = 3600
) -> Iterator[GoogleSimulator]:
    with serving(GoogleSimulator(media, key, held_seconds)) as simulator:
        yield simulator


FIELDS = {"model": str, "input": str, "background": bool, "response_format": dict, "labels": dict}
VIDEO = dict.fromkeys(("type", "aspect_ratio", "resolution", "duration", "delivery"), str)


def _asked(simulator: GoogleSimulator, body: bytes) -> Asked:
    try:
        order = json.loads(body)
    except ValueError:
        raise ErrorResponse(simulator.error(400, "json", "Invalid JSON payload received.")) from None
    faults = only(order, FIELDS, tuple(FIELDS))
    faults += only(order["response_format"], VIDEO, tuple(VIDEO)) if not faults else []
    if not faults:
        video = order["response_format"]
        seconds = video["duration"].removesuffix("s")
        label = order["labels"].get("submission")
        checks = {
            "model: not found": order["model"] in ("gemini-omni-1.1-flash", "gemini-omni-1.2-flash"),
            "input: empty": bool(order["input"].strip()),
            "background: a clip needs it": order["background"] is True,
            "response_format.type": video["type"] == "video",
            "response_format.aspect_ratio": video["aspect_ratio"] in ("9:16", "16:9"),
            "response_format.resolution": video["resolution"] in ("360p", "720p", "1080p", "4k"),
            "response_format.duration: not from 3s to 15s": seconds.isdigit() and 3 <= int(seconds) <= 15,
            "response_format.delivery": video["delivery"] == "uri",
            "labels.submission": isinstance(label, str) and re.fullmatch("[a-z0-9_-]{0,63}", label) is not None,
        }
        faults = [fault for fault, holds in checks.items() if not holds]
    if faults:
        raise ErrorResponse(simulator.error(400, "invalid", f"Invalid value at {'; '.join(faults)}"))
    return Asked(order["input"], order["model"], int(seconds), int(seconds) * USD_PER_SECOND, label)

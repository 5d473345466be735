"""Luma's agents API on this machine: generations of type video, and the files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from simulators.loopback import Reply, Request, json_reply
from simulators.video.clips import Asked, ClipSimulator, ErrorResponse, Order, only, serving

USD_PER_SECOND = Decimal("0.20")
STATES = {
    "queued": "queued",
    "running": "processing",
    "unknown": "pondering",
    "succeeded": "completed",
    "failed": "failed",
    "moderated": "failed",
    "cancelled": "failed",
}


class LumaSimulator(ClipSimulator):
    refunds = "everything"

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    def authorized(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    def route(self, request: Request) -> Reply:
        generation = request.path.removeprefix("/v1/generations/")
        match request.method, request.path:
            case "POST", "/v1/generations":
                return self.order(_asked(self, request.body))
            case "GET", path if path != generation:
                return json_reply(self._shown(self.find(generation)))
        return self.error(404, "not_found", "Not Found")

    def error(self, status: int, code: str, message: str, **headers: str) -> Reply:
        return json_reply({"detail": message}, status, **headers)

    def moderated(self) -> Reply:
        return self.error(400, "moderated", "The prompt was rejected by content moderation.")

    def taken(self, order: Order) -> Reply:
        return json_reply(self._shown(order), 201)

    def _shown(self, order: Order) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": order.id, "type": "video", "model": order.model, "state": STATES[order.state]}
        shown |= {"created_at": "2026-11-27T12:00:00Z", "output": [], "failure_code": None, "failure_reason": None}
        if order.state == "succeeded":
            shown["output"] = [{"type": "video", "url": self.address(order)}]
        if STATES[order.state] == "failed":
            code = "content_moderated" if order.state == "moderated" else "generation_failed"
            shown |= {"failure_code": code, "failure_reason": "The generation failed."}
        return shown


@contextmanager
def luma_simulator(
    media: bytes, *, key: str = "luma-api-simulated-0123456789", held_seconds: float = 3600
) -> Iterator[LumaSimulator]:
    with serving(LumaSimulator(media, key, held_seconds)) as simulator:
        yield simulator


FIELDS = {"type": str, "model": str, "prompt": str, "aspect_ratio": str, "video": dict}
VIDEO = {"duration": str, "resolution": str}


def _asked(simulator: LumaSimulator, body: bytes) -> Asked:
    try:
        order = json.loads(body)
    except ValueError:
        raise ErrorResponse(simulator.error(400, "json", "JSON decode error")) from None
    faults = only(order, FIELDS, tuple(FIELDS))
    faults += only(order["video"], VIDEO, tuple(VIDEO)) if not faults else []
    if not faults:
        checks = {
            "type: not video": order["type"] == "video",
            "model: unknown": order["model"] == "ray-3.2",
            "prompt: too short or too long": 1 <= len(order["prompt"]) <= 6000,
            "aspect_ratio: not 9:16": order["aspect_ratio"] == "9:16",
            "video.duration: not 5s or 10s": order["video"]["duration"] in ("5s", "10s"),
            "video.resolution: unknown": order["video"]["resolution"] in ("360p", "540p", "720p", "1080p"),
        }
        faults = [fault for fault, holds in checks.items() if not holds]
    if faults:
        raise ErrorResponse(simulator.error(422, "invalid", "; ".join(faults)))
    seconds = int(order["video"]["duration"].removesuffix("s"))
    return Asked(order["prompt"], order["model"], seconds, seconds * USD_PER_SECOND)

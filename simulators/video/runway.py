"""Runway's API on this machine: orders of text-to-video, their tasks, and the files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from simulators.loopback import Reply, Request, json_reply
from simulators.video.clips import Asked, ClipSimulator, ErrorResponse, Order, only, serving

VERSION = "2024-11-06"
CREDITS_PER_SECOND = 12
USD_PER_CREDIT = Decimal("0.01")
CREATED_AT = "2026-11-27T12:00:00.000Z"


class RunwaySimulator(ClipSimulator):
    refunds = "as it says"
    deletes_ended = True  # by the same request that stops what goes on: so its SDK says

    def authorized(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    def route(self, request: Request) -> Reply:
        if request.headers.get("x-runway-version") != VERSION:
            return self.error(400, "version", "The X-Runway-Version header is not valid.")
        task = request.path.removeprefix("/v1/tasks/")
        match request.method, request.path:
            case "POST", "/v1/text_to_video":
                return self.order(_asked(self, request.body))
            case "GET", path if path != task:
                return json_reply(self._shown(self.find(task)))
            case "DELETE", path if path != task:
                self.cancel(task)
                return Reply(status=204)
        return self.error(404, "not_found", "Not found.")

    def error(self, status: int, code: str, message: str, **headers: str) -> Reply:
        return json_reply({"error": message}, status, **headers)

    def moderated(self) -> Reply:
        body = {"error": "Your prompt did not pass content moderation.", "failureCode": "SAFETY.INPUT.TEXT"}
        return json_reply(body, 400)

    def taken(self, order: Order) -> Reply:
        return json_reply({"id": order.id, "estimatedCost": {"credits": order.seconds * CREDITS_PER_SECOND}})

    def _shown(self, order: Order) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": order.id, "createdAt": CREATED_AT}
        estimated = {"estimatedCost": {"credits": order.seconds * CREDITS_PER_SECOND}}
        cost = {"cost": {"credits": int(order.charged_usd / USD_PER_CREDIT)}}
        match order.state:
            case "queued":
                return shown | estimated | {"status": "THROTTLED" if order.trick == "throttled" else "PENDING"}
            case "running":
                return shown | estimated | {"status": "RUNNING", "progress": 0.5}
            case "unknown":
                return shown | estimated | {"status": "PONDERING"}
            case "succeeded":
                return shown | cost | {"status": "SUCCEEDED", "output": [self.address(order)]}
            case "cancelled":
                return shown | cost | {"status": "CANCELLED"}
        code = "SAFETY.INPUT.TEXT" if order.state == "moderated" else "INTERNAL.BAD_OUTPUT.CODE01"
        return shown | cost | {"status": "FAILED", "failure": "An unexpected error occurred.", "failureCode": code}


@contextmanager
def runway_simulator(
    media: bytes, *, key: str = "key_runway_0123456789", held_seconds: float = 3600
) -> Iterator[RunwaySimulator]:
    with serving(RunwaySimulator(media, key, held_seconds)) as simulator:
        yield simulator


FIELDS = {"model": str, "promptText": str, "ratio": str, "duration": int}


def _asked(simulator: RunwaySimulator, body: bytes) -> Asked:
    try:
        order = json.loads(body)
    except ValueError:
        raise ErrorResponse(simulator.error(400, "json", "The body is not valid JSON.")) from None
    faults = only(order, FIELDS, tuple(FIELDS))
    if not faults:
        units = len(order["promptText"].encode("utf-16-le", "surrogatepass")) // 2
        checks = {
            "model: unknown": order["model"] == "gen4.5",
            "promptText: too short or too long": 1 <= units <= 1000,
            "ratio: not one of 1280:720, 720:1280": order["ratio"] in ("1280:720", "720:1280"),
            "duration: not from 2 to 10": 2 <= order["duration"] <= 10,
        }
        faults = [fault for fault, holds in checks.items() if not holds]
    if faults:
        raise ErrorResponse(json_reply({"error": "Validation of body failed", "issues": faults}, 400))
    usd = order["duration"] * CREDITS_PER_SECOND * USD_PER_CREDIT
    return Asked(order["promptText"], order["model"], order["duration"], usd)

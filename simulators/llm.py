"""Anthropic's messages API on this machine: it reads the request that it is given and writes concepts that fit it.

What it gets wrong on purpose is asked for by `misbehave`; broken transport by `fail` of the server itself.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from domain.concepts.categories import categories
from simulators.loopback import Loopback, Reply, Request, json_reply

Trick = Literal[
    "too few",
    "invented figure",
    "banned claim",
    "unknown topic",
    "refusal",
    "prose",
    "wrong shape",
    "NUL",
    "half a surrogate pair",
    "bare control character",
]

TOKENS_IN, TOKENS_OUT = 2400, 5200


@dataclass
class LlmSimulator:
    """`server` is the outside; its next answers are played as the tricks say."""

    server: Loopback
    tricks: deque[Trick] = field(default_factory=deque)
    before_answering: Callable[[], None] = lambda: None

    @property
    def calls(self) -> int:
        return len(self.server.requests)

    def misbehave(self, *tricks: Trick) -> None:
        self.tricks.extend(tricks)

    def questions(self) -> list[str]:
        """The user's text of each request."""
        return [_question(json.loads(request.body)) for request in self.server.requests]


@contextmanager
def llm_simulator() -> Iterator[LlmSimulator]:
    def answer(request: Request) -> Reply:
        simulator.before_answering()
        if request.path != "/v1/messages":
            return Reply(b"{}", 404)
        # Clients of Anthropic's send the key in either header, by their age.
        if "a-key" not in (request.headers.get("x-api-key"), request.headers.get("authorization", "")[7:]):
            return error(401, "authentication_error", "invalid x-api-key")
        return _message(json.loads(request.body), simulator.tricks.popleft() if simulator.tricks else None)

    with Loopback(answer) as server:
        simulator = LlmSimulator(server)
        yield simulator


def error(status: int, kind: str, message: str, **headers: str) -> Reply:
    """An error as Anthropic words it; headers by their names with `_` for `-`."""
    return json_reply({"type": "error", "error": {"type": kind, "message": message}}, status, **headers)


def _message(request: Mapping[str, Any], trick: Trick | None) -> Reply:
    if "output_config" not in request:
        return error(400, "invalid_request_error", "this simulator answers requests with an output schema only")
    answer = json.dumps(_input(_request(_question(request)), trick))
    content, reason = [{"type": "text", "text": answer}], "end_turn"
    if trick == "refusal":
        content, reason = [], "refusal"
    elif trick == "prose":
        content = [{"type": "text", "text": "Here are some lovely ideas."}]
    elif trick == "bare control character":
        content = [{"type": "text", "text": answer.replace("A quiet look", "A quiet\0 look")}]
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
    }
    return json_reply(body, request_id="req_1")


def _question(request: Mapping[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _request(question: str) -> dict[str, Any]:
    request: dict[str, Any]
    request, _ = json.JSONDecoder().raw_decode(question[question.index("{") :])
    return request


def _input(request: Mapping[str, Any], trick: Trick | None) -> dict[str, Any]:
    if trick == "wrong shape":
        return {"concepts": [{"title": 7}]}
    count = request["count"] - 2 if trick == "too few" else request["count"]
    delivered = request["titles_already_delivered"]
    concepts = [_concept(request["trends"][n % len(request["trends"])], n, len(delivered)) for n in range(count)]
    if trick == "invented figure":
        concepts[0]["caption"] += " 83% of people agree."
    if trick == "banned claim":
        concepts[0]["caption"] += " Results guaranteed!"
    if trick == "NUL":
        concepts[0]["title"] += " a\0b"
    if trick == "half a surrogate pair":
        concepts[0]["title"] += " a\ud83db"
    if trick == "unknown topic":
        concepts[0]["topic"] = "something nobody mentioned"
    return {"concepts": concepts}


def _concept(trend: Mapping[str, Any], n: int, before: int) -> dict[str, Any]:
    topic, names = trend["topic"], list(categories())
    ways = ("a rainy bus window", "a desk drawer", "the stairwell echo", "a borrowed umbrella", "the last train home")
    title = f"{topic} seen from {ways[(n + before) % len(ways)]}"[:110]
    fact = (trend["facts"] or ["What do you know about it?"])[0]
    return {
        "topic": topic,
        "category": names[(n + before) % len(names)],
        "title": title,
        "script": [
            {"start": 0, "end": 3, "visual": "A hand wipes a window clear", "on_screen_text": topic, "camera": "close"},
            {"start": 3, "end": 12, "visual": "A page is held up", "on_screen_text": fact[:160], "camera": "close"},
            {"start": 12, "end": 20, "visual": "Somebody looks out", "on_screen_text": "And you?", "camera": "wide"},
        ],
        "video_prompt": "Vertical 9:16, twenty seconds. A rainy window, a hand, a page, a person. Soft light.",
        "sound": "rain on glass",
        "caption": f"A quiet look at {topic}. What do you see in it?",
        "hashtags": ["#quiet", "#window", "#lookingout"],
        "why_it_works": "It is calm where everything else is loud, and asks one question.",
        "variants": [{"title": f"Rain, and {topic}"[:110], "caption": f"Would you stop to look at {topic}?"}],
    }

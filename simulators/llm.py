"""The APIs of language models on this machine: Anthropic's messages, OpenAI's responses, Google's generateContent. Each
reads the request that it is given, and writes concepts or a critique that fit it.

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
    "too long",
    "too many lessons",
    "unknown format",
    "injection echo",
]

TOKENS_IN, TOKENS_OUT = 2400, 5200
OF_THESE_THOUGHTS = 700
"""Google counts the tokens of thoughts beside those of the answer, OpenAI among them."""
KEY = "a-key"


@dataclass(frozen=True)
class Vendor:
    """How one API is spoken. `base` is where clients are led to, below the server's address."""

    base: str
    key: Callable[[Request], str]
    fault: Callable[[Mapping[str, Any]], str | None]
    """What a request lacks."""
    question: Callable[[Mapping[str, Any]], str]
    answer: Callable[[str, str], Reply]
    """The reply with this text of this model."""
    refusal: Callable[[str], Reply]
    error: Callable[..., Reply]


@dataclass
class LlmSimulator:
    """`server` is the outside; its next answers are played as the tricks say."""

    server: Loopback
    tricks: deque[Trick] = field(default_factory=deque)
    before_answering: Callable[[], None] = lambda: None

    @property
    def calls(self) -> int:
        return len(self.server.requests)

    def url(self, provider: str) -> str:
        return f"{self.server.url}{VENDORS[provider].base}"

    def misbehave(self, *tricks: Trick) -> None:
        self.tricks.extend(tricks)

    def questions(self) -> list[str]:
        """The user's text of each request."""
        found = ((vendor_of(request), request) for request in self.server.requests)
        return [vendor.question(json.loads(request.body)) for vendor, request in found if vendor]


@contextmanager
def llm_simulator() -> Iterator[LlmSimulator]:
    def answer(request: Request) -> Reply:
        simulator.before_answering()
        return answered(request, simulator.tricks.popleft() if simulator.tricks else None)

    with Loopback(answer) as server:
        simulator = LlmSimulator(server)
        yield simulator


def answered(request: Request, trick: Trick | None = None, *, key: str = KEY) -> Reply:
    """Reply to a request of any of the APIs."""
    vendor = vendor_of(request)
    if vendor is None:
        return Reply(b"{}", 404)
    if vendor.key(request) != key:
        return vendor.error(401, "authentication_error", "invalid API key")
    body = json.loads(request.body)
    if fault := vendor.fault(body):
        return vendor.error(400, "invalid_request_error", f"this simulator wants {fault}")
    model = body.get("model") or request.path.rpartition("/")[2].partition(":")[0]
    if trick == "refusal":
        return vendor.refusal(model)
    text = (
        "Here are some lovely ideas."
        if trick == "prose"
        else json.dumps(_written(_asked(vendor.question(body)), trick))
    )
    if trick == "bare control character":
        text = text.replace("A quiet", "A quiet\0")
    return vendor.answer(text, model)


def vendor_of(request: Request) -> Vendor | None:
    if request.path == "/v1/messages":
        return VENDORS["anthropic"]
    if request.path == "/v1/responses":
        return VENDORS["openai"]
    return VENDORS["google"] if request.path.endswith(":generateContent") else None


def error(status: int, kind: str, message: str, **headers: str) -> Reply:
    """An error as Anthropic words it; headers by their names with `_` for `-`."""
    return json_reply({"type": "error", "error": {"type": kind, "message": message}}, status, **headers)


def openai_error(status: int, kind: str, message: str, **headers: str) -> Reply:
    return json_reply({"error": {"message": message, "type": kind, "param": None, "code": None}}, status, **headers)


def google_error(status: int, kind: str, message: str, **headers: str) -> Reply:
    """Google says how long to wait in the body."""
    wait = headers.pop("retry_after", None)
    info = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"}] if wait else []
    names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    body = {"code": status, "message": f"{kind}: {message}", "status": names.get(status, "INTERNAL"), "details": info}
    return json_reply({"error": body}, status, **headers)


def _anthropic_key(request: Request) -> str:
    """Clients of Anthropic's send the key in either header, by their age."""
    return request.headers.get("x-api-key") or request.headers.get("authorization", "")[7:]


def _anthropic_question(body: Mapping[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _anthropic(text: str | None, model: str) -> Reply:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": "refusal" if text is None else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
    }
    return json_reply(body, request_id="req_1")


def _openai_fault(body: Mapping[str, Any]) -> str | None:
    form = body.get("text", {}).get("format", {})
    if form.get("type") != "json_schema" or form.get("strict") is not True:
        return "a strict schema of the answer"
    return None if body.get("store") is False else "nothing to be stored"


def _openai_question(body: Mapping[str, Any]) -> str:
    content = body["input"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _openai(text: str | None, model: str) -> Reply:
    refused = {"type": "refusal", "refusal": "I cannot help with that."}
    part = refused if text is None else {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    thoughts = {"id": "rs_1", "type": "reasoning", "summary": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_348_800,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [thoughts, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": TOKENS_IN,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": TOKENS_OUT,
            "output_tokens_details": {"reasoning_tokens": OF_THESE_THOUGHTS},
            "total_tokens": TOKENS_IN + TOKENS_OUT,
        },
    }
    return json_reply(body, x_request_id="req_1")


def _google_fault(body: Mapping[str, Any]) -> str | None:
    config = body.get("generationConfig", {})
    whole = config.get("responseMimeType") == "application/json" and config.get("responseJsonSchema")
    return None if whole else "a schema of the answer"


def _google_question(body: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in body["contents"][-1]["parts"])


def _google(text: str | None, model: str) -> Reply:
    written = 0 if text is None else TOKENS_OUT - OF_THESE_THOUGHTS
    body: dict[str, Any] = {
        "candidates": [],
        "usageMetadata": {
            "promptTokenCount": TOKENS_IN,
            "candidatesTokenCount": written,
            "thoughtsTokenCount": OF_THESE_THOUGHTS if written else 0,
            "totalTokenCount": TOKENS_IN + TOKENS_OUT if written else TOKENS_IN,
        },
        "modelVersion": model,
        "responseId": "r-1",
    }
    if text is None:
        body["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    else:
        parts = [{"text": "I think of a window.", "thought": True}, {"text": text}]
        body["candidates"] = [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}]
    return json_reply(body)


VENDORS: Mapping[str, Vendor] = {
    "anthropic": Vendor(
        base="",
        key=_anthropic_key,
        fault=lambda body: None if "output_config" in body else "a schema of the answer",
        question=_anthropic_question,
        answer=_anthropic,
        refusal=lambda model: _anthropic(None, model),
        error=error,
    ),
    "openai": Vendor(
        base="/v1",
        key=lambda request: request.headers.get("authorization", "")[7:],
        fault=_openai_fault,
        question=_openai_question,
        answer=_openai,
        refusal=lambda model: _openai(None, model),
        error=openai_error,
    ),
    "google": Vendor(
        base="",
        key=lambda request: request.headers.get("x-goog-api-key", ""),
        fault=_google_fault,
        question=_google_question,
        answer=_google,
        refusal=lambda model: _google(None, model),
        error=google_error,
    ),
}
"""By the names that `language_models` has."""


def _asked(question: str) -> dict[str, Any]:
    request: dict[str, Any]
    request, _ = json.JSONDecoder().raw_decode(question[question.index("{") :])
    return request


def _written(request: Mapping[str, Any], trick: Trick | None) -> dict[str, Any]:
    return _critique(request, trick) if "outcomes" in request else _concepts(request, trick)


def _critique(request: Mapping[str, Any], trick: Trick | None) -> dict[str, Any]:
    if trick == "wrong shape":
        return {"critique": 7, "lessons": "none"}
    gaps, platform = request["gaps"], request["platform"]
    worse = gaps["worse_than_predicted"] > gaps["better_than_predicted"]
    side, names = ("worse" if worse else "better"), list(request["gaps_of_formats"])
    lesson: dict[str, Any] = {
        "pattern": f"Most of these did {side} than predicted, by {abs(gaps['median_gap'])} points in the median.",
        "advice": "Say in the first seconds what the video is about.",
        "prefer": [] if worse else names[:1],
        "avoid": names[:1] if worse else [],
    }
    answer: dict[str, Any] = {
        "critique": f"A quiet group on {platform}: {gaps['outcomes']} outcomes, most of them {side} than predicted.",
        "reasons": ["Perhaps the titles say too little of the topic.", "A part of it may be chance."],
        "scoring_issues": ["The prediction does not see the title."],
        "adjustment_plan": "Try plainer titles, and look at the next outcomes.",
        "lessons": [] if request["a_single_outcome"] else [lesson],
    }
    if trick == "invented figure":
        answer["lessons"] = [lesson | {"pattern": "Titles with a question got 83.7% more."}]
    if trick == "NUL":
        answer["critique"] += " a\0b"
    if trick == "half a surrogate pair":
        answer["critique"] += " a\ud83db"
    if trick == "too long":
        answer["critique"] = "It did worse than predicted. " * 4000
        answer["lessons"] = [lesson | {"advice": "Say it plainly. " * 1000}]
    if trick == "too many lessons":
        answer["lessons"] = [lesson | {"advice": f"{lesson['advice']} {'Really. ' * n}".strip()} for n in range(9)]
    if trick == "unknown format":
        answer["lessons"] = [lesson | {"prefer": ["a format that nobody has"], "avoid": ["another"]}]
    if trick == "injection echo":
        title = request["outcomes"][0]["title"]
        answer["critique"] = title
        answer["lessons"] = [lesson | {"advice": title}]
    return answer


def _concepts(request: Mapping[str, Any], trick: Trick | None) -> dict[str, Any]:
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

"""Google's Gemini Omni models, through the interactions of its SDK and an API key.

There is no list of interactions, so an order whose answer is lost stays unknown; its label, the submission's key, is
how a person finds it in Google's console. Google does not say what a clip costs, nor whether one that fails costs it.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from google.genai import Client
from google.genai.types import HttpOptions, HttpRetryOptions

from domain.errors import ProviderUnavailable
from domain.ports import Watch
from domain.videos.submissions import Accepted, ClipOrder, ClipState, ClipStatus, Lookup, Submission, Unknown
from integrations.video.provider import Call, ErrorBody, Provider, id_of, prompt_refused

PROMPT_LIMIT = 20_000
"""Google counts tokens, more than any concept has; this keeps an accident small."""
LABEL = "submission"
STATES = {
    "queued": ClipState.QUEUED,
    "in_progress": ClipState.RUNNING,
    "completed": ClipState.SUCCEEDED,
    "incomplete": ClipState.FAILED,
    "failed": ClipState.FAILED,
    "budget_exceeded": ClipState.FAILED,
    "cancelled": ClipState.CANCELLED,
}
REASONS = {
    "incomplete": "Google stopped before the clip was done",
    "failed": "Google could not make the clip",
    "budget_exceeded": "the spending limit of the project at Google is reached",
    "cancelled": "it was cancelled at Google",
}
ABOUT_PROMPT = ("safety", "prohibited", "policy", "policies", "moderation")


class Omni(Provider):
    name = "Google"
    home = "https://generativelanguage.googleapis.com"

    def __init__(self, key: str, **options: Any) -> None:
        super().__init__(key, **options)
        self._transport = _CallOfThread()

    def submit(self, order: ClipOrder, key: str) -> Submission:
        if refused := prompt_refused(self.name, order.prompt, PROMPT_LIMIT):
            return refused
        video = {
            "type": "video",
            "aspect_ratio": "9:16",
            "resolution": order.resolution,
            "duration": f"{order.seconds}s",
            "delivery": "uri",
        }
        what: Any = {
            "model": order.model,
            "input": order.prompt,
            "background": True,
            "response_format": video,
            "labels": {LABEL: _label(key)},
        }

        def act(call: Call) -> Accepted:
            with self._transport.sending(call):
                return Accepted(id_of(self._client.interactions.create(**what)))

        return self.order(act)

    def look(self, key: str) -> Lookup:
        return Unknown(f"Google has no list of interactions: look for the label {LABEL}={_label(key)} in its console")

    def poll(self, provider_job_id: str) -> ClipStatus:
        def act(call: Call) -> ClipStatus:
            with self._transport.sending(call):
                return self._status(self._client.interactions.get(provider_job_id))

        return self.ask(act)

    def fetch(self, url: str, target: Path, *, most_bytes: int, watch: Watch) -> bytes:
        headers = {"x-goog-api-key": self._key}
        return self.copy(_download(url), target, most_bytes=most_bytes, watch=watch, headers=headers)

    def cancel(self, provider_job_id: str) -> bool:
        def act(call: Call) -> None:
            with self._transport.sending(call):
                self._client.interactions.cancel(provider_job_id)

        return self.stop(act)

    @cached_property
    def _client(self) -> Client:
        """One for all threads: it costs 80 ms to make."""
        options = HttpOptions(
            base_url=self.base_url,
            httpx_client=httpx2.Client(transport=self._transport, follow_redirects=False),
            retry_options=HttpRetryOptions(attempts=1),
        )
        return Client(api_key=self._key, vertexai=False, http_options=options)

    def _status(self, interaction: Any) -> ClipStatus:
        name: str = interaction.status
        state = STATES.get(name)
        if state is None:  # also those that wait for an answer of ours, which a clip has no use for
            word = self.words(name)
            return ClipStatus(ClipState.RUNNING, code=word, reason=f"Google says {word}")
        if state in (ClipState.QUEUED, ClipState.RUNNING):
            return ClipStatus(state, code=name)
        video = getattr(interaction, "output_video", None)
        if state is ClipState.SUCCEEDED:
            if video is not None and video.uri:
                return ClipStatus(state, percent=100, url=video.uri)
            if video is not None:
                raise ProviderUnavailable("Google says that the clip is done, and not where it is")
            text = self.words(getattr(interaction, "output_text", None) or "it does not say why")
            return ClipStatus(ClipState.FAILED, code="no_video", reason=f"Google made no clip: {text}")
        errors = getattr(interaction, "errors", None) or []
        code, text = next(((each.code or name, each.message or "") for each in errors), (name, ""))
        reason = REASONS[name] + (f": {self.words(text)}" if text else "")
        return ClipStatus(state, code=self.words(code), reason=reason, refused_prompt=_about_prompt(code, text))

    def read_error(self, body: Mapping[str, Any]) -> ErrorBody:
        """Google's errors have a status in words, or a code in words, and perhaps a wait among the details."""
        error = body["error"]
        details = [each for each in error.get("details") or [] if isinstance(each, Mapping)]
        reasons = [str(each["reason"]) for each in details if each.get("reason")]
        code = error["code"] if isinstance(error.get("code"), str) else error.get("status") or ""
        message = str(error.get("message") or "")
        waits = [str(each["retryDelay"]) for each in details if each.get("retryDelay")]
        wait = timedelta(seconds=min(float(waits[0].removesuffix("s")), 86_400)) if waits else None
        return ErrorBody((reasons or [code])[0], message, _about_prompt(" ".join((code, *reasons)), message), wait)


class _CallOfThread(httpx2.BaseTransport):
    """Sends the SDK's request by the call that the thread is in."""

    def __init__(self) -> None:
        self._here = threading.local()

    @contextmanager
    def sending(self, call: Call) -> Iterator[None]:
        self._here.call = call
        yield

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._here.call.send(request)
        return httpx2.Response(response.status, headers=dict(response.headers), content=response.body)


def _label(key: str) -> str:
    """Return the key, or a digest of it where Google would not take it."""
    return key if re.fullmatch("[a-z0-9_-]{1,63}", key) else sha256(key.encode()).hexdigest()[:32]


def _download(url: str) -> str:
    """Return where the file is, given the address of what describes it, or of the file itself."""
    path, _, _ = url.partition("?")
    return f"{path}:download?alt=media" if "/files/" in path and not path.endswith(":download") else url


def _about_prompt(code: str, message: str) -> bool:
    text = f"{code} {message}".lower()
    return any(word in text for word in ABOUT_PROMPT)

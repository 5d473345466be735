"""Runway's API, through its SDK.

Runway has no list of tasks and takes no key of ours, so an order whose answer is lost stays unknown. Money is counted
in credits, which cost a cent each.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from runwayml import RunwayML

from domain.errors import ProviderUnavailable
from domain.videos.submissions import Accepted, ClipOrder, ClipState, ClipStatus, Lookup, Submission, Unknown
from integrations.video.provider import Call, ErrorBody, Provider, id_of, percent, prompt_refused
from integrations.video.stainless import client_of

PROMPT_LIMIT = 1000
CREDIT_USD = Decimal("0.01")
MOST_CREDITS = 1_000_000
"""More, or what is no number, is not believed."""
STATES = {
    "PENDING": ClipState.QUEUED,
    "THROTTLED": ClipState.QUEUED,
    "RUNNING": ClipState.RUNNING,
    "SUCCEEDED": ClipState.SUCCEEDED,
    "FAILED": ClipState.FAILED,
    "CANCELLED": ClipState.CANCELLED,
}
FAILURES = {
    "CANCELLED": "it was cancelled at Runway",
    "SAFETY.OUTPUT": "Runway's moderation does not allow what the model made of this prompt",
    "SAFETY": "Runway's moderation does not allow this prompt",
    "INPUT_PREPROCESSING.SAFETY": "Runway's moderation does not allow this prompt",
    "INTERNAL.BAD_OUTPUT": "the clip was not good enough for Runway's own checks",
    "INTERNAL": "Runway had a fault of its own",
    "THIRD_PARTY": "the company behind the model had a fault, or does not allow this prompt",
}
"""What the beginning of a failure code means, the longest that fits."""


class Runway(Provider):
    name = "Runway"
    home = "https://api.dev.runwayml.com"

    def submit(self, order: ClipOrder, key: str) -> Submission:
        if refused := prompt_refused(self.name, order.prompt, PROMPT_LIMIT):
            return refused
        what: Any = {
            "model": order.model,
            "prompt_text": order.prompt,
            "ratio": order.resolution,
            "duration": order.seconds,
        }

        def act(call: Call) -> Accepted:
            with self._client(call) as client:
                task = client.text_to_video.create(**what)
                return Accepted(id_of(task), _usd(getattr(task, "estimated_cost", None)))

        return self.order(act)

    def look(self, key: str) -> Lookup:
        return Unknown("Runway keeps no list of tasks and takes no key of ours: see its developer portal, under Usage")

    def poll(self, provider_job_id: str) -> ClipStatus:
        def act(call: Call) -> ClipStatus:
            with self._client(call) as client:
                return self._status(client.tasks.retrieve(quote(provider_job_id, safe="")))

        return self.ask(act)

    def cancel(self, provider_job_id: str) -> bool:
        def act(call: Call) -> None:
            with self._client(call) as client:
                client.tasks.delete(provider_job_id)

        return self.stop(act)

    def _client(self, call: Call) -> RunwayML:
        return RunwayML(api_key=self._key, base_url=self.base_url, max_retries=0, http_client=client_of(call))

    def _status(self, task: Any) -> ClipStatus:
        """The SDK checks no answer: a state that it does not know arrives as one that it knows, without its fields."""
        name: str = task.status
        state = STATES.get(name)
        if state is None:
            word = self.words(name)
            return ClipStatus(ClipState.RUNNING, code=word, reason=f"Runway says {word}")
        if state in (ClipState.QUEUED, ClipState.RUNNING):
            return ClipStatus(state, percent=percent(getattr(task, "progress", None)), code=name)
        final = _usd(getattr(task, "cost", None))
        if state is ClipState.SUCCEEDED:
            output = getattr(task, "output", None)
            if not output:
                raise ProviderUnavailable("Runway says that the clip is done, and not where it is")
            return ClipStatus(state, percent=100, final_usd=final, url=str(output[0]))
        code = getattr(task, "failure_code", None) or name
        return ClipStatus(
            state,
            final_usd=final,
            code=self.words(code),
            reason=self.words(_meaning(code, getattr(task, "failure", None))),
            refused_prompt="SAFETY" in code.split("."),
        )

    def read_error(self, body: Mapping[str, Any]) -> ErrorBody:
        text = str(body.get("error", ""))
        code = str(body.get("failureCode") or body.get("code") or "")
        return ErrorBody(code, text, "SAFETY" in code.upper() or "moderation" in text.lower())


def _usd(cost: Any) -> Decimal | None:
    credits = getattr(cost, "credits", None)
    if not isinstance(credits, int | float) or not 0 <= credits <= MOST_CREDITS:
        return None
    return Decimal(str(credits)) * CREDIT_USD


def _meaning(code: str, text: str | None) -> str:
    matching = [start for start in FAILURES if f"{code}.".startswith(f"{start}.")]
    return FAILURES[max(matching, key=len)] if matching else text or f"Runway says {code}"

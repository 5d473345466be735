"""Luma's agents API, through its SDK.

Luma has no list of generations, takes no key of ours, and stops nothing, so an order whose answer is lost stays
unknown. It does not say what a clip costs; a generation that fails costs nothing, as it promises elsewhere.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from luma_agents import Luma as Client

from domain.errors import ProviderUnavailable
from domain.videos.submissions import Accepted, ClipOrder, ClipState, ClipStatus, Lookup, Submission, Unknown
from integrations.video.provider import Call, ErrorBody, Provider, id_of, prompt_refused
from integrations.video.stainless import client_of

PROMPT_LIMIT = 6000
STATES = {
    "queued": ClipState.QUEUED,
    "processing": ClipState.RUNNING,
    "completed": ClipState.SUCCEEDED,
    "failed": ClipState.FAILED,
}
MODERATED = "content_moderated"
FAILURES = {
    MODERATED: "Luma's moderation does not allow this prompt",
    "generation_failed": "Luma had a fault of its own",
    "budget_exhausted": "there is no credit left at Luma",
    "output_not_found": "Luma made the clip and lost it",
    "invalid_request": "Luma does not accept the order",
    "rate_limited": "too many orders at Luma at once",
}


class Luma(Provider):
    name = "Luma"
    home = "https://agents.lumalabs.ai/v1"

    def submit(self, order: ClipOrder, key: str) -> Submission:
        if refused := prompt_refused(self.name, order.prompt, PROMPT_LIMIT):
            return refused
        what: Any = {
            "type": "video",
            "model": order.model,
            "prompt": order.prompt,
            "aspect_ratio": "9:16",
            "video": {"duration": f"{order.seconds}s", "resolution": order.resolution},
        }

        def act(call: Call) -> Accepted:
            with self._client(call) as client:
                return Accepted(id_of(client.generations.create(**what)))

        return self.order(act)

    def look(self, key: str) -> Lookup:
        return Unknown("Luma has no list of generations and takes no key of ours: only its bill tells, later")

    def poll(self, provider_job_id: str) -> ClipStatus:
        def act(call: Call) -> ClipStatus:
            with self._client(call) as client:
                return self._status(client.generations.get(provider_job_id))

        return self.ask(act)

    def cancel(self, provider_job_id: str) -> bool:
        return False

    def _client(self, call: Call) -> Client:
        return Client(auth_token=self._key, base_url=self.base_url, max_retries=0, http_client=client_of(call))

    def _status(self, generation: Any) -> ClipStatus:
        """The SDK checks no answer: a state that it does not know arrives as it is."""
        name: str = generation.state
        state = STATES.get(name)
        if state is None:
            word = self.words(name)
            return ClipStatus(ClipState.RUNNING, code=word, reason=f"Luma says {word}")
        if state in (ClipState.QUEUED, ClipState.RUNNING):
            return ClipStatus(state, code=name)
        if state is ClipState.SUCCEEDED:
            urls = [each.url for each in generation.output or [] if each.type == "video"]
            if not urls:
                raise ProviderUnavailable("Luma says that the clip is done, and not where it is")
            return ClipStatus(state, percent=100, url=urls[0])
        code = getattr(generation, "failure_code", None) or name
        theirs = getattr(generation, "failure_reason", None)
        reason = FAILURES.get(code) or self.words(theirs or f"Luma says {code}")
        moderated, code = code == MODERATED, self.words(code)
        return ClipStatus(state, final_usd=Decimal(0), code=code, reason=reason, refused_prompt=moderated)

    def read_error(self, body: Mapping[str, Any]) -> ErrorBody:
        detail = body.get("detail", "")
        if isinstance(detail, list):  # as the framework words what does not fit its model
            detail = "; ".join(str(each.get("msg", "")) for each in detail)
        return ErrorBody("", str(detail), "moderat" in str(detail).lower())

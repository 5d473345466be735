"""Language models write concepts and critiques, through pydantic-ai: one request a call, its answer typed, its cost
known.

Whether an answer may be used is decided in `domain/concepts/generation.py` and `domain/learning/critique`. A call that
fails for now raises `Unavailable`, and the job repeats it. An unusable answer was paid for, so it is returned too, with
its usage. Importing this module takes a second or two: `workers.adapters.ports` does so when a model is first asked.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

from pydantic_ai import Agent, NativeOutput, capture_run_messages
from pydantic_ai import exceptions as failures
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ModelMessage, ModelResponse

from domain.concepts.generation import ConceptRequest, ConceptResponse, LanguageModel, Usage, draft_of
from domain.errors import Rejected, Unavailable
from domain.learning.critique.critiques import CritiqueRequest, CritiqueResponse
from domain.text.storable import Unstorable, storable, to_json
from integrations.http.client import CONNECT, READ, TOTAL, Http, Observe, unobserved
from integrations.llm import concepts, critiques
from integrations.llm.providers import OPENED, Access, Call, settings
from integrations.llm.transport import HouseTransport

MOST_BYTES = 10_000_000
"""The limit of an answer: the longest that a model can be asked for here has a tenth of that."""

MILLION = Decimal(1_000_000)
LONGEST_WAIT = 86_400.0
"""Seconds: a longer Retry-After is not believed."""

NO_CREDIT = "insufficient_quota"
"""OpenAI's word in a 429 for an account that has no credit: waiting does not help."""

T = TypeVar("T")


class ModelRefused(Rejected):
    """The provider will not serve this request: a wrong key, a model that it does not have, no credit."""


@dataclass(frozen=True, slots=True)
class _Question(Generic[T]):
    """`tokens` is the limit of the answer, `patience` how long it is waited for."""

    text: str
    instructions: str
    type: type[T]
    tokens: int
    patience: timedelta


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    """`value` is None for an answer that is not one; it was paid for all the same."""

    value: T | None
    usage: Usage
    refusal: str | None = None
    unreadable: str | None = None


class LanguageModels:
    """The models of the providers that there are keys for."""

    def __init__(
        self,
        providers: Mapping[str, Access],
        *,
        private_hosts: Collection[str] = (),
        observe: Callable[[str], Observe] = lambda provider: unobserved,
    ) -> None:
        """`providers` are by the names that `language_models` has; `private_hosts` may lead to private addresses.
        `observe` makes what is told of each request to a provider."""
        self._access = {name: access for name, access in providers.items() if name in OPENED}
        self._agents: dict[type, Agent[None, Any]] = {}
        seconds = (CONNECT, READ, TOTAL)
        self._http = {
            name: Http(
                "viral", most_bytes=MOST_BYTES, seconds=seconds, private_hosts=private_hosts, observe=observe(name)
            )
            for name in self._access
        }

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(self._access)

    def write(self, model: LanguageModel, request: ConceptRequest) -> ConceptResponse:
        """Ask the model for concepts, once. Blocks for as long as the request's patience, at most.

        Raises:
            Unavailable: overloaded, limited (with the wait it asked for), unreachable or too slow.
            ModelRefused: the provider does not accept the key, the model or the request.
        """
        answer = self._asked(
            model,
            _Question(
                concepts.question(request),
                concepts.INSTRUCTIONS,
                concepts.ConceptsAnswer,
                concepts.tokens(request),
                request.patience,
            ),
        )
        return ConceptResponse(
            model.generator,
            drafts=tuple(draft_of(each.model_dump()) for each in answer.value.concepts) if answer.value else (),
            usage=answer.usage,
            refusal=answer.refusal,
            unreadable=answer.unreadable,
        )

    def criticise(self, model: LanguageModel, request: CritiqueRequest) -> CritiqueResponse:
        """Ask the model for a critique, once. Blocks and raises as `write` does. The texts are as the model wrote them:
        what may be kept of them is decided by the caller."""
        answer = self._asked(
            model,
            _Question(
                critiques.question(request),
                critiques.INSTRUCTIONS,
                critiques.CritiqueAnswer,
                critiques.TOKENS,
                request.patience,
            ),
        )
        if answer.value is None:
            return CritiqueResponse(
                model.generator, usage=answer.usage, refusal=answer.refusal, unreadable=answer.unreadable
            )
        return CritiqueResponse(
            model.generator,
            critique=answer.value.critique,
            reasons=tuple(answer.value.reasons),
            scoring_issues=tuple(answer.value.scoring_issues),
            adjustment_plan=answer.value.adjustment_plan,
            lessons=critiques.lessons_of(answer.value),
            usage=answer.usage,
        )

    def _asked(self, model: LanguageModel, question: _Question[T]) -> _Answer[T]:
        return asyncio.run(self._ask(model, question))

    def _agent(self, question: _Question[T]) -> Agent[None, T]:
        """Return what asks such questions: schemas of answers are made once, and not for each call."""
        if question.type not in self._agents:
            self._agents[question.type] = Agent(
                output_type=NativeOutput(question.type),
                instructions=question.instructions,
                retries=0,
                capabilities=[Hooks(before_output_validate=_readable)],
            )
        return self._agents[question.type]

    async def _ask(self, model: LanguageModel, question: _Question[T]) -> _Answer[T]:
        asyncio.get_running_loop().set_default_executor(_HERE)
        seconds = question.patience.total_seconds()
        call = Call(
            model.name, self._access[model.provider], HouseTransport(self._http[model.provider], seconds), seconds
        )
        async with OPENED[model.provider](call) as opened:
            answer = self._agent(question).run(
                question.text, model=opened, model_settings=settings(model.provider, question.tokens, seconds)
            )
            with capture_run_messages() as messages:
                try:
                    value = (await asyncio.wait_for(answer, seconds)).output
                except failures.ContentFilterError as error:
                    return _Answer(None, _usage(model, messages), refusal=_one_line(error))
                except failures.UnexpectedModelBehavior as error:
                    return _Answer(None, _usage(model, messages), unreadable=_one_line(error))
                except failures.ModelHTTPError as error:
                    raise _translated(error, model) from error
                except (failures.ModelAPIError, TimeoutError) as error:
                    raise Unavailable(f"{model.generator} did not answer: {_one_line(_first(error))}") from error
        return _Answer(value, _usage(model, messages))


class _Here(ThreadPoolExecutor):
    """Does in the asking thread what an SDK hands to another (it looks up the platform): the event loop serves this one
    call, and a call takes one thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


_HERE = _Here()


def _first(error: BaseException) -> BaseException:
    """Return the error of the house's client, if the libraries passed it on: they say no more than "connection"."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, Unavailable):
        cause = cause.__cause__
    return cause or error


def _readable(ctx: object, /, *, output_context: object, output: str | dict[str, Any]) -> str | dict[str, Any]:
    """Pass on an answer without what cannot be stored: the reader of the answers refuses half a surrogate pair, or a
    bare control character, and with it all that was paid for."""
    if isinstance(output, dict):
        whole: dict[str, Any] = storable(output)[0]
        return whole
    try:
        return to_json(json.loads(output, strict=False))
    except (ValueError, RecursionError, Unstorable):
        return output


def _usage(model: LanguageModel, messages: Sequence[ModelMessage]) -> Usage:
    answers = [message.usage for message in messages if isinstance(message, ModelResponse)]
    tokens_in = sum(usage.input_tokens for usage in answers)
    tokens_out = sum(usage.output_tokens for usage in answers)
    cost = (tokens_in * model.usd_in + tokens_out * model.usd_out) / MILLION
    return Usage(model.generator, tokens_in, tokens_out, f"{cost:.6f}")


def _translated(error: Any, model: LanguageModel) -> Exception:
    status: int = error.status_code
    if status == 429 and NO_CREDIT in _codes(error.body):
        return ModelRefused(f"{model.generator} answers {status}: {_one_line(error)}")
    if status in (408, 409, 429) or status >= 500:
        wait = None if error.retry_after is None else timedelta(seconds=min(error.retry_after, LONGEST_WAIT))
        return Unavailable(f"{model.generator} answers {status}", retry_after=wait)
    return ModelRefused(f"{model.generator} answers {status}: {_one_line(error)}")


def _codes(body: object) -> tuple[object, ...]:
    return (body.get("code"), body.get("type")) if isinstance(body, dict) else ()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""A model of a provider, as pydantic-ai asks it. The SDK of a provider is imported when one of its models is first
asked. None of them tries anything again: a job does.

pydantic-ai's own requirement for Google is the second release of google-genai, and here is the third, which the clips
need; the tests hold the two together.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from integrations.llm.transport import HouseTransport

TOKENS_TO_THINK = 4000
"""What models that think before they write may use for it; it is paid for like an answer."""


@dataclass(frozen=True, slots=True)
class Access:
    """A provider's key, and where it is asked; its own address if empty."""

    key: str
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: to which model, with whose key, by which way, and how long it may take."""

    model: str
    access: Access
    transport: HouseTransport
    seconds: float


@asynccontextmanager
async def _anthropic(call: Call) -> AsyncIterator[Model]:
    from anthropic import AsyncAnthropic  # noqa: PLC0415 - see the module's first lines
    from pydantic_ai.models.anthropic import AnthropicModel  # noqa: PLC0415
    from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: PLC0415

    async with AsyncAnthropic(
        api_key=call.access.key,
        base_url=call.access.base_url or None,
        max_retries=0,
        timeout=call.seconds,
        http_client=httpx2.AsyncClient(transport=call.transport),
    ) as client:
        yield AnthropicModel(call.model, provider=AnthropicProvider(anthropic_client=client))


@asynccontextmanager
async def _openai(call: Call) -> AsyncIterator[Model]:
    from openai import AsyncOpenAI  # noqa: PLC0415 - see the module's first lines
    from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings  # noqa: PLC0415
    from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415

    async with AsyncOpenAI(
        api_key=call.access.key,
        base_url=call.access.base_url or OPENAI_HOME,
        max_retries=0,
        timeout=call.seconds,
        http_client=httpx2.AsyncClient(transport=call.transport),
    ) as client:
        # What is asked is the customers': OpenAI keeps it for a month unless that is declined.
        settings = OpenAIResponsesModelSettings(openai_store=False)
        yield OpenAIResponsesModel(call.model, provider=OpenAIProvider(openai_client=client), settings=settings)


@asynccontextmanager
async def _google(call: Call) -> AsyncIterator[Model]:
    from google.genai import Client  # noqa: PLC0415 - see the module's first lines
    from google.genai.types import HttpOptions, HttpRetryOptions  # noqa: PLC0415
    from pydantic_ai.models.google import GoogleModel  # noqa: PLC0415
    from pydantic_ai.providers.google import GoogleProvider  # noqa: PLC0415

    async with httpx2.AsyncClient(transport=call.transport, follow_redirects=False) as http:
        client = Client(
            api_key=call.access.key,
            vertexai=False,
            http_options=HttpOptions(
                base_url=call.access.base_url or GOOGLE_HOME,
                httpx_async_client=http,
                # Nothing is asked by the other way; making a client for it would cost 80 ms.
                httpx_client=httpx2.Client(transport=httpx2.BaseTransport()),
                retry_options=HttpRetryOptions(attempts=1),
                timeout=int(call.seconds * 1000),
                # What the library asks with (a schema, thoughts) is in v1 for some of the models only.
                api_version="v1beta",
            ),
        )
        yield GoogleModel(call.model, provider=GoogleProvider(client=client))


OPENAI_HOME = "https://api.openai.com/v1"
GOOGLE_HOME = "https://generativelanguage.googleapis.com"

OPENED: Mapping[str, Callable[[Call], AbstractAsyncContextManager[Model]]] = {
    "anthropic": _anthropic,
    "openai": _openai,
    "google": _google,
}
"""By the names that `language_models` has."""


def preload(providers: Iterable[str]) -> None:
    """Import what the first answer of these providers would, now, for processes that are forked afterwards."""
    for module in (*AT_THE_FIRST_ANSWER, *(module for name in providers for module in SDKS[name])):
        import_module(module)


AT_THE_FIRST_ANSWER = ("genai_prices.data", "integrations.http.wire")
"""Five megabytes of prices that pydantic-ai reads, and the house's connections."""
SDKS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("anthropic", "pydantic_ai.models.anthropic"),
    "openai": ("openai", "pydantic_ai.models.openai"),
    "google": ("google.genai", "pydantic_ai.models.google"),
}


def settings(provider: str, tokens: int, seconds: float) -> ModelSettings:
    """Return the limits of an answer. Models of OpenAI and Google think, by default at length, within the same limit of
    tokens."""
    if provider == "anthropic":
        return ModelSettings(max_tokens=tokens, timeout=seconds)
    return ModelSettings(max_tokens=tokens + TOKENS_TO_THINK, thinking="low", timeout=seconds)

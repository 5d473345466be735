"""Which generator and which critic there is, and which model they ask: by the keys, and by the rows of the day."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from domain.concepts.generation import LOCAL_GRAMMAR
from domain.learning.critique.critiques import LOCAL_CRITIC
from domain.ports import GeneratorUnknown, Ports, choose
from simulators.llm import TOKENS_IN, TOKENS_OUT, LlmSimulator, llm_simulator
from tests.builders import NOV_22
from tests.language_models import CRITIQUE
from workers.adapters.ports import open_ports
from workers.adapters.writers import LANGUAGE_MODEL, NoModel
from workers.app import App
from workers.settings import Settings

NO_KEYS: dict[str, Any] = {f"{name}_api_key": None for name in ("anthropic", "openai", "gemini")}


@pytest.fixture
def llm() -> Iterator[LlmSimulator]:
    with llm_simulator() as fake:
        yield fake


def ports_with(app: App, llm: LlmSimulator, *providers: str) -> Ports:
    """Return the ports of a process that has keys of these providers."""
    names = {"anthropic": "anthropic", "openai": "openai", "google": "gemini"}
    keys = {f"{names[each]}_api_key": "a-key" for each in providers}
    bases = {f"{name}_base_url": llm.url(each) for each, name in names.items()}
    settings = Settings.model_validate(app.settings.model_dump() | NO_KEYS | bases | keys)
    return open_ports(settings, app.db)


def test_without_a_key_the_critic_asks_nobody(app: App, llm: LlmSimulator) -> None:
    ports = ports_with(app, llm)
    critics = ports.critics
    assert (list(ports.writers), list(critics)) == ([LOCAL_GRAMMAR], [LOCAL_CRITIC])
    assert choose(critics).criticise(CRITIQUE).critic == LOCAL_CRITIC
    with pytest.raises(GeneratorUnknown, match=LOCAL_CRITIC):
        choose(critics, LANGUAGE_MODEL)
    assert llm.calls == 0


@pytest.mark.parametrize(
    ("providers", "asked"),
    [
        (("anthropic", "openai", "google"), "anthropic/claude-sonnet-5-5"),
        (("google", "openai"), "openai/gpt-6.1-sol"),
        (("google",), "google/gemini-3.8-flash"),
    ],
    ids=["all", "two", "one"],
)
def test_the_model_is_the_first_by_rank_of_the_providers_with_keys(
    app: App, llm: LlmSimulator, providers: tuple[str, ...], asked: str
) -> None:
    ports = ports_with(app, llm, *providers)
    critics = ports.critics
    assert list(ports.writers) == [LANGUAGE_MODEL, LOCAL_GRAMMAR]
    assert list(critics) == [LANGUAGE_MODEL, LOCAL_CRITIC]
    assert choose(critics).criticise(CRITIQUE).critic == asked
    assert choose(critics, LOCAL_CRITIC).criticise(CRITIQUE).critic == LOCAL_CRITIC
    assert llm.calls == 1


def test_the_cost_is_by_the_price_of_the_day(app: App, llm: LlmSimulator) -> None:
    critic = choose(ports_with(app, llm, "google").critics)
    costs = [
        Decimal(critic.criticise(replace(CRITIQUE, now=day)).usage.cost_usd or 0)
        for day in (NOV_22, datetime(2027, 1, 1, tzinfo=UTC))
    ]
    assert costs[0] == (TOKENS_IN * Decimal("0.75") + TOKENS_OUT * Decimal("3.75")) / 1_000_000
    assert costs[1] == 2 * costs[0]


def test_a_provider_without_a_row_is_not_asked_and_the_error_says_what_to_do(
    app: App, llm: LlmSimulator, owner_url: str
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute("UPDATE language_models SET enabled = false WHERE provider = 'openai'")
    with pytest.raises(NoModel, match=r"providers with keys \(openai\).*local-critic/v1"):
        choose(ports_with(app, llm, "openai").critics).criticise(CRITIQUE)
    assert llm.calls == 0

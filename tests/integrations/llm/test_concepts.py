"""The language models' client, with pydantic-ai and each provider's own client, against loopback APIs: concepts."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from domain.concepts.generation import ConceptRequest, LanguageModel, violations
from domain.concepts.trends import fill
from domain.errors import Unavailable
from domain.text.storable import storable_text
from integrations.llm.models import LanguageModels, ModelRefused
from integrations.llm.providers import Access
from simulators.llm import TOKENS_IN, TOKENS_OUT, VENDORS, LlmSimulator, Trick, llm_simulator, openai_error
from simulators.loopback import Loopback, Reply
from tests.language_models import MODEL, MODELS
from tests.raw_server import RawServer, answering, dripping, endless

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
COSTS = {"anthropic": "0.056800", "openai": "0.056800", "google": "0.021300"}
REQUEST = ConceptRequest(
    count=5,
    trends=tuple(fill([], region="US", rng=Random(1), now=NOW)),
    past=(),
    region="US",
    seed=1,
    now=NOW,
    patience=timedelta(seconds=60),
)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return MODELS[request.param]


@pytest.fixture
def fake() -> Iterator[LlmSimulator]:
    with llm_simulator() as fake:
        yield fake


@pytest.fixture
def models(fake: LlmSimulator) -> LanguageModels:
    return LanguageModels({name: Access("a-key", fake.url(name)) for name in MODELS})


def test_a_call_that_waits_takes_the_thread_that_asks_and_no_other(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel
) -> None:
    """A worker process holds hundreds of them. The SDKs would have a thread of their own for each."""
    meanwhile: set[str] = set()
    fake.before_answering = lambda: meanwhile.update(thread.name for thread in threading.enumerate())
    asking = threading.Thread(target=lambda: models.write(model, REQUEST), name="asking")
    asking.start()
    asking.join()
    assert "asking" in meanwhile
    assert [name for name in meanwhile if name.startswith(("asyncio", "AnyIO"))] == []


def test_the_answer_is_typed_and_its_cost_known(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel
) -> None:
    response = models.write(model, REQUEST)
    assert violations(response, REQUEST) == []
    assert (response.generator, len(response.drafts)) == (model.generator, 5)
    assert (response.usage.tokens_in, response.usage.tokens_out) == (TOKENS_IN, TOKENS_OUT)
    assert response.usage.cost_usd == COSTS[model.provider]
    assert fake.calls == 1


def test_the_topics_are_data_and_the_violations_are_named(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel
) -> None:
    models.write(model, replace(REQUEST, violations=("concept 2: it claims a guarantee",)))
    [question] = fake.questions()
    assert all(trend.topic in question for trend in REQUEST.trends)
    assert "- concept 2: it claims a guarantee" in question


UNUSABLE: list[tuple[Trick, str]] = [
    ("too few", "5 concepts were asked for, and 3 delivered"),
    ("invented figure", "figures that no source gave: 83"),
    ("banned claim", "it claims a guarantee"),
    ("unknown topic", "is not among the trends"),
]


@pytest.mark.parametrize(("trick", "violation"), UNUSABLE, ids=[trick for trick, _ in UNUSABLE])
def test_an_answer_that_cannot_be_used_was_paid_for(
    fake: LlmSimulator, models: LanguageModels, trick: Trick, violation: str
) -> None:
    fake.misbehave(trick)
    response = models.write(MODEL, REQUEST)
    assert violation in "; ".join(violations(response, REQUEST))
    assert response.usage.tokens_out == TOKENS_OUT
    assert fake.calls == 1


@pytest.mark.parametrize("trick", ["wrong shape", "prose"])
def test_an_answer_that_cannot_be_read_was_paid_for(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel, trick: Trick
) -> None:
    fake.misbehave(trick)
    response = models.write(model, REQUEST)
    assert response.unreadable
    assert "could not be read" in "; ".join(violations(response, REQUEST))
    assert response.usage.tokens_out == TOKENS_OUT
    assert fake.calls == 1


def test_a_refusal_is_one(fake: LlmSimulator, models: LanguageModels, model: LanguageModel) -> None:
    fake.misbehave("refusal")
    response = models.write(model, REQUEST)
    assert response.refusal
    assert response.usage.tokens_in == TOKENS_IN


@pytest.mark.parametrize(
    ("trick", "field_and_text"),
    [
        ("NUL", "title a�b"),
        ("half a surrogate pair", "title a�b"),
        ("bare control character", "caption A quiet� look"),
    ],
)
def test_what_cannot_be_stored_is_replaced_and_the_answer_used(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel, trick: Trick, field_and_text: str
) -> None:
    fake.misbehave(trick)
    response = models.write(model, REQUEST)
    assert response.unreadable is None
    field, _, text = field_and_text.partition(" ")
    assert text in storable_text(getattr(response.drafts[0], field))
    assert response.usage.tokens_out == TOKENS_OUT


NOT_NOW = {
    "limited": lambda error: error(429, "rate_limit_error", "slow down", retry_after="45"),
    "overloaded": lambda error: error(503, "overloaded_error", "Overloaded"),
    "down": lambda error: error(500, "api_error", "Internal server error"),
    "no JSON": lambda error: Reply(b"<html>bad gateway</html>", 502),
    "gone": lambda error: Reply(hang_up=True),
}


@pytest.mark.parametrize("trouble", NOT_NOW)
def test_trouble_is_the_jobs_to_wait_for(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel, trouble: str
) -> None:
    fake.server.fail(NOT_NOW[trouble](VENDORS[model.provider].error))
    with pytest.raises(Unavailable) as caught:
        models.write(model, REQUEST)
    assert caught.value.retry_after == (timedelta(seconds=45) if trouble == "limited" else None)
    assert fake.calls == 1


def test_nobody_is_waited_for_longer_than_a_day(
    fake: LlmSimulator, models: LanguageModels, model: LanguageModel
) -> None:
    fake.server.fail(VENDORS[model.provider].error(429, "rate_limit_error", "later", retry_after="9" * 20))
    with pytest.raises(Unavailable) as caught:
        models.write(model, REQUEST)
    assert caught.value.retry_after == timedelta(days=1)


def test_no_credit_is_not_waited_for(fake: LlmSimulator, models: LanguageModels) -> None:
    fake.server.fail(openai_error(429, "insufficient_quota", "You exceeded your current quota, please check your plan"))
    with pytest.raises(ModelRefused, match="check your plan"):
        models.write(MODELS["openai"], REQUEST)


def test_its_patience_ends(fake: LlmSimulator, models: LanguageModels, model: LanguageModel) -> None:
    fake.server.fail(Reply(after=60))
    with pytest.raises(Unavailable, match="did not answer"):
        models.write(model, replace(REQUEST, patience=timedelta(seconds=0.2)))


def test_a_broken_body_is_no_answer(fake: LlmSimulator, models: LanguageModels, model: LanguageModel) -> None:
    fake.server.fail(Reply(b'{"id": "msg_1", "type": "mess', headers={"Content-Type": "application/json"}))
    with pytest.raises(Unavailable):
        models.write(model, REQUEST)


def test_a_wrong_key_is_not_tried_again(fake: LlmSimulator, model: LanguageModel) -> None:
    models = LanguageModels({model.provider: Access("wrong-key", fake.url(model.provider))})
    with pytest.raises(ModelRefused, match="401") as caught:
        models.write(model, REQUEST)
    assert fake.calls == 1
    assert "wrong-key" not in str(caught.value)


def test_the_key_follows_no_redirect(fake: LlmSimulator, models: LanguageModels, model: LanguageModel) -> None:
    with Loopback(lambda request: Reply(b"{}")) as other:
        fake.server.fail(Reply(status=307, headers={"Location": f"{other.url}/elsewhere"}))
        with pytest.raises(Unavailable, match="307"):
            models.write(model, REQUEST)
        assert (fake.calls, other.requests) == (1, [])


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), "the provider answers with more than 10,000,000 bytes"),
        (dripping(b"HTTP/1.1 200 OK\r\nX: y\r\n" * 99, 0.1), "did not answer"),
    ],
    ids=["endless", "drips"],
)
def test_a_hostile_provider_is_no_answer(pieces: Callable[[RawServer], Iterable[bytes]], why: str) -> None:
    with answering(pieces) as server:
        models = LanguageModels({MODEL.provider: Access("a-key", server.url)})
        with pytest.raises(Unavailable, match=why):
            models.write(MODEL, replace(REQUEST, patience=timedelta(seconds=20 if "bytes" in why else 0.5)))
        assert server.sent < 60_000_000


def test_nothing_heavy_is_imported_before_a_model_is_asked() -> None:
    program = (
        "import sys, workers.app, workers.main, workers.jobs, workers.adapters.ports, integrations.http.client\n"
        "workers.app.discover([workers.jobs])\n"
        "heavy = ('pydantic_ai', 'anthropic', 'openai', 'google', 'httpx2', 'httpcore2', 'httpx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The providers of clips, each with its own SDK against its simulator: the same cases for all of them."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from runwayml import APIConnectionError, RunwayML

from domain.errors import ProviderRefused, ProviderUnavailable, Unavailable
from domain.ports import ClipProvider
from domain.videos.media import MediaUnusable
from domain.videos.submissions import Accepted, ClipOrder, ClipState, ClipStatus, Refused, RefusedFor, Unknown
from integrations.http.client import Http
from integrations.video.google import Omni
from integrations.video.luma import Luma
from integrations.video.provider import Call
from integrations.video.runway import Runway
from integrations.video.stainless import client_of
from simulators.loopback import Loopback, Reply, json_reply
from simulators.video.clips import NOT_TAKEN, TAKEN_SILENTLY, ClipSimulator, Trick
from simulators.video.google import google_simulator
from simulators.video.luma import luma_simulator
from simulators.video.runway import runway_simulator
from tests.ports import closed_port

MEDIA = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 1000
KEY = "b1946ac9-2c1d-4b1a-8f6e-0123456789ab"
ENOUGH = 2.0
"""Seconds in which an order arrives, also on a machine that has much else to do."""


@dataclass(frozen=True)
class Vendor:
    """`limit` is of the prompt, in UTF-16 units."""

    name: str
    adapter: Callable[..., ClipProvider]
    simulator: Callable[..., AbstractContextManager[ClipSimulator]]
    order: ClipOrder
    limit: int
    cancels: bool


VENDORS = (
    Vendor("runway", Runway, runway_simulator, ClipOrder("gen4.5", "A fox in the snow", 5, "720:1280"), 1000, True),
    Vendor(
        "google",
        Omni,
        google_simulator,
        ClipOrder("gemini-omni-1.2-flash", "A fox in the snow", 8, "1080p"),
        20_000,
        True,
    ),
    Vendor("luma", Luma, luma_simulator, ClipOrder("ray-3.2", "A fox in the snow", 5, "720p"), 6000, False),
)


@dataclass
class Case:
    vendor: Vendor
    simulator: ClipSimulator
    provider: ClipProvider

    def submit(self) -> Any:
        return self.provider.submit(self.vendor.order, KEY)

    def accepted(self, trick: Trick | None = None) -> str:
        self.simulator.misbehave(trick)
        answer = self.submit()
        assert isinstance(answer, Accepted)
        return answer.provider_job_id

    def ended(self, job: str) -> ClipStatus:
        """Ask until it has ended; the simulator goes one state further with each question."""
        for _ in range(10):
            status = self.provider.poll(job)
            if status.ended:
                return status
        raise AssertionError(status)


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.name)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    vendor: Vendor = request.param
    with vendor.simulator(MEDIA, held_seconds=0.3) as simulator:
        yield Case(vendor, simulator, vendor.adapter(simulator.key, base_url=simulator.url))


def test_an_order_is_taken_and_its_file_copied(case: Case, tmp_path: Path) -> None:
    job = case.accepted()
    status = case.ended(job)
    assert status.state is ClipState.SUCCEEDED
    assert status.url
    digest = case.provider.fetch(status.url, tmp_path / "clip.mp4", most_bytes=len(MEDIA), watch=lambda fraction: None)
    assert digest == sha256(MEDIA).digest()
    assert (tmp_path / "clip.mp4").read_bytes() == MEDIA
    [order] = case.simulator.orders
    assert (order.id, order.prompt, order.seconds) == (job, case.vendor.order.prompt, case.vendor.order.seconds)
    if status.final_usd is not None:
        assert status.final_usd == case.simulator.charged_usd


@pytest.mark.parametrize("trick", TAKEN_SILENTLY)
def test_an_order_whose_acknowledgement_is_lost_is_unknown_and_sent_once(case: Case, trick: Trick) -> None:
    case.simulator.misbehave(trick)
    assert isinstance(case.submit(), Unknown)
    assert (case.simulator.posts, len(case.simulator.orders)) == (1, 1)


@pytest.mark.parametrize("trick", NOT_TAKEN)
def test_an_order_that_is_not_taken_is_sent_once_and_costs_nothing(case: Case, trick: Trick) -> None:
    case.simulator.misbehave(trick)
    answer = case.submit()
    kinds = {
        "limited": RefusedFor.BUSY,
        "moderated": RefusedFor.PROMPT,
        "out of credit": RefusedFor.REQUEST,
    }
    if trick in kinds:
        assert isinstance(answer, Refused)
        assert answer.kind is kinds[trick]
        assert answer.retry_after == (timedelta(seconds=30) if trick == "limited" else None)
    else:
        assert isinstance(answer, Unknown)
    assert case.simulator.posts == 1
    assert case.simulator.charged_usd == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_an_answer_that_says_no_refuses(case: Case, status: int) -> None:
    case.simulator.server.fail(case.simulator.error(status, "no", "it will not be done"))
    answer = case.submit()
    assert isinstance(answer, Refused)
    assert answer.kind is RefusedFor.REQUEST
    assert "it will not be done" in answer.reason
    assert case.simulator.posts == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 408, 409, 425, 500, 502, 503, 504, 529])
def test_an_answer_that_leaves_it_open_is_unknown_and_nothing_is_sent_again(case: Case, status: int) -> None:
    with Loopback(lambda request: Reply(b"{}")) as other:
        headers = {"Location": f"{other.url}/there", "Retry-After": "0", "x-should-retry": "true"}
        case.simulator.server.fail(Reply(b"{}", status, headers))
        assert isinstance(case.submit(), Unknown)
        assert (case.simulator.posts, other.requests) == (1, [])


@pytest.mark.parametrize("status", [307, 308])
def test_an_order_follows_no_redirect(case: Case, status: int) -> None:
    with Loopback(lambda request: Reply(b"{}")) as other:
        case.simulator.server.fail(Reply(status=status, headers={"Location": f"{other.url}/there"}))
        answer = case.submit()
        assert isinstance(answer, Refused)
        assert "base URL" in answer.reason
        assert (case.simulator.posts, other.requests) == (1, [])


def test_an_sdk_that_would_try_again_sends_once() -> None:
    """A setting of the SDKs forbids it; if one forgot, its second request would not leave."""
    with runway_simulator(MEDIA) as simulator, closing(Http("viral-tests")) as http:
        for reply in (Reply(status=500), Reply(status=429), Reply(hang_up=True)):
            simulator.server.fail(reply)
            call, before = Call(http, "Runway", 5), simulator.posts
            stubborn = RunwayML(api_key="a-key", base_url=simulator.url, max_retries=2, http_client=client_of(call))
            with pytest.raises(APIConnectionError):
                stubborn.text_to_video.create(model="gen4.5", prompt_text="A fox", ratio="720:1280", duration=5)
            assert simulator.posts == before + 1


def test_an_answer_that_drips_is_unknown_when_the_time_is_over(case: Case) -> None:
    provider = case.vendor.adapter(case.simulator.key, base_url=case.simulator.url, order_seconds=ENOUGH)
    case.simulator.server.fail(Reply(b" " * 1000, drip=0.05), handled=True)
    assert isinstance(provider.submit(case.vendor.order, KEY), Unknown)
    assert (case.simulator.posts, len(case.simulator.orders)) == (1, 1)


def test_an_order_that_takes_too_long_is_unknown(case: Case) -> None:
    provider = case.vendor.adapter(case.simulator.key, base_url=case.simulator.url, order_seconds=ENOUGH)
    case.simulator.server.fail(Reply(after=60), handled=True)
    assert isinstance(provider.submit(case.vendor.order, KEY), Unknown)
    assert (case.simulator.posts, len(case.simulator.orders)) == (1, 1)


def test_without_a_connection_nothing_was_sent(case: Case) -> None:
    with closed_port() as port:
        answer = case.vendor.adapter("a-key", base_url=f"http://127.0.0.1:{port}").submit(case.vendor.order, KEY)
    assert isinstance(answer, Refused)
    assert (answer.kind, answer.code) == (RefusedFor.BUSY, "no_connection")


def test_a_base_url_in_a_private_network_must_be_named(case: Case) -> None:
    base = case.simulator.url.replace("127.0.0.1", "metadata.localtest.invalid")
    answer = case.vendor.adapter("a-key", base_url=base).submit(case.vendor.order, KEY)
    assert isinstance(answer, Refused)
    assert answer.kind is RefusedFor.BUSY


def test_a_prompt_is_measured_in_utf_16_units_before_it_is_sent(case: Case) -> None:
    fox = "\N{FOX FACE}"
    fits = replace(case.vendor.order, prompt=fox * (case.vendor.limit // 2))
    assert isinstance(case.provider.submit(fits, KEY), Accepted)
    for prompt in (fox * (case.vendor.limit // 2 + 1), "", "  \n"):
        answer = case.provider.submit(replace(case.vendor.order, prompt=prompt), KEY)
        assert isinstance(answer, Refused)
        assert answer.kind is RefusedFor.PROMPT
    assert case.simulator.posts == 1


@pytest.mark.parametrize("key", ["01a21e6b-ec05-763f-a65d-b720c14b1bb3/submit clip 1", "Ä" * 100, ""])
def test_any_key_of_ours_is_one_that_the_vendor_takes(case: Case, key: str) -> None:
    assert isinstance(case.provider.submit(case.vendor.order, key), Accepted)
    assert isinstance(case.provider.look(key), Unknown)


def test_a_wrong_order_is_refused_by_the_vendor_in_its_words(case: Case) -> None:
    answer = case.provider.submit(replace(case.vendor.order, seconds=99), KEY)
    assert isinstance(answer, Refused)
    assert answer.kind is RefusedFor.REQUEST
    assert case.simulator.orders == []


ENDS: list[tuple[Trick, ClipState, bool]] = [
    ("failed", ClipState.FAILED, False),
    ("failed and charged", ClipState.FAILED, False),
    ("moderated later", ClipState.FAILED, True),
    ("throttled", ClipState.SUCCEEDED, False),
    ("unknown state", ClipState.SUCCEEDED, False),
]


@pytest.mark.parametrize(("trick", "state", "refused_prompt"), ENDS, ids=[end[0] for end in ENDS])
def test_how_it_ends_is_told_with_what_it_costs(
    case: Case, trick: Trick, state: ClipState, refused_prompt: bool
) -> None:
    status = case.ended(case.accepted(trick))
    assert (status.state, status.refused_prompt) == (state, refused_prompt)
    assert bool(status.reason) == (state is ClipState.FAILED)
    if status.final_usd is not None:
        assert status.final_usd == case.simulator.charged_usd


def test_a_state_that_nobody_knows_is_not_an_end(case: Case) -> None:
    status = case.provider.poll(case.accepted("unknown state"))
    assert not status.ended
    assert status.code
    assert status.code in (status.reason or "")


def test_questions_that_fail_say_nothing_of_the_clip(case: Case) -> None:
    job = case.accepted("polls fail")
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            case.provider.poll(job)
    assert case.ended(job).state is ClipState.SUCCEEDED


@pytest.mark.parametrize(
    "reply", [Reply(b"<html>"), Reply(b"{}"), Reply(b"[1]"), Reply(b"", 204), Reply(b'"a"')], ids=str
)
def test_an_answer_that_cannot_be_read_says_nothing_of_the_clip(case: Case, reply: Reply) -> None:
    job = case.accepted()
    case.simulator.server.fail(replace(reply, headers={"Content-Type": "application/json"}))
    with pytest.raises(ProviderUnavailable):
        case.provider.poll(job)


NO_IDS: list[bytes] = [b"{}", b"[]", b"null", b'{"id": null}', b'{"id": 7}', b'{"id": ""}', b"<html>", b""]
NO_IDS += [
    b'{"id": "a\\u0000b"}',
    b'{"id": "a b"}',
    b'{"id": "\\ud83d"}',
    b'{"id": "' + b"x" * 1000 + b'"}',
    b"\xff" * 50,
]
NO_IDS += [b"x" * 3_000_000, b"[" * 100_000]


@pytest.mark.parametrize("body", NO_IDS, ids=range(len(NO_IDS)))
def test_an_acceptance_without_an_id_is_unknown(case: Case, body: bytes) -> None:
    case.simulator.server.fail(Reply(body, 200, {"Content-Type": "application/json"}))
    assert isinstance(case.submit(), Unknown)


ODD: list[Any] = [None, 7, "", [], {}, ["a"], "a\0b", "x" * 100_000, "a key: 'secret'\n", float("nan"), True]
FIELDS = ("error", "detail", "code", "failureCode", "failure_code", "failure", "failure_reason", "errors", "message")
MORE = ("output", "progress", "cost", "steps", "output_video")
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "completed", "failed", "cancelled", "incomplete")


def test_odd_errors_are_one_line_that_can_be_kept(case: Case) -> None:
    for value in ODD:
        every = dict.fromkeys((*FIELDS, "status", "details"), value)
        for body in (value, every, {"error": every}):
            case.simulator.server.fail(json_reply(body, 400))
            answer = case.submit()
            assert isinstance(answer, Refused)
            assert len(answer.reason + answer.code) < 700
            assert "secret" not in answer.reason
            assert "\n" not in answer.reason


def test_odd_states_end_nothing_and_break_nothing(case: Case) -> None:
    job = case.accepted()
    for value in ODD:
        case.simulator.server.fail(json_reply(dict.fromkeys((*FIELDS, *MORE, "status", "state"), value) | {"id": job}))
        with suppress(ProviderUnavailable):
            status = case.provider.poll(job)
            assert not status.ended
            assert len(f"{status.reason}{status.code}") < 700


@pytest.mark.proof(but=["luma", "runway"])
def test_odd_ends_break_nothing(case: Case) -> None:
    job = case.accepted()
    for value, ended in product(ODD, ENDED):
        body = dict.fromkeys((*FIELDS, *MORE), value) | {"id": job, "status": ended, "state": ended}
        case.simulator.server.fail(json_reply(body))
        with suppress(ProviderUnavailable):
            status = case.provider.poll(job)
            assert len(f"{status.reason}{status.code}") < 700
            assert not status.final_usd


def test_a_limit_on_questions_is_told_with_its_wait(case: Case) -> None:
    job = case.accepted()
    case.simulator.server.fail(case.simulator.error(429, "limited", "slower", retry_after="17"))
    with pytest.raises(Unavailable) as caught:
        case.provider.poll(job)
    assert caught.value.retry_after == timedelta(seconds=17)


def test_a_job_that_is_not_known_is_said_to_be_so(case: Case) -> None:
    with pytest.raises(ProviderRefused):
        case.provider.poll("0b1946ac-92c1-4b1a-8f6e-0123456789ab")


def test_a_clip_is_cancelled_where_that_can_be(case: Case) -> None:
    job = case.accepted()
    assert case.provider.cancel(job) == case.vendor.cancels
    if case.vendor.cancels:
        status = case.ended(job)
        assert status.state is ClipState.CANCELLED
        assert status.final_usd in (None, case.simulator.charged_usd)
    assert case.provider.poll(case.accepted()).state is ClipState.RUNNING
    case.provider.cancel(case.simulator.orders[-1].id)
    assert case.ended(case.simulator.orders[-1].id).final_usd in (None, case.simulator.orders[-1].charged_usd)


def copied(case: Case, trick: Trick, target: Path, most_bytes: int = 10**7) -> bytes:
    status = case.ended(case.accepted(trick))
    assert status.url
    return case.provider.fetch(status.url, target, most_bytes=most_bytes, watch=lambda fraction: None)


@pytest.mark.parametrize("trick", ["expired address", "broken media", "truncated media"])
def test_a_copy_that_fails_comes_with_a_new_address(case: Case, trick: Trick, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="expired" if trick == "expired address" else "cannot be reached"):
        copied(case, trick, tmp_path / "clip")
    fresh = case.provider.poll(case.simulator.orders[0].id).url
    assert fresh
    digest = case.provider.fetch(fresh, tmp_path / "clip", most_bytes=10**7, watch=lambda fraction: None)
    assert digest == sha256(MEDIA).digest()


def test_a_clip_may_be_moved_on_its_own_host(case: Case, tmp_path: Path) -> None:
    assert copied(case, "media elsewhere", tmp_path / "clip") == sha256(MEDIA).digest()


def test_a_clip_that_is_too_large_is_not_kept(case: Case, tmp_path: Path) -> None:
    with pytest.raises(MediaUnusable):
        copied(case, "slow", tmp_path / "clip", most_bytes=len(MEDIA) - 1)


def test_many_threads_order_by_one_provider(case: Case) -> None:
    """Each learns what became of its own order, among others that go wrong."""
    case.simulator.misbehave(*(("limited", "500 after", None, "slow") * 8))
    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(case.submit) for _ in range(32)]]
        taken = [answer.provider_job_id for answer in answers if isinstance(answer, Accepted)]
        states = list(pool.map(case.provider.poll, taken))
    assert len(taken) == len(set(taken)) == 16
    assert [sum(isinstance(answer, kind) for answer in answers) for kind in (Refused, Unknown)] == [8, 8]
    assert {status.state for status in states} == {ClipState.RUNNING}
    assert (case.simulator.posts, len(case.simulator.orders)) == (32, 24)


def test_the_environment_changes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs would read keys, addresses, headers and proxies from it."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("RUNWAYML_BASE_URL", "LUMA_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("RUNWAYML_API_SECRET", "LUMA_AGENTS_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "another-key")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    provider = case.vendor.adapter(case.simulator.key, base_url=case.simulator.url)
    answer = provider.submit(case.vendor.order, KEY)
    assert isinstance(answer, Accepted)
    assert provider.poll(answer.provider_job_id).state is ClipState.RUNNING


def test_no_text_repeats_the_key(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = case.vendor.adapter("wrong-key-51a7", base_url=case.simulator.url)
    texts = [repr(provider), repr(provider.submit(case.vendor.order, KEY))]
    for ask in (provider.poll, provider.cancel):
        try:
            texts.append(repr(ask(case.accepted())))
        except (Unavailable, ProviderRefused) as error:
            texts.append(f"{error!r} {error.__cause__!r}")
    assert "51a7" not in " ".join(texts) + caplog.text


def test_the_sdks_are_imported_when_a_provider_is_first_asked() -> None:
    vendors = "('runwayml', 'luma_agents', 'google.genai', 'httpx', 'httpx2')"
    done = subprocess.run(
        [sys.executable, "-c", f"import workers.app, sys; print([n for n in {vendors} if n in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"

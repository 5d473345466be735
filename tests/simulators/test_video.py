"""The simulated providers of clips are as strict as the real ones should be, and their bill is what was ordered."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulators.video.clips import NOT_TAKEN, TRICKS, ClipSimulator, Trick
from simulators.video.google import google_simulator
from simulators.video.luma import luma_simulator
from simulators.video.runway import runway_simulator


@dataclass(frozen=True)
class Vendor:
    """`body` is a right order, `usd` what it costs, and `shape` the way to the text of an error."""

    simulator: Callable[..., AbstractContextManager[ClipSimulator]]
    path: str
    headers: Callable[[str], dict[str, str]]
    body: dict[str, Any]
    usd: str
    shape: tuple[str, ...]


RUNWAY = Vendor(
    runway_simulator,
    "/v1/text_to_video",
    lambda key: {"Authorization": f"Bearer {key}", "X-Runway-Version": "2024-11-06"},
    {"model": "gen4.5", "promptText": "A fox", "ratio": "720:1280", "duration": 5},
    "0.60",
    ("error",),
)
GOOGLE = Vendor(
    google_simulator,
    "/v1/interactions",
    lambda key: {"x-goog-api-key": key},
    {
        "model": "gemini-omni-1.2-flash",
        "input": "A fox",
        "background": True,
        "response_format": {
            "type": "video",
            "aspect_ratio": "9:16",
            "resolution": "1080p",
            "duration": "8s",
            "delivery": "uri",
        },
        "labels": {"submission": "a-key"},
    },
    "0.84",
    ("error", "message"),
)
LUMA = Vendor(
    luma_simulator,
    "/v1/generations",
    lambda key: {"Authorization": f"Bearer {key}"},
    {
        "type": "video",
        "model": "ray-3.2",
        "prompt": "A fox",
        "aspect_ratio": "9:16",
        "video": {"duration": "5s", "resolution": "720p"},
    },
    "1.00",
    ("detail",),
)


@pytest.fixture(params=[RUNWAY, GOOGLE, LUMA], ids=["runway", "google", "luma"])
def vendor(request: pytest.FixtureRequest) -> Vendor:
    vendor: Vendor = request.param
    return vendor


@pytest.fixture
def simulator(vendor: Vendor) -> Iterator[ClipSimulator]:
    with vendor.simulator(b"a clip", held_seconds=0) as simulator:
        yield simulator


def post(vendor: Vendor, simulator: ClipSimulator, body: Any, key: str = "") -> httpx.Response:
    url = f"{simulator.server.url}{vendor.path}"
    return httpx.post(url, json=body, headers=vendor.headers(key or simulator.key), timeout=30)


def test_a_right_order_is_taken_and_charged(vendor: Vendor, simulator: ClipSimulator) -> None:
    assert post(vendor, simulator, vendor.body).is_success
    assert simulator.charged_usd == Decimal(vendor.usd)
    [order] = simulator.orders
    assert order.prompt == "A fox"


def test_anything_else_is_refused_in_the_vendors_own_shape(vendor: Vendor, simulator: ClipSimulator) -> None:
    wrong: list[Any] = [vendor.body | {"seed": 7}, [], "order", 7]
    wrong += [{name: value for name, value in vendor.body.items() if name != left_out} for left_out in vendor.body]
    wrong += [vendor.body | {name: None} for name in vendor.body]
    wrong += [vendor.body | {name: "nonsense"} for name, value in vendor.body.items() if value != "A fox"]
    for name, value in vendor.body.items():
        if isinstance(value, dict) and name != "labels":
            wrong.append(vendor.body | {name: value | {"seed": 7}})
            wrong += [vendor.body | {name: value | {inner: "nonsense"}} for inner in value]
    for body in wrong:
        answer = post(vendor, simulator, body)
        assert 400 <= answer.status_code < 500, body
        text = answer.json()
        for step in vendor.shape:
            text = text[step]
        assert isinstance(text, str)
        assert text
    assert post(vendor, simulator, vendor.body, key="wrong").status_code == 401
    assert simulator.orders == []


@pytest.mark.proof(but=["runway"])
@pytest.mark.parametrize("simulated", [RUNWAY, GOOGLE, LUMA], ids=["runway", "google", "luma"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tricks=st.lists(st.one_of(st.none(), st.sampled_from(TRICKS)), max_size=6))
def test_the_bill_holds_every_order_that_was_taken_once(simulated: Vendor, tricks: list[Trick | None]) -> None:
    with simulated.simulator(b"a clip", held_seconds=0) as simulator:
        simulator.misbehave(*tricks)
        for _ in tricks:
            try:
                post(simulated, simulator, simulated.body)
            except httpx.TransportError:
                continue
        taken = [trick for trick in tricks if trick not in NOT_TAKEN]
        assert simulator.posts == len(tricks)
        assert [order.trick for order in simulator.orders] == taken
        assert len({order.id for order in simulator.orders}) == len(taken)
        assert simulator.charged_usd == len(taken) * Decimal(simulated.usd)

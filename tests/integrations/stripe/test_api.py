"""Our use of Stripe's API: the real SDK, over HTTP, to an account on this machine that fails on demand."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.errors import Conflict, ProviderRefused, ProviderUnavailable, RateLimited, Rejected
from domain.ports import Order
from integrations.stripe.api import StripeApi
from simulators.loopback import Loopback, Reply
from simulators.personas import Persona, seconds
from simulators.stripe.api import Fault, StripeSimulator
from simulators.stripe.events import stripe_event, subscription
from tests.builders import NOV_22
from tests.raw_server import RawServer, answering, dripping, endless

ADA = UUID(int=7)
WHO = Persona(ADA, "cus_ada", "sub_ada", "user_ada", "ada@example.com")
PERIOD = (NOV_22, NOV_22 + timedelta(days=30))


@pytest.fixture
def stripe() -> StripeSimulator:
    return StripeSimulator(NOV_22)


@pytest.fixture
def base(stripe: StripeSimulator) -> Iterator[str]:
    with stripe.serving() as address:
        yield address


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now = NOV_22.timestamp()
        self.slept: list[float] = []

    def sleep(self, wait: float) -> None:
        self.slept.append(wait)
        self.now += wait


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(base: str, clock: Clock) -> StripeApi:
    return StripeApi("sk_test_fake", base=base, clock=lambda: clock.now, sleep=clock.sleep)


def an_order(customer_id: str) -> Order:
    return Order(ADA, customer_id, "price_pro", "https://app.example.com/paid", "https://app.example.com/plans")


def test_a_checkout_names_the_tenant_wherever_an_event_may_look_for_it(stripe: StripeSimulator, api: StripeApi) -> None:
    customer = api.add_customer(ADA, key="customer:ada")
    assert api.checkout(an_order(customer), key="once").startswith("https://checkout.stripe.com/")
    request = stripe.requests[-1]
    assert request.key == "once"
    assert request.params == {
        "mode": "subscription",
        "customer": customer,
        "line_items": {"0": {"price": "price_pro", "quantity": "1"}},
        "client_reference_id": str(ADA),
        "metadata": {"tenantId": str(ADA)},
        "subscription_data": {"metadata": {"tenantId": str(ADA)}},
        "success_url": "https://app.example.com/paid",
        "cancel_url": "https://app.example.com/plans",
    }
    assert stripe.books["customers"][0]["metadata"] == {"tenantId": str(ADA)}
    assert api.portal(customer, "https://app.example.com", key="p").startswith("https://billing.stripe.com/")


@pytest.mark.parametrize("lost", [Fault(None), Fault(500), Fault(409)])
def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(
    stripe: StripeSimulator, api: StripeApi, lost: Fault
) -> None:
    stripe.faults.append(lost)
    customer = api.add_customer(ADA, key="customer:ada")
    assert [each["id"] for each in stripe.books["customers"]] == [customer]
    assert [each.key for each in stripe.requests] == ["customer:ada"] * 2


@pytest.mark.parametrize(
    ("faults", "error", "requests"),
    [
        ([Fault(500)] * 3, ProviderUnavailable, 3),
        ([Fault(None)] * 3, ProviderUnavailable, 3),
        ([Fault(429, headers={"Retry-After": "7"})], RateLimited, 1),
        ([Fault(402, error={"type": "card_error", "message": "no", "code": "card_declined"})], ProviderRefused, 1),
        ([Fault(403, error={"type": "invalid_request_error", "message": "no"})], ProviderRefused, 1),
        ([Fault(400, error={"type": "invalid_request_error", "message": "no"})], ProviderRefused, 1),
        ([Fault(400, error={"type": "idempotency_error", "message": "no"})], Conflict, 1),
    ],
)
def test_an_error_says_whether_trying_again_can_help(
    stripe: StripeSimulator, api: StripeApi, faults: list[Fault], error: type[Exception], requests: int
) -> None:
    stripe.faults.extend(faults)
    with pytest.raises(error) as raised:
        api.add_customer(ADA, key="customer:ada")
    assert len(stripe.requests) == requests
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == timedelta(seconds=7)


def test_a_wrong_key_is_said_to_be_one_and_not_repeated(base: str) -> None:
    with pytest.raises(ProviderRefused, match="STRIPE_SECRET_KEY") as raised:
        StripeApi("sk_test_secret", base=base).statuses("cus_ada")
    assert "sk_test" not in str(raised.value)


def test_a_stripe_that_hangs_is_given_up(base: str, stripe: StripeSimulator) -> None:
    stripe.gate.clear()
    try:
        with pytest.raises(ProviderUnavailable):
            StripeApi("sk_test_fake", base=base, timeout=(1, 0.05)).add_customer(ADA, key="customer:ada")
    finally:
        stripe.gate.set()


def test_the_key_follows_no_redirect() -> None:
    with Loopback(lambda request: Reply(b"{}")) as other:
        with Loopback(lambda request: Reply(status=307, headers={"Location": f"{other.url}/v1/customers"})) as server:
            with pytest.raises(ProviderUnavailable, match="status 307"):
                StripeApi("sk_test_fake", base=server.url).add_customer(ADA, key="customer:ada")
        assert (len(server.requests), other.requests) == (1, [])


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), "Stripe answers with more than 20,000,000 bytes"),
        (dripping(b"HTTP/1.1 200 OK\r\nX: y\r\n" * 99, 0.05), "did not finish its answer within"),
    ],
    ids=["endless", "drips"],
)
def test_an_answer_without_end_is_no_answer(pieces: Callable[[RawServer], Iterable[bytes]], why: str) -> None:
    with answering(pieces) as server:
        api = StripeApi("sk_test_fake", base=server.url, timeout=(20, 20 if "bytes" in why else 0.2))
        with pytest.raises(ProviderUnavailable, match=why):
            api.statuses("cus_ada")
        assert len(server.requests) == 3
        assert server.sent < 180_000_000


def test_lists_are_read_to_their_end_within_our_share_and_with_patience(
    stripe: StripeSimulator, api: StripeApi, clock: Clock
) -> None:
    stripe.page = 2
    for n in range(25):
        about = subscription(WHO, NOV_22, PERIOD, status="canceled" if n % 2 else "active")
        stripe.books["subscriptions"].append({**about, "id": f"sub_{n}"})
    stripe.faults.extend([Fault(429, headers={"Retry-After": "3"}), Fault(429)])
    pages = list(api.subscriptions())
    assert [each["id"] for page in pages for each in page.items] == [f"sub_{n}" for n in range(25)]
    assert {page.as_of for page in pages} <= {NOV_22 - timedelta(seconds=n) for n in (1, 2)}
    assert clock.slept[:2] == [3.0, 2.0]
    # 15 requests; the burst is 5, and what was slept above made up for more than the rest of the first ones.
    assert all(0 < wait <= 1 / 12 + 1e-6 for wait in clock.slept[2:])
    assert len(clock.slept) > 5


def test_a_thin_event_becomes_its_twin_or_the_object_as_it_is_now(stripe: StripeSimulator, api: StripeApi) -> None:
    about = subscription(WHO, NOV_22, PERIOD)
    twin = stripe_event("customer.subscription.updated", about, at=NOV_22)
    stripe.books["events"].append(twin)
    stripe.books["subscriptions"].append(about)
    related = {"id": "sub_ada", "type": "subscription", "url": "/v1/subscriptions/sub_ada"}
    thin: dict[str, Any] = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.past_due",
        "created": "2026-11-22T11:00:00Z",
        "related_object": related,
    }
    assert api.fetch_event({**thin, "snapshot_event": twin["id"]}) == twin
    for without_twin in (thin, {**thin, "snapshot_event": "evt_long_gone"}):
        made = api.fetch_event(without_twin)
        assert made is not None
        assert (made["id"], made["type"]) == ("evt_thin", "customer.subscription.updated")
        assert made["data"]["object"] == about
        assert seconds(NOV_22) - 2 <= made["created"] < seconds(NOV_22)
    assert api.fetch_event({**thin, "related_object": {**related, "url": "/v1/subscriptions/sub_x"}}) is None
    assert api.fetch_event({**thin, "related_object": None}) is None
    # A path of somebody else's choice is not asked for.
    assert api.fetch_event({**thin, "related_object": {**related, "url": "https://evil.example.com/v1/"}}) is None


def test_a_deleted_customer_was_deleted_when_the_event_says(stripe: StripeSimulator, api: StripeApi) -> None:
    stripe.books["customers"].append({"id": "cus_ada", "object": "customer", "deleted": True})
    made = api.fetch_event(
        {
            "id": "evt_thin",
            "type": "v1.customer.deleted",
            "created": "2026-11-20T12:00:00.5Z",
            "related_object": {"id": "cus_ada", "type": "customer", "url": "/v1/customers/cus_ada"},
        }
    )
    assert made is not None
    assert (made["type"], made["created"]) == ("customer.deleted", seconds(NOV_22 - timedelta(days=2)))


def test_what_postgres_cannot_keep_is_replaced(stripe: StripeSimulator, api: StripeApi) -> None:
    stripe.books["subscriptions"].append({**subscription(WHO, NOV_22, PERIOD), "description": "a\0b"})
    [page] = api.subscriptions()
    assert page.items[0]["description"] == "a\ufffdb"


def test_refusals_are_never_tried_again_by_a_job() -> None:
    assert issubclass(ProviderRefused, Rejected)
    assert issubclass(Conflict, Rejected)


UNUSED = """
import sys, web.main, workers.adapters.ports, workers.app
from workers.settings import Settings
settings = Settings(database_url="postgresql:///none", stripe_secret_key="sk_test_fake")
assert workers.adapters.ports.open_ports(settings, db=None).cashier is not None
print("stripe" in sys.modules, "requests" in sys.modules)
"""


def test_who_never_asks_stripe_does_not_pay_for_its_sdk() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", UNUSED], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

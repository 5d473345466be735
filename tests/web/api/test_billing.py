"""Buying a plan through the API: the endpoint is ours, Stripe is an account on this machine, asked by its own SDK."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from simulators.personas import Persona
from simulators.stripe.api import Fault, StripeSimulator
from simulators.stripe.events import customer, stripe_event, subscription
from tests.builders import NOV_22, a_stripe_event, a_tenant, tenant
from tests.wait import until
from tests.web.api.test_api import PAGE, Api, a_key, a_session, a_user, refused
from workers.app import App

PURCHASE = {"tier": "PRO", "success_url": f"{PAGE}/paid?s={{CHECKOUT_SESSION_ID}}", "cancel_url": f"{PAGE}/plans"}


@pytest.fixture
def api(selling: App) -> Api:
    return Api(selling)


def sessions(stripe: StripeSimulator) -> list[dict[str, Any]]:
    return [each for each in stripe.books["sessions"] if each["object"] == "checkout.session"]


def test_a_plan_is_bought_on_stripes_page(selling: App, api: Api, stripe: StripeSimulator) -> None:
    tenant_id = a_user(selling)
    answer = api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    assert answer.status_code == 200, answer.text
    [session] = sessions(stripe)
    assert answer.json() == {"url": session["url"]}
    assert answer.headers["cache-control"] == "no-store"
    assert session["metadata"] == session["subscription_data"]["metadata"] == {"tenantId": str(tenant_id)}
    assert session["client_reference_id"] == str(tenant_id)
    assert session["line_items"] == {"0": {"price": "price_pro", "quantity": "1"}}
    assert tenant(selling, tenant_id)["stripe_customer_id"] == session["customer"]
    # What was made for the first page is used for the next, and for the portal.
    by_price = {**PURCHASE, "price_id": "price_pro_yearly"}
    del by_price["tier"]
    assert api("POST", "/billing/checkout", a_session(), json=by_price).status_code == 200
    portal = api("POST", "/billing/portal", a_session(), json={"return_url": PAGE})
    assert portal.json()["url"].startswith("https://billing.stripe.com/")
    assert len(stripe.books["customers"]) == 1


def test_a_request_sent_again_gets_the_same_page_and_another_tenant_never_does(
    selling: App, api: Api, stripe: StripeSimulator
) -> None:
    a_user(selling)
    a_user(selling, "user_bob")

    def ask(who: str, **changes: Any) -> httpx.Response:
        key = {"Idempotency-Key": "my first"}
        return api("POST", "/billing/checkout", a_session(sub=who), json=PURCHASE | changes, headers=key)

    first = ask("user_ada").json()["url"]
    assert ask("user_ada").json()["url"] == first
    assert ask("user_bob").json()["url"] != first
    assert refused(ask("user_ada", tier="AGENCY")) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert len(sessions(stripe)) == 2


def test_two_first_checkouts_at_once_make_one_customer(selling: App, api: Api, stripe: StripeSimulator) -> None:
    tenant_id = a_user(selling)
    stripe.gate.clear()
    answers: list[httpx.Response] = []
    buy: Callable[[], None] = lambda: answers.append(api("POST", "/billing/checkout", a_session(), json=PURCHASE))  # noqa: E731
    buyers = [threading.Thread(target=buy) for _ in range(2)]
    for buyer in buyers:
        buyer.start()
    # Both are past the look into our table, and one was told by Stripe that the other is at it.
    until(
        lambda: sum(request.path == "/v1/customers" for request in stripe.requests) >= 2, "both to ask for a customer"
    )
    stripe.gate.set()
    for buyer in buyers:
        buyer.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    [made] = stripe.books["customers"]
    assert {session["customer"] for session in sessions(stripe)} == {made["id"]}
    assert tenant(selling, tenant_id)["stripe_customer_id"] == made["id"]


def test_a_customer_that_was_made_and_not_saved_is_the_next_ones(
    selling: App, api: Api, stripe: StripeSimulator
) -> None:
    """As after a crash between the two: Stripe made it, and nobody here ever heard."""
    a_user(selling)
    stripe.faults.extend([Fault(None, path="/v1/customers")] * 3)
    assert refused(api("POST", "/billing/checkout", a_session(), json=PURCHASE)) == (503, "UNAVAILABLE")
    assert api("POST", "/billing/checkout", a_session(), json=PURCHASE).status_code == 200
    assert len(stripe.books["customers"]) == 1


def test_after_a_customer_was_deleted_a_new_one_is_made(
    selling: App, api: Api, stripe: StripeSimulator, drain: Callable[[], int]
) -> None:
    tenant_id = a_user(selling)
    api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    [old] = stripe.books["customers"]
    who = Persona(tenant_id, old["id"], "sub_ada", "user_ada", "ada@example.com")
    a_stripe_event(selling, stripe_event("customer.deleted", customer(who, created_at=NOV_22), at=NOV_22))
    drain()
    assert tenant(selling, tenant_id)["stripe_customer_id"] is None
    assert api("POST", "/billing/checkout", a_session(), json=PURCHASE).status_code == 200
    assert tenant(selling, tenant_id)["stripe_customer_id"] not in (None, old["id"])


@pytest.mark.parametrize(
    ("status", "answer"),
    [("active", 409), ("past_due", 409), ("unpaid", 409), ("trialing", 409), ("canceled", 200), ("incomplete", 200)],
)
def test_nobody_is_sold_a_second_subscription(
    selling: App, api: Api, stripe: StripeSimulator, status: str, answer: int
) -> None:
    """Stripe is asked itself: here no webhook has told us of the first one yet."""
    tenant_id = a_user(selling)
    api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    customer_id = tenant(selling, tenant_id)["stripe_customer_id"]
    who = Persona(tenant_id, customer_id, "sub_ada", "user_ada", "ada@example.com")
    stripe.books["subscriptions"].append(subscription(who, NOV_22, (NOV_22, NOV_22), status=status))
    response = api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    assert response.status_code == answer
    if answer == 409:
        assert refused(response) == (409, "ALREADY_SUBSCRIBED")


@pytest.mark.parametrize(
    "changes",
    [
        {"tier": "FREE"},
        {"tier": "GOLD"},
        {"tier": None},
        {"price_id": "price_pro"},
        {"tier": None, "price_id": "price_of_another"},
        {"success_url": "https://evil.example.com/"},
        {"success_url": "http://app.example.com/"},
        {"success_url": "https://app.example.com@evil.example.com/"},
        {"success_url": "https://app.example.com.evil.example.com/"},
        {"success_url": "https://app.example.com\\@evil.example.com/"},
        {"success_url": "https://app.example.com\n.evil.example.com/"},
        {"success_url": "//app.example.com/"},
        {"cancel_url": "javascript:alert(1)"},
        {"cancel_url": "https://[app"},
        {"cancel_url": f"{PAGE}/{'x' * 2000}"},
        {"cancel_url": None},
    ],
)
def test_what_is_not_for_sale_or_leads_elsewhere_is_refused_before_stripe_is_asked(
    selling: App, api: Api, stripe: StripeSimulator, changes: dict[str, Any]
) -> None:
    a_user(selling)
    answer = api("POST", "/billing/checkout", a_session(), json=PURCHASE | changes)
    assert refused(answer) == (422, "INVALID")
    assert stripe.requests == []


def test_who_may_not_buy_is_told_so(selling: App, api: Api, stripe: StripeSimulator) -> None:
    a_user(selling, role="MEMBER")
    assert refused(api("POST", "/billing/checkout", a_session(), json=PURCHASE)) == (403, "SCOPE_MISSING")
    assert refused(api("POST", "/billing/portal", None, json={"return_url": PAGE})) == (401, "CREDENTIAL_MISSING")
    key = a_key(selling, a_tenant(selling), "billing:write")
    assert refused(api("POST", "/billing/portal", key, json={"return_url": PAGE})) == (409, "NO_CUSTOMER")
    assert stripe.requests == []


def test_what_stripe_says_no_to_is_not_the_callers_fault(selling: App, api: Api, stripe: StripeSimulator) -> None:
    a_user(selling)
    no = {"type": "invalid_request_error", "message": "No such price", "code": "resource_missing"}
    stripe.faults.append(Fault(400, path="/v1/checkout", error=no))
    answer = api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    assert refused(answer) == (502, "PROVIDER_REFUSED")
    described = api("GET", "/openapi.json").json()["paths"]
    assert all("502" in described[f"/billing/{page}"]["post"]["responses"] for page in ("checkout", "portal"))
    stripe.faults.append(Fault(429, path="/v1/checkout", headers={"Retry-After": "9"}))
    answer = api("POST", "/billing/checkout", a_session(), json=PURCHASE)
    assert refused(answer) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "9"


def test_without_a_key_or_without_pages_nothing_is_sold(app: App, selling: App) -> None:
    key = a_key(app, a_tenant(app), "billing:write")
    assert refused(Api(app)("POST", "/billing/checkout", key, json=PURCHASE)) == (503, "NOT_SET_UP")
    assert refused(Api(app)("POST", "/billing/portal", key, json={"return_url": PAGE})) == (503, "NOT_SET_UP")
    homeless = replace(selling, settings=selling.settings.model_copy(update={"clerk_authorized_parties": ()}))
    assert refused(Api(homeless)("POST", "/billing/checkout", key, json=PURCHASE)) == (503, "NOT_SET_UP")


def test_a_tier_without_a_price_is_not_sold(selling: App, stripe: StripeSimulator) -> None:
    ports = replace(selling.ports, prices={})
    key = a_key(selling, a_tenant(selling), "billing:write")
    answer = Api(replace(selling, ports=ports))("POST", "/billing/checkout", key, json=PURCHASE)
    assert refused(answer) == (503, "NOT_SET_UP")
    assert "STRIPE_PRO_PRICE_ID" in answer.json()["error"]


def test_one_tenants_customer_is_not_anothers(selling: App, api: Api, stripe: StripeSimulator) -> None:
    ada: UUID = a_user(selling)
    bob: UUID = a_user(selling, "user_bob")
    for who in ("user_ada", "user_bob"):
        assert api("POST", "/billing/checkout", a_session(sub=who), json=PURCHASE).status_code == 200
    customers = [tenant(selling, each)["stripe_customer_id"] for each in (ada, bob)]
    assert len(set(customers)) == 2
    assert [each["metadata"]["tenantId"] for each in stripe.books["customers"]] == [str(bob), str(ada)]

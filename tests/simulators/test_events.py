import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
import stripe

from domain.billing import events as billing_events
from domain.billing.tiers import Tier
from domain.events.outcomes import Ignored
from domain.identity import events as identity_events
from simulators.clerk.events import clerk_user
from simulators.kinds import KINDS
from simulators.personas import API_VERSIONS, Persona, Shape, random_persona
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription
from simulators.stripe.scenarios import lifecycle

AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
PERIOD = (AT, datetime(2026, 4, 1, 8, 0, tzinfo=UTC))
WHO = Persona(UUID(int=7), "cus_1", "sub_1", "user_1", "ada@example.com")
PRICES = {Tier.STARTER: "price_starter", Tier.PRO: "price_pro"}

SHAPES: list[Shape] = ["acacia", "basil", "hybrid"]


@pytest.mark.parametrize(
    ("body", "documented"),
    [
        (stripe_event("invoice.paid", {}, at=AT), stripe.Event),
        (subscription(WHO, AT, PERIOD), stripe.Subscription),
        (subscription(WHO, AT, PERIOD)["items"]["data"][0], stripe.SubscriptionItem),
        (subscription(WHO, AT, PERIOD)["items"]["data"][0]["price"], stripe.Price),
        (invoice(WHO, PERIOD, at=AT), stripe.Invoice),
        (invoice(WHO, PERIOD, at=AT)["lines"]["data"][0], stripe.InvoiceLineItem),
        (checkout_session(WHO, at=AT), stripe.checkout.Session),
        (customer(WHO, created_at=AT), stripe.Customer),
    ],
    ids=["event", "subscription", "item", "price", "invoice", "line", "session", "customer"],
)
def test_a_basil_body_has_only_fields_that_stripes_own_library_documents(
    body: Mapping[str, Any], documented: type
) -> None:
    assert set(body) - {"object"} <= set(documented.__annotations__)


def test_each_shape_keeps_the_moved_fields_where_its_version_had_them() -> None:
    def fields(shape: Shape) -> tuple[bool, ...]:
        who = replace(WHO, shape=shape)
        row, bill = subscription(who, AT, PERIOD), invoice(who, PERIOD, at=AT)
        item, line = row["items"]["data"][0], bill["lines"]["data"][0]
        before = ("current_period_end" in row, "subscription" in bill, "paid" in bill, "proration" in line)
        since = ("current_period_end" in item, "parent" in bill, "parent" in line, "pricing" in line)
        return before + since

    assert fields("acacia") == (True,) * 4 + (False,) * 4
    assert fields("basil") == (False,) * 4 + (True,) * 4
    assert fields("hybrid") == (True,) * 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", sorted(KINDS["stripe"]))
def test_every_stripe_kind_is_an_event_that_the_reader_understands(kind: str, shape: Shape) -> None:
    body = json.loads(json.dumps(KINDS["stripe"][kind].build(replace(WHO, shape=shape), AT)))
    assert (body["type"], body["api_version"], body["created"]) == (kind, API_VERSIONS[shape], int(AT.timestamp()))
    ignored = isinstance(billing_events.read(body), Ignored)
    assert ignored == (kind == "invoice.payment_succeeded")


@pytest.mark.parametrize("kind", sorted(KINDS["clerk"]))
def test_every_clerk_kind_is_an_event_that_the_reader_understands(kind: str) -> None:
    body = json.loads(json.dumps(KINDS["clerk"][kind].build(WHO, AT)))
    sent_as = "user.updated" if kind in ("user.banned", "user.unbanned") else kind
    assert (body["type"], body["timestamp"]) == (sent_as, int(AT.timestamp() * 1000))
    assert "id" not in body
    assert not isinstance(identity_events.read(body), Ignored)


def test_kinds_are_described_on_one_line() -> None:
    descriptions = [kind.description for kinds in KINDS.values() for kind in kinds.values()]
    assert all(text and "\n" not in text and len(text) < 80 for text in descriptions)


def test_the_primary_address_is_not_the_first_of_the_list() -> None:
    user = clerk_user(WHO, created_at=AT)
    assert user["email_addresses"][0]["id"] != user["primary_email_address_id"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_life_is_told_in_order_by_events_with_ids_of_their_own(shape: Shape) -> None:
    events = lifecycle(replace(WHO, shape=shape), AT, PRICES)
    times = [body["created"] for body in events]
    assert times == sorted(times)
    assert len({body["id"] for body in events}) == len(events)
    assert {body["data"]["object"].get("customer") for body in events} == {"cus_1"}


def test_the_same_values_make_the_same_event() -> None:
    assert lifecycle(WHO, AT, PRICES) == lifecycle(WHO, AT, PRICES)


def test_random_people_are_the_rngs_and_what_is_known_stays() -> None:
    assert random_persona(Random(1)) == random_persona(Random(1)) != random_persona(Random(2))
    assert random_persona(Random(1), tenant_id=WHO.tenant_id, shape="hybrid").tenant_id == WHO.tenant_id

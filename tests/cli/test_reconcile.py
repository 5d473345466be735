"""`viral billing reconcile`, as an operator types it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.quota.quota import add_months
from simulators.personas import Persona
from simulators.stripe.api import StripeSimulator
from simulators.stripe.events import invoice, subscription
from tests.builders import a_tenant, tenant
from tests.cli.shell import Shell
from tests.drain import drain
from workers.app import App

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
"""The command goes by the database's clock."""


@pytest.fixture
def bought(selling: App, stripe: StripeSimulator, viral: Shell) -> tuple[UUID, UUID]:
    """Two tenants that bought a plan, of which no webhook told. The shell has the key."""
    stripe.now = START + timedelta(days=1)
    found = []
    for name in ("ada", "bob"):
        tenant_id = a_tenant(selling, created_at=START - timedelta(days=9), stripe_customer_id=f"cus_{name}")
        who = Persona(tenant_id, f"cus_{name}", f"sub_{name}", f"user_{name}", f"{name}@example.com")
        period = (START, add_months(START, 1))
        stripe.books["subscriptions"].append(subscription(who, START, period))
        stripe.books["invoices"].append(invoice(who, period, at=START, billing_reason="subscription_create"))
        found.append(tenant_id)
    settings = selling.settings
    viral.environment |= {"STRIPE_SECRET_KEY": stripe.key, "STRIPE_API_BASE": settings.stripe_api_base}
    return found[0], found[1]


def test_it_reports_and_changes_nothing_until_it_is_told_to(
    selling: App, stripe: StripeSimulator, viral: Shell, bought: tuple[UUID, UUID]
) -> None:
    result = viral.done("billing", "reconcile")
    assert sum(line.startswith(("subscription", "invoice")) for line in result.lines) == 4
    assert result.lines[-1] == "Nothing was changed: --repair repairs the mirror."
    drain(selling)
    assert tenant(selling, bought[0])["subscription_tier"] == "FREE"

    repaired: Any = viral.json("billing", "reconcile", "--repair")
    assert (repaired["compared"], repaired["repaired"], len(repaired["differences"])) == (4, 4, 4)
    assert repaired["differences"][0]["changes"] == {"status": {"ours": None, "stripe": "active"}}
    drain(selling)
    assert {tenant(selling, each)["subscription_tier"] for each in bought} == {"PRO"}
    stripe.now += timedelta(minutes=1)
    assert viral.done("billing", "reconcile").lines == ["The mirror is what Stripe's books say (4 compared)."]
    assert viral.done("billing", "rebuild").lines == ["Mirror and plans are what the events say."]


def test_one_tenant_and_a_beginning_restrict_it(
    stripe: StripeSimulator, viral: Shell, bought: tuple[UUID, UUID]
) -> None:
    found = viral.json("billing", "reconcile", "--tenant", bought[1])
    assert {each["customer_id"] for each in found["differences"]} == {"cus_bob"}
    assert found["compared"] == 2
    late = (START + timedelta(hours=1)).isoformat()
    assert {each["kind"] for each in viral.json("billing", "reconcile", "--since", late)["differences"]} == {
        "subscription"
    }


def test_what_makes_no_sense_is_refused(viral: Shell, bought: tuple[UUID, UUID]) -> None:
    assert "no tenant has the id" in viral.refused("billing", "reconcile", "--tenant", uuid4())
    assert "is no time" in viral.senseless("billing", "reconcile", "--since", "yesterday")
    assert "STRIPE_SECRET_KEY is not set" in viral.refused("billing", "reconcile", STRIPE_SECRET_KEY="")
    assert "STRIPE_SECRET_KEY" in viral.refused("billing", "reconcile", STRIPE_SECRET_KEY="pk_test_x")

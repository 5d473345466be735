"""Replaying stored events and deriving everything from them once more, as an operator types it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from simulators.stripe.events import stripe_event
from simulators.stripe.scenarios import SCENARIOS
from tests.builders import a_stripe_event, tenant
from tests.cli.shell import Shell
from tests.converge.runs import SOLD, START, WHO, begin, state
from tests.drain import drain
from workers.app import App

TENANT = WHO.tenant_id


@pytest.fixture
def viral(viral: Shell) -> Shell:
    """A shell that knows the prices."""
    viral.environment |= {f"STRIPE_{tier}_PRICE_ID": price for tier, price in SOLD.items()}
    return viral


@pytest.fixture
def purchase_history(app: App) -> list[UUID]:
    """All events of a customer who was deleted and came back, applied. Returns their jobs."""
    begin(app)
    jobs = [a_stripe_event(app, body) for body in SCENARIOS["customer_deleted"](WHO, START, SOLD)]
    drain(app)
    return jobs


def everything(app: App) -> dict[str, Any]:
    """The mirror and the plan, every outcome, and the ledger."""
    rows = state(app)
    with app.db.transaction(SYSTEM) as tx:
        outcomes = {row["external_id"]: row["status"] for row in tx.events.recent()}
        return {"state": rows, "outcomes": outcomes, "ledger": tx.quota.ledger(TENANT)}


def sql(app: App, statement: str) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode())


def drop_all(app: App, most: int = 1000) -> None:
    """Drop what the oldest events said, as if their time were over."""
    with app.db.transaction(SYSTEM) as tx:
        oldest = "SELECT id FROM webhook_events WHERE dropped_at IS NULL ORDER BY id LIMIT %s"
        tx.driver.execute(
            f"UPDATE webhook_events SET body = NULL, payload = '{{}}', dropped_at = now() WHERE id IN ({oldest})",
            (most,),
        )


def test_a_replay_of_everything_changes_nothing(viral: Shell, app: App, purchase_history: list[UUID]) -> None:
    before = everything(app)
    names = [row["external_id"] for row in viral.json("events", "list")]
    replayed = viral.json("events", "replay", *names)
    assert len({row["job_id"] for row in replayed}) == len(purchase_history)
    assert drain(app) == len(purchase_history)
    assert everything(app) == before


def test_only_what_is_parked_for_a_reason_is_replayed(viral: Shell, app: App) -> None:
    begin(app)
    [created, *_] = SCENARIOS["a_checkout"](WHO, START, {tier: f"{price}_new" for tier, price in SOLD.items()})
    a_stripe_event(app, created)
    drain(app)
    assert viral.json("events", "replay", "--parked", "unknown_customer") == []
    [replayed] = viral.json("events", "replay", "--parked", "unknown_price")
    assert replayed["source"] == "stripe"
    assert len(viral.json("events", "replay", "--parked", "any")) == 1, "the job that waits already, once more"
    assert drain(app) == 1
    assert viral.json("events", "stats") == [
        {"source": "stripe", "status": "parked:unknown_price", "events": 1, "flagged": 0, "duplicates": 0}
    ]


def test_types_that_were_ignored_are_applied_by_a_release_that_has_learned_them(viral: Shell, app: App) -> None:
    begin(app)
    bought = SCENARIOS["a_checkout"](WHO, START, SOLD)
    for body in bought:
        a_stripe_event(app, body)
    with app.db.transaction(SYSTEM) as tx:  # as the release before left them
        tx.driver.execute("DELETE FROM job_queue")
        tx.driver.execute("UPDATE webhook_events SET status = 'ignored:type', processed_at = now(), job_id = NULL")
    for kind in {body["type"] for body in bought}:
        assert viral.json("events", "replay", "--ignored", kind)
    drain(app)
    assert tenant(app, TENANT)["subscription_tier"] == "PRO"
    assert viral.done("events", "replay", "--ignored", "moon.risen").lines == [
        "No event that is still kept was ignored for that."
    ]


def test_a_dropped_event_cannot_be_replayed(viral: Shell, app: App, purchase_history: list[UUID]) -> None:
    drop_all(app)
    name = viral.json("events", "list")[0]["external_id"]
    result = viral("events", "replay", name)
    assert (result.code, result.out) == (1, "")
    assert f"what the event {name} said was dropped on" in result.err
    assert viral.json("events", "show", name)["dropped_at"]
    assert "not kept" in viral.done("events", "show", name).out
    assert drain(app) == 0


def test_one_unknown_id_replays_none(viral: Shell, app: App, purchase_history: list[UUID]) -> None:
    stored_id = viral.json("events", "list")[0]["external_id"]
    result = viral("events", "replay", stored_id, "evt_nope")
    assert (result.code, result.out) == (1, "")
    assert "no event has the id evt_nope; nothing was replayed" in result.err
    assert drain(app) == 0


@pytest.mark.parametrize("words", [[], ["evt_1", "--parked", "thin"], ["--parked", "thin", "--ignored", "x"]])
def test_replay_wants_ids_or_a_reason(viral: Shell, words: list[str]) -> None:
    assert viral("events", "replay", *words).code == 2


def test_flagged_events_are_listed(viral: Shell, app: App) -> None:
    begin(app)
    for body in SCENARIOS["two_at_once"](WHO, START, SOLD):
        a_stripe_event(app, body)
    drain(app)
    flagged = viral.json("events", "list", "--flagged")
    assert flagged
    assert {row["flag"] for row in flagged} == {"several_subscriptions"}


def test_a_pause_of_collection_is_shown_and_explained(viral: Shell, app: App) -> None:
    begin(app)
    bodies = SCENARIOS["collection_paused"](WHO, START, SOLD)[:4]
    paused = bodies[3]["data"]
    assert paused["object"]["pause_collection"]
    paused["previous_attributes"] = {"pause_collection": None}
    for body in bodies:
        a_stripe_event(app, body)
    drain(app)
    since = "2027-02-04 12:00 UTC"
    assert viral.json("tenants", "show", TENANT)["collection_paused_since"] == "2027-02-04T12:00:00Z"
    assert "collection_paused_since" in viral.done("tenants", "show", TENANT).out
    assert f"collection paused since {since}" in viral.done("quota", "explain", TENANT).out
    assert viral.json("quota", "show", TENANT)["drawn_until"] == "2027-02-28T12:00:00Z"


def test_a_change_that_is_not_paid_is_shown_and_explained(viral: Shell, app: App) -> None:
    begin(app)
    bought = SCENARIOS["a_checkout"](WHO, START, SOLD)
    row = bought[0]["data"]["object"]
    for item in row["items"]["data"]:
        item["price"] = {**item["price"], "id": "price_agency"}
    declined = stripe_event(
        "customer.subscription.updated", {**row, "status": "past_due"}, at=START + timedelta(days=1)
    )
    for body in (*SCENARIOS["a_checkout"](WHO, START, SOLD), declined):
        a_stripe_event(app, body)
    drain(app)
    result = "AGENCY was ordered and is not paid: PRO was last paid for, and counts until it is."
    assert result in viral.done("quota", "explain", TENANT).lines
    assert viral.json("tenants", "show", TENANT)["not_paid"] == result
    assert [(row["flag"], row["detail"]) for row in viral.json("events", "list", "--flagged")] == [
        ("unpaid_change", "a change to AGENCY is not paid: the tenant has PRO, which was last paid for")
    ]
    assert "unpaid_change" in viral.done("events", "list", "--flagged").out


def test_rebuilding_a_healthy_system_changes_nothing(viral: Shell, app: App, purchase_history: list[UUID]) -> None:
    before = everything(app)
    for options in ([], ["--apply"], ["--tenant", TENANT]):
        assert viral.json("billing", "rebuild", *options) == []
    assert everything(app) == before
    assert viral.done("billing", "rebuild").lines == ["Mirror and plans are what the events say."]


def test_rebuilding_leaves_to_the_mirror_what_events_say_no_more(
    viral: Shell, app: App, purchase_history: list[UUID]
) -> None:
    before = everything(app)
    for oldest in (1, 2, 1000):
        drop_all(app, oldest)
        assert viral.json("billing", "rebuild", "--apply") == []
        assert everything(app) == before


def test_rebuilding_finds_and_mends_what_was_damaged(viral: Shell, app: App, purchase_history: list[UUID]) -> None:
    before = everything(app)["state"]
    sql(app, "UPDATE tenants SET subscription_tier = 'AGENCY', monthly_quota = 500, stripe_customer_id = NULL")
    sql(app, "UPDATE stripe_subscriptions SET status = 'canceled' WHERE id = 'sub_1_2'")
    sql(app, "DELETE FROM stripe_invoices WHERE subscription_id = 'sub_1'")
    sql(app, "DELETE FROM stripe_paid_periods WHERE subscription_id = 'sub_1'")
    sql(app, "DELETE FROM stripe_customers WHERE id = 'cus_1'")
    damaged = state(app)
    found = viral.json("billing", "rebuild")
    bill = next(row["what"].removeprefix("invoice ") for row in found if row["what"].startswith("invoice "))
    assert {(row["what"].replace(bill, "in_1"), row["column"]) for row in found} >= {
        ("plan", "tier"),
        ("plan", "customer_id"),
        ("quota", "limit"),
        ("subscription sub_1_2", "status"),
        ("invoice in_1", "status"),
        ("customer cus_1", "tenant_id"),
        ("customer cus_1", "deleted_at"),
    }
    assert state(app) == damaged, "without --apply nothing is written"
    viral.json("billing", "rebuild", "--apply")
    assert viral.json("billing", "rebuild") == []
    assert state(app) == before
    assert tenant(app, TENANT)["stripe_customer_id"] == "cus_1_2"


def test_rebuilding_for_nobody_is_refused(viral: Shell) -> None:
    result = viral("billing", "rebuild", "--tenant", UUID(int=404))
    assert result.code == 1
    assert "no tenant has the id" in result.err


def test_what_a_body_did_not_carry_is_named_where_the_quota_is_explained(viral: Shell, app: App) -> None:
    """Without it the story would say that nothing was paid, which is not known."""
    begin(app)
    bought = SCENARIOS["a_checkout"](WHO, START, SOLD)
    invoice = next(body for body in bought if body["type"] == "invoice.paid")["data"]["object"]
    invoice["lines"] = {**invoice["lines"], "data": [], "has_more": True}
    for body in bought:
        a_stripe_event(app, body)
    drain(app)
    result = (
        "Not counted: 1 event that carries only a part of what Stripe tells of this customer, and could not be looked "
        "up yet (`viral events list --status parked`)."
    )
    assert result in viral.done("quota", "explain", TENANT).lines
    assert [row["status"] for row in viral.json("events", "list", "--status", "parked")] == ["parked:incomplete"]

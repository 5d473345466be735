"""The pages of events: lists by any filters, one with what became of it, and nothing of theirs that does harm."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_clerk_event, a_stripe_event, a_tenant, job_row
from tests.drain import drain
from workers.app import App

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def an_event(app: App, external_id: str, **columns: Any) -> str:
    """A row as it lies in the store, without a job."""
    row = {"source": "stripe", "type": "invoice.paid", "subject": "cus_1", "status": "applied"} | columns
    row |= {"id": uuid4(), "external_id": external_id}
    if "payload" in row:
        row["payload"] = json.dumps(row["payload"])
    names = ", ".join(row)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            f"INSERT INTO webhook_events ({names}) VALUES ({', '.join(f'%({name})s' for name in row)})".encode(), row
        )
    return str(row["id"])


def test_an_empty_list_says_what_would_be_there(ops: TestClient) -> None:
    response = ops.get("/ops/events")
    assert response.status_code == 200
    assert "No event has come yet" in response.text


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["evt_6", "evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]),
        ("?source=clerk", ["evt_6"]),
        ("?type=customer.created", ["evt_2"]),
        ("?status=parked", ["evt_4", "evt_3"]),
        ("?status=parked:thin", ["evt_4"]),
        ("?status=parked&subject=cus_2", ["evt_3"]),
        ("?flag=any", ["evt_5"]),
        ("?flag=dispute", ["evt_5"]),
        ("?flag=fraud_warning", []),
        ("?subject=cus_2", ["evt_5", "evt_3"]),
        ("?since=2026-11-04", ["evt_6", "evt_5", "evt_4"]),
        ("?until=2026-11-04&since=2026-11-02", ["evt_3", "evt_2"]),
        ("?text=VT_5", ["evt_5"]),
        ("?text=evt_2", ["evt_2"]),
        ("?text=user_1", ["evt_6"]),
        ("?text=cus_&status=applied", ["evt_5", "evt_2", "evt_1"]),
    ],
)
def test_filters_narrow_the_list(app: App, ops: TestClient, query: str, ids: list[str]) -> None:
    for number, columns in enumerate(
        [
            {},
            {"type": "customer.created"},
            {"status": "parked:unknown_price", "subject": "cus_2"},
            {"status": "parked:thin"},
            {"flag": "refund,dispute", "subject": "cus_2"},
            {"source": "clerk", "subject": "user_1", "status": "received"},
        ],
        1,
    ):
        an_event(app, f"evt_{number}", received_at=datetime(2026, 11, number, tzinfo=UTC), **columns)
    text = ops.get(f"/ops/events{query}").text
    listed = [each for each in ("evt_6", "evt_5", "evt_4", "evt_3", "evt_2", "evt_1") if f"/ops/events/{each}" in text]
    assert listed == ids


def test_the_list_of_a_tenant_has_its_own_events_only(app: App, ops: TestClient) -> None:
    mine, other = a_tenant(app, stripe_customer_id="cus_1"), a_tenant(app, stripe_customer_id="cus_2")
    an_event(app, "evt_mine")
    an_event(app, "evt_other", subject="cus_2")
    text = ops.get(f"/ops/events?tenant={mine}").text
    assert "evt_mine" in text
    assert "evt_other" not in text
    assert "evt_mine" not in ops.get(f"/ops/events?tenant={other}").text


def test_events_whose_job_failed_are_found(app: App, ops: TestClient) -> None:
    job_id = a_stripe_event(app, stripe_event("customer.created", {"id": "cus_1", "object": "customer"}, at=NOV_22))
    an_event(app, "evt_fine")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET status = 'failed', completed_at = now() WHERE id = %s", (job_id,))
    text = ops.get("/ops/events?status=failed").text
    assert "its job failed" in text
    assert "evt_fine" not in text


def test_all_pages_together_have_every_event_once(app: App, ops: TestClient) -> None:
    with app.db.transaction(SYSTEM) as tx:
        # Many of one moment, as a batch of webhooks is.
        tx.driver.execute(
            "INSERT INTO webhook_events (source, external_id, type, status, received_at) "
            "SELECT 'stripe', 'evt_' || lpad(n::text, 3, '0'), 't', 'applied', "
            "'2026-11-01Z'::timestamptz + (n / 40) * interval '1 s' FROM generate_series(1, 170) n"
        )
    url, seen = "/ops/events?status=applied", list[str]()
    for _ in range(4):
        text = ops.get(url).text
        seen += [part[:7] for part in text.split('href="/ops/events/')[1:] if part.startswith("evt_")]
        older = text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        url = older.replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 170
    assert 'rel="next"' not in text


@pytest.mark.parametrize(
    "query",
    [
        "?status=nope",
        "?since=yesterday",
        "?since=99999999999",
        "?tenant=1",
        "?after=1",
        "?after=20261101T000000.000000Z~x",
        "?text=" + "x" * 201,
        "?flag=%00",
        "?source=" + HOSTILE,
        "?status=" + HOSTILE,
    ],
)
def test_what_cannot_be_asked_is_refused(ops: TestClient, query: str) -> None:
    response = ops.get(f"/ops/events{query}")
    assert response.status_code == 400
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


@pytest.mark.parametrize("name", ["type", "subject", "text"])
def test_a_filter_is_shown_and_does_nothing(ops: TestClient, name: str) -> None:
    response = ops.get("/ops/events", params={name: HOSTILE})
    assert response.status_code == 200
    assert "&lt;script&gt;" in response.text
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_what_an_event_says_does_nothing_on_its_page_and_is_masked(app: App, ops: TestClient) -> None:
    payload = {
        "id": HOSTILE,
        HOSTILE: "mara",
        "data": {"object": {"id": "in_1", "amount_paid": 12345678901234567890, "customer_email": "mara@example.org"}},
    }
    event_id = an_event(
        app, HOSTILE, type=HOSTILE, subject=HOSTILE, detail=f"mara@example.org {HOSTILE}", payload=payload
    )
    an_event(app, "evt_2", type=HOSTILE, subject=HOSTILE)
    for path in (f"/ops/events/{event_id}", "/ops/events"):
        text = ops.get(path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "mara@example.org" not in text
    text = ops.get(f"/ops/events/{event_id}").text
    assert "12345678901234567890" in text
    assert "in_1" in text
    assert "‹text of 16›" in text


def test_an_event_that_is_not_there_is_a_404(ops: TestClient) -> None:
    for name in (str(uuid4()), "evt_none", HOSTILE):
        response = ops.get(f"/ops/events/{name.replace('/', '%2F')}")
        assert response.status_code == 404
        assert "<script>alert" not in response.text


def test_what_became_of_an_event_of_stripe(app: App, ops: TestClient) -> None:
    """From the event to the ledger's row, on one page, by either id."""
    tenant_id = a_tenant(app, stripe_customer_id="cus_1", name="Mara's shop")
    an_event(app, "evt_before", occurred_at=datetime(2026, 11, 1, tzinfo=UTC), status="stale")
    event_id = an_event(app, "evt_1", occurred_at=datetime(2026, 11, 2, tzinfo=UTC))
    an_event(app, "evt_after", occurred_at=datetime(2026, 11, 3, tzinfo=UTC), status="parked:thin")
    an_event(app, "evt_else", subject="cus_2")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause) "
            "VALUES (%s, 'grant', 40, 0, 50, now(), 'event:evt_1')",
            (tenant_id,),
        )
    by_ours, by_theirs = ops.get(f"/ops/events/{event_id}").text, ops.get("/ops/events/evt_1").text
    for text in (by_ours, by_theirs):
        assert "It was applied." in text
        assert f"/ops/tenants/{tenant_id}" in text
        assert "grant" in text
        assert text.index("A newer event came before it") < text.index("this one") < text.index("Stripe is asked")
        assert "evt_else" not in text


def test_an_event_tells_of_its_job_live_or_archived(app: App, ops: TestClient) -> None:
    job_id = a_clerk_event(app, {"type": "email.created", "data": {"id": "ema_1"}, "timestamp": 1764000000000}, "msg_1")
    event_id = job_row(app, job_id)["payload"]["event_id"]
    assert "its job waits to run" in ops.get(f"/ops/events/{event_id}").text
    drain(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.archive.move("completed", datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC), 10)
    text = ops.get(f"/ops/events/{event_id}").text
    assert "Nothing here follows from events of this type" in text
    assert f"/ops/jobs/{job_id}" in text
    assert "archived" in text

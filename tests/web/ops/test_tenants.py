"""The pages of tenants: who is there, and why each has what it has."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from tests.builders import a_tenant
from workers.app import App

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def sql(app: App, query: str, *values: Any) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(query.encode(), values)


def a_person(app: App, tenant_id: UUID, email: str, **columns: Any) -> None:
    sql(
        app,
        "INSERT INTO users (clerk_id, email, name, tenant_id) VALUES (%s, %s, %s, %s)",
        f"user_{uuid4().hex}",
        email,
        columns.get("name", "Mara Planted"),
        tenant_id,
    )


def an_entry(app: App, tenant_id: UUID, kind: str, amount: int, used: int, cause: str, at: datetime) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET used_quota = %s WHERE id = %s", (used, tenant_id))
        tx.driver.execute(
            "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, at, "
            "taken_at) SELECT id, %s, %s, %s, 10, quota_period_start, %s, %s, %s FROM tenants WHERE id = %s",
            (kind, amount, used, cause, at, at, tenant_id),
        )


def test_an_empty_list_says_what_would_be_there(ops: TestClient) -> None:
    assert "There is no tenant yet" in ops.get("/ops/tenants").text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["Bob", "Ada"]),
        ("?plan=pro", ["Bob"]),
        ("?status=past_due", ["Bob"]),
        ("?name=aD", ["Ada"]),
        ("?customer=cus_bob", ["Bob"]),
        ("?customer=cus_old", ["Ada"]),
        ("?email=Ada@Example.org", ["Ada"]),
        ("?email=ada@example", []),
        ("?harm=deserted", ["Bob"]),
        ("?harm=needs_reconnect", ["Ada"]),
        ("?harm=failed_posts", []),
    ],
)
def test_filters_narrow_the_list(app: App, ops: TestClient, query: str, names: list[str]) -> None:
    ada = a_tenant(app, name="Ada")
    a_tenant(
        app,
        name="Bob",
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
        subscription_tier="PRO",
        subscription_status="past_due",
        stripe_customer_id="cus_bob",
    )
    a_person(app, ada, "ada@example.org")
    sql(app, "INSERT INTO stripe_customers (id, tenant_id) VALUES ('cus_old', %s)", ada)
    sql(
        app,
        "INSERT INTO social_accounts (tenant_id, platform, external_id, status) "
        "VALUES (%s, 'tiktok', 'x', 'needs_reconnect')",
        ada,
    )
    text = ops.get(f"/ops/tenants{query}").text
    assert [name for name in ("Bob", "Ada") if f">{name}</a>" in text] == names
    assert "ada@example.org" not in text.replace('value="Ada@Example.org"', "")


@pytest.mark.parametrize("query", ["?plan=GOLD", "?status=" + HOSTILE, "?id=1", "?harm=x", "?after=1", "?name=%00"])
def test_what_cannot_be_asked_is_refused(ops: TestClient, query: str) -> None:
    response = ops.get(f"/ops/tenants{query}")
    assert response.status_code == 400
    assert "<script>alert" not in response.text


def test_all_pages_together_have_every_tenant_once(app: App, ops: TestClient) -> None:
    sql(
        app,
        "INSERT INTO tenants (name, created_at) "
        "SELECT 'T' || n, '2026-11-01Z'::timestamptz + (n / 60) * interval '1 s' FROM generate_series(1, 120) n",
    )
    url, seen = "/ops/tenants", list[str]()
    for _ in range(3):
        text = ops.get(url).text
        seen += [part[:36] for part in text.split('href="/ops/tenants/')[1:]]
        url = text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 120


def test_why_a_tenant_has_three_concepts_left(app: App, ops: TestClient) -> None:
    now = datetime.now(UTC)
    tenant_id, job_id = a_tenant(app, created_at=now - timedelta(days=5)), uuid4()
    an_entry(app, tenant_id, "hold", 5, 5, f"job:{job_id}", now - timedelta(days=2))
    an_entry(app, tenant_id, "adjust", 2, 7, "person:mara", now - timedelta(hours=1))
    text = ops.get(f"/ops/tenants/{tenant_id}").text
    assert "So 7 of 10 are used, and 3 are left." in text
    assert "FREE, because no subscription of it is known." in text
    assert f"/ops/jobs/{job_id}" in text
    then = ops.get(f"/ops/tenants/{tenant_id}?at=1d").text
    assert "So 5 of 10 were used, and 5 were left." in then
    assert "nothing had been entered" in ops.get(f"/ops/tenants/{tenant_id}?at=4d").text


def test_a_tenants_page_has_nothing_of_another(app: App, ops: TestClient) -> None:
    ada, bob = a_tenant(app, name="Ada", stripe_customer_id="cus_ada"), a_tenant(app, name="Bob")
    a_person(app, bob, "bob@other.example")
    sql(app, "INSERT INTO api_usage (tenant_id, kind, name, cost_usd) VALUES (%s, 'llm', 'model-of-bob', 1)", bob)
    sql(app, "INSERT INTO api_usage (tenant_id, kind, name, cost_usd) VALUES (%s, 'llm', 'model-of-ada', 1.5)", ada)
    sql(app, "INSERT INTO job_queue (tenant_id, job_type) VALUES (%s, 'job.of_bob')", bob)
    sql(app, "INSERT INTO job_queue (tenant_id, job_type) VALUES (%s, 'job.of_ada')", ada)
    for subject, kind in (("cus_ada", "event.of_ada"), ("cus_bob", "event.of_bob")):
        sql(
            app,
            "INSERT INTO webhook_events (source, external_id, type, subject, status) "
            "VALUES ('stripe', %s, %s, %s, 'applied')",
            f"evt_{subject}",
            kind,
            subject,
        )
    text = ops.get(f"/ops/tenants/{ada}").text
    for own, other in (
        ("model-of-ada", "model-of-bob"),
        ("job.of_ada", "job.of_bob"),
        ("event.of_ada", "event.of_bob"),
    ):
        assert own in text
        assert other not in text
    assert "other.example" not in text
    assert str(bob) not in text


def test_what_others_wrote_does_nothing_and_people_are_masked(app: App, ops: TestClient) -> None:
    tenant_id = a_tenant(app, name=HOSTILE)
    a_person(app, tenant_id, "mara@example.org", name=HOSTILE)
    sql(
        app,
        "INSERT INTO job_queue (tenant_id, job_type, error_message) VALUES (%s, %s, %s)",
        tenant_id,
        HOSTILE,
        f"{HOSTILE} mara@example.org",
    )
    for path in ("/ops/tenants", f"/ops/tenants/{tenant_id}"):
        text = ops.get(path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "mara@example.org" not in text
        assert "&lt;script&gt;" in text
    assert "m…@example.org" in ops.get(f"/ops/tenants/{tenant_id}").text


@pytest.mark.parametrize("name", ["0193b1a0-0000-7000-8000-000000000001", "1", "..."])
def test_a_tenant_that_is_not_there_is_a_404(ops: TestClient, name: str) -> None:
    assert ops.get(f"/ops/tenants/{name}").status_code == 404


@pytest.mark.parametrize(("days", "says"), [(2, "Next month begins"), (-2, "Next month was due, and waits")])
def test_a_month_that_waits_for_its_invoice_is_not_said_to_begin(
    app: App, ops: TestClient, days: int, says: str
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        ends = tx.now() + timedelta(days=days)
    tenant_id = a_tenant(app, created_at=ends - timedelta(days=30), quota_reset_at=ends, quota_paid_until=ends)
    assert says in ops.get(f"/ops/tenants/{tenant_id}").text

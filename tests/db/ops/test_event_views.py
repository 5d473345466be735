"""The ways to events, with as many as there may be: each filter by its index, and never more than a walk."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.ops.events import MOST_COUNTED, WALK, Way, looked_at
from db.transaction import SYSTEM, Tx
from domain.events.outcomes import Status
from domain.ops.event_filters import EventFilter, event_filter
from tests.builders import a_tenant
from workers.app import App

EVENTS = 120_000

# One in a thousand waits for a price, one in 600 is flagged; the oldest is of a type of its own.
MANY = f"""
INSERT INTO webhook_events (source, external_id, type, subject, status, flag, received_at)
SELECT CASE WHEN n % 5 = 0 THEN 'clerk' ELSE 'stripe' END, 'evt_' || n,
       CASE WHEN n = 1 THEN 'rare.type' WHEN n % 3 = 0 THEN 'invoice.paid' ELSE 'customer.updated' END,
       'cus_' || n % 1000, CASE WHEN n % 1000 = 0 THEN 'parked:unknown_price' ELSE 'applied' END,
       CASE WHEN n % 600 = 0 THEN 'refund,dispute' END, '2026-11-01Z'::timestamptz + n / 20 * interval '1 s'
FROM generate_series(1, {EVENTS}) n
"""


@pytest.fixture
def many(app: App) -> App:
    with psycopg.connect(app.settings.owner_url, autocommit=True, options="-c app.tenant_id=*") as owner:
        owner.execute(MANY.encode())
        owner.execute("VACUUM (ANALYZE) webhook_events")
    return app


def plan(tx: Tx, way: Way, wanted: EventFilter, values: Mapping[str, Any]) -> str:
    tx.driver.execute("SET LOCAL enable_seqscan = off")
    query = f"EXPLAIN {looked_at(way, wanted)}"
    return "\n".join(row[0] for row in tx.driver.execute(query.encode(), {**values, "limit": 51, "most": 99}))


def test_each_way_to_events_is_an_index(many: App) -> None:
    a_price = (Status.PARKED_PRICE, Status.PARKED_THIN)
    ways: dict[str, tuple[Way, EventFilter, dict[str, Any]]] = {
        "webhook_events_received_at_idx": (Way(""), event_filter({"type": "rare.type"}), {"type": "rare.type"}),
        "webhook_events_flag_idx": (Way("flag IS NOT NULL"), event_filter({"flag": "any"}), {}),
        "webhook_events_subject_idx": (
            Way("subject = %(subject)s"),
            event_filter({"subject": "cus_7"}),
            {"subject": "cus_7"},
        ),
        "webhook_events_uncommon_idx": (Way("", a_price), EventFilter(), {}),
        "webhook_events_pkey": (Way("id = ANY(%(named)s::uuid[])"), EventFilter(), {"named": [UUID(int=1)]}),
    }
    with many.db.transaction(SYSTEM) as tx:
        for index, (way, wanted, values) in ways.items():
            found = plan(tx, way, wanted, values)
            assert index in found, found
            assert "Seq Scan" not in found, found


def test_a_rare_outcome_is_found_however_old_and_a_walk_says_where_it_ended(many: App) -> None:
    with many.db.transaction(SYSTEM) as tx:
        parked = tx.event_views.page(event_filter({"status": "parked"}), limit=50)
        assert [row["external_id"] for row in parked.rows[:2]] == ["evt_120000", "evt_119000"]
        assert (parked.count, parked.counted_all, parked.looked_at) == (120, True, None)
    wanted, walks = event_filter({"type": "rare.type"}), 0
    while True:
        with many.db.transaction(SYSTEM) as tx:
            found = tx.event_views.page(wanted, limit=50)
        walks += 1
        if found.rows:
            break
        assert found.looked_at == WALK
        assert found.further is not None
        wanted = event_filter({"type": "rare.type", "after": str(found.further)})
    assert walks == -(-EVENTS // WALK)
    assert [row["external_id"] for row in found.rows] == ["evt_1"]
    with many.db.transaction(SYSTEM) as tx:
        everything = tx.event_views.page(EventFilter(), limit=50)
        assert everything.count == MOST_COUNTED + 1
        assert not everything.counted_all


def test_related_events_are_those_around_it(many: App) -> None:
    tenant_id = a_tenant(many, stripe_customer_id="cus_7")
    with many.db.transaction(SYSTEM) as tx:
        row = tx.events.find("evt_60007")
        assert row is not None
        around = tx.event_views.related(row)
        assert tx.event_views.tenant_of("stripe", "cus_7") == tenant_id
    assert all(each["subject"] == "cus_7" and each["source"] == "stripe" for each in around)
    moments = [each["happened_at"] for each in around]
    assert moments == sorted(moments)
    assert len(around) == 40
    assert around[19]["id"] == row["id"]

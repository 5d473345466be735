"""Concepts are made from what was imported, too: of the tenant's own region, and of its own competitors."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from domain.concepts.generation import REMEMBERED, ConceptRequest, Generation, TrendsTooFew
from domain.concepts.imported import AudioTrend, CompetitorVideo
from tests.builders import a_tenant, job_row
from tests.drain import drain
from tests.past_concepts import all_past_concepts
from workers.app import App, build
from workers.jobs.generation import check_variety, generate_concepts
from workers.settings import Settings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = NOW - timedelta(hours=3)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    """One that asks no source and no model."""
    values = settings.model_dump() | {"trend_sources": "none"}
    found = build(Settings.model_validate(values), name="tests", clock=lambda: NOW)
    yield found
    found.close()


def bring(app: App, tenant_id: UUID, *, region: str = "US", at: datetime = TODAY) -> None:
    sound = AudioTrend("tiktok", "9", "Espresso", region, at, "Sabrina Carpenter", 1_200_000)
    video = CompetitorVideo("tiktok", "1", at, "Bread at midnight", "nightbakers", views=120_000)
    with app.db.transaction(SYSTEM) as tx:
        tx.imported_trends.add_audio([sound])
        tx.imported_trends.add_competitors(tenant_id, [video])


def made(app: App, tenant_id: UUID) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        job_id = generate_concepts.enqueue(tx, tenant_id=tenant_id, count=5)
    drain(app)
    row = job_row(app, job_id)
    assert row["status"] == "completed", row["error_message"]
    with app.db.transaction(tenant_id) as tx:
        found = tx.generating.get(UUID(row["result"]["generation_id"]))
    assert found is not None
    return found


def imported(generation: dict[str, Any]) -> dict[str, list[str]]:
    """Return the imported topics by source, of trends that have any."""
    rows = [each for each in generation["trends"] if each["live"]]
    return {each["source"]: [row["topic"] for row in rows if row["source"] == each["source"]] for each in rows}


def test_a_generation_is_made_from_what_was_imported_and_says_so(app: App) -> None:
    tenant_id = a_tenant(app)
    bring(app, tenant_id)
    generation = made(app, tenant_id)
    sources = [(each["source"], each["state"], each["count"], each["answeredAt"]) for each in generation["sources"]]
    at = TODAY.isoformat()
    assert sources == [("audio-trends", "imported", 1, at), ("competitors", "imported", 1, at)]
    assert imported(generation) == {"audio-trends": ["Espresso"], "competitors": ["Bread at midnight"]}
    topics = {concept["topic"]: concept for concept in generation["concepts"]}
    assert topics.keys() >= {"Espresso", "Bread at midnight"}
    assert "1,200,000 videos on TikTok have this sound." in topics["Espresso"]["facts"]
    assert topics["Bread at midnight"]["facts"] == ["120,000 views on TikTok (nightbakers)."]


def test_another_tenant_has_the_sounds_of_its_region_and_nobodys_competitors(app: App) -> None:
    ada, eve, emil = a_tenant(app), a_tenant(app), a_tenant(app)
    bring(app, ada)
    with app.db.transaction(emil) as tx:
        tx.generating.set_preferences(emil, {"region": "DE"})
    assert imported(made(app, eve)) == {"audio-trends": ["Espresso"]}
    assert made(app, emil)["sources"] == []


def test_what_was_seen_a_week_ago_is_no_trend_any_more(app: App) -> None:
    tenant_id = a_tenant(app)
    bring(app, tenant_id, at=NOW - timedelta(days=7))
    assert made(app, tenant_id)["sources"] == []
    bring(app, tenant_id, at=NOW - timedelta(days=6, hours=23))
    assert len(made(app, tenant_id)["sources"]) == 2


def test_whether_there_is_enough_that_is_new_counts_what_was_imported(app: App) -> None:
    tenant_id = a_tenant(app)
    everything = Generation(id=uuid4(), date=NOW, concepts=[asdict(each) for each in all_past_concepts()], trends=[])
    with app.db.transaction(tenant_id) as tx:
        tx.generations.save(tenant_id, everything)
    writer = app.ports.writers["local-grammar/v1"]
    with app.db.transaction(tenant_id) as tx:
        past = tx.generating.past(tenant_id, NOW - REMEMBERED)
    wanted = ConceptRequest(2, (), past, "US", 0, NOW)
    with app.db.transaction(tenant_id) as tx, pytest.raises(TrendsTooFew):
        check_variety(tx, writer, tenant_id, wanted)
    bring(app, tenant_id)
    with app.db.transaction(tenant_id) as tx:
        check_variety(tx, writer, tenant_id, wanted)
        assert tx.generating.preferences(tenant_id).region == "US", "still in the tenant's scope"

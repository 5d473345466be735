from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert
from starlette.testclient import TestClient

from benchmarks.crawl import Document
from db.schema.learning import learners, scoring_adjustments
from db.transaction import SYSTEM
from domain.learning.accuracy import trust
from domain.learning.learner import CHAMPION, YARDSTICK, Learner
from tests.builders import a_tenant
from workers.app import App

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def tenant_id(app: App) -> UUID:
    """One whose learner drifts, has 30 outcomes lately and was promoted once."""
    made = a_tenant(app)
    learner = Learner()
    state = learner.row() | {"trailing": [{CHAMPION: 6.0, YARDSTICK: -12.0}] * 30, "drift": [0, 9, 0, 0, 7, 0.5]}
    key = {"tenant_id": made, "platform": "tiktok", "horizon": "24h", "definition": "views"}
    step = {"adjustment_type": "promotion", "reason": EVIL, "sample_size": 90, "model_version": "ridge/v1"}
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(learners).values(key | {"outcomes": 90, "champion": CHAMPION, "state": state}))
        row = key | step | {"category": "", "applied_at": datetime.now(UTC) - timedelta(days=1)}
        tx.sql.execute(insert(scoring_adjustments).values(row))
    return made


def test_all_tenants_are_told_of_with_how_far_to_trust_it(ops: TestClient, tenant_id: UUID) -> None:
    response = ops.get("/ops/learning")
    text = Document(response.text).text
    assert "the median of 1 learners with 20 outcomes or more" in text
    assert "6.0 +0.50 0 1" in text, "gap, skill, none is worse, one drifts"
    assert "promotion TikTok" in text or "promotion tiktok" in text
    assert "<img" not in response.text
    for line in ("status", "accuracy --by model --horizon 24h", "history --tenant ID"):
        assert f"viral reflexion {line}" in text


def test_a_tenant_is_told_of_by_its_learners(ops: TestClient, tenant_id: UUID) -> None:
    response = ops.get(f"/ops/learning?tenant={tenant_id}&by=week&horizon=7d")
    text = Document(response.text).text
    assert trust(30) in text
    assert "something has changed lately" in text
    assert CHAMPION in text
    assert f"viral reflexion history --tenant {tenant_id}" in text
    assert "<img" not in response.text


@pytest.mark.parametrize("query", ["by=x", "horizon=1h", "tenant=x", f"tenant={UUID(int=7)}"])
def test_what_cannot_be_is_refused(ops: TestClient, query: str) -> None:
    assert ops.get(f"/ops/learning?{query}").status_code == 400


def test_nothing_learned_is_said(ops: TestClient) -> None:
    assert "Nothing was learned yet" in ops.get("/ops/learning").text


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [(0, "not at all: 0 of 20 outcomes"), (20, "give or take 33 %, from 20 outcomes"), (1000, "give or take 5 %")],
)
def test_few_outcomes_tell_little(outcomes: int, words: str) -> None:
    assert trust(outcomes).startswith(words)

"""How far predictions were off, through the API, on outcomes whose figures are counted by hand."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from db.transaction import SYSTEM
from tests.numbers_stage import Measured
from tests.web.api.test_api import Api, a_key
from tests.workers.ops.test_posts import NOW
from workers.app import App

ACCURACY = "/reflexion/accuracy"
VIEWS = "tiktok-views/likes+comments+shares"


class Predicted(Measured):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._key = a_key(app, self.id, "generations:read")
        self._api = Api(app)
        self._account = self.account("tiktok")

    def __call__(self, **query: str) -> dict[str, Any]:
        answer = self._api("GET", f"{ACCURACY}?{'&'.join(f'{k}={v}' for k, v in query.items())}", self._key)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, **query: str) -> Any:
        return self._api("GET", f"{ACCURACY}?{'&'.join(f'{k}={v}' for k, v in query.items())}", self._key)

    def outcome(
        self,
        predicted: float,
        actual: float | None,
        *,
        at: datetime = NOW - timedelta(hours=1),
        median: float | None = None,
        category: str | None = "food",
        horizon: str = "24h",
        definition: str = VIEWS,
        set_aside: str | None = None,
        learned: bool = True,
    ) -> None:
        """Plant a post that was predicted to score this, and did score that."""
        post_id = self.published(self._account, at=at - timedelta(days=1))
        models = {"shrinkage/v1": predicted} | ({} if median is None else {"running-median/v1": median})
        with self._app.db.transaction(SYSTEM) as tx:
            for each in sorted({"24h", horizon}):
                for model, score in models.items():
                    tx.driver.execute(
                        """INSERT INTO post_predictions (tenant_id, post_id, horizon, model, platform, definition,
                            shown, value, score, low, high, features)
                        VALUES (%s, %s, %s, %s, 'tiktok', %s, %s, 0, %s, %s, %s,
                            jsonb_build_object('category', %s::text))""",
                        (
                            *(self.id, post_id, each, model, VIEWS, each == "24h" and model == "shrinkage/v1"),
                            *(score, score - 20, score + 20, category),
                        ),
                    )
            tx.driver.execute(
                """INSERT INTO performance_feedback (tenant_id, post_id, platform, horizon, observed_at, definition,
                    actual_score, set_aside, learned_at) VALUES (%s, %s, 'tiktok', %s, %s, %s, %s, %s, %s)""",
                (self.id, post_id, horizon, at, definition, actual, set_aside, at if learned else None),
            )


@pytest.fixture
def ada(app: App) -> Predicted:
    return Predicted(replace(app, clock=lambda: NOW))


def test_gaps_are_actual_minus_predicted_beside_those_of_a_running_median(ada: Predicted) -> None:
    ada.outcome(60, 70, median=55)
    ada.outcome(50, 45, median=55)
    ada.outcome(80, 41, median=49)
    ada.outcome(40, 42)
    found = ada()
    total = found["total"]
    assert total["outcomes"] == 4
    assert total["gap"] == pytest.approx((10 + 5 + 39 + 2) / 4)
    assert total["bias"] == pytest.approx((10 - 5 - 39 + 2) / 4)
    assert (total["within20"], total["within10"], total["coverage"]) == (0.75, 0.75, 0.75)
    assert (total["compared"], total["median_gap"]) == (3, pytest.approx((15 + 10 + 8) / 3))
    assert total["skill"] == pytest.approx(1 - (10 + 5 + 39) / (15 + 10 + 8))


def test_what_is_not_comparable_is_in_no_figure(ada: Predicted) -> None:
    """Another definition or horizon, what was set aside, what waits, and what is later."""
    ada.outcome(60, 70)
    ada.outcome(60, 90, definition="tiktok-views/likes")
    ada.outcome(60, 90, horizon="7d")
    ada.outcome(60, None, set_aside="fewer than 100 views")
    ada.outcome(60, None, learned=False)
    ada.outcome(60, 90, at=NOW + timedelta(hours=1))
    found = ada()
    assert (found["total"]["outcomes"], found["total"]["gap"]) == (1, 10)
    assert found["evidence"] == {"learned": 2, "waiting": 1, "set_aside": {"fewer than 100 views": 1}}
    week = ada(horizon="7d")
    assert (week["total"]["outcomes"], week["total"]["gap"]) == (1, 30)


def test_weeks_are_in_their_order_and_groups_by_size(ada: Predicted) -> None:
    for days, actual in ((15, 40), (8, 50), (8, 52), (1, 61)):
        ada.outcome(60, actual, at=NOW - timedelta(days=days), category="food" if days == 8 else None)
    weeks = ada()["groups"]
    assert [(each["outcomes"], each["gap"]) for each in weeks] == [(1, 20), (2, 9), (1, 1)]
    assert [each["key"] for each in weeks] == sorted(each["key"] for each in weeks)
    groups = ada(by="category")["groups"]
    assert {(each["key"], each["label"], each["outcomes"]) for each in groups} == {
        ("food", "food, TikTok", 2),
        (None, "no category, TikTok", 2),
    }
    assert [each["key"] for each in ada(by="model")["groups"]] == ["shrinkage/v1"]


def test_nothing_is_said_where_nothing_is_there(ada: Predicted) -> None:
    found = ada()
    assert (found["groups"], found["changes"]) == ([], [])
    assert found["total"] == {**dict.fromkeys(found["total"]), "outcomes": 0, "compared": 0}


def test_another_tenants_outcomes_are_in_no_figure(ada: Predicted) -> None:
    bob = Predicted(ada._app)
    bob.outcome(60, 90)
    assert ada()["total"]["outcomes"] == 0
    assert bob()["total"]["outcomes"] == 1


def test_promotions_and_rollbacks_are_listed_with_their_reason(ada: Predicted) -> None:
    with ada._app.db.transaction(SYSTEM) as tx:
        for kind, at in (
            ("promotion", NOW),
            ("rollback", NOW - timedelta(days=1)),
            ("score", NOW),
            ("promotion", None),
        ):
            tx.driver.execute(
                """INSERT INTO scoring_adjustments (tenant_id, category, platform, adjustment_type, horizon,
                    model_version, applied_at, reason)
                VALUES (%s, '', 'tiktok', %s, '24h', 'ridge/v1', %s, 'because')""",
                (ada.id, kind, at and at - timedelta(hours=1)),
            )
    assert [(each["kind"], each["reason"]) for each in ada()["changes"]] == [
        ("promotion", "because"),
        ("rollback", "because"),
    ]


def test_a_horizon_that_is_not_predicted_is_refused(ada: Predicted) -> None:
    answer = ada.refused(horizon="1h")
    assert answer.status_code == 422
    assert answer.json()["error"] == "horizon: nothing is predicted for 1h; use 24h or 7d"

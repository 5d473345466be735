"""Who scores for a tenant, through the job: planted sets, backtests, and the rows that say why."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.learning.learner import CHAMPION, MODELS
from domain.learning.models.model import Estimate
from domain.learning.outcomes import Features, Prior
from domain.learning.promotion import PAUSE, Step
from domain.learning.scale import log_engagement
from tests.learning_stage import TIKTOK, Learning, Seen
from tests.workers.jobs.test_learning import again, due, is_the_fold
from workers.app import App

ODD, EVEN = 20, 110
"""Likes of a thousand views of posts at an odd and at an even hour."""


class ByHour:
    """A set that knows what makes these posts differ."""

    right = True

    def predict(self, features: Features, prior: Prior) -> Estimate:
        odd = bool((features.hour or 0) % 2) is self.right
        return Estimate(log_engagement(((ODD if odd else EVEN) + 5) / 10))

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None: ...

    def row(self) -> dict[str, Any]:
        return {}

    def load(self, row: Mapping[str, Any]) -> None: ...


class Wrong(ByHour):
    right = False


PLANTED = {"hour/v1": ByHour, "wrong/v1": Wrong}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in PLANTED.items():
        monkeypatch.setitem(MODELS, name, make)  # type: ignore[arg-type]


def seen(count: int, first: int = 0) -> list[Seen]:
    found = []
    for minute in range(first, first + count):
        features, prior = Features("", hour=minute % 24), Prior(1.9)
        values = {
            name: make().predict(features, prior).value for name, make in (("hour/v1", ByHour), ("wrong/v1", Wrong))
        }
        predicted = {CHAMPION: 1.9, "running-median/v1": 1.9} | values
        likes = ODD if minute % 2 else EVEN
        found.append(Seen(minute, likes=likes, predicted=predicted, features={"hour": minute % 24}))
    return found


def office(app: App, tenant_id: UUID) -> tuple[Any, ...]:
    query = (
        "SELECT champion, previous, champion_since_outcomes, checked_at_outcomes FROM learners"
        " WHERE tenant_id = %s AND horizon = '24h'"
    )
    with app.db.transaction(SYSTEM) as tx:
        [row] = tx.driver.execute(query, (tenant_id,)).fetchall()
    return tuple(row)


def steps(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    query = (
        "SELECT to_jsonb(a) FROM scoring_adjustments a WHERE tenant_id = %s AND adjustment_type <> 'score'"
        " ORDER BY created_at, sample_size"
    )
    with app.db.transaction(SYSTEM) as tx:
        return [row for (row,) in tx.driver.execute(query, (tenant_id,))]


def force(app: App, tenant_id: UUID, model: str) -> None:
    with app.db.transaction(tenant_id) as tx:
        [locked] = tx.learners.lock(tenant_id, [TIKTOK])
        tx.guard_rails.change(
            *(tenant_id, TIKTOK),
            step=Step.PROMOTION,
            model=model,
            champion=locked.champion,
            outcomes=locked.outcomes,
            reason="an operator asked for it",
            report={},
        )


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("batches", [(60,), (7, 5, 48)], ids=["at-once", "in-parts"])
def test_a_better_set_is_promoted_in_whatever_batches_its_outcomes_come(app: App, batches: tuple[int, ...]) -> None:
    ada, first = Learning(app), 0
    for size in batches:
        ada.see(*seen(size, first))
        first += size
        due(app)
    assert is_the_fold(ada)
    assert office(app, ada.id) == ("hour/v1", CHAMPION, 20, 60)
    [row] = steps(app, ada.id)
    assert (row["adjustment_type"], row["model_version"], row["sample_size"]) == ("promotion", "hour/v1", 20)
    assert row["applied_at"] is not None
    assert row["report"]["backtest"] == {
        "own": row["report"]["backtest"]["own"],
        "panel": None,
        "panel_tenants": 0,
        "passed": True,
    }
    with app.db.transaction(ada.id) as tx:
        assert {each.champion for each in tx.learners.scoring(ada.id).standings.values()} == {"hour/v1"}


@pytest.mark.usefixtures("planted")
def test_a_bad_set_is_not_promoted_and_goes_back_by_itself_if_it_is_forced(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(MODELS, "hour/v1")  # type: ignore[arg-type]
    ada = Learning(app)
    ada.see(*seen(35))
    due(app)
    assert (office(app, ada.id)[0], steps(app, ada.id)) == (CHAMPION, [])
    force(app, ada.id, "wrong/v1")
    ada.see(*seen(40, 35))
    due(app)
    assert office(app, ada.id) == (CHAMPION, None, 60, 70)
    forced, back = steps(app, ada.id)
    assert (back["adjustment_type"], back["model_version"], back["sample_size"]) == ("rollback", CHAMPION, 60)
    assert back["report"]["from"] == "wrong/v1"
    assert back["report"]["trailing"]["champion"] > back["report"]["trailing"]["candidate"]
    assert forced["reason"] == "an operator asked for it"
    with app.db.transaction(ada.id) as tx:
        assert tx.guard_rails.paused(ada.id, TIKTOK) == {"wrong/v1": 60 + PAUSE}
    assert is_the_fold(ada)


@pytest.mark.usefixtures("planted")
def test_what_does_not_stand_the_backtest_is_written_down_and_rests(app: App) -> None:
    """Rows said what the set does not say when it is played again."""
    ada = Learning(app)
    swapped = []
    for each in seen(40):
        predicted = dict(each.predicted or {})
        predicted |= {"hour/v1": 1.9, "wrong/v1": predicted["hour/v1"]}
        swapped.append(replace(each, predicted=predicted))
    ada.see(*swapped)
    due(app)
    assert office(app, ada.id) == (CHAMPION, None, 0, 40)
    [row] = steps(app, ada.id)
    assert (row["model_version"], row["applied_at"], row["sample_size"]) == ("wrong/v1", None, 20)
    assert row["report"]["backtest"]["passed"] is False
    assert row["reason"].endswith("a backtest on the tenant's own outcomes does not say so")
    assert again(app, ada.id)["learned"] == 0
    assert len(steps(app, ada.id)) == 1


@pytest.mark.proof
@pytest.mark.usefixtures("planted")
def test_others_outcomes_are_asked_without_their_names(app: App) -> None:
    others = [Learning(app) for _ in range(5)]
    for each in others:
        each.see(*seen(175))
        due(app)
    ada = Learning(app)
    ada.see(*seen(30))
    due(app)
    [row] = steps(app, ada.id)
    assert row["report"]["backtest"]["panel_tenants"] == 5
    assert row["report"]["backtest"]["panel"]["outcomes"] == 5 * 175
    assert not any(str(each.id) in str(row) for each in others)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("first", [100, -30], ids=["after", "late"])
def test_only_what_was_predicted_and_came_since_can_send_a_model_back(
    app: App, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Posts of which nobody has said anything, or that came before, are no evidence against who scores now."""
    monkeypatch.delitem(MODELS, "hour/v1")  # type: ignore[arg-type]
    ada = Learning(app)
    ada.see(*seen(35))
    due(app)
    force(app, ada.id, "wrong/v1")
    ada.see(*(replace(each, predicted=None) for each in seen(25, first)))
    due(app)
    ada.see(*seen(19, 200))
    due(app)
    assert (office(app, ada.id)[0], len(steps(app, ada.id))) == ("wrong/v1", 1)
    ada.see(*seen(1, 300))
    due(app)
    assert office(app, ada.id)[0] == CHAMPION
    assert steps(app, ada.id)[-1]["report"]["trailing"]["outcomes"] == 20

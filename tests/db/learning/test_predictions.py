"""Predictions of posts are written once, and never changed."""

from dataclasses import replace
from datetime import date
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.learning.outcomes import Features
from domain.learning.scoring import Predicted, Scoring
from tests.numbers_stage import Measured
from workers.app import App

FEATURES = Features("a1", "food", hour=9, weekday=0, text_len=40, n_hashtags=2, has_question=True, duration_s=12.5)


@pytest.fixture
def ada(app: App) -> Measured:
    return Measured(app)


def predicted() -> list[Predicted]:
    found = Scoring().predict("tiktok", FEATURES, date(2026, 11, 28))
    return sorted(found, key=lambda each: (each.key.horizon, each.forecast.model))


def test_what_was_said_comes_back_to_the_bit(app: App, ada: Measured) -> None:
    post_id, made = ada.published(ada.account("tiktok")), predicted()
    lesson = uuid4()
    with app.db.transaction(ada.id) as tx:
        tx.predictions.add(ada.id, post_id, made, [lesson])
        rows = tx.predictions.of_post(ada.id, post_id)
    assert [(row["horizon"], row["model"], row["shown"]) for row in rows] == [
        (each.key.horizon, each.forecast.model, each.shown) for each in made
    ]
    for row, each in zip(rows, made, strict=True):
        assert (row["platform"], row["definition"]) == (each.key.platform, each.key.definition)
        assert (row["value"], row["score"], row["low"], row["high"]) == (
            *(each.forecast.value, each.score),
            *(each.low, each.high),
        )
        assert (row["parts"], Features(**row["features"])) == (dict(each.forecast.parts), FEATURES)
        assert (row["prior_id"], row["lessons"]) == (None, [lesson])


def test_the_first_stays_and_an_update_is_refused(app: App, ada: Measured) -> None:
    post_id = ada.published(ada.account("tiktok"))
    with app.db.transaction(ada.id) as tx:
        tx.predictions.add(ada.id, post_id, predicted(), None)
        before = tx.predictions.of_post(ada.id, post_id)
    other = [replace(each, forecast=replace(each.forecast, value=3.0), shown=False) for each in predicted()]
    with app.db.transaction(ada.id) as tx:
        tx.predictions.add(ada.id, post_id, other, [UUID(int=1)])
        assert tx.predictions.of_post(ada.id, post_id) == before
    for change in ("value = value + 1", "shown = NOT shown", "made_at = made_at - interval '1 s'"):
        with pytest.raises(psycopg.errors.CheckViolation, match="never changed"), app.db.transaction(ada.id) as tx:
            tx.driver.execute(f"UPDATE post_predictions SET {change}")
    with app.db.transaction(ada.id) as tx:
        assert tx.predictions.of_post(ada.id, post_id) == before
        assert tx.driver.execute("DELETE FROM post_predictions").rowcount == len(before)

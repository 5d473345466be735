"""What is expected of a post is written down in the commit that adds it, by every model, and stays as it is."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.learning.learner import CHAMPION, YARDSTICK, Learner, LearnerKey
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, Features, Outcome, definition_on
from domain.learning.pool import built_in
from domain.learning.scoring import Scoring, shown_row
from tests.numbers_stage import Measured
from tests.workers.ops.test_posts import HOUR, NOW
from workers.app import App
from workers.jobs.post_plans import ForAccount, PostRequest
from workers.ops import posts

TIKTOK = {"options": {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}}}


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Measured:
    return Measured(app, timezone="Pacific/Apia")


def rows(app: App, ada: Measured, post: dict[str, Any]) -> list[dict[str, Any]]:
    with app.db.transaction(ada.id) as tx:
        return tx.predictions.of_post(ada.id, post["id"])


def completed(app: App, ada: Measured, category: object) -> UUID:
    """A video of a concept of this category, as if it were drawn."""
    video_id = ada.category(category)
    with app.db.transaction(ada.id) as tx:
        tx.driver.execute("UPDATE videos SET status = 'completed' WHERE id = %s", (video_id,))
    return video_id


def test_a_post_has_a_row_of_each_model_and_horizon_and_shows_the_champions(app: App, ada: Measured) -> None:
    account, masto = ada.account("tiktok"), ada.account("mastodon")
    request = PostRequest(
        completed(app, ada, "food"),
        [ForAccount(account), ForAccount(masto)],
        caption="Does bread sleep? #bread",
        hashtags=["night", "Bread"],
        at=NOW + HOUR,
        **TIKTOK,
    )
    assert posts.check(app, ada.id, request)  # a dry run writes nothing
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT count(*) FROM post_predictions").fetchall() == [(0,)]
    on_tiktok, on_mastodon = posts.create(app, ada.id, request)
    found = rows(app, ada, on_tiktok)
    assert Counter((row["horizon"], row["model"], row["shown"]) for row in found) == Counter(
        (horizon, model, (horizon, model) == (Horizon.H24, CHAMPION))
        for horizon in LEARNED
        for model in (CHAMPION, YARDSTICK)
    )
    # 13:00 of a Friday in Greenwich is 2:00 of a Saturday in Apia.
    assert {Features(**row["features"]) for row in found} == {
        Features(
            str(account),
            "food",
            hour=2,
            weekday=5,
            text_len=len("Does bread sleep? #bread"),
            n_hashtags=2,
            has_question=True,
            duration_s=12.0,
        )
    }
    [shown] = [row for row in found if row["shown"]]
    prediction = on_tiktok["prediction"]
    assert (prediction["score"], prediction["low"], prediction["high"], prediction["model"]) == (
        *(round(shown["score"]), round(shown["low"]), round(shown["high"])),
        CHAMPION,
    )
    assert prediction["factors"][-1] == "none of your posts yet"
    assert (on_mastodon["prediction"], rows(app, ada, on_mastodon)) == (None, [])


def test_what_the_tenant_has_learned_is_what_posts_are_predicted_with(app: App, ada: Measured) -> None:
    account = ada.account("tiktok")
    learner, prior = Learner(), built_in("tiktok")
    for number in range(30):
        at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=number)
        learner.learn(Outcome(f"{number:02}", at, Features(str(account), "food"), 0.7, prior))
    key = LearnerKey("tiktok", Horizon.H24, definition_on("tiktok", NOW.date()))
    with app.db.transaction(ada.id) as tx:
        tx.learners.lock(ada.id, [key])
        tx.learners.save(ada.id, key, learner)
        scoring = tx.learners.scoring(ada.id)
    [post] = ada.create(completed(app, ada, "food"), account, at=NOW + HOUR, **TIKTOK)
    [shown] = [row for row in rows(app, ada, post) if row["shown"]]
    expected = scoring.shown("tiktok", Features(**shown["features"]), NOW.date())
    assert expected is not None
    assert (shown["value"], shown["parts"]) == (expected.forecast.value, dict(expected.forecast.parts))
    [usual] = [each for each in Scoring().predict("tiktok", expected.features, NOW.date()) if each.shown]
    assert shown["score"] < usual.score - 10
    assert post["prediction"] == shown_row(expected)
    assert post["prediction"]["factors"][-1] == "30 posts of evidence"


def test_the_first_prediction_stays_whatever_is_changed(app: App, ada: Measured) -> None:
    [post] = ada.create(ada.video(), ada.account("tiktok"), at=NOW + HOUR, **TIKTOK)
    first = rows(app, ada, post)
    changed = posts.edit(app, ada.id, post["id"], {"caption": "Why?" * 20, "at": NOW + 30 * HOUR})
    posts.cancel(app, ada.id, post["id"])
    again = posts.retry(app, ada.id, post["id"], NOW + 40 * HOUR)
    assert changed["prediction"] == again["prediction"] == post["prediction"]
    assert rows(app, ada, post) == first != []


def test_a_concept_of_no_category_of_ours_and_a_video_that_nobody_measured(app: App, ada: Measured) -> None:
    video_id = ada.category({"odd": 1})
    [post] = ada.create(video_id, ada.account("tiktok"), at=NOW + HOUR, caption="Bread", **TIKTOK)
    features = Features(**rows(app, ada, post)[0]["features"])
    assert (features.category, features.duration_s, features.has_question) == (None, None, False)


def test_many_who_post_at_once_leave_one_row_for_each_post_horizon_and_model(app: App, ada: Measured) -> None:
    accounts = [ada.account("tiktok") for _ in range(3)]
    videos = [ada.video() for _ in range(4)]

    def one(number: int) -> list[dict[str, Any]]:
        return ada.create(
            videos[number % 4], *accounts, key=f"k{number % 4}", at=NOW + (1 + number % 4) * HOUR, **TIKTOK
        )

    with ThreadPoolExecutor(8) as pool:
        made = {post["id"] for found in pool.map(one, range(16)) for post in found}
    assert len(made) == 12
    with app.db.transaction(ada.id) as tx:
        counts = tx.driver.execute(
            "SELECT post_id, count(*), count(*) FILTER (WHERE shown), count(DISTINCT (horizon, model))"
            " FROM post_predictions GROUP BY post_id"
        ).fetchall()
    assert {row[0] for row in counts} == made
    assert len({row[1:] for row in counts}) == 1
    [(_, rows_each, shown_each, cells)] = [counts[0]]
    assert (rows_each, shown_each) == (cells, 1)

"""`viral reflexion`: how learning does, why a score is what it is, and another model at an operator's word."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from domain.learning.learner import CHAMPION, Learner
from domain.learning.outcomes import Features, Outcome
from domain.learning.pool import built_in
from tests.cli.shell import Shell
from tests.learning_stage import TIKTOK, Learning, Seen
from tests.web.api.test_api import Api, a_key
from tests.workers.jobs.test_learning import due
from workers.app import App
from workers.ops import reflexion
from workers.ops.learning_checks import check_learning
from workers.ops.reflexion import NotLearned

RIDGE = "ridge/v1"


def ready(app: App, tenant: Learning, count: int = 160) -> None:
    """Let the tenant's learner have learned so much that the challenger predicts."""
    learner, start = Learner(), datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(count):
        features, at = Features("", "food", hour=number % 24), start + timedelta(minutes=number)
        learner.learn(Outcome(f"{number:06}", at, features, 1.5 + number % 5 / 10, built_in("tiktok")))
    with app.db.transaction(tenant.id) as tx:
        tx.learners.lock(tenant.id, [TIKTOK])
        tx.learners.save(tenant.id, TIKTOK, learner)


@pytest.fixture
def ada(app: App) -> Learning:
    return Learning(app)


def test_a_model_scores_at_an_operators_word_and_goes_back(viral: Shell, app: App, ada: Learning) -> None:
    tenant = ("--tenant", ada.id)
    assert "nothing was learned yet: there is no learner to change" in viral.refused(
        "reflexion", "promote", RIDGE, *tenant
    )
    ready(app, ada)
    assert "there is nothing to go back to" in viral.refused("reflexion", "rollback", *tenant)
    [done] = viral.json("reflexion", "promote", RIDGE, *tenant)
    assert (done["champion"], done["before"]) == (RIDGE, CHAMPION)
    assert viral.json("reflexion", "promote", RIDGE, *tenant)[0]["before"] == RIDGE  # nothing happens twice
    [standing] = viral.json("reflexion", "status", *tenant)["learners"]
    assert (standing["champion"], standing["previous"], standing["outcomes"]) == (RIDGE, CHAMPION, 160)
    assert RIDGE in viral.done("reflexion", "explain", *tenant, "--category", "food", "--platform", "tiktok").out
    viral.done("reflexion", "rollback", *tenant, "--platform", "tiktok", "--horizon", "24h")
    shown = viral.done("reflexion", "history", *tenant).out
    assert f"an operator has {CHAMPION} score instead of {RIDGE}" in shown
    assert [row["kind"] for row in viral.json("reflexion", "history", *tenant)] == ["rollback", "promotion"]


def test_what_cannot_score_is_refused_with_what_there_is(viral: Shell, app: App, ada: Learning) -> None:
    tenant = ("--tenant", ada.id)
    assert "never scores" in viral.refused("reflexion", "promote", "running-median/v1", *tenant)
    assert f"use {CHAMPION}, {RIDGE}" in viral.refused("reflexion", "promote", "x", *tenant)
    ready(app, ada, count=20)
    early = viral.refused("reflexion", "promote", RIDGE, *tenant)
    assert f"{RIDGE} says nothing yet for tiktok at 24h: of the outcomes that it needs, 130 of 150 are missing" in early
    assert "use 24h or 7d" in viral.refused("reflexion", "promote", CHAMPION, *tenant, "--horizon", "1h")
    assert "of mastodon" in viral.refused("reflexion", "promote", CHAMPION, *tenant, "--platform", "mastodon")
    for words in (("status",), ("history",), ("rollback",), ("promote", RIDGE)):
        assert "no tenant has the id" in viral.refused("reflexion", *words, "--tenant", uuid4())
    assert "name a post, or" in viral.senseless("reflexion", "explain", *tenant)
    assert "there is no post" in viral.refused("reflexion", "explain", uuid4())
    concept = ("explain", *tenant, "--category", "food", "--platform")
    assert "nothing is predicted for bluesky" in viral.refused("reflexion", *concept, "bluesky")
    assert "there is no 'x'" in viral.refused(
        "reflexion", "explain", *tenant, "--category", "x", "--platform", "tiktok"
    )


def test_operators_and_a_job_at_once_leave_one_consistent_history(app: App, ada: Learning) -> None:
    ready(app, ada)
    ada.see(*(Seen(minute) for minute in range(30)))

    def act(number: int) -> None:
        if number % 2:
            reflexion.promote(app, ada.id, RIDGE)
        else:
            with suppress(NotLearned):  # there is nothing to go back to
                reflexion.roll_back(app, ada.id)

    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(act, number) for number in range(40)]
        due(app)
        for each in found:
            each.result()
    steps = [row for row in reversed(reflexion.history(app, ada.id, limit=1000)) if row["kind"] != "score"]
    assert len(steps) > 2
    # Each step leads away from where the one before led to.
    assert all(one["model"] != other["model"] for one, other in pairwise(steps))
    champions = {row["horizon"]: row["champion"] for row in reflexion.status(app, ada.id)["learners"]}
    assert champions["24h"] == steps[-1]["model"]


def test_a_posts_score_is_explained_part_by_part_with_what_came(viral: Shell, app: App, ada: Learning) -> None:
    ada.see(Seen(0))
    with app.db.transaction(SYSTEM) as tx:
        [[post_id]] = tx.driver.execute("SELECT post_id FROM post_predictions LIMIT 1").fetchall()
    shown = viral.json("reflexion", "explain", post_id)
    assert {row["model"] for row in shown["predictions"]} == {CHAMPION, "running-median/v1"}
    assert "in the shadow" in viral.done("reflexion", "explain", post_id).out


def test_all_tenants_are_looked_at_together(viral: Shell, app: App, ada: Learning) -> None:
    assert "Nothing was learned yet." in viral.done("reflexion", "status").out
    ada.see(*(Seen(minute) for minute in range(30)))
    found = viral.json("reflexion", "status")
    assert (found["waiting"], found["platforms"]) == (30, [])
    due(app)
    [row] = viral.json("reflexion", "status")["platforms"]
    assert (row["platform"], row["tenants"], row["outcomes"], row["promoted"]) == ("tiktok", 1, 30, 0)
    assert "tiktok" in viral.done("reflexion", "status").out
    assert "no outcome waits" in viral.done("reflexion", "status", "--tenant", ada.id).out


def test_the_doctor_says_what_waits_and_who_is_served_badly(app: App, ada: Learning) -> None:
    def looked(now: datetime) -> tuple[str, str]:
        with app.db.transaction(SYSTEM) as tx:
            return check_learning(replace(app, clock=lambda: now), tx)

    assert looked(datetime.now(UTC)) == ("ok", "nothing was learned yet")
    # The champion expects far too much, and the median does not.
    predicted = {CHAMPION: 3.5, "running-median/v1": 2.0}
    ada.see(*(Seen(minute, predicted=predicted) for minute in range(60)))
    verdict, text = looked(datetime.now(UTC) + timedelta(days=400))
    assert (verdict, "60 outcomes wait to be learned" in text) == ("warn", True)
    due(app)
    verdict, text = looked(datetime.now(UTC))
    assert (verdict, str(ada.id) in text, "a running median by" in text) == ("warn", True, True)


def test_a_tenant_sees_its_own_learners_through_the_api(app: App, ada: Learning) -> None:
    ready(app, ada)
    bob = Learning(app)
    api = Api(app)
    found = api("GET", "/reflexion/summary", a_key(app, ada.id, "generations:read")).json()
    assert [(each["platform"], each["outcomes"]) for each in found["learners"]] == [("tiktok", 160)]
    assert api("GET", "/reflexion/summary", a_key(app, bob.id, "generations:read")).json()["learners"] == []

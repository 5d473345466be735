"""Outcomes are learned once each, and what is learned is the fold of the log, whatever happens on the way."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from domain.learning.learner import LearnerKey
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Prior
from domain.learning.pool import built_in
from tests.builders import beside, job_row
from tests.cutting import Died, Moments, rescue_all, watched
from tests.drain import drain as drain_app
from tests.learning_stage import TIKTOK, Learning, Seen, adjustments
from tests.number_stage import aged, collect
from tests.post_stage import PLATFORMS, post_stage
from tests.seeds import seeded
from workers.app import App
from workers.engine.heartbeat import LEASE
from workers.jobs import learning
from workers.jobs.post_plans import ForAccount, PostRequest
from workers.ops import posts
from workers.settings import Settings

Drain = Callable[[], int]
WEEK = replace(TIKTOK, horizon=Horizon.D7)


def due(app: App) -> None:
    """Let a minute's schedule come, and what it enqueues."""
    with app.db.transaction(SYSTEM) as tx:
        if learning.anything_due(tx, tx.now()):
            learning.find_due.enqueue(tx)
    drain_app(app)


def again(app: App, tenant_id: UUID) -> dict[str, Any]:
    """Deliver a tenant's job once more; return its result."""
    with app.db.transaction(tenant_id) as tx:
        job_id = learning.learn.enqueue(tx, tenant_id)
    drain_app(app)
    result: dict[str, Any] = job_row(app, job_id)["result"]
    return result


def stream(count: int, first: float = 0, **columns: Any) -> list[Seen]:
    rng = seeded("stream", first)
    categories = ("news", "tech", "food")
    return [
        Seen(first + minute, likes=rng.randrange(5, 120), category=rng.choice(categories), **columns)
        for minute in range(count)
    ]


def is_the_fold(ada: Learning) -> bool:
    """Whether everything is learned, and the learners have exactly the fold of it."""
    return all(learned for _, learned, _ in ada.log()) and ada.states() == ada.folded()


def test_outcomes_of_both_horizons_are_learned_and_the_state_is_the_fold_of_the_log(app: App) -> None:
    ada = Learning(app)
    for first in (0, 40):
        ada.see(*stream(25, first), *stream(10, first + 1000, horizon=Horizon.D7))
        due(app)
        assert is_the_fold(ada)
    assert {key: state["count"] for key, state in ada.states().items()} == {TIKTOK: 50, WEEK: 20}
    trailing = ada.states()[TIKTOK]["trailing"][-1]
    assert set(trailing) == {"shrinkage/v1", "running-median/v1"}


def test_a_job_that_is_delivered_again_changes_nothing(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(12))
    due(app)
    before = ada.states(), ada.log(), adjustments(app, ada.id)
    assert again(app, ada.id) == {"learned": 0, "set_aside": 0}
    assert (ada.states(), ada.log(), adjustments(app, ada.id)) == before


def test_an_outcome_that_comes_late_is_learned_in_its_place(app: App) -> None:
    ada, berta = Learning(app), Learning(app)
    rows = stream(20)
    ada.see(*rows[:8], *rows[9:])
    due(app)
    ada.see(rows[8])
    assert again(app, ada.id)["folded_anew"] == 1
    assert is_the_fold(ada)
    berta.see(*rows)
    due(app)
    assert [state["count"] for state in (ada.states()[TIKTOK], berta.states()[TIKTOK])] == [20, 20]
    # Their accounts and outcomes have other names; all else is the same, to the bit.
    assert nameless(ada.states()[TIKTOK]) == nameless(berta.states()[TIKTOK])


def nameless(state: dict[str, Any]) -> dict[str, Any]:
    models = state["models"]
    for each in (models["shrinkage/v1"], models["ridge/v1"]):
        each["accounts"] = sorted(map(json.dumps, each["accounts"].values()))
    return state | {"position": state["position"][0]}


def test_outcomes_of_two_definitions_are_learned_by_two(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(5), *stream(3, 100, shares=None))
    due(app)
    assert {key.definition: state["count"] for key, state in ada.states().items()} == {
        "tiktok-views/likes+comments+shares": 5,
        "tiktok-views/likes+comments": 3,
    }
    # What was predicted under the one says nothing of the other.
    assert [len(state["trailing"]) for state in ada.states().values()] in ([5, 0], [0, 5])
    assert is_the_fold(ada)


def test_what_would_teach_something_wrong_is_set_aside_and_the_rest_is_learned(app: App) -> None:
    ada = Learning(app)
    strange = [
        Seen(1, views=99),
        Seen(2, likes=700),
        Seen(3, status="removed"),
        Seen(4, views=None),
        Seen(5, likes=None),
        Seen(6, features={"hour": "noon"}),
        Seen(7, features={"followers": -1}),
        Seen(8, predicted={"shrinkage/v1": float("nan")}),
        Seen(9, predicted={"shrinkage/v1": 1e300}),
        Seen(10, prior_id=77),
    ]
    ada.see(Seen(0), *strange, Seen(11))
    due(app)
    assert [(learned, why) for _, learned, why in ada.log()] == [
        (True, None),
        (True, "fewer than 100 views"),
        (True, "engagement of more than 60 %"),
        (True, "the post was removed"),
        (True, "the platform counts no views"),
        (True, "likes are unknown"),
        (True, "its prediction cannot be read: its hour is 'noon'"),
        (True, "its prediction cannot be read: its followers is '-1'"),
        (True, "its prediction cannot be read: shrinkage/v1 says nan"),
        (True, "its prediction cannot be read: shrinkage/v1 says 1e+300"),
        (True, "its prediction cannot be read: the prior 77 is not there"),
        (True, None),
    ]
    assert ada.states()[TIKTOK]["count"] == 2
    assert is_the_fold(ada)


def test_a_post_that_is_removed_later_stays_learned(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(6))
    due(app)
    with app.db.transaction(ada.id) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'removed'")
    ada.see(Seen(2.5))
    due(app)
    assert ada.states()[TIKTOK]["count"] == 7
    assert is_the_fold(ada)


def test_a_post_that_nobody_has_predicted_is_learned_with_what_is_known_of_it(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(4, predicted=None))
    due(app)
    state = ada.states()[TIKTOK]
    assert (state["count"], state["trailing"], state["residuals"]) == (4, [], {})
    assert set(state["models"]["shrinkage/v1"]["accounts"]) == {str(each) for each in ada.accounts}


def test_a_state_of_another_release_is_folded_anew(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(8))
    due(app)
    with app.db.transaction(ada.id) as tx:
        tx.driver.execute("""UPDATE learners SET state = '{"version": 0, "models": {}}'""")
    with app.db.transaction(SYSTEM) as tx:
        learning.pool.enqueue(tx)
    drain_app(app)
    assert ada.states()[TIKTOK]["count"] == 8
    assert is_the_fold(ada)


# --- displayed scores -----------------------------------------------------------------------------------------------


def test_a_displayed_score_that_moves_is_recorded_once_with_its_evidence(app: App) -> None:
    ada = Learning(app)
    ada.see(*(Seen(minute, likes=15, comments=0, shares=0, category="tech") for minute in range(30)))
    due(app)
    [row] = adjustments(app, ada.id)
    assert {name: row[name] for name in ("category", "platform", "adjustment_type", "model_version", "horizon")} == {
        **{"category": "tech", "platform": "tiktok", "adjustment_type": "score"},
        **{"model_version": "shrinkage/v1", "horizon": "24h"},
    }
    assert row["new_value"] < row["old_value"] - 2
    assert row["sample_size"] == 30
    assert row["reason"].startswith("30 outcomes of the category; the last 30 of them came ")
    assert "points below the prediction on average" in row["reason"]
    assert set(row["report"]["after"]) == {"prior", "platform", "category", "account"}
    due(app)
    ada.see(Seen(50, likes=15, comments=0, shares=0, category="tech"))
    due(app)
    assert len(adjustments(app, ada.id)) == 1
    ada.see(*(Seen(60 + minute, likes=90, category="tech") for minute in range(30)))
    due(app)
    first, second = adjustments(app, ada.id)
    assert second["old_value"] == first["new_value"]
    assert second["report"]["before"] == first["report"]["after"]
    assert second["new_value"] > first["new_value"] + 2


# --- at once, and cut short -----------------------------------------------------------------------------------------


def test_many_jobs_of_one_tenant_at_once_learn_each_outcome_once(app: App) -> None:
    """Eight, although only one is alive otherwise, and outcomes come late and early meanwhile."""
    ada = Learning(app)
    rng = seeded("many at once")
    rows = stream(80)
    rng.shuffle(rows)
    ada.see(*rows[:30])
    jobs = []
    for _ in range(8):
        with app.db.transaction(ada.id) as tx:
            jobs.append(learning.learn.enqueue(tx, ada.id))
            tx.work_as(SYSTEM)
            tx.driver.execute("UPDATE job_queue SET unique_key = %s WHERE id = %s", (str(uuid4()), jobs[-1]))
    apart = beside(app)
    runner = apart.runner()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
    with ThreadPoolExecutor(9) as threads:
        arriving = threads.submit(lambda: [ada.see(each) for each in rows[30:]])
        assert sum(threads.map(runner.run_one, jobs)) == 8
        arriving.result()
    apart.db.close()
    assert [job_row(app, job_id)["status"] for job_id in jobs] == ["completed"] * 8
    due(app)
    assert ada.states()[TIKTOK]["count"] == 80
    assert is_the_fold(ada)


@pytest.mark.proof
def test_a_job_that_is_cut_off_anywhere_leaves_the_fold_of_what_is_learned(app: App) -> None:
    """Before and after each commit: of a batch, of a page of a fold anew, of its result."""
    for at in range(100):
        ada = Learning(app)
        ada.see(*stream(6, first=2))
        due(app)
        ada.see(*stream(3, first=20), *stream(2, first=0.5))

        def die() -> None:
            raise Died

        moments = Moments(at, die, within_transactions=True)
        with app.db.transaction(ada.id) as tx:
            learning.learn.enqueue(tx, ada.id)
        try:
            drain_app(watched(app, moments))
        except Died:
            assert ada.states() == ada.folded(), moments.passed[-1]
            rescue_all(app)
            drain_app(app)
        assert is_the_fold(ada), moments.passed[-1]
        assert ada.states()[TIKTOK]["count"] == 11
        if not moments.struck:
            break
    assert len(moments.passed) >= 10


def test_a_tenant_whose_job_has_failed_waits_a_while(app: App) -> None:
    ada = Learning(app)
    ada.see(*stream(2))
    with app.db.transaction(ada.id) as tx:
        job_id = learning.learn.enqueue(tx, ada.id)
        tx.work_as(SYSTEM)
        tx.driver.execute(
            "UPDATE job_queue SET status = 'failed', completed_at = now() - interval '29 minutes' WHERE id = %s",
            (job_id,),
        )
    due(app)
    assert ada.states() == {}
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "UPDATE job_queue SET completed_at = completed_at - interval '2 minutes' WHERE id = %s", (job_id,)
        )
    due(app)
    assert is_the_fold(ada)


def test_each_tenant_with_something_to_learn_gets_one_job(app: App) -> None:
    tenants = [Learning(app) for _ in range(4)]
    for each in tenants[1:]:
        each.see(Seen(0))
    with app.db.transaction(tenants[1].id) as tx:
        learning.learn.with_options(delay=learning.AFTER_AN_ERROR).enqueue(tx, tenants[1].id)
    with app.db.transaction(SYSTEM) as tx:
        learning.find_due.enqueue(tx)
    runner_of_one = app.runner()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner_of_one.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
        [finding] = tx.jobs.due_now(limit=10)
    assert runner_of_one.run_one(finding)
    with app.db.transaction(SYSTEM) as tx:
        found = tx.driver.execute("SELECT tenant_id FROM job_queue WHERE job_type = 'reflexion.learn'").fetchall()
    assert Counter(tenant_id for (tenant_id,) in found) == Counter(each.id for each in tenants[1:])


# --- the pool -------------------------------------------------------------------------------------------------------


def pool(app: App) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        job_id = learning.pool.enqueue(tx)
    drain_app(app)
    result: dict[str, Any] = job_row(app, job_id)["result"]
    return result


@pytest.mark.parametrize(("tenants", "figures"), [(4, 0), (5, 1)], ids=["too few tenants", "enough"])
def test_the_pool_says_nothing_of_a_few_tenants(app: App, tenants: int, figures: int) -> None:
    for number in range(tenants):
        each = Learning(app)
        each.see(*(Seen(minute, likes=100 + number, category="tech") for minute in range(20)))
    due(app)
    assert [pool(app)["figures"], pool(app)["figures"]] == [figures, 0]
    stranger = Learning(app)
    with app.db.transaction(stranger.id) as tx:
        priors = tx.learners.scoring(stranger.id).priors
    if not figures:
        assert priors == {}
        return
    prior = priors[TIKTOK]
    assert prior.platform > built_in("tiktok").platform
    assert list(prior.categories) == ["tech"]
    stranger.see(*stream(5, prior_id=prior.id))
    due(app)
    assert is_the_fold(stranger)
    assert with_prior(app, stranger, TIKTOK) == prior


def with_prior(app: App, tenant: Learning, key: LearnerKey) -> Prior | None:
    with app.db.transaction(tenant.id) as tx:
        [first, *_] = tx.outcomes.page(tenant.id, key, after=None, limit=1)
        return tx.outcomes.priors([each for each in first.prior_ids if each is not None]).get(first.prior_ids[0] or 0)


# --- the whole way --------------------------------------------------------------------------------------------------


def test_a_post_that_is_made_published_and_measured_here_is_learned(settings: Settings, tmp_path: Path) -> None:
    with post_stage(settings, tmp_path, "tiktok") as here:
        tenant_id = here.tenant()
        account_id = here.account(tenant_id, "tiktok")
        options = {"tiktok": PLATFORMS["tiktok"].options}
        request = PostRequest(here.video(tenant_id), [ForAccount(account_id)], caption="A fox", options=options)
        [row] = posts.create(here.app, tenant_id, request, None)
        post_id: UUID = row["id"]
        here.run()
        aged(here, post_id, Horizon.H24.age)
        collect(here)
        with here.app.db.transaction(SYSTEM) as tx:
            learning.find_due.enqueue(tx)
        here.turn()
        with here.app.db.transaction(tenant_id) as tx:
            scoring = tx.learners.scoring(tenant_id)
            rows = {row["horizon"]: row for row in tx.predictions.of_post(tenant_id, post_id)}
    learner = scoring.standings[TIKTOK].learner
    assert learner.count == 1
    assert set(learner.trailing[0]) == {"shrinkage/v1", "running-median/v1"}
    assert rows["24h"]["definition"] == TIKTOK.definition
    assert list(learner.row()["models"]["shrinkage/v1"]["accounts"]) == [rows["24h"]["features"]["account"]]

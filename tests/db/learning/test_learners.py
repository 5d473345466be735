"""What tenants have learned, as it is read to score with."""

from datetime import timedelta
from operator import attrgetter
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from db.transaction import SYSTEM, Tx
from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Features, Outcome, Prior
from domain.learning.pool import built_in, contributions
from tests.builders import NOV_22, a_tenant
from workers.app import App

TIKTOK = LearnerKey("tiktok", Horizon.H24, "tiktok-views/likes+comments+shares")
SHORTS = LearnerKey("youtube-shorts", Horizon.D7, "youtube-engaged-views/likes+comments")
ADD_PRIOR = "INSERT INTO pooled_priors (platform, horizon, definition, value, categories) VALUES (%s, %s, %s, %s, %s)"


def keep(tx: Tx, tenant_id: UUID, key: LearnerKey, count: int) -> None:
    tx.learners.lock(tenant_id, [key])
    tx.learners.save(tenant_id, key, Learner(count=count))


def test_scoring_has_the_tenants_learners_their_champions_and_the_newest_priors(app: App) -> None:
    ada, other = a_tenant(app), a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        keep(tx, ada, TIKTOK, 7)
        keep(tx, ada, SHORTS, 2)
        keep(tx, other, TIKTOK, 99)
        tx.driver.execute("UPDATE learners SET champion = 'ridge/v1' WHERE outcomes = 2")
        for key, value in ((TIKTOK, 1.0), (SHORTS, 1.25), (TIKTOK, 1.5)):
            named = (key.platform, key.horizon, key.definition)
            tx.driver.execute(ADD_PRIOR, (*named, value, Jsonb({"news": value / 2})))
    with app.db.transaction(ada) as tx:
        scoring = tx.learners.scoring(ada)
    found = {key: (standing.learner.count, standing.champion) for key, standing in scoring.standings.items()}
    assert found == {TIKTOK: (7, CHAMPION), SHORTS: (2, "ridge/v1")}
    assert scoring.priors == {
        TIKTOK: Prior(1.5, {"news": 0.75}, 3),
        SHORTS: Prior(1.25, {"news": 0.625}, 2),
    }


def test_a_learner_of_another_release_has_learned_nothing_yet(app: App) -> None:
    ada = a_tenant(app)
    with app.db.transaction(ada) as tx:
        keep(tx, ada, TIKTOK, 7)
        tx.driver.execute("UPDATE learners SET state = jsonb_set(state, '{version}', '0')")
        assert tx.learners.scoring(ada).standings[TIKTOK].learner.count == 0


def test_a_tenant_without_learners_or_a_pool_has_an_empty_scoring(app: App) -> None:
    with app.db.transaction(uuid4()) as tx:
        scoring = tx.learners.scoring(uuid4())
    assert (scoring.standings, scoring.priors) == ({}, {})


def test_the_pool_gets_of_each_tenant_what_its_whole_state_adds(app: App) -> None:
    learner = Learner()
    for number in range(60):
        at = NOV_22 + timedelta(minutes=number)
        features = Features(f"account {number % 3}", ("news", "tech", None)[number % 3])
        # From the middle on everything is different: an alarm of drift changes more than the sums.
        value = 1.0 if number < 30 else 3.5
        learner.learn(Outcome(str(number), at, features, value, built_in("tiktok"), {CHAMPION: 1.0}))
    tenants = sorted(a_tenant(app) for _ in range(3))
    with app.db.transaction(SYSTEM) as tx:
        for tenant_id in tenants[:2]:
            tx.learners.lock(tenant_id, [TIKTOK])
            tx.learners.save(tenant_id, TIKTOK, learner)
        keep(tx, tenants[2], SHORTS, 5)
        first = tx.learners.contributions(TIKTOK, after=UUID(int=0), limit=1)
        second = tx.learners.contributions(TIKTOK, after=first.last or UUID(int=0), limit=2)
    model = learner.models[CHAMPION]
    assert isinstance(model, Shrinkage)
    by_category = attrgetter("category")
    expected = sorted(contributions(model), key=by_category)
    assert len(expected) == 3
    assert [sorted(each, key=by_category) for each in (*first.tenants, *second.tenants)] == [expected] * 2
    assert (first.last, second.last) == (tenants[0], None)

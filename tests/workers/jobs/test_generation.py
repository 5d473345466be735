"""Concepts are made once and paid for once: whatever the sources, the model and the process do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import insert, select, update

from db.schema.concepts import generations
from db.schema.ops import api_usage
from db.schema.posting import social_accounts
from db.schema.tenants import quota_holds, tenants
from db.transaction import SYSTEM
from domain.concepts.generation import PastConcept
from domain.learning.critique.lessons import held_back
from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.models.ridge import LEAST_OUTCOMES
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Features, Outcome, definition_on
from domain.learning.pool import built_in
from domain.learning.scoring import shown_row
from simulators.llm import TOKENS_IN, TOKENS_OUT, LlmSimulator, Trick, error, llm_simulator
from simulators.loopback import Loopback, Reply
from simulators.trends import trends_simulator
from tests.builders import NOV_22, a_tenant, job_row, tenant
from tests.drain import drain
from tests.past_concepts import all_past_concepts
from tests.wait import until
from workers.app import App, build
from workers.engine.outcomes import cancel, rescue
from workers.jobs.generation import daily, generate_concepts
from workers.ops import jobs
from workers.settings import Settings

BASE_URLS = ("google_trends", "wikimedia", "hacker_news", "reddit", "youtube", "gnews")


@pytest.fixture
def trends() -> Iterator[Loopback]:
    with trends_simulator(lambda: NOV_22) as server:
        yield server


@pytest.fixture
def llm() -> Iterator[LlmSimulator]:
    with llm_simulator() as fake:
        yield fake


@pytest.fixture
def offline(settings: Settings, trends: Loopback) -> Iterator[App]:
    """No key for a model."""
    yield from _app(settings, trends)


@pytest.fixture
def online(settings: Settings, trends: Loopback, llm: LlmSimulator) -> Iterator[App]:
    """With a key, and a model that answers here."""
    yield from _app(settings, trends, anthropic_api_key="a-key", anthropic_base_url=llm.server.url)


def _app(settings: Settings, trends: Loopback, **options: Any) -> Iterator[App]:
    urls = {f"{name}_base_url": trends.url for name in BASE_URLS}
    values = settings.model_dump() | urls | options
    app = build(Settings.model_validate(values), name="tests", clock=lambda: NOV_22)
    yield app
    app.close()


def enqueue(app: App, tenant_id: UUID, **arguments: Any) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return generate_concepts.enqueue_payload(tx, {"tenant_id": str(tenant_id)} | arguments)


def run(app: App, tenant_id: UUID, **arguments: Any) -> dict[str, Any]:
    """One attempt at a new job; returns its row afterwards."""
    job_id = enqueue(app, tenant_id, **arguments)
    drain(app)
    return job_row(app, job_id)


def again(app: App, job_id: UUID) -> dict[str, Any]:
    """The job's next attempt, without waiting for its time."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s", (job_id,))
    drain(app)
    return job_row(app, job_id)


def kept(app: App, tenant_id: UUID) -> list[Any]:
    with app.db.transaction(tenant_id) as tx:
        return list(tx.sql.execute(select(generations)).all())


def usage(app: App, tenant_id: UUID) -> list[Any]:
    with app.db.transaction(tenant_id) as tx:
        return list(tx.sql.execute(select(api_usage).order_by(api_usage.c.id)).all())


def used(app: App, tenant_id: UUID) -> int:
    count: int = tenant(app, tenant_id)["used_quota"]
    return count


def holds(app: App, tenant_id: UUID) -> list[str]:
    with app.db.transaction(tenant_id) as tx:
        return list(tx.sql.execute(select(quota_holds.c.status)).scalars())


# --- offline ------------------------------------------------------------------------------------------------


def test_five_concepts_from_live_trends_are_kept_and_counted(offline: App) -> None:
    tenant_id = a_tenant(offline)
    row = run(offline, tenant_id)
    assert row["status"] == "completed", row["error_message"]
    [generation] = kept(offline, tenant_id)
    assert len(generation.concepts) == 5
    assert generation.generator == "local-grammar/v1"
    assert {report["source"]: report["state"] for report in generation.sources} == dict.fromkeys(
        ("google-trends", "wikimedia", "hacker-news", "reddit"), "live"
    )
    assert "Plane crash" in {trend["topic"] for trend in generation.trends}
    assert not any("crash" in json.dumps(concept) for concept in generation.concepts)
    assert row["result"] | {"live_trends": 0} == {
        "generation_id": str(generation.id),
        "concepts": 5,
        "generator": "local-grammar/v1",
        "live_trends": 0,
        "evergreen_trends": 0,
        "failed_sources": {},
    }
    assert (used(offline, tenant_id), holds(offline, tenant_id), usage(offline, tenant_id)) == (5, ["settled"], [])


def test_without_any_network_there_are_five_that_say_so(settings: Settings, trends: Loopback) -> None:
    trends.fail(Reply(hang_up=True), times=99)
    [app] = list_of = list(_once(settings, trends))
    try:
        tenant_id = a_tenant(app)
        row = run(app, tenant_id)
        [generation] = kept(app, tenant_id)
        assert len(generation.concepts) == 5
        assert {concept["trendSource"] for concept in generation.concepts} == {"evergreen"}
        assert {report["state"] for report in generation.sources} == {"failed"}
        assert row["result"]["live_trends"] == 0
        assert set(row["result"]["failed_sources"]) == {"google-trends", "wikimedia", "hacker-news", "reddit"}
    finally:
        list_of[0].close()


def test_concepts_have_the_scores_of_the_tenants_champion(offline: App) -> None:
    tenant_id, learner, prior = a_tenant(offline), Learner(), built_in("tiktok")
    for number in range(LEAST_OUTCOMES):
        at = NOV_22 - timedelta(days=10) + timedelta(minutes=number)
        learner.learn(Outcome(f"{number:04}", at, Features("a", "food"), 0.7 + number % 3 / 10, prior))
    key = LearnerKey("tiktok", Horizon.H24, definition_on("tiktok", NOV_22.date()))
    with offline.db.transaction(tenant_id) as tx:
        tx.learners.lock(tenant_id, [key])
        tx.learners.save(tenant_id, key, learner)
        tx.driver.execute("UPDATE learners SET champion = 'ridge/v1'")
        scoring = tx.learners.scoring(tenant_id)
    assert run(offline, tenant_id)["status"] == "completed"
    [generation] = kept(offline, tenant_id)
    for concept in generation.concepts:
        expected = scoring.shown("tiktok", Features("", concept["category"]), NOV_22.date())
        assert expected is not None
        assert concept["platformVirality"]["tiktok"] == shown_row(expected)
        assert concept["platformVirality"]["tiktok"]["model"] == "ridge/v1"
        assert concept["platformVirality"]["youtubeShorts"]["model"] == CHAMPION


def test_lessons_go_into_the_question_as_data_and_stay_with_the_concepts(online: App, llm: LlmSimulator) -> None:
    """Also if they are retired before the attempt that keeps the concepts; a share of generations gets none."""
    tenant_id, lesson_id = a_tenant(online), uuid4()
    with online.db.transaction(tenant_id) as tx:
        tx.driver.execute(
            """INSERT INTO reflexion_insights (id, tenant_id, category, platform, pattern, recommendation, critique_id,
                expires_at, last_seen_at) VALUES (%s, %s, 'food', 'tiktok', 'Slow openings lost people.',
                'Show the "result" first.', gen_random_uuid(), %s, %s)""",
            (lesson_id, tenant_id, NOV_22 + timedelta(days=30), NOV_22),
        )
    with_lessons, without = (
        next(job_id for n in range(1000) if held_back(job_id := UUID(int=n)) is held) for held in (False, True)
    )
    for job_id in (with_lessons, without):
        jobs.enqueue(online, generate_concepts, {"tenant_id": tenant_id, "count": 1}, id=job_id)
        drain(online)
    found = {UUID(str(each.job_id)): each.concepts[0]["lessons"] for each in kept(online, tenant_id)}
    assert found == {with_lessons: [str(lesson_id)], without: []}
    one, other = llm.questions()
    assert json.dumps('Show the "result" first.') in one
    assert "result" not in other


def _once(settings: Settings, trends: Loopback) -> Iterator[App]:
    yield next(_app(settings, trends))


def test_the_accounts_clock_decides_when_to_post(offline: App) -> None:
    tenant_id = a_tenant(offline, timezone="Asia/Tokyo")
    with offline.db.transaction(tenant_id) as tx:
        account = {"tenant_id": tenant_id, "platform": "tiktok", "external_id": "1", "timezone": "Europe/Berlin"}
        tx.sql.execute(insert(social_accounts).values(account))
    run(offline, tenant_id)
    [generation] = kept(offline, tenant_id)
    assert {concept["postTime"]["zone"] for concept in generation.concepts} == {"Europe/Berlin"}


def test_more_than_is_left_is_refused_with_figures_and_nothing_is_asked(offline: App, trends: Loopback) -> None:
    tenant_id = a_tenant(offline, used_quota=6)
    row = run(offline, tenant_id)
    assert row["status"] == "failed"
    assert "5 concepts asked for, 4 of 10 left" in row["error_message"]
    assert (trends.requests, kept(offline, tenant_id), used(offline, tenant_id)) == ([], [], 6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 21}, "count is 21"),
        ({"generator": "gpt"}, "generator: it is not known here"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_held(offline: App, arguments: dict[str, Any], says: str) -> None:
    tenant_id = a_tenant(offline, monthly_quota=100)
    row = run(offline, tenant_id, **arguments)
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert says in row["error_message"]
    assert holds(offline, tenant_id) == []


def remember(app: App, tenant_id: UUID, past: Sequence[PastConcept]) -> None:
    """The tenant has had these."""
    concepts = [asdict(each) for each in past]
    with app.db.transaction(tenant_id) as tx:
        row = {"tenant_id": tenant_id, "date": NOV_22 - timedelta(days=1), "concepts": concepts}
        tx.sql.execute(insert(generations).values(row))


def test_a_customer_of_everything_learns_how_many_are_left_before_anything_is_held(
    offline: App, trends: Loopback
) -> None:
    trends.fail(Reply(hang_up=True), times=99)
    tenant_id = a_tenant(offline, monthly_quota=500)
    remember(offline, tenant_id, all_past_concepts()[2:])
    row = run(offline, tenant_id, count=5)
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert re.match("5 concepts asked for, and only 2 can be made from the present trends", row["error_message"])
    assert (trends.requests, holds(offline, tenant_id), used(offline, tenant_id)) == ([], [], 0)
    made = run(offline, tenant_id, count=1)
    assert (made["status"], used(offline, tenant_id)) == ("completed", 1)


def test_what_the_sources_last_said_counts_for_whoever_has_had_all_the_rest(offline: App) -> None:
    run(offline, a_tenant(offline))
    tenant_id = a_tenant(offline)
    remember(offline, tenant_id, all_past_concepts())
    row = run(offline, tenant_id, count=1)
    assert (row["status"], used(offline, tenant_id)) == ("completed", 1), row["error_message"]


def test_a_month_of_concepts_repeats_none(offline: App) -> None:
    tenant_id = a_tenant(offline, monthly_quota=50)
    for _ in range(10):
        assert run(offline, tenant_id)["status"] == "completed"
    titles = [concept["title"] for generation in kept(offline, tenant_id) for concept in generation.concepts]
    assert len(titles) == len(set(titles)) == 50


# --- with a language model ----------------------------------------------------------------------------------


def test_a_models_concepts_are_kept_and_its_cost_recorded(online: App, llm: LlmSimulator) -> None:
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    assert row["status"] == "completed", row["error_message"]
    [generation] = kept(online, tenant_id)
    assert generation.generator == "anthropic/claude-sonnet-5-5"
    [paid] = usage(online, tenant_id)
    assert (paid.kind, paid.name, paid.job_id) == ("llm", "anthropic/claude-sonnet-5-5", row["id"])
    assert (paid.tokens_in, paid.tokens_out, paid.cost_usd) == (TOKENS_IN, TOKENS_OUT, Decimal("0.0568"))


def test_the_model_and_its_price_are_the_rows_of_today(online: App, owner_url: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute("UPDATE language_models SET sunset_at = '2026-11-01' WHERE model = 'claude-sonnet-5-5'")
        owner.execute(
            "INSERT INTO language_models (provider, model, valid_from, rank, usd_per_million_in, usd_per_million_out)"
            " VALUES ('anthropic', 'claude-sonnet-5', '2026-11-20', 1, 1, 5),"
            " ('anthropic', 'claude-sonnet-5', '2026-12-01', 1, 100, 500)"
        )
    tenant_id = a_tenant(online)
    run(online, tenant_id)
    [paid] = usage(online, tenant_id)
    assert (paid.name, paid.cost_usd) == ("anthropic/claude-sonnet-5", Decimal("0.0284"))


def test_three_instead_of_five_are_asked_for_again_and_both_answers_paid(online: App, llm: LlmSimulator) -> None:
    llm.misbehave("too few")
    tenant_id = a_tenant(online)
    assert run(online, tenant_id)["status"] == "completed"
    assert llm.calls == 2
    assert "5 concepts were asked for, and 3 delivered" in llm.questions()[1]
    assert len(usage(online, tenant_id)) == 2
    assert (len(kept(online, tenant_id)[0].concepts), used(online, tenant_id)) == (5, 5)


def test_a_model_that_never_keeps_the_rules_costs_the_tenant_nothing(online: App, llm: LlmSimulator) -> None:
    llm.misbehave("too few", "invented figure", "prose")
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    assert (row["status"], row["attempts"], llm.calls) == ("failed", 1, 3)
    assert "broke the rules in 3 answers" in row["error_message"]
    assert (used(online, tenant_id), holds(online, tenant_id)) == (0, ["released"])
    assert (kept(online, tenant_id), len(usage(online, tenant_id))) == ([], 3)


@pytest.mark.parametrize("trick", ["NUL", "half a surrogate pair", "bare control character"])
def test_an_answer_that_cannot_be_stored_as_it_is_is_asked_for_and_paid_once(
    online: App, llm: LlmSimulator, trick: Trick
) -> None:
    llm.misbehave(trick)
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    assert (row["status"], row["attempts"], llm.calls) == ("completed", 1, 1), row["error_message"]
    [generation] = kept(online, tenant_id)
    assert any("\ufffd" in text for text in (generation.concepts[0]["title"], generation.concepts[0]["caption"]))
    assert (len(usage(online, tenant_id)), used(online, tenant_id)) == (1, 5)


def test_what_a_model_was_paid_is_kept_although_the_job_was_cancelled_meanwhile(online: App, llm: LlmSimulator) -> None:
    tenant_id = a_tenant(online)
    job_id = enqueue(online, tenant_id)

    def cancel_it() -> None:
        with online.db.transaction(SYSTEM) as tx:
            assert cancel(tx, online.job_types, job_id) == "running"

    llm.before_answering = cancel_it
    drain(online)
    assert (job_row(online, job_id)["status"], llm.calls) == ("cancelled", 1)
    assert (len(usage(online, tenant_id)), used(online, tenant_id)) == (1, 0)


def test_a_refusing_model_is_reported_and_costs_the_tenant_nothing(online: App, llm: LlmSimulator) -> None:
    llm.misbehave("refusal")
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    assert (row["status"], llm.calls) == ("failed", 1)
    assert "declines" in row["error_message"]
    assert (used(online, tenant_id), len(usage(online, tenant_id))) == (0, 1)


def test_a_model_that_is_overloaded_is_waited_for_with_the_hold_kept(online: App, llm: LlmSimulator) -> None:
    llm.server.fail(error(429, "rate_limit_error", "slow down", retry_after="600"))
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    assert row["status"] == "pending"
    assert row["scheduled_for"] > datetime.now(UTC) + timedelta(minutes=9)
    assert (used(online, tenant_id), holds(online, tenant_id)) == (5, ["held"])
    assert again(online, row["id"])["status"] == "completed"
    assert (used(online, tenant_id), llm.calls, len(usage(online, tenant_id))) == (5, 2, 1)


def test_a_model_that_stays_away_gives_the_concepts_back(online: App, llm: LlmSimulator) -> None:
    llm.server.fail(error(529, "overloaded_error", "Overloaded"), times=3)
    tenant_id = a_tenant(online)
    row = run(online, tenant_id)
    for _ in range(2):
        row = again(online, row["id"])
    assert (row["status"], used(online, tenant_id), holds(online, tenant_id)) == ("failed", 0, ["released"])


def test_the_grammar_can_be_asked_for_although_there_is_a_key(online: App, llm: LlmSimulator) -> None:
    tenant_id = a_tenant(online)
    assert run(online, tenant_id, generator="local-grammar/v1")["status"] == "completed"
    assert llm.calls == 0


# --- kill -9 ------------------------------------------------------------------------------------------------

A_WORKER = """
from tests.drain import drain
from workers.app import build
from workers.settings import load
drain(build(load(), name="to be killed"))
"""


def _block_saving(owner: psycopg.Connection[Any]) -> None:
    owner.execute("SELECT FROM tenants FOR NO KEY UPDATE")


@pytest.mark.proof
def test_a_kill_between_the_models_answer_and_the_save_asks_and_counts_once(
    online: App, llm: LlmSimulator, owner_url: str
) -> None:
    tenant_id = a_tenant(online)
    job_id = enqueue(online, tenant_id)
    urls = {name.upper(): str(value) for name, value in online.settings.model_dump().items() if name.endswith("_url")}
    environment = os.environ | {name: url for name, url in urls.items() if url} | {"ANTHROPIC_API_KEY": "a-key"}

    def confirmed() -> bool:
        query = "SELECT count(*) FROM job_steps WHERE step = 'concepts 1' AND status = 'confirmed'"
        with online.db.transaction(SYSTEM) as tx:
            return bool(tx.driver.execute(query).fetchall()[0][0])

    with psycopg.connect(owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")
        # Once the model is asked, the save's way is blocked; what comes before it needs no such lock.
        llm.before_answering = lambda: _block_saving(owner)
        worker = subprocess.Popen([sys.executable, "-c", A_WORKER], env=environment)
        try:
            until(confirmed, "the model's answer to be a confirmed step")
        finally:
            worker.kill()
            worker.wait()
    assert (llm.calls, kept(online, tenant_id), used(online, tenant_id)) == (1, [], 5)

    with online.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE workers SET lease_until = now() - interval '1 second'")
    assert rescue(online.db, online.job_types) == 1
    row = again(online, job_id)
    assert (row["status"], row["crashes"]) == ("completed", 1)
    assert (llm.calls, len(usage(online, tenant_id)), used(online, tenant_id)) == (1, 1, 5)
    [generation] = kept(online, tenant_id)
    assert len(generation.concepts) == 5


# --- every day ----------------------------------------------------------------------------------------------


def at(app: App, now: datetime) -> App:
    return replace(app, clock=lambda: now)


def fire(app: App, now: datetime) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        job_id = daily.enqueue(tx)
    runner = at(app, now).runner()
    with app.db.transaction(SYSTEM) as tx:
        lease = timedelta(seconds=30)
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=lease)
    runner.run_one(job_id)
    row = job_row(app, job_id)
    assert row["status"] == "completed", row["error_message"]
    return row


def of_today(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT payload, priority, scheduled_for FROM job_queue WHERE tenant_id = %s ORDER BY id"
        return [row[0] for row in tx.driver.execute(query, (tenant_id,)).fetchall()]


def test_each_is_served_at_their_own_hour_once(offline: App) -> None:
    wanted = {"daily_enabled": True, "daily_hour": 9}
    berlin = a_tenant(offline, timezone="Europe/Berlin", **wanted)
    new_york = a_tenant(offline, timezone="America/New_York", **wanted)
    nobody = a_tenant(offline)
    morning = datetime(2026, 11, 23, 8, 1, tzinfo=UTC)  # 09:01 in Berlin, 03:01 in New York
    assert fire(offline, morning)["result"] == {"enqueued": 1}
    assert fire(offline, morning + timedelta(hours=1))["result"] == {"enqueued": 0}
    assert fire(offline, morning + timedelta(hours=6))["result"] == {"enqueued": 1}
    assert of_today(offline, berlin) == of_today(offline, new_york) == [{"count": 5, "generator": None}]
    assert of_today(offline, nobody) == []
    assert tenant(offline, berlin)["daily_last_on"] == date(2026, 11, 23)
    assert fire(offline, morning + timedelta(days=1))["result"] == {"enqueued": 1}


def test_the_daily_ones_of_a_month_that_begins_now_are_no_more_than_it_has(offline: App) -> None:
    began = NOV_22 - timedelta(days=31)
    tenant_id = a_tenant(
        offline,
        created_at=began,
        quota_reset_at=NOV_22,
        used_quota=10,
        daily_enabled=True,
        daily_hour=12,
        daily_count=20,
    )
    assert fire(offline, NOV_22)["result"] == {"enqueued": 1}
    assert of_today(offline, tenant_id) == [{"count": 10, "generator": None}]


def test_the_daily_ones_are_counted_like_any_other_and_end_with_the_quota(offline: App) -> None:
    tenant_id = a_tenant(offline, daily_enabled=True, daily_hour=12, used_quota=7)
    spent = a_tenant(offline, daily_enabled=True, daily_hour=12, used_quota=10)
    assert fire(offline, NOV_22)["result"] == {"enqueued": 1}
    assert of_today(offline, tenant_id) == [{"count": 3, "generator": None}]
    assert of_today(offline, spent) == []
    with offline.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL")
    drain(offline)
    assert used(offline, tenant_id) == 10
    [generation] = kept(offline, tenant_id)
    assert len(generation.concepts) == 3


def test_everybody_is_served_however_many_they_are(offline: App) -> None:
    with offline.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(tenants), [{"name": f"t{n}", "daily_enabled": True} for n in range(450)])
        tx.sql.execute(update(tenants).values(daily_hour=12))
    assert fire(offline, NOV_22)["result"] == {"enqueued": 450}
    with offline.db.transaction(SYSTEM) as tx:
        query = "SELECT count(DISTINCT scheduled_for), count(DISTINCT tenant_id), min(priority) FROM job_queue"
        moments, served, priority = tx.driver.execute(f"{query} WHERE job_type LIKE '%concepts'").fetchall()[0]
    assert (served, priority) == (450, 7)
    assert moments > 300

"""`/metrics` on real servers: what a parser of Prometheus reads in it."""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from cli.commands.schedules import calendar
from db.events.probe import OK, WriteProbe
from db.ops.gauges import FAILED, PARKED, UNCONFIRMED
from db.queue.enqueue import NewJob
from db.transaction import SYSTEM
from domain.events.outcomes import Status
from domain.ops.metrics import METRICS, QUEUE_STATES, Kind
from domain.ops.operators import OperatorRole
from web.metrics import MetricsEndpoint
from web.ops.access import OpsAccess
from workers.app import App
from workers.jobs.quota import reset_due
from workers.ops import gauges, queues
from workers.ops.operators import create_token
from workers.runtime.metrics import MetricsReport

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """What is in a scrape, by name and labels; the parser refuses what Prometheus would."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, tuple(sorted(labels.items()))))


def report(app: App) -> None:
    MetricsReport(app.db, app.metrics, role="test", release="1").send()


@pytest.fixture
def endpoint(app: App) -> Iterator[MetricsEndpoint]:
    probe = WriteProbe(app.db.connect)
    yield MetricsEndpoint(app, probe.ask, app.notifier.probe, may_look=OpsAccess(app).may_look, calendar=calendar())
    probe.close()


@pytest.fixture
def client(endpoint: MetricsEndpoint) -> Iterator[TestClient]:
    app = Starlette(routes=[Route("/metrics", endpoint)])
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5000)) as client:
        yield client


def test_what_jobs_did_is_told_in_the_format_of_prometheus(
    app: App, client: TestClient, drain: Callable[[], int]
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    assert drain() == 1
    report(app)
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.text
    job = {"job_type": reset_due.name}
    assert value(text, "viral_jobs_enqueued_total", **job) == 1
    assert value(text, "viral_attempts_total", outcome="completed", **job) == 1
    assert value(text, "viral_job_duration_seconds_count", outcome="completed", **job) == 1
    assert value(text, "viral_job_wait_seconds_bucket", queue="default", le="+Inf") == 1
    assert value(text, "viral_claim_duration_seconds_count") == 1
    assert value(text, "viral_webhooks_total", source="stripe", outcome="accepted") == 0, "told before the first"
    assert value(text, "viral_postgres_writable") == value(text, "viral_redis_writable") == 1
    assert value(text, "viral_build_info", version=app.version) == 1
    assert value(text, "viral_queue_oldest_due_age_seconds", queue="default") == 0
    assert value(text, "viral_scheduler_overdue_seconds", schedule=reset_due.name) == 0
    age = value(text, "viral_metrics_age_seconds")
    assert age is not None
    assert age < 60


def test_every_name_and_label_is_declared(app: App, client: TestClient) -> None:
    for measured in METRICS.values():
        labels = ["<b>" for _ in measured.labels]
        if measured.kind is Kind.COUNTER:
            app.metrics.count(measured.name, *labels)
        elif measured.kind is Kind.HISTOGRAM:
            app.metrics.observe(measured.name, 1.0, *labels)
    report(app)
    text = client.get("/metrics").text
    assert "<b>" not in text
    for name, found in samples(text):
        measured = METRICS.get(name) or METRICS[re.sub("_(bucket|count|sum|created)$", "", name)]
        assert {label for label, _ in found} - {"le"} == {*measured.labels}


def test_the_queues_are_told_as_they_are(app: App, client: TestClient) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many([NewJob(uuid4(), "t", "default") for _ in range(5)])
        tx.enqueue_many([NewJob(uuid4(), "t", "nobodys-queue") for _ in range(3)])
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() - interval '10 minutes' WHERE queue = 'default'")
        tx.driver.execute(
            "INSERT INTO job_queue (job_type, queue, status, completed_at, error_message)"
            " SELECT kind, 'llm', 'failed', now(), 'x' FROM unnest(ARRAY['quota.reset_due', 'unheard-of']) AS kind"
        )
        tx.queues.pause("media")
        tx.driver.execute(
            "INSERT INTO webhook_events (source, external_id, type, status) VALUES ('stripe', 'e', 't', %s)",
            (Status.PARKED_PRICE,),
        )
    text = client.get("/metrics").text
    assert value(text, "viral_queue_jobs", queue="default", state="waiting") == 5
    assert value(text, "viral_queue_jobs", queue="other", state="waiting") == 3
    age = value(text, "viral_queue_oldest_due_age_seconds", queue="default")
    assert age is not None
    assert 600 <= age < 700
    assert value(text, "viral_jobs_failed", job_type="quota.reset_due") == 1
    assert value(text, "viral_jobs_failed", job_type="other") == 1
    assert value(text, "viral_queue_paused", queue="media") == 1
    assert value(text, "viral_queue_paused", queue="default") == 0
    assert value(text, "viral_events_parked", source="stripe", reason="unknown_price") == 1


def test_a_scrape_and_the_page_of_queues_count_alike(app: App, client: TestClient) -> None:
    """Due later, held back past its time, tried again, running: a job counts for the same on both."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("""
            INSERT INTO job_queue (job_type, queue, status, scheduled_for, wake_at, worker_id, lease_token) VALUES
            ('t', 'default', 'pending', now() - interval '1 hour', NULL, NULL, NULL),
            ('t', 'default', 'pending', now() - interval '2 hours', now() + interval '1 minute', NULL, NULL),
            ('t', 'default', 'pending', now() + interval '1 hour', now() + interval '1 hour', NULL, NULL),
            ('t', 'llm', 'pending', now() + interval '1 hour', now() + interval '1 hour', NULL, NULL),
            ('t', 'media', 'running', now(), NULL, gen_random_uuid(), 1)
        """)
    text = client.get("/metrics").text
    with app.db.transaction(SYSTEM) as tx:
        shown = {each.queue: each for each in queues.overview(tx)}
    for queue, each in shown.items():
        for state in QUEUE_STATES:
            assert value(text, "viral_queue_jobs", queue=queue, state=state) == getattr(each, state), (queue, state)
    assert (shown["default"].waiting, shown["default"].scheduled, shown["media"].running) == (2, 1, 1)
    age = value(text, "viral_queue_oldest_due_age_seconds", queue="default")
    assert age is not None
    assert 7200 <= age < 7300
    assert value(text, "viral_queue_oldest_due_age_seconds", queue="llm") == 0


def test_many_scrapes_at_once_read_postgres_once(endpoint: MetricsEndpoint, client: TestClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: client.get("/metrics").status_code, range(16)))
    assert answers == [200] * 16
    assert endpoint.reads == 1


def test_without_postgres_it_tells_what_it_knows_and_how_old_that_is(app: App) -> None:
    answers, now = [OK], [1000.0]
    endpoint = MetricsEndpoint(
        app, lambda: answers[0], app.notifier.probe, may_look=OpsAccess(app).may_look, stopwatch=lambda: now[0]
    )
    app.metrics.count("viral_fence_refusals_total")
    report(app)
    endpoint.look()
    answers[0], now[0] = "unreachable", 1090.0
    endpoint.look()
    text = endpoint.text().decode()
    assert value(text, "viral_fence_refusals_total") == 1
    assert value(text, "viral_postgres_writable") == 0
    assert value(text, "viral_metrics_age_seconds") == 90


@pytest.mark.proof
def test_a_server_that_never_answers_holds_no_scrape(app: App) -> None:
    """What hangs is asked once, and an answer does not wait for it for long."""
    hanging = asyncio.Event()

    def never() -> str:
        asyncio.run(asyncio.wait_for(hanging.wait(), 8))
        return OK

    endpoint = MetricsEndpoint(app, never, app.notifier.probe, may_look=OpsAccess(app).may_look)
    with TestClient(
        Starlette(routes=[Route("/metrics", endpoint)]), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
    ) as client:
        assert "viral_metrics_age_seconds" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("host", "address", "headers", "open_"),
    [
        ("127.0.0.1", "127.0.0.1", {}, True),
        ("[::1]:80", "::1", {}, True),
        ("127.0.0.1", "10.0.0.5", {}, False),
        ("evil.example", "127.0.0.1", {}, False),
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-for": "10.0.0.5"}, False),
        ("127.0.0.1", "127.0.0.1", {"origin": "https://evil.example"}, False),
    ],
)
def test_it_is_for_programs_on_this_machine(
    endpoint: MetricsEndpoint, host: str, address: str, headers: dict[str, str], open_: bool
) -> None:
    with TestClient(Starlette(routes=[Route("/metrics", endpoint)]), client=(address, 1)) as client:
        answer = client.get("/metrics", headers=headers | {"host": host})
    assert (answer.status_code == 200) is open_


def test_who_has_a_token_scrapes_with_it(app: App, endpoint: MetricsEndpoint) -> None:
    """As soon as there is one, this machine alone is no reason any more."""
    token = create_token(app, "prometheus", OperatorRole.LOOK).text
    with TestClient(Starlette(routes=[Route("/metrics", endpoint)]), client=("127.0.0.1", 1)) as client:
        headers = {"host": "127.0.0.1"}
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/metrics", headers=headers | {"authorization": f"Bearer {token}"}).status_code == 200


def test_gauges_are_read_through_indexes(app: App, owner_url: str) -> None:
    """A table of a million finished jobs is not read, whatever its statistics say."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO job_queue (job_type, queue, status, completed_at)"
            " SELECT 't', 'default', 'completed', now() FROM generate_series(1, 4000)"
        )
        owner.execute(
            "INSERT INTO webhook_events (source, external_id, type, status)"
            " SELECT 'stripe', n::text, 't', 'applied' FROM generate_series(1, 4000) AS n"
        )
        owner.execute("ANALYZE job_queue, webhook_events")
    values = {"parked": ["parked:unknown_price"]}
    with app.db.transaction(SYSTEM) as tx:
        for statement in (FAILED, PARKED, UNCONFIRMED):
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {statement}".encode(), values))
            assert "Seq Scan on job_queue" not in plan, plan
            assert "Seq Scan on webhook_events" not in plan, plan


def test_a_minute_is_sampled_once_among_all_schedulers(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many([NewJob(uuid4(), "t", "default") for _ in range(2)])
    with ThreadPoolExecutor(4) as threads:
        kept = list(threads.map(lambda n: gauges.sample(app.db, app.metrics), range(4)))
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute(
            "SELECT value::int FROM system_metrics WHERE name = 'viral_queue_jobs' AND labels ->> 'state' = 'waiting'"
            " AND labels ->> 'queue' = 'default'"
        ).fetchall()
    assert len([count for count in kept if count]) in (1, 2), "two, if a minute has passed meanwhile"
    assert rows in ([(2,)], [(2,), (2,)])

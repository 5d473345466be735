"""Traces from a webhook through the rows of jobs: a real exporter, a receiver on a loopback socket that decodes what is
sent, and a collector that does not answer."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from db.transaction import SYSTEM
from domain.errors import Unavailable
from domain.queue.retries import Backoff
from integrations.stripe import webhooks as stripe
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_tenant, job_row
from tests.drain import drain
from web.api.app import create_api
from web.main import WebDeps, create_app
from workers.app import App, build
from workers.engine.job import Batch, Context, JobType, job
from workers.jobs.identity import apply_clerk_event
from workers.runtime import logs
from workers.runtime.ids import Ids
from workers.settings import Settings


class Receiver:
    """A collector: `spans` are those that it was sent, by name."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.headers = dict(self.headers)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        receiver.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def traced(settings: Settings, url: str) -> App:
    changed = {"otel_exporter_otlp_endpoint": url, "otel_exporter_otlp_headers": "x-key=a%20b"}
    return build(Settings.model_validate(settings.model_dump() | changed), name="tests")


@job("testing.leaf", system=True)
def leaf(ctx: Context, name: str = "") -> None:
    with ctx.finish():
        pass


@job("testing.event", system=True, queue="events", backoff=Backoff())
def of_event(ctx: Context, event_id: UUID) -> None:
    with ctx.finish() as tx:
        leaf.enqueue(tx, name="of the event")


@contextmanager
def serving(app: App, event_job: JobType[Any] | None = None) -> Iterator[httpx.Response]:
    """What a webhook of Stripe is answered; before it comes one with another's signature."""
    secrets = app.settings.reveal(app.settings.stripe_webhook_secret)
    deps = WebDeps(
        stripe_secrets=secrets,
        clerk_secrets=(),
        connect=app.db.connect,
        notify=lambda notifications: None,
        redis_ping=app.notifier.probe,
        clock=NOV_22.timestamp,
        make_id=Ids(),
        stripe_job=event_job or of_event,
        clerk_job=apply_clerk_event,
        api=create_api(app, sessions=None, clock=NOV_22.timestamp),
        tracing=app.tracing,
    )
    web = create_app(deps)
    body = json.dumps(stripe_event("customer.subscription.updated", {"id": "sub_1"}, at=NOV_22)).encode()
    headers = {"Stripe-Signature": stripe.sign(body, secrets[0], int(NOV_22.timestamp())), "X-Request-Id": "mine-1"}

    async def post() -> httpx.Response:
        async with web.rest.router.lifespan_context(web.rest):
            client = httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://house")
            await client.post("/webhooks/stripe", content=body, headers=headers | {"Stripe-Signature": "forged"})
            return await client.post("/webhooks/stripe", content=body, headers=headers)

    yield asyncio.run(post())


def with_types(app: App, *types: JobType[Any]) -> App:
    return replace(app, job_types={each.name: each for each in types})


def test_a_webhook_its_job_and_the_job_that_this_enqueues_are_one_trace(settings: Settings, receiver: Receiver) -> None:
    app = traced(settings, receiver.url)
    with serving(app) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-request-id"] not in ("", "mine-1")
    assert drain(with_types(app, of_event, leaf)) == 2
    app.close()
    names = ["POST /webhooks/{source}", "send events", "process events", "send default", "process default"]
    spans = [receiver.named(name) for name in names]
    assert [len(each) for each in spans] == [2, 1, 1, 1, 1]
    chain = [each[-1] for each in spans]
    assert len({span.trace_id for span in chain}) == 1
    assert chain[0].parent_span_id == b""
    assert [span.parent_span_id for span in chain[1:]] == [span.span_id for span in chain[:-1]]
    assert receiver.headers["x-key"] == "a b"
    with_row = [f"00-{chain[1].trace_id.hex()}-{chain[1].span_id.hex()}-01"]
    again = build(settings, name="tests")
    with again.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT traceparent FROM webhook_events").fetchone() == tuple(with_row)
    again.close()


def test_each_line_from_a_webhook_to_the_effect_names_all_that_it_belongs_to(
    settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    """Whole lines on a real file: the request's, the job's of the event, and those of the job that this enqueues for a
    tenant, whose first attempt fails."""

    begun: list[UUID] = []

    @job("testing.effect", max_attempts=2, backoff=Backoff())
    def effect(ctx: Context, tenant_id: UUID) -> None:
        structlog.get_logger().info("effect.begun", text="long " * 2000)
        begun.append(tenant_id)
        if len(begun) == 1:
            raise Unavailable("not now")
        with ctx.finish() as tx:
            tx.driver.execute("UPDATE tenants SET name = 'Done' WHERE id = %s", (tenant_id,))

    @job("testing.event", system=True, queue="events")
    def of_event(ctx: Context, event_id: UUID) -> None:
        with ctx.finish() as tx:
            tx.work_as(tenant_id)
            effect.enqueue(tx, tenant_id=tenant_id)

    app = traced(settings, receiver.url)
    tenant_id = a_tenant(app)
    with open(tmp_path / "log", "w") as stream:
        logs.configure("json", "DEBUG", stream)
        try:
            with serving(app, of_event) as answer:
                assert answer.status_code == 200
            for _ in range(3):
                drain(with_types(app, of_event, effect))
                with app.db.transaction(SYSTEM) as tx:
                    tx.driver.execute(
                        "UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'"
                    )
        finally:
            logs.configure("console", "WARNING")
    with app.db.transaction(SYSTEM) as tx:
        [(event_id,)] = tx.driver.execute("SELECT id FROM webhook_events").fetchall()
        ids = dict(tx.driver.execute("SELECT job_type, id::text FROM job_queue").fetchall())
    app.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    [refusal] = [line for line in lines if line["event"] == "webhook.refused"]
    assert refusal["request_id"].rpartition("-")[0] == answer.headers["x-request-id"].rpartition("-")[0]
    assert refusal["client_request_id"] == "mine-1"
    of_jobs = [line for line in lines if "job_id" in line]
    [root] = receiver.named("send events")
    logged = [(line["event"], line["job_type"], line["attempt"]) for line in of_jobs if line["level"] != "debug"]
    assert logged == [
        ("job.completed", "testing.event", 1),
        ("effect.begun", "testing.effect", 1),
        ("job.failed", "testing.effect", 1),
        ("effect.begun", "testing.effect", 2),
        ("job.completed", "testing.effect", 2),
    ]
    for line in of_jobs:
        assert line["job_id"] == ids[line["job_type"]]
        assert line["trace_id"] == root.trace_id.hex()
        assert line.get("tenant_id") == (str(tenant_id) if line["job_type"] == "testing.effect" else None)
        if line["job_type"] == "testing.event":
            assert line["event_id"] == str(event_id)


def test_attempts_are_linked_and_a_failure_says_its_class_alone(settings: Settings, receiver: Receiver) -> None:
    class Odd(Exception):
        pass

    @job("testing.failing", system=True, max_attempts=2, backoff=Backoff())
    def failing(ctx: Context) -> None:
        raise Odd("sekret 4711 of ada@example.com")

    app = with_types(traced(settings, receiver.url), failing)
    with app.tracing.shell("test") as span:
        sent = app.tracing.sent("default", span.traceparent)
    with app.db.transaction(SYSTEM) as tx:
        job_id = failing.enqueue(tx)
        tx.driver.execute("UPDATE job_queue SET traceparent = %s", (sent,))
    for _ in range(2):
        drain(app)
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")
    assert job_row(app, job_id)["status"] == "failed"
    app.close()
    first, second = sorted(receiver.named("process default"), key=lambda each: each.start_time_unix_nano)
    [sending] = receiver.named("send default")
    assert {first.trace_id, second.trace_id} == {sending.trace_id}
    assert [link.span_id for link in first.links] == []
    assert [link.span_id for link in second.links] == [sending.span_id]
    assert [(each.status.code, each.status.message, len(each.events)) for each in (first, second)] == [
        (2, "Odd", 0)
    ] * 2
    assert "4711" not in str(receiver.spans)


def test_each_job_of_a_batch_has_a_span_and_enqueues_in_its_own_trace(settings: Settings, receiver: Receiver) -> None:
    def together(batch: Batch) -> None:
        leaf.enqueue_many(batch.tx, [{"name": each.arguments["name"]} for each in batch.jobs], by=batch.jobs)

    @job("testing.many", system=True, queue="events", many=together)
    def many(ctx: Context, name: str) -> None:
        raise AssertionError

    app = with_types(traced(settings, receiver.url), many, leaf)
    for name in "abc":
        with app.tracing.shell(name) as span, app.db.transaction(SYSTEM) as tx:
            many.enqueue(tx, name=name)
            tx.driver.execute("UPDATE job_queue SET traceparent = coalesce(traceparent, %s)", (span.traceparent,))
    drain(app, together=10)
    drain(app)
    app.close()
    of_batch = receiver.named("process events")
    assert len(of_batch) == len({each.trace_id for each in of_batch}) == 3
    assert sorted(len(each.links) for each in of_batch) == [0, 1, 1]
    assert {each.trace_id for each in receiver.named("process default")} == {each.trace_id for each in of_batch}


def test_a_collector_that_does_not_answer_delays_nobody(settings: Settings) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        app = with_types(traced(settings, f"http://127.0.0.1:{deaf.getsockname()[1]}"), leaf)
        with app.db.transaction(SYSTEM) as tx:
            leaf.enqueue_many(tx, [{"name": str(n)} for n in range(20)])
        began = time.monotonic()
        assert drain(app) == 20
        app.close()
        assert time.monotonic() - began < 15

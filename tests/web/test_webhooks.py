"""The webhook endpoints from outside: requests in over a real socket, responses and rows out."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import standardwebhooks
import structlog
from stripe import WebhookSignature
from structlog.testing import capture_logs

from db.migrate import upgrade as migrate
from db.postgres.connection import AppConnection
from db.queue.notifications import Notifications
from integrations.clerk import webhooks as clerk
from integrations.stripe import webhooks as stripe
from local.postgres import APP, OWNER, EmbeddedPostgres
from tests.conftest import Servers, connection_to
from tests.outages import read_only
from tests.redis_servers import a_redis
from tests.wait import until
from web.api.app import create_api
from web.main import WebDeps, create_app
from web.server.body import MAX_BODY
from web.server.connections import ConnectionLimits, Server
from workers.app import App
from workers.engine.notifier import Notifier
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime.ids import Ids
from workers.runtime.redis_client import connect

STRIPE_SECRET = "whsec_stripe"
CLERK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT: dict[str, Any] = {
    "id": "evt_1",
    "object": "event",
    "api_version": "2026-09-30.endive",
    "created": 1_800_000_000,
    "livemode": False,
    "type": "invoice.paid",
    "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1"}},
}
USER = {"type": "user.created", "object": "event", "timestamp": 1_800_000_000_000, "data": {"id": "user_1"}}
HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\n"


class SentNotifications(list[Notifications]):
    def ids(self) -> set[UUID]:
        return {job_id for notifications in self for job_ids in notifications.values() for job_id in job_ids}


class Web:
    """A running web process, seen from outside."""

    def __init__(self, port: int, connect: Callable[[], AppConnection]) -> None:
        self.port = port
        self._connect = connect
        # To read whom to trust costs more than most tests, and nothing here is encrypted.
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False)

    def stripe(self, body: bytes, secret: str = STRIPE_SECRET, at: float | None = None) -> httpx.Response:
        signature = stripe.sign(body, secret, int(time.time() if at is None else at))
        return self.client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": signature})

    def clerk(self, body: bytes, message_id: str = "msg_1", family: str = "svix") -> httpx.Response:
        now = int(time.time())
        signature = clerk.sign(body, CLERK_SECRET, message_id, now)
        headers = {f"{family}-id": message_id, f"{family}-timestamp": str(now), f"{family}-signature": signature}
        return self.client.post("/webhooks/clerk", content=body, headers=headers)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self._connect() as connection:
            connection.execute("SELECT set_config('app.tenant_id', '*', true)")
            return connection.execute(query).fetchall()

    def counts(self) -> tuple[int, int]:
        """(events, jobs)"""
        return self.ask("SELECT (SELECT count(*) FROM webhook_events), (SELECT count(*) FROM job_queue)")[0]


@contextmanager
def serving(deps: WebDeps, bounds: ConnectionLimits | None = None) -> Iterator[Web]:
    server = Server(create_app(deps), bounds or ConnectionLimits(), port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the server to start")
        web = Web(server.servers[0].sockets[0].getsockname()[1], deps.connect)
        with web.client:
            yield web
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def notified() -> SentNotifications:
    return SentNotifications()


@pytest.fixture
def deps(app: App, database_url: str, notified: SentNotifications) -> WebDeps:
    return WebDeps(
        stripe_secrets=(STRIPE_SECRET,),
        clerk_secrets=(CLERK_SECRET,),
        connect=lambda: connection_to(database_url),
        notify=notified.append,
        redis_ping=lambda: None,
        clock=time.time,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
        api=create_api(app, sessions=None, clock=time.time),
    )


@pytest.fixture
def web(deps: WebDeps) -> Iterator[Web]:
    with serving(deps) as web:
        yield web


def refused(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose shape is checked on the way."""
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body.keys() == {"error", "code", "details"}
    assert body["error"]
    return response.status_code, body["code"]


# --- accepted -----------------------------------------------------------------------------------------------


def test_a_stripe_event_is_stored_with_its_job_and_notified(web: Web, notified: SentNotifications) -> None:
    body = orjson.dumps(EVENT)
    response = web.stripe(body)
    assert (response.status_code, response.json()) == (200, {"received": True})
    [(source, name, kind, subject, payload, stored, status, job_id)] = web.ask(
        "SELECT source, external_id, type, subject, payload, body, status, job_id FROM webhook_events"
    )
    assert (source, name, kind, subject, status) == ("stripe", "evt_1", "invoice.paid", "cus_1", "received")
    assert (payload, stored) == (EVENT, body)
    jobs = web.ask("SELECT id, job_type, queue, max_attempts, status FROM job_queue")
    assert jobs == [(job_id, "billing.apply_stripe_event", "events", apply_stripe_event.max_attempts, "pending")]
    until(lambda: notified.ids() == {job_id}, "the notification")
    assert set(notified[0]) == {"events"}


@pytest.mark.parametrize(
    "kind", ["product.created", "invoice.payment_succeeded", "v1.product.created", "a type of 2031"]
)
def test_a_stripe_event_that_is_ignored_by_its_type_needs_no_job(
    web: Web, notified: SentNotifications, kind: str
) -> None:
    body = orjson.dumps({**EVENT, "type": kind})
    for _ in range(2):
        assert web.stripe(body).json() == {"received": True}
    assert web.ask("SELECT type, status, job_id, body, processed_at IS NOT NULL, duplicates FROM webhook_events") == [
        (kind, "ignored:type", None, body, True, 1)
    ]
    assert web.counts() == (1, 0)
    web.stripe(orjson.dumps({**EVENT, "id": "evt_2"}))
    until(lambda: len(notified.ids()) == 1, "the other notification")


@pytest.mark.parametrize("kind", ["session.ended", "email.created", "organizationInvitation.created"])
def test_a_clerk_event_that_is_ignored_by_its_type_needs_no_job(web: Web, kind: str) -> None:
    assert web.clerk(orjson.dumps({**USER, "type": kind})).json() == {"received": True}
    assert web.ask("SELECT status FROM webhook_events") == [("ignored:type",)]
    assert web.counts() == (1, 0)


@pytest.mark.parametrize("family", ["svix", "webhook"])
def test_a_clerk_event_is_stored_with_its_job_and_notified(web: Web, notified: SentNotifications, family: str) -> None:
    response = web.clerk(orjson.dumps(USER), family=family)
    assert (response.status_code, response.json()) == (200, {"received": True})
    assert web.ask("SELECT source, external_id, type, subject FROM webhook_events") == [
        ("clerk", "msg_1", "user.created", "user_1")
    ]
    [(job_id, job_type)] = web.ask("SELECT id, job_type FROM job_queue")
    assert job_type == "identity.apply_clerk_event"
    until(lambda: notified.ids() == {job_id}, "the notification")


def test_what_the_official_signers_sign_is_received(web: Web) -> None:
    body, at = orjson.dumps(EVENT), datetime.now(UTC)
    theirs = WebhookSignature.generate_signature_header(body.decode(), STRIPE_SECRET, int(at.timestamp()))
    assert web.client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": theirs}).status_code == 200
    body = orjson.dumps(USER)
    theirs = standardwebhooks.Webhook(CLERK_SECRET).sign("msg_1", at, body.decode())
    headers = {"svix-id": "msg_1", "svix-timestamp": str(int(at.timestamp())), "svix-signature": theirs}
    assert web.client.post("/webhooks/clerk", content=body, headers=headers).status_code == 200
    assert web.counts() == (2, 2)


def test_a_duplicate_is_received_too_and_changes_nothing(web: Web) -> None:
    answers = [web.stripe(orjson.dumps(EVENT), at=time.time() - age) for age in (0, 60, 120)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"received": True})] * 3
    assert web.counts() == (1, 1)


def test_64_deliveries_of_one_event_at_once_are_all_received_and_one_job(web: Web) -> None:
    body = orjson.dumps(EVENT)
    headers = {"Stripe-Signature": stripe.sign(body, STRIPE_SECRET, int(time.time()))}

    async def deliver() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=web.client.base_url, timeout=30) as client:
            posts = (client.post("/webhooks/stripe", content=body, headers=headers) for _ in range(64))
            return await asyncio.gather(*posts)

    assert {answer.status_code for answer in asyncio.run(deliver())} == {200}
    assert web.counts() == (1, 1)


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        (rb'"a\u0000b"', "a\ufffdb"),
        (rb'"\ud800"', "\ufffd"),
        (b"[NaN,Infinity,-Infinity,1e400]", [None] * 4),
        (b"1e-20000", 0),
        (b"9" * 6000, None),
        (b"0." + b"3" * 20_000, pytest.approx(1 / 3)),
        ("Zoë 🎬".encode().join([b'"', b'"']), "Zoë 🎬"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"[" * 300 + b"]" * 300, ...),
        (b'"' + b"x" * 900_000 + b'"', ...),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_signed_body_is_stored_whatever_postgres_thinks_of_it(web: Web, note: bytes, kept: object) -> None:
    body = b'{"id":"evt_1","object":"event","type":"x","note":' + note + b"}"
    assert web.stripe(body).status_code == 200
    [(stored, payload)] = web.ask("SELECT body, payload FROM webhook_events")
    assert stored == body
    assert kept is ... or payload["note"] == kept


@pytest.mark.parametrize("secret", ["whsec_new", "whsec_old"])
def test_while_a_secret_is_rolled_both_are_good(deps: WebDeps, secret: str) -> None:
    with serving(replace(deps, stripe_secrets=("whsec_new", "whsec_old"))) as web:
        assert web.stripe(orjson.dumps(EVENT), secret).status_code == 200


def test_a_body_may_come_in_chunks(web: Web) -> None:
    body = orjson.dumps(EVENT)
    headers = {"Stripe-Signature": stripe.sign(body, STRIPE_SECRET, int(time.time()))}
    chunks = iter([body[:10], body[10:11], body[11:]])
    assert web.client.post("/webhooks/stripe", content=chunks, headers=headers).status_code == 200
    assert web.counts() == (1, 1)


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        (None, b"{}"),
        ("", b"{}"),
        ("t=1,v1=00", b"{}"),
        ("\xff\xfe", b"{}"),
        (stripe.sign(b"{}", "whsec_wrong", 1_800_000_000), b"{}"),
        (stripe.sign(b"{}", "", 1_800_000_000), b"{}"),
    ],
)
def test_a_bad_signature_is_refused_and_nothing_is_stored(web: Web, signature: str | None, body: bytes) -> None:
    headers = [] if signature is None else [(b"stripe-signature", signature.encode("latin-1"))]
    response = web.client.post("/webhooks/stripe", content=body, headers=headers)
    assert refused(response) == (400, "SIGNATURE_INVALID")
    assert web.counts() == (0, 0)


@pytest.mark.parametrize("seconds", [-301, 301, 3600])
def test_a_signature_of_another_time_is_refused(deps: WebDeps, seconds: int) -> None:
    with serving(replace(deps, clock=lambda: 1_800_000_000.0)) as web:
        assert refused(web.stripe(orjson.dumps(EVENT), at=1_800_000_000 + seconds)) == (400, "SIGNATURE_INVALID")
        assert web.counts() == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[1]", b"{}", b"{", b"\xff\xfe", b"[" * 100_000 + b"]" * 100_000),
        *(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, orjson.dumps(EVENT | {"id": 7})),
        orjson.dumps(EVENT | {"id": "e" * 5000}),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_signed_body_that_is_no_event_is_refused_and_nothing_is_stored(web: Web, body: bytes) -> None:
    assert refused(web.stripe(body)) == (400, "MALFORMED_EVENT")
    assert refused(web.clerk(body)) == (400, "MALFORMED_EVENT") if b'"id"' not in body else True
    assert web.counts() == (0, 0)


def test_clerk_s_bad_signatures_are_refused(web: Web) -> None:
    assert refused(web.client.post("/webhooks/clerk", content=b"{}")) == (400, "SIGNATURE_INVALID")
    headers = {"svix-id": "msg_1", "svix-timestamp": str(int(time.time())), "svix-signature": "v1,AAAA"}
    assert refused(web.client.post("/webhooks/clerk", content=b"{}", headers=headers)) == (400, "SIGNATURE_INVALID")


def test_one_source_s_signature_is_not_accepted_for_the_other(web: Web) -> None:
    body = orjson.dumps(USER)
    headers = {"Stripe-Signature": stripe.sign(body, CLERK_SECRET, int(time.time()))}
    assert refused(web.client.post("/webhooks/clerk", content=body, headers=headers)) == (400, "SIGNATURE_INVALID")


def raw(web: Web, *parts: bytes) -> tuple[bytes, dict[str, Any]]:
    """The status line and the body of the answer to what is written on a bare socket."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], json.loads(body)


def test_a_body_that_announces_itself_too_large_is_refused_before_it_comes(web: Web) -> None:
    status, body = raw(web, HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    assert (status[:13], body["code"]) == (b"HTTP/1.1 413 ", "BODY_TOO_LARGE")
    status, body = raw(web, HEAD + b"Content-Length: %s\r\n\r\n" % (b"9" * 15))
    assert body["code"] == "BODY_TOO_LARGE"


def test_a_body_that_turns_out_too_large_is_refused_while_it_comes(web: Web) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    status, body = raw(web, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 16, b"1\r\nx\r\n")
    assert (status[:13], body["code"]) == (b"HTTP/1.1 413 ", "BODY_TOO_LARGE")


def test_a_body_of_just_the_limit_is_read(web: Web) -> None:
    room = MAX_BODY - len(orjson.dumps(EVENT | {"note": ""}))
    assert web.stripe(orjson.dumps(EVENT | {"note": "x" * room})).status_code == 200
    assert refused(web.stripe(orjson.dumps(EVENT | {"note": "x" * (room + 1)}))) == (413, "BODY_TOO_LARGE")


def test_a_sender_that_hangs_up_in_the_middle_disturbs_nobody(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nhalf")
    assert web.stripe(orjson.dumps(EVENT)).status_code == 200
    assert web.counts() == (1, 1)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_a_json_error(web: Web, method: str) -> None:
    response = web.client.request(method, "/webhooks/stripe")
    assert refused(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/nowhere", "/webhooks", "/webhooks/paypal"])
def test_another_path_is_a_json_error(web: Web, path: str) -> None:
    assert refused(web.client.post(path)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("secrets", [(), ("",), (" ",)])
def test_without_a_secret_nothing_is_believed_and_it_is_said_once(deps: WebDeps, secrets: tuple[str, ...]) -> None:
    with serving(replace(deps, stripe_secrets=secrets, clerk_secrets=secrets)) as web, capture_logs() as logs:
        for _ in range(3):
            response = web.stripe(orjson.dumps(EVENT), "".join(secrets))
            assert refused(response) == (503, "SECRET_NOT_SET")
            assert response.headers["retry-after"] == "5"
        assert refused(web.clerk(orjson.dumps(USER))) == (503, "SECRET_NOT_SET")
        assert web.counts() == (0, 0)
    assert [(entry["event"], entry["source"]) for entry in logs] == [
        ("webhook.secret_not_set", "stripe"),
        ("webhook.secret_not_set", "clerk"),
    ]


def test_a_log_line_names_the_webhooks_of_each_commit_and_nothing_of_their_content(web: Web) -> None:
    structlog.reset_defaults()  # an application of another test may have been lines to say warnings only
    with capture_logs() as logs:
        web.stripe(orjson.dumps(EVENT | {"note": "very private"}))
        web.stripe(orjson.dumps(EVENT))
        web.stripe(b"{}", "whsec_wrong")
        until(lambda: len([line for line in logs if line["event"].startswith("webhook")]) == 3, "three lines")
    name, level = "stripe evt_1 invoice.paid", {"log_level": "info"}
    assert [line for line in logs if line["event"] == "webhooks.accepted"] == [
        {"event": "webhooks.accepted", "events": [name], "duplicates": [], **level},
        {"event": "webhooks.accepted", "events": [], "duplicates": [name], **level},
    ]
    [refusal] = [line for line in logs if line["event"] == "webhook.refused"]
    assert refusal.keys() == {"event", "source", "code", "reason", "log_level"}
    assert "private" not in str(logs)


# --- without Redis, without Postgres ------------------------------------------------------------------------


def broken(*_: object) -> None:
    raise ConnectionError("Redis is down")


def test_without_redis_webhooks_are_received_and_the_process_is_ready_but_degraded(deps: WebDeps) -> None:
    with serving(replace(deps, notify=broken, redis_ping=broken)) as web:
        assert [web.stripe(orjson.dumps(EVENT | {"id": f"evt_{n}"})).status_code for n in range(5)] == [200] * 5
        assert web.counts() == (5, 5)
        ready = web.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "degraded", "postgres": "ok", "redis": "unreachable"},
        )


def test_readiness_writes_to_redis_and_says_what_it_refuses(deps: WebDeps, tmp_path: Path) -> None:
    with a_redis(tmp_path) as server:
        notifier = Notifier(connect(server.url))
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with serving(replace(deps, redis_ping=notifier.probe)) as web:
            ready = web.client.get("/readyz")
        notifier.close()
    assert (ready.status_code, ready.json()["status"], ready.json()["redis"]) == (200, "degraded", "refuses writes")


@pytest.mark.proof
def test_without_postgres_webhooks_are_refused_for_now_and_received_when_it_is_back(
    deps: WebDeps, tmp_path: Path
) -> None:
    postgres = EmbeddedPostgres(tmp_path, durable=False)
    postgres.start()
    migrate.upgrade(postgres.url(OWNER))
    url = postgres.url(APP)
    try:
        with serving(replace(deps, connect=lambda: connection_to(url))) as web:
            assert web.stripe(orjson.dumps(EVENT)).status_code == 200
            postgres.stop()
            began = time.monotonic()
            response = web.stripe(orjson.dumps(EVENT | {"id": "evt_2"}))
            assert refused(response) == (503, "NOT_STORED")
            assert response.headers["retry-after"] == "5"
            assert time.monotonic() - began < 25
            ready = web.client.get("/readyz")
            assert (ready.status_code, ready.json()["postgres"]) == (503, "unreachable")
            assert web.client.get("/healthz").status_code == 200
            postgres.start()
            assert web.stripe(orjson.dumps(EVENT | {"id": "evt_2"})).status_code == 200
            assert web.stripe(orjson.dumps(EVENT)).status_code == 200
            assert web.counts() == (2, 2)
            until(lambda: web.client.get("/readyz").status_code == 200, "readiness", every=0.2)
    finally:
        postgres.stop()


@pytest.mark.proof
def test_a_server_that_refuses_writes_is_told_by_readiness_and_webhooks_are_received_afterwards(
    deps: WebDeps, servers: Servers
) -> None:
    with serving(deps) as web:
        assert web.stripe(orjson.dumps(EVENT)).status_code == 200
        with read_only(servers.postgres):
            assert refused(web.stripe(orjson.dumps(EVENT | {"id": "evt_2"}))) == (503, "NOT_STORED")
            ready = web.client.get("/readyz")
            assert (ready.status_code, ready.json()["postgres"]) == (503, "read-only")
        assert web.stripe(orjson.dumps(EVENT | {"id": "evt_2"})).status_code == 200
        until(lambda: web.client.get("/readyz").status_code == 200, "readiness", every=0.2)
        assert web.counts() == (2, 2)


# --- up and ready -------------------------------------------------------------------------------------------


def test_a_process_that_is_up_and_ready_says_so(web: Web) -> None:
    assert web.client.get("/healthz").json() == {"status": "ok"}
    ready = web.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "postgres": "ok", "redis": "ok"})
    links = web.client.get("/").json()["links"]
    assert [web.client.get(path).status_code for path in links.values()] == [200] * len(links)


def test_a_database_without_tables_is_not_ready(deps: WebDeps, servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(APP, empty_database)
    with serving(replace(deps, connect=lambda: connection_to(url))) as web:
        ready = web.client.get("/readyz")
        assert (ready.status_code, ready.json()["postgres"]) == (503, "not migrated")
        assert refused(web.stripe(orjson.dumps(EVENT))) == (503, "NOT_STORED")


def test_readiness_asks_once_for_many_questions(deps: WebDeps) -> None:
    asked = []
    with serving(replace(deps, redis_ping=lambda: asked.append(1))) as web:
        began = time.monotonic()
        for _ in range(20):
            web.client.get("/readyz")
        assert len(asked) <= 1 + (time.monotonic() - began)

"""Many at once: everybody is answered, late or with 503 and `Retry-After`; what works beside the requests gets on."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from fastapi import APIRouter, FastAPI
from psycopg.conninfo import make_conninfo

from db.ops.requests import Request
from db.transaction import SYSTEM
from domain.errors import ViralError
from domain.identity.access import Caller
from local.postgres import SUPERUSER
from simulators.stripe.api import StripeSimulator
from tests.builders import a_tenant
from tests.conftest import Servers
from tests.soak import Urls, soak
from tests.wait import until
from tests.web.api.test_api import Api, a_key, refused
from tests.web.test_webhooks import deps, notified, serving
from web.api.admission import Admission, AdmittedRoute
from web.api.app import api_error, create_api, domain_error
from web.api.rate_limit import Policy, RateLimiter
from web.api.usage import UsageLog
from web.error_responses import ApiError
from web.main import WebDeps
from workers.app import App, build
from workers.runtime.redis_client import connect
from workers.settings import Settings

__all__ = ["deps", "notified"]

SECONDS, CLIENTS = 4, 200


# --- the slice of `python -m tests.soak` --------------------------------------------------------------------


@pytest.mark.proof
@pytest.mark.parametrize("tenants", [50, 1])
def test_whatever_a_crowd_asks_it_is_answered(
    servers: Servers,
    database: str,
    database_url: str,
    redis_url: str,
    stripe: StripeSimulator,
    tmp_path: Path,
    tenants: int,
) -> None:
    urls = Urls(servers.postgres.url(SUPERUSER, database), database_url, redis_url)
    with stripe.serving() as base:
        stage = soak(
            urls,
            stripe=base,
            folder=tmp_path,
            seconds=SECONDS,
            clients=CLIENTS,
            tenants=tenants,
            raised=tenants == 1,
        )
    assert stage.broken == [], str(stage)


# --- places and connections ---------------------------------------------------------------------------------


class House:
    """An API of one route, whose callers and answers come when the test says so, within so many places."""

    def __init__(self, places: int, patience: float) -> None:
        self.may_answer = threading.Event()
        self.identified = self.inside = 0
        routes = APIRouter(route_class=AdmittedRoute)
        routes.add_api_route("/", self._work, methods=["POST"])
        self.app = FastAPI(exception_handlers={ApiError: api_error, ViralError: domain_error})
        self.app.include_router(routes)
        self.app.state.admission = Admission(slots=places, patience=patience)
        self.app.state.authenticator = self
        self.app.state.rate_limits = None

    def authenticate(self, credential: str) -> Caller:
        self.identified += 1
        return Caller(UUID(int=1), UUID(int=2), None, frozenset())

    def _work(self, asked: dict[str, int]) -> dict[str, int]:
        self.inside += 1
        assert self.may_answer.wait(60)
        return asked


class Asked:
    """A request to it, whose body comes and whose answer is taken when the test says so."""

    def __init__(self, house: House) -> None:
        self.body: asyncio.Queue[bytes] = asyncio.Queue()
        self.taking = asyncio.Event()
        self.begun = asyncio.Event()
        self.answer: list[dict[str, Any]] = []
        headers = [(b"authorization", b"Bearer x"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        self.task = asyncio.create_task(house.app(scope, self._receive, self._send))

    @property
    def status(self) -> int:
        return int(self.answer[0]["status"])

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": await self.body.get(), "more_body": False}

    async def _send(self, message: Any) -> None:
        self.answer.append(message)
        self.begun.set()
        await self.taking.wait()


def test_only_so_many_are_worked_on_and_who_waits_in_vain_is_told_when_to_come_back() -> None:
    async def scenario() -> None:
        house = House(places=2, patience=0.2)
        asked = [Asked(house) for _ in range(2)]
        for each in asked:
            each.taking.set()
            each.body.put_nowait(b"{}")
        await asyncio.to_thread(until, lambda: house.inside == 2, "two to be at work")
        third = Asked(house)
        third.taking.set()
        await asyncio.wait_for(third.begun.wait(), 30)
        assert (house.inside, third.status) == (2, 503)
        start, body = third.answer[:2]
        assert (b"retry-after", b"5") in start["headers"]
        assert json.loads(body["body"])["code"] == "OVERLOADED"
        house.may_answer.set()
        await asyncio.gather(*(each.task for each in asked))
        assert [each.status for each in asked] == [200, 200]

    asyncio.run(scenario())


def test_who_sends_or_takes_slowly_keeps_no_place() -> None:
    async def scenario() -> None:
        house = House(places=1, patience=30)
        house.may_answer.set()
        sending, taking = Asked(house), Asked(house)
        taking.body.put_nowait(b"{}")
        await asyncio.wait_for(taking.begun.wait(), 30)
        quick = Asked(house)
        quick.taking.set()
        quick.body.put_nowait(b"{}")
        await asyncio.wait_for(quick.task, 30)
        assert (quick.status, sending.answer, taking.task.done()) == (200, [], False)
        for each in (sending, taking):
            each.taking.set()
            each.body.put_nowait(b"{}")
            await asyncio.wait_for(each.task, 30)

    asyncio.run(scenario())


@contextmanager
def small(settings: Settings, pool_timeout: float) -> Iterator[App]:
    """An application with one connection."""
    app = build(settings, name="tests", pool_size=1, pool_timeout=pool_timeout)
    yield app
    app.close()


def test_while_all_connections_are_in_use_requests_wait_and_are_then_told_503(settings: Settings) -> None:
    with small(settings, pool_timeout=0.1) as app:
        key = a_key(app, a_tenant(app), "account:read")
        with app.db.transaction(SYSTEM) as tx:
            tx.now()
            answer = Api(app)("GET", "/user", key)
        assert refused(answer) == (503, "OVERLOADED")
        assert answer.headers["retry-after"] == "5"
        assert Api(app)("GET", "/user", key).status_code == 200


def test_who_waits_for_a_connection_stops_nobody_who_has_one(settings: Settings) -> None:
    """On Python 3.11 a cached property holds a lock of its class while it is made."""
    with small(settings, pool_timeout=30) as app:
        tenant_id = a_tenant(app)

        def wait() -> None:
            with app.db.transaction(SYSTEM) as tx:
                tx.now()

        waiting = threading.Thread(target=wait)
        with app.db.transaction(SYSTEM) as tx:
            tx.now()
            waiting.start()
            until(lambda: _is_in(waiting, "sqlalchemy/util/queue.py"), "the other to wait for the connection")
            assert tx.tenants.exists(tenant_id)
            assert tx.quota.held(tenant_id) == []
            assert waiting.is_alive()
        waiting.join(30)
        assert not waiting.is_alive()


def _is_in(thread: threading.Thread, file: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.endswith(file):
            return True
        frame = frame.f_back
    return False


# --- beside the requests ------------------------------------------------------------------------------------


def test_usage_is_written_while_requests_hold_every_connection(settings: Settings, owner_url: str) -> None:
    with small(settings, pool_timeout=30) as app:
        tenant_id = a_tenant(app)
        usage = UsageLog(app.db.separate())
        usage.start()
        with app.db.transaction(SYSTEM) as tx:
            tx.now()
            usage.record(Request(tenant_id, "GET /user", 200, 3))
            with psycopg.connect(make_conninfo(owner_url, options="-c app.tenant_id=*"), autocommit=True) as owner:
                count = "SELECT count(*) FROM api_usage"
                until(lambda: owner.execute(count).fetchone() == (1,), "the request to be recorded")
        usage.stop()


def test_a_request_that_cannot_be_recorded_takes_no_other_with_it(app: App) -> None:
    usage = UsageLog(app.db)
    tenant_id = a_tenant(app)
    usage.start()
    for each in (tenant_id, uuid4(), tenant_id):
        usage.record(Request(each, "GET /user", 200, 3))
    usage.stop()
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT count(*) FROM api_usage").fetchone() == (2,)


class BlackHole:
    """A Redis that accepts connections, and never says anything; while it `hangs_up`, it closes them at once."""

    def __init__(self) -> None:
        self.hangs_up = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[socket.socket] = []
        # Longer than any test waits: an answer that comes did not wait for Redis.
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0?socket_timeout=60"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                heard = self._listener.accept()[0]
                if self.hangs_up:
                    heard.close()
                else:
                    self.heard.append(heard)
        except OSError:
            pass

    def close(self) -> None:
        """Also ends what waits for an answer, and the thread in `accept`, which would go on to accept."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.heard:
            each.close()


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    with suppress(OSError):  # the test has closed it
        hole.close()


def test_a_redis_that_hangs_delays_no_commit_of_the_api(
    settings: Settings, deps: WebDeps, black_hole: BlackHole
) -> None:
    app = build(settings.model_copy(update={"redis_url": black_hole.url}), name="tests")
    key = a_key(app, a_tenant(app), "generations:write", "generations:read")
    api = create_api(app, sessions=None, clock=deps.clock)
    with serving(replace(deps, api=api, background=(app,))) as web:
        for _ in range(3):
            answer = web.client.post(
                "/api/generate",
                json={"count": 1, "generator": "local-grammar/v1"},
                headers={"Authorization": f"Bearer {key}"},
            )
            assert answer.status_code == 202
        until(lambda: black_hole.heard, "Redis to be told")
        black_hole.close()
    app.close()


def test_of_many_requests_one_finds_out_whether_redis_is_back(black_hole: BlackHole) -> None:
    now = 0.0
    rate_limiter = RateLimiter(connect(black_hole.url), rest=2, monotonic=lambda: now)
    bucket = [(Policy("key", 5, 60), "ada")]
    black_hole.hangs_up = True
    assert rate_limiter.take(bucket) is None
    black_hole.hangs_up, now = False, 3.0
    finding_out = threading.Thread(target=rate_limiter.take, args=(bucket,))
    finding_out.start()
    until(lambda: black_hole.heard, "Redis to be asked")
    assert rate_limiter.take(bucket) is None
    assert finding_out.is_alive()
    black_hole.close()
    finding_out.join(30)
    assert not finding_out.is_alive()
    rate_limiter.close()


def test_how_many_requests_are_allowed_is_a_setting(settings: Settings) -> None:
    app = build(settings.model_copy(update={"rate_limit_per_caller": 2, "rate_limit_per_tenant": 30}), name="tests")
    rate_limiter = RateLimiter(connect(settings.redis_url))
    key = a_key(app, a_tenant(app), "account:read")
    answers = [Api(app, rate_limiter=rate_limiter)("GET", "/user", key) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=2;w=60, "tenant";q=30;w=60'
    assert "at most 2 a minute for a key or person, 30 for a tenant" in answers[2].json()["error"]
    rate_limiter.close()
    app.close()

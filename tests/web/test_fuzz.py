"""Whatever somebody with the signing secret sends: never a 500, never a job that hangs, never half an effect."""

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.events.outcomes import Status
from simulators.personas import SHAPES, Body
from simulators.stripe.scenarios import SCENARIOS
from tests.builders import event_row, job_row
from tests.conftest import connection_to
from tests.converge.runs import SOLD, START, WHO, begin, state
from tests.drain import drain
from tests.web.test_webhooks import CLERK_SECRET, STRIPE_SECRET, Web, serving
from web.api.app import create_api
from web.main import WebDeps
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime.ids import Ids

HERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
EVENTS = [
    body
    for name in ("lifecycle", "customer_deleted")
    for shape in SHAPES
    for body in SCENARIOS[name](replace(WHO, shape=shape), START, SOLD)
]
ODD: list[Any] = [None, True, -1, 0, 1.5, 10**30, "", "x\0", "\ud800", "active", "x" * 300, [], [None], {}, {"id": {}}]
numbers = count()


@pytest.fixture
def web(app: App, database_url: str) -> Iterator[Web]:
    deps = WebDeps(
        stripe_secrets=(STRIPE_SECRET,),
        clerk_secrets=(CLERK_SECRET,),
        connect=lambda: connection_to(database_url),
        notify=lambda notifications: None,
        redis_ping=lambda: None,
        clock=time.time,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
        api=create_api(app, sessions=None, clock=time.time),
    )
    begin(app)
    with serving(deps) as web:
        yield web


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from places(child, (*path, key))


@st.composite
def mutated(draw: st.DrawFn) -> Body:
    """A real event with up to three of its places replaced by something odd, or left out."""
    body = copy.deepcopy(draw(st.sampled_from(EVENTS)))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([path for path in places(body) if path]))
        at = body
        for key in path[:-1]:
            at = at[key]
        if isinstance(at, dict) and draw(st.booleans()):
            del at[path[-1]]
        else:
            at[path[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return body


@pytest.mark.proof
@given(mutated())
@HERE
def test_a_mutated_event_is_applied_or_refused_as_a_whole(app: App, web: Web, body: Body) -> None:
    if isinstance(body.get("id"), str) and 0 < len(body["id"]) < 100:
        body["id"] += str(next(numbers))
    before = state(app)
    response = web.stripe(json.dumps(body).encode())
    assert response.status_code in (200, 400), response.text
    with app.db.transaction(SYSTEM) as tx:
        jobs = tx.jobs.due_now(limit=10)
    drain(app)
    assert len(jobs) <= 1
    for job_id in jobs:
        assert_done_or_nothing_done(app, job_id, before)


def assert_done_or_nothing_done(app: App, job_id: UUID, before: Any) -> None:
    row, event = job_row(app, job_id), event_row(app, job_id)
    assert row["attempts"] == 1
    if row["status"] == "failed":
        assert event["status"] == "received"
        assert state(app) == before
        return
    assert row["status"] == "completed"
    assert Status(event["status"]) != Status.RECEIVED


@given(
    st.binary(max_size=200)
    | st.text(max_size=50).map(str.encode)
    | st.sampled_from([b"[]", b"null", b"{}", b"[" * 9999])
)
@HERE
def test_signed_noise_is_refused_and_nothing_is_kept(web: Web, body: bytes) -> None:
    assert web.stripe(body).status_code == 400
    assert web.clerk(body).status_code == 400
    assert web.counts() == (0, 0)

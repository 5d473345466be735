"""Whatever is signed as Clerk's: never a 500, never a job that hangs, never half an effect."""

import copy
import json
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.events.outcomes import Status
from tests.converge.clerk_runs import SCENARIOS
from tests.drain import drain
from tests.web.test_fuzz import ODD, places, web
from tests.web.test_webhooks import Web
from workers.app import App

__all__ = ["web"]

EVENTS = [body for scenario in SCENARIOS.values() for body in scenario]
WRITTEN = ("tenants", "users", "organizations", "organization_memberships", "account_tenants", "stripe_subscriptions")
numbers = count()

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user_ada"])
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """A documented body, about somebody else perhaps, of which a few values are others, or are missing."""
    body = json.loads(json.dumps(draw(st.sampled_from(EVENTS))))
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from([path for path in places(body) if path]))
        place = body
        for key in parents:
            place = place[key]
        if draw(st.booleans()):
            place[last] = copy.deepcopy(draw(json_values | st.sampled_from(ODD)))
        else:
            del place[last]
    text = json.dumps(body)
    for name, others in (("user_ada", 9), ("org_acme", 3), ("orgmem_", 9)):
        text = text.replace(name, f"{name}{draw(st.integers(0, others))}")
    return text.encode()


any_event = st.fixed_dictionaries(
    {"type": st.sampled_from([body["type"] for body in EVENTS]), "data": json_values},
    optional={"timestamp": scalars, "instance_id": scalars, "object": scalars},
)
any_json = (any_event | json_values).map(lambda value: json.dumps(value).encode())


def ask(app: App, query: str) -> list[tuple[Any, ...]]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


def written(app: App) -> list[Any]:
    return [sorted(map(str, ask(app, f"SELECT to_jsonb(t) FROM {table} t"))) for table in WRITTEN]


@pytest.mark.proof
@pytest.mark.usefixtures("web")
@given(body=st.one_of(nearly(), nearly(), nearly(), any_json, st.binary()))
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_no_signed_body_breaks_anything(app: App, web: Web, body: bytes) -> None:
    before = written(app)
    assert web.clerk(body, f"msg_{next(numbers)}").status_code in (200, 400)
    drain(app)
    jobs = "SELECT j.status, j.attempts, e.status FROM job_queue j JOIN webhook_events e ON e.job_id = j.id"
    for state, attempts, outcome in ask(app, jobs):
        assert (state, attempts) in (("completed", 1), ("failed", 1))
        if state == "failed":
            assert outcome == "received"
            assert written(app) == before
        else:
            assert Status(outcome).kind in ("applied", "stale", "ignored", "parked")
    ask(app, "DELETE FROM job_queue RETURNING 1")
    assert ask(app, "SELECT clerk_id FROM users WHERE tenant_id IS NULL AND deleted_at IS NULL") == []

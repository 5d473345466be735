"""Whatever is signed and posted, no answer is a 500, no job is stuck, and nothing is half written.

Bodies near the documented shapes, any JSON, and any bytes, each with a valid signature, go through the real web
application and the real jobs.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from integrations.fakes.clerk_lives import lives
from integrations.fakes.kinds import KINDS
from integrations.fakes.people import Cast
from tests.builders import NOV_22, a_tenant
from tests.drain import drain
from tests.web.test_webhooks import CLERK_SECRET, STRIPE_SECRET, Web, serving
from web.main import WebDeps
from workers.app import App, Ids
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event

WHO = Cast(UUID(int=7), "cus_1", "sub_1", "user_ada", "ada@example.com", organization_id="org_acme")
EXAMPLES = {
    "stripe": [kind.build(WHO, NOV_22) for kind in KINDS["stripe"].values()],
    "clerk": [body for life in lives(WHO, NOV_22).values() for body in life],
}
WRITTEN = ("tenants", "users", "organizations", "organization_memberships", "account_tenants", "quota_ledger")
MIRRORS = ("stripe_subscriptions", "stripe_paid_periods")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\0", "\ud800", "user_ada", "org_acme", "cus_1", "x" * 300, 10**30, -1, 1e400, 10**13])
)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from paths(each, (*path, key))


@st.composite
def nearly(draw: st.DrawFn, examples: list[Mapping[str, Any]]) -> bytes:
    """A documented body, about somebody else perhaps, of which a few values are others, or are missing."""
    body = json.loads(json.dumps(draw(st.sampled_from(examples))))
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(list(paths(body))))
        place = body
        for key in parents:
            place = place[key]
        if draw(st.booleans()):
            place[last] = draw(json_values)
        else:
            del place[last]
    text = json.dumps(body)
    for name, others in (("user_ada", 9), ("org_acme", 3), ("orgmem_", 9), ("cus_1", 2), ("sub_1", 9), ("evt_", 10**9)):
        text = text.replace(name, f"{name}{draw(st.integers(0, others))}")
    return text.encode()


def bodies(source: str) -> st.SearchStrategy[bytes]:
    any_event = st.fixed_dictionaries(
        {"type": st.sampled_from([body["type"] for body in EXAMPLES[source]]), "data": json_values},
        optional={"id": scalars, "created": scalars, "timestamp": scalars, "instance_id": scalars, "object": scalars},
    )
    any_json = (any_event | json_values).map(lambda value: json.dumps(value).encode())
    close = nearly(EXAMPLES[source])
    return st.one_of(close, close, close, close, any_json, st.binary())


@dataclass
class Site:
    """The doors and the workers behind them."""

    app: App
    web: Web
    numbers: Iterator[int] = field(default_factory=count)

    def post(self, source: str, body: bytes) -> int:
        answer = self.web.stripe(body) if source == "stripe" else self.web.clerk(body, f"msg_{next(self.numbers)}")
        return answer.status_code

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self.app.db.transaction(SYSTEM) as tx:
            return tx.driver.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]

    def written(self) -> list[Any]:
        return [sorted(map(str, self.ask(f"SELECT to_jsonb(t) FROM {table} t"))) for table in (*WRITTEN, *MIRRORS)]


@pytest.fixture
def site(app: App) -> Iterator[Site]:
    a_tenant(app, id=WHO.tenant_id)
    deps = WebDeps(
        stripe_secrets=(STRIPE_SECRET,),
        clerk_secrets=(CLERK_SECRET,),
        connect=app.db.connect,
        ring=lambda rings: None,
        redis_ping=lambda: None,
        clock=time.time,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
    )
    with serving(deps) as web:
        yield Site(app, web)


@pytest.mark.parametrize("source", EXAMPLES)
def test_no_signed_body_breaks_anything(site: Site, source: str) -> None:
    @given(body=bodies(source))
    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    def send(body: bytes) -> None:
        before = site.written()
        status = site.post(source, body)
        assert status in (200, 400)
        drain(site.app)
        jobs = site.ask("SELECT status, attempts, error_message, payload ->> 'event_id' FROM job_queue")
        assert len(jobs) <= 1
        for state, attempts, error, event_id in jobs:
            assert (state, attempts) in (("completed", 1), ("failed", 1)), error
            [[outcome]] = site.ask(f"SELECT status FROM webhook_events WHERE id = '{event_id}'")
            if state == "failed":
                assert outcome == "received"
                assert site.written() == before
            else:
                assert outcome.partition(":")[0] in ("applied", "stale", "ignored", "parked")
        site.ask("DELETE FROM job_queue RETURNING 1")
        assert site.ask("SELECT clerk_id FROM users WHERE tenant_id IS NULL AND deleted_at IS NULL") == []

    send()

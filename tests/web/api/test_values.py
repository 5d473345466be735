"""What callers send is taken for what it is: types, times, paths, credentials; and every refusal has the one form."""

import json
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from fastapi.routing import APIRoute
from pydantic import ValidationError
from sqlalchemy import select

from db.schema.learning import performance_feedback
from domain.identity.access import KEY_BYTES, new_key
from tests.web.api.test_api import NOW, PAGE, Api
from tests.web.api.test_generations import Tenant, a_generation
from tests.web.api.test_reflexion import ADJUSTMENT, CRITIQUE, INSIGHT
from tests.web.test_browsers import deps as deps
from tests.web.test_browsers import web as web
from tests.web.test_webhooks import Web
from web.api import billing, feedback, generations, jobs, keys, reflexion, user, webhooks
from web.api.rate_limit import RateLimiter
from web.api.validation import RequestBody
from workers.app import App
from workers.runtime.redis_client import connect

ROUTES = [
    route
    for group in (user, keys, generations, jobs, feedback, billing, reflexion, webhooks)
    for route in group.routes.routes
    if isinstance(route, APIRoute)
]
# In the order of the routes: each process of the suite has to collect the same tests in the same order.
BODIES = list(dict.fromkeys(route.body_field.field_info.annotation for route in ROUTES if route.body_field is not None))
SENT: dict[str, dict[str, Any]] = {
    "GenerateRequest": {"count": 2, "generator": "local-grammar/v1"},
    "Favorite": {"is_favorite": True},
    "FeedbackRequest": {
        **{"generation_id": str(uuid4()), "concept_id": "c", "platform": "tiktok", "views": 1, "likes": 2},
        **{"shares": 3, "comments": 4, "actual_score": 7.5, "observed_at": "2026-11-22T12:00:00Z"},
    },
    "KeyRequest": {"name": "n", "scopes": ["account:read"], "expires_at": "2027-01-01T00:00:00+01:00"},
    "Purchase": {"tier": "PRO", "price_id": None, "success_url": "https://a", "cancel_url": "https://b"},
    "EndpointRequest": {"url": "https://a", "events": ["post.failed"]},
    "Visit": {"return_url": "https://a"},
    "CritiqueBody": CRITIQUE
    | {"category": "tech", "platform": "tiktok", "predicted_score": 85.5, "actual_score": 62.5}
    | {"applied_at": "2026-11-22T12:00:00Z"},
    "InsightBody": INSIGHT,
    "AdjustmentBody": ADJUSTMENT,
}
OF_OTHER_TYPES: list[Any] = [True, False, 0, 1, 1.0, 1.5, "1", "true", "0.5", "", [], ["1"], {}, None, 1763812800]


def test_every_body_is_read_strictly() -> None:
    assert {body.__name__ for body in BODIES} == SENT.keys()
    assert all(issubclass(body, RequestBody) for body in BODIES)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_value_is_what_it_is_or_refused(body: type[RequestBody]) -> None:
    sent = SENT[body.__name__]
    assert sent.keys() == body.model_fields.keys()
    body.model_validate(sent)
    for name in sent:
        for value in OF_OTHER_TYPES:
            try:
                read = body.model_validate(sent | {name: value})
            except ValidationError:
                continue
            [understood] = json.loads(read.model_dump_json(include={name})).values()
            assert (type(understood), understood) in [(type(value), value), (float, value)], (name, value)
            assert not isinstance(value, bool) or understood is value, (name, value)
    with pytest.raises(ValidationError, match="Extra inputs"):
        body.model_validate(sent | {"surprise": 1})


def test_true_is_no_number_of_concepts(ada: Tenant) -> None:
    for count in (True, "1", 1.0, [1]):
        answer = ada("POST", "/generate", json={"count": count})
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID"), count
        assert answer.json()["details"][0]["where"] == "body.count"


# --- times --------------------------------------------------------------------------------------------------


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def tell(app: App, ada: Tenant, observed_at: Any) -> httpx.Response:
    seen = {
        "generation_id": str(a_generation(app, ada.id).id),
        "concept_id": "c1",
        "platform": "tiktok",
        "views": 1,
        "observed_at": observed_at,
    }
    return ada("POST", "/feedback", json=seen)


@pytest.mark.parametrize(
    "at",
    [
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"),
        *("2026-11-22T12:00:00", "1763812800", "-5.0", 1763812800, True, "-0044-03-15T12:00:00Z", "2999-01-01T00:00Z"),
    ],
)
def test_a_time_at_which_nobody_can_have_seen_anything_is_refused(app: App, ada: Tenant, at: Any) -> None:
    answer = tell(app, ada, at)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID")
    assert answer.json()["error"].startswith("body.observed_at: ")


def test_a_clock_that_is_a_little_ahead_sees_now(app: App, ada: Tenant) -> None:
    before = datetime.now(UTC)
    ahead = before + timedelta(minutes=4)
    assert tell(app, ada, ahead.isoformat()).status_code == 201
    with app.db.transaction(ada.id) as tx:
        observed = tx.sql.execute(select(performance_feedback.c.observed_at)).scalar_one()
    assert observed < ahead
    assert (
        tell(app, ada, (before - timedelta(days=3)).isoformat())
        .json()["observed_at"]
        .startswith(f"{before - timedelta(days=3):%Y-%m-%d}")
    )


@pytest.mark.parametrize("path", ["/history", "/analytics"])
@pytest.mark.parametrize("at", ["5", "1763812800", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_search_from_no_time_is_refused(ada: Tenant, path: str, at: str) -> None:
    for name in ("since", "until"):
        answer = ada("GET", path, params={name: at})
        assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (422, f"query.{name}")


# --- paths and preflights -----------------------------------------------------------------------------------

FORGED = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "192.0.2.66"}
FORGED |= {"Forwarded": "host=evil.example", "X-Forwarded-Prefix": "/evil.example"}


def test_no_path_is_redirected_and_no_answer_repeats_what_the_host_header_says(web: Web) -> None:
    ours = ["/api", "/api/docs", "/api/openapi.json", "/api/docs/assets", "/api//evil.example", "/healthz", "/readyz"]
    for path in [*(f"/api{route.path}" for route in ROUTES), *ours, "/webhooks/stripe", "/webhooks/clerk"]:
        for method in ("GET", "POST", "OPTIONS"):
            for each in (path, f"{path}/"):
                answer = web.client.request(method, each, headers=FORGED, follow_redirects=False)
                assert not answer.is_redirect, (method, each)
                assert "evil" not in repr(sorted(answer.headers.items())), (method, each)
                assert "evil.example" not in answer.text, (method, each)
        slashed = web.client.get(f"{path}/", headers=FORGED)
        assert slashed.status_code in (401, 404, 405), path
        assert slashed.json()["code"] in ("NOT_FOUND", "METHOD_NOT_ALLOWED", "CREDENTIAL_MISSING"), path


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Origin": "https://evil.example"}, ["origin"]),
        ({"Access-Control-Request-Method": "TRACE"}, ["method"]),
        ({"Access-Control-Request-Headers": "X-Evil"}, ["headers"]),
        ({"Origin": "https://evil.example", "Access-Control-Request-Method": "TRACE"}, ["origin", "method"]),
    ],
)
def test_a_refused_preflight_says_so_like_every_refusal(app: App, headers: dict[str, str], refused: list[str]) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = Api(app)("OPTIONS", "/generate", headers=asked | headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["code"], body["details"]) == ("CORS_REFUSED", {"refused": refused})
    assert "evil" not in body["error"]


def test_a_preflight_that_is_granted_has_no_body(app: App) -> None:
    answer = Api(app)("OPTIONS", "/generate", headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-type" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]


# --- credentials that nobody knows --------------------------------------------------------------------------


def a_strange_key() -> str:
    return new_key(token_bytes(KEY_BYTES), name="n", scopes=["account:read"], expires_at=None, now=NOW, others=0).text


@pytest.fixture
def rate_limiter(app: App) -> Any:
    rate_limiter = RateLimiter(connect(app.settings.redis_url))
    yield rate_limiter
    rate_limiter.close()


def test_credentials_that_nobody_knows_are_limited_by_address(app: App, rate_limiter: RateLimiter) -> None:
    api = Api(app, rate_limiter=rate_limiter)
    answers = [api("GET", "/user", credential) for credential in (a_strange_key(), "viral_short", "a.b.c")]
    assert {answer.status_code for answer in answers} == {401}
    tries = 0
    while (answer := api("GET", "/user", a_strange_key())).status_code == 401:
        tries += 1
        assert tries < 1000
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) >= 1
    ada = Tenant(app, rate_limiter=rate_limiter)
    assert ada("GET", "/user").status_code == 200, "who is known is not limited by the address that they share"
    with redis.Redis.from_url(app.settings.redis_url, decode_responses=True) as client:
        kept = list(client.scan_iter())
    assert any(":rate:address:" in key for key in kept)
    assert not any("127.0.0.1" in key for key in kept)


def test_no_credential_costs_nobody_anything(app: App, rate_limiter: RateLimiter) -> None:
    api = Api(app, rate_limiter=rate_limiter)
    assert {api("GET", "/user").status_code for _ in range(70)} == {401}

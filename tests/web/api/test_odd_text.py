"""Whatever texts and numbers a caller sends: an answer or a refusal, never an error of our own."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.domain.text.test_storable import TEXTS, VALUES
from tests.web.api.test_api import Api, a_session, a_user
from workers.app import App

HERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
BODIES: dict[str, dict[str, Any]] = {
    "/generate": {"count": 1, "generator": None},
    "/keys": {"name": "a key", "scopes": ["account:read"], "expires_at": None},
    "/billing/checkout": {"tier": "PRO", "success_url": "https://app.example.com", "cancel_url": "https://a.b"},
    "/feedback": {"generation_id": str(uuid4()), "concept_id": "c", "platform": "tiktok", "actual_score": 1.0},
}
QUERIES = ("/history?search=", "/history?cursor=", "/history?since=", "/analytics?until=", "/jobs/", "/generations/")


@st.composite
def odd(draw: st.DrawFn) -> tuple[str, bytes]:
    """A request of which one value, or one name, is replaced."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = dict(BODIES[path])
    if draw(st.booleans()):
        body[draw(st.sampled_from(sorted(body)))] = draw(VALUES)
    else:
        body[draw(TEXTS)] = draw(VALUES)
    return path, json.dumps(body).encode()


@pytest.fixture
def ada(app: App, api: Api) -> str:
    a_user(app)
    return a_session()


@pytest.fixture
def api(app: App) -> Api:
    return Api(app)


@HERE
@given(odd())
@example(("/generate", rb'{"\ud800": 1}'))
@example(("/generate", rb'{"generator": "\ud800"}'))
@example(("/generate", b'{"count": 1' + b"0" * 5000 + b"}"))
@example(("/generate", b'{"count": NaN}'))
@example(("/keys", rb'{"name": "a\u0000\ud83db", "scopes": ["account:read"]}'))
@example(("/keys", rb'{"name": "a", "scopes": ["\ud83d"]}'))
@example(("/keys", b'{"name": ' + b"[" * 10_000 + b"}"))
@example(("/feedback", b"\xff"))
def test_no_body_is_an_error_of_ours(api: Api, ada: str, asked: tuple[str, bytes]) -> None:
    path, body = asked
    answer = api("POST", path, ada, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 202, 402, 404, 409, 422) or answer.json()["code"] == "NOT_SET_UP"
    answer.content.decode()


@HERE
@given(st.sampled_from(QUERIES), TEXTS | st.binary(max_size=20))
@example("/history?search=", "a\0b")
@example("/history?search=", b"\xff")
@example("/jobs/", b"%\0")
def test_no_query_is_an_error_of_ours(api: Api, ada: str, path: str, text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    assert api("GET", f"{path}{quote(raw, safe='')}", ada).status_code in (200, 404, 405, 422)

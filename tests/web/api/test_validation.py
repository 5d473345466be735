"""What a request says and we do not know is refused, wherever it is said."""

from typing import Any, get_args

from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from domain.videos.profiles import NAMES
from tests.web.api.test_api import Api, a_session, a_user, refused
from web.api import billing, feedback, generations, jobs, keys, user
from web.api.validation import Platform, RequestBody, unknown_field
from workers.app import App

ROUTES = [each for group in (user, keys, generations, jobs, feedback, billing) for each in group.routes.routes]
BODIES: dict[str, Any] = {
    f"{min(route.methods)} {route.path}": param.field_info.annotation
    for route in ROUTES
    if isinstance(route, APIRoute) and route.methods
    for param in route.dependant.body_params
}


def test_every_body_of_the_api_knows_its_fields() -> None:
    assert len(BODIES) >= 6
    assert {name for name, model in BODIES.items() if not issubclass(model, RequestBody)} == set()


def test_the_api_knows_every_platform() -> None:
    assert get_args(Platform) == tuple(NAMES)


def test_a_field_that_is_not_known_is_refused_by_name(app: App) -> None:
    a_user(app)
    api = Api(app)
    for name, model in BODIES.items():
        method, path = name.split()
        for field in model.model_fields:
            first, *others = field.split("_")
            wrong = first + "".join(map(str.title, others)) if others else first.upper()
            answer = api(method, path.replace("{generation_id}", "0" * 32), a_session(), json={wrong: 1})
            assert refused(answer) == (422, "INVALID")
            what = f"there is no such field; did you mean {field}?"
            assert {"where": f"body.{wrong}", "what": what} in answer.json()["details"]


def test_so_is_a_field_of_a_query(app: App) -> None:
    a_user(app)
    answer = Api(app)("GET", "/history?favourites=true", a_session())
    assert answer.json()["error"] == "query.favourites: there is no such field; did you mean favorites?"


def test_the_end_of_a_key_is_no_longer_overlooked(app: App) -> None:
    a_user(app)
    body = {"name": "x", "scopes": ["account:read"], "expiresAt": "2020-01-01T00:00:00Z"}
    answer = Api(app)("POST", "/keys", a_session(), json=body)
    assert refused(answer) == (422, "INVALID")
    assert answer.json()["error"] == "body.expiresAt: there is no such field; did you mean expires_at?"
    assert "2020" not in answer.text
    assert Api(app)("GET", "/keys", a_session()).json() == []


def test_a_body_that_is_wrong_everywhere_is_answered_shortly(app: App) -> None:
    a_user(app)
    answer = Api(app)("POST", "/keys", a_session(), json={f"{n}{'x' * 200}": n for n in range(70)})
    assert refused(answer) == (422, "INVALID")
    assert len(answer.json()["details"]) == 20
    assert len(answer.content) < 10_000


@given(st.text())
def test_whatever_a_field_is_called_it_can_be_said(name: str) -> None:
    assert unknown_field(name, ["count", "generator"]).startswith("there is no such field; ")
    assert "is count" in unknown_field("zzz", ["count"])

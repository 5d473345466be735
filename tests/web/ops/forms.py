"""What a person does with the forms of `/ops`: sign in, load a page, fill in its form, send it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.testclient import TestClient

from web.ops.app import ops_routes
from workers.app import App
from workers.ops.operators import create_token

ORIGIN = "http://127.0.0.1:8000"
FROM_OWN = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}


@dataclass
class Form:
    """A form that is posted: where to, what its fields have, and the buttons' own addresses and fields."""

    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[dict[str, str]] = field(default_factory=list)
    boxes: list[tuple[str, str]] = field(default_factory=list)

    def filled(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The fields with some filled in; a field that is there more than once is a list."""
        found: dict[str, Any] = {}
        for name, value in self.fields:
            found.setdefault(name, []).append(value)
        return {name: value[0] if len(value) == 1 else value for name, value in found.items()} | dict(values)


class _Forms(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._area: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {name: value or "" for name, value in attrs}
        if tag == "form" and element.get("method") == "post":
            self._form = Form(element["action"])
            self.forms.append(self._form)
        elif self._form is None:
            return
        elif tag == "button":
            self._form.buttons.append(element)
        elif tag == "input" and element.get("type") in ("checkbox", "radio"):
            self._form.boxes.append((element["name"], element.get("value", "on")))
        elif tag in ("input", "select"):
            self._form.fields.append((element["name"], element.get("value", "")))
        elif tag == "textarea":
            self._area = element["name"]

    def handle_data(self, data: str) -> None:
        if self._form is not None and self._area is not None:
            self._form.fields.append((self._area, data))
            self._area = None

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._form is not None and self._area is not None:
            self._form.fields.append((self._area, ""))
            self._area = None


def forms_of(text: str) -> list[Form]:
    """The forms of a page that change something, without the one that signs out."""
    return [form for form in _Forms(text).forms if form.action != "/ops/logout"]


@contextmanager
def operator(app: App, name: str = "ada", role: str = "act") -> Iterator[TestClient]:
    """A browser of somebody who has signed in with a new token; it follows no redirects."""
    token = create_token(app, name, role).text
    application = Starlette(routes=ops_routes(app))
    where = {"base_url": ORIGIN, "client": ("127.0.0.1", 50000), "follow_redirects": False}
    with TestClient(application, **where) as client:  # type: ignore[arg-type]
        assert client.post("/ops/login", data={"token": token}, headers=FROM_OWN).status_code == 303
        yield client


def load(client: TestClient, address: str) -> Form:
    """Load a page with one form."""
    response = client.get(address)
    assert response.status_code == 200, response.text
    [form] = forms_of(response.text)
    return form


def send(client: TestClient, form: Form, /, to: str | None = None, **values: str) -> httpx.Response:
    return client.post(to or form.action, data=form.filled(values), headers=FROM_OWN)

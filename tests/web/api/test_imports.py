"""A browser's export goes in over HTTP, by a person without an operator, and comes out equal."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cli.test_dexie import a_critique, a_generation, an_adjustment, an_insight, in_order
from tests.drain import drain
from tests.web.api.test_media import Tenant, Web, of_files, serving
from workers.settings import Settings

__all__ = ["of_files"]

WHOLE: dict[str, list[Any]] = {
    "generations": [a_generation(), a_generation(isFavorite=True, mood="unknown to us")],
    "critiques": [a_critique(), a_critique(appliedAt="2025-02-01T00:00:00.000Z")],
    "insights": [an_insight()],
    "adjustments": [an_adjustment()],
}


@pytest.fixture
def web(of_files: Settings) -> Iterator[Web]:
    with serving(of_files) as served:
        yield served


def a_mover(web: Web) -> Tenant:
    return Tenant(web, "generations:read", "generations:write")


def send(tenant: Tenant, content: Any, **options: Any) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | options.pop("headers", {})
    return tenant("POST", "/api/import", content=body, headers=headers, **options)


def moved_in(web: Web, tenant: Tenant, content: Any) -> dict[str, Any]:
    """Send a file, have it checked and applied, and return the import."""
    answer = send(tenant, content, params={"apply": "true"})
    assert answer.status_code == 202, answer.text
    drain(web.app)
    shown: dict[str, Any] = tenant("GET", answer.headers["Location"]).json()
    return shown


def exported(tenant: Tenant) -> dict[str, list[Any]]:
    answer = tenant("GET", "/api/export")
    assert answer.status_code == 200, answer.text
    return {table: in_order(records) for table, records in answer.json().items()}


def test_an_export_goes_in_once_it_is_wanted_and_comes_out_equal(web: Web) -> None:
    ada = a_mover(web)
    sent = send(ada, WHOLE)
    assert (sent.status_code, sent.json()["status"], sent.json()["report"]) == (202, "checking", None)
    path = sent.headers["Location"]
    drain(web.app)
    checked = ada("GET", path).json()
    assert (checked["status"], checked["percent"], checked["error"]) == ("checked", None, None)
    would = {table: counts["imported"] for table, counts in checked["report"]["tables"].items()}
    assert would == {table: len(records) for table, records in WHOLE.items()}
    assert exported(ada) == {key: [] for key in WHOLE}
    assert [ada("POST", f"{path}/apply").json()["status"] for _ in range(2)] == ["importing"] * 2
    drain(web.app)
    done = ada("GET", path).json()
    assert (done["status"], done["percent"], done["report"]) == ("done", 100, checked["report"])
    assert exported(ada) == {table: in_order(records) for table, records in WHOLE.items()}
    assert web.files() == []
    assert ada("POST", f"{path}/apply").json() == done
    assert [each["id"] for each in ada("GET", "/api/import").json()["imports"]] == [done["id"]]

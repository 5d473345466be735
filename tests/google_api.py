"""Requests of the YouTube Data API, checked against Google's own description of it."""

import json
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from simulators.loopback import Request

TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
MOST_IDS = 50
"""In a list of ids, by the text of the description."""


@cache
def discovery() -> dict[str, Any]:
    """Return Google's own description of the API, as google-api-python-client has it."""
    text = (files("googleapiclient") / "discovery_cache" / "documents" / "youtube.v3.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def fits(value: Any, schema: dict[str, Any], where: str) -> None:
    """Check that a value has no field but those of a schema, their types, and the values of their enumerations."""
    if "$ref" in schema:
        schema = discovery()["schemas"][schema["$ref"]]
    if "properties" in schema:
        assert isinstance(value, dict), f"{where} is no object"
        for name, each in value.items():
            assert name in schema["properties"], f"{where} has no {name}"
            fits(each, schema["properties"][name], f"{where}.{name}")
    elif schema["type"] == "array":
        assert isinstance(value, list), f"{where} is no list"
        for each in value:
            fits(each, schema["items"], where)
    else:
        assert isinstance(value, TYPES[schema["type"]]), f"{where} is no {schema['type']}"
        assert value in schema.get("enum", [value]), f"{where} is {value}"


def method_of(request: Request) -> dict[str, Any] | None:
    """Return the description of the method that a request calls; None if it is none of the API."""
    resources = discovery()["resources"]
    path = {"/resumable/upload/youtube/v3/videos": "/youtube/v3/videos"}.get(request.path) or request.path
    for resource in resources.values():
        for method in resource.get("methods", {}).values():
            if (f"/{method['path']}", method["httpMethod"]) == (path, request.method):
                described: dict[str, Any] = method
                return described
    return None


def check(request: Request) -> None:
    """Check the parameters and the body of a request of the API against its description."""
    method = method_of(request)
    if method is None or request.method == "PUT":
        assert request.method == "PUT" or not request.path.startswith("/youtube/"), f"there is no {request.path}"
        return
    called = method["id"]
    parameters = {**discovery()["parameters"], **method["parameters"], "uploadType": {"type": "string"}}
    sent = parse_qs(request.query, strict_parsing=True)
    for name, values in sent.items():
        assert name in parameters, f"{called} has no parameter {name}"
        assert values[0] in parameters[name].get("enum", values), f"{name} is {values[0]}"
        assert name != "id" or len(values[0].split(",")) <= MOST_IDS, f"{called} has too many ids"
    for name, described in method["parameters"].items():
        wanted = described.get("required") or described.get("description", "").startswith("Required.")
        assert not wanted or name in sent, f"{called} has no {name}"
    if request.method == "POST":
        fits(json.loads(request.body), method["request"], called)

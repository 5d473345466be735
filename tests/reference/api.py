"""docs/reference/api.md: the routes of `web`, from the OpenAPI document that it serves."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from domain.identity.access import ApiScope
from tests.reference.markdown import code, first_paragraph, one_line, table
from web.api.app import EVERY_ROUTE, _routes
from web.api.openapi import DescribedApi

HEAD = """# HTTP

`/api/docs` of any web process shows the API with its schemas, to be tried there, and `/api/openapi.json` is its
OpenAPI document. All paths of the tables begin with `/api`. Send `Authorization: Bearer` with a session token of Clerk
(people) or an API key (programs: [`viral keys create`](cli.md#viral-keys-create)); a key needs the scope of the route.
How it is used, with examples: [../api.md](../api.md). What each error means: [errors.md](errors.md).
"""

BESIDE = (
    ("POST /webhooks/stripe", "What Stripe sends, signed. 200 when it is stored, 503 to have it sent again."),
    ("POST /webhooks/clerk", "What Clerk sends, signed by Svix."),
    ("GET /healthz", "200: the process answers."),
    ("GET /readyz", "200, or 503 while Postgres does not store what it is sent; the body says which part."),
    ("GET /metrics", "For Prometheus: [metrics.md](metrics.md)."),
    ("GET /oauth/{platform}/callback", "Where owners of social accounts come back to when they have given access."),
    ("GET /media/{tenant}/{name}", "A file of a folder (`MEDIA_DIR`), by a signed address."),
    ("GET /ops", "The operator's page: [../operating-page.md](../operating-page.md)."),
)

SCOPES = frozenset(ApiScope)


def page() -> str:
    routes = list(_api_routes(_routes()))
    api = DescribedApi(title="Viral Dashboard", version="", openapi_url=None, routes=_routes())
    document = FastAPI.openapi(api)
    lines = [HEAD, "## Every route", "", "Whatever is asked for, the answer may be:", ""]
    lines += table(
        ("status", "when"), ((str(status), each["description"]) for status, each in sorted(EVERY_ROUTE.items()))
    )
    lines += ["## Beside the API", "", *table(("route", "what it is"), ((code(r), what) for r, what in BESIDE))]
    tags = dict.fromkeys(str(route.tags[0]) for route in routes)
    for tag in tags:
        lines += [f"## {tag}", ""]
        for route in (each for each in routes if each.tags[0] == tag):
            for method in sorted(route.methods):
                lines += _route(route, method, document)
    return "\n".join(lines)


def _api_routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Yield the routes, and those of the routers that are included in their place."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif router := getattr(route, "original_router", None):
            yield from _api_routes(router.routes)


def _route(route: APIRoute, method: str, document: Mapping[str, Any]) -> list[str]:
    operation = document["paths"][route.path][method.lower()]
    heading = f"{method} {route.path}"
    lines = [f"### {heading}", ""]
    text = one_line(operation.get("description"))
    if text:
        lines += [text, ""]
    lines += [f"Scope: {', '.join(code(scope) for scope in _scopes(route)) or 'any'}.", ""]
    rows = [
        (code(each["name"]), each["in"], _kind(each["schema"]), one_line(each.get("description")))
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        if kind == "application/json":
            rows += _fields(content["schema"], document)
        else:
            rows.append((code(kind), "body", "bytes", first_paragraph(content.get("schema", {}).get("description"))))
    if rows:
        lines += table(("name", "in", "type", "what it is"), rows)
    own = [
        (status, one_line(each["description"]))
        for status, each in sorted(operation["responses"].items())
        if int(status) not in EVERY_ROUTE or EVERY_ROUTE[int(status)]["description"] != each["description"]
    ]
    own = [(status, "done" if text == "Successful Response" else text) for status, text in own]
    return [*lines, *table(("status", "when"), own)]


def _scopes(route: APIRoute) -> list[str]:
    """Return the API scopes that the route's dependencies ask for."""
    found: list[str] = []
    waiting = [route.dependant]
    while waiting:
        dependant = waiting.pop()
        found += [str(scope) for scope in dependant.own_oauth_scopes or () if scope in SCOPES]
        values = [each.cell_contents for each in getattr(dependant.call, "__closure__", None) or ()]
        found += [str(value) for value in values if isinstance(value, ApiScope)]
        waiting += dependant.dependencies
    return sorted(set(found))


def _fields(schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    model = _resolved(schema, document)
    required = model.get("required", ())
    return [
        (code(name), "body" if name in required else "body, optional", _kind(each), one_line(each.get("description")))
        for name, each in model.get("properties", {}).items()
    ]


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in schema.get("anyOf", ()):
        if "$ref" in each:
            schema = each
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    kind = str(schema.get("format") or schema.get("type") or "any")
    if kind == "array":
        kind = f"list of {_kind(schema.get('items', {}))}"
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        kind += f", {least} to {most}"
    if "maxLength" in schema:
        kind += f", at most {schema['maxLength']} characters"
    default = schema.get("default")
    return kind if default is None else f"{kind}, default {code(default)}"

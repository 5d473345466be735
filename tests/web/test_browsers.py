"""What a browser is hsts with every answer, and `/api/docs`, looked at in a real one with no other server than ours."""

import asyncio
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from domain.errors import TenantContextNotSet
from tests.builders import a_tenant
from tests.cli import browser
from tests.cli.shell import ROOT
from tests.web.api.test_api import PAGE, a_key
from tests.web.test_webhooks import CLERK_SECRET, EVENT, STRIPE_SECRET, Web, serving
from web.api.app import create_api
from web.api.openapi import ASSETS
from web.main import WebDeps
from web.server.body import MAX_BODY
from web.server.headers import ALWAYS, OVER_HTTPS
from web.webhooks import WebhooksFirst
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime.ids import Ids

WANTED = {name.decode(): value.decode() for name, value in ALWAYS}
HSTS = "strict-transport-security"
VENDORED = ASSETS / "swagger-ui"
OPS = ROOT / "web" / "ops"
ANOTHER_ORIGIN = re.compile(r"https?://|[\"'(=]//")


@pytest.fixture
def deps(app: App) -> WebDeps:
    return WebDeps(
        stripe_secrets=(STRIPE_SECRET,),
        clerk_secrets=(CLERK_SECRET,),
        connect=app.db.connect,
        notify=lambda notifications: None,
        redis_ping=lambda: None,
        clock=time.time,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
        api=create_api(app, sessions=None, clock=time.time, origins=(PAGE,)),
    )


@pytest.fixture
def web(deps: WebDeps) -> Iterator[Web]:
    with serving(deps) as web:
        yield web


def missing(response: httpx.Response, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The security headers that are not there exactly once, with the value that they should have."""
    wanted = {name: [value] for name, value in WANTED.items() if name not in but}
    return {name: found for name in wanted if (found := response.headers.get_list(name)) != wanted[name]}


# --- headers ------------------------------------------------------------------------------------------------


def test_whatever_is_answered_has_the_security_headers(web: Web, deps: WebDeps, app: App) -> None:
    ask = web.client.request
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    bearer = {"Authorization": f"Bearer {a_key(app, a_tenant(app), 'account:read', 'keys:write')}"}
    large = b" " * (MAX_BODY + 1)
    answers = [
        (200, web.stripe(orjson.dumps(EVENT))),
        (400, web.stripe(b"{}", secret="whsec_another")),
        (405, ask("GET", "/webhooks/stripe")),
        (413, web.stripe(large)),
        (404, ask("POST", "/webhooks/paypal")),
        (200, ask("GET", "/")),
        (200, ask("HEAD", "/healthz")),
        (405, ask("POST", "/healthz")),
        (200, ask("GET", "/readyz")),
        (404, ask("GET", "/nowhere")),
        (200, ask("GET", "/api/openapi.json")),
        (404, ask("GET", "/api/docs/")),
        (404, ask("GET", "/api/nowhere")),
        (405, ask("PUT", "/api/user")),
        (401, ask("GET", "/api/user")),
        (200, ask("GET", "/api/user", headers=bearer)),
        (200, ask("GET", "/api/user", headers=bearer | {"Origin": PAGE})),
        (403, ask("GET", "/api/history", headers=bearer)),
        (413, ask("POST", "/api/keys", headers=bearer, content=large)),
        (415, ask("POST", "/api/keys", headers=bearer, content=b"{}")),
        (200, ask("OPTIONS", "/api/user", headers=preflight)),
        (404, ask("GET", "/api/docs/assets/nothing.js")),
    ]
    assert [response.status_code for _, response in answers] == [status for status, _ in answers]
    assert {f"{each.request.method} {each.request.url}": missing(each) for _, each in answers if missing(each)} == {}
    assert not any(HSTS in response.headers for _, response in answers)

    def forgetful() -> float:
        raise TenantContextNotSet("in whose name?")

    broken = replace(deps, stripe_secrets=(), clock=forgetful, api=create_api(app, sessions=None, clock=forgetful))
    with capture_logs(), serving(broken) as failing:
        answers = [
            (503, failing.stripe(b"{}")),
            (500, failing.clerk(b"{}")),
            (500, failing.client.get("/api/user", headers=bearer)),
        ]
    assert [(response.status_code, missing(response)) for _, response in answers] == [(n, {}) for n, _ in answers]


def test_files_that_a_browser_may_keep_are_kept_until_they_change(web: Web) -> None:
    script = web.client.get("/api/docs/assets/docs.js")
    assert missing(script, but=("cache-control",)) == {}
    assert script.headers["cache-control"] == "no-cache"
    again = web.client.get("/api/docs/assets/docs.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, missing(again, but=("cache-control",))) == (304, {})


def test_over_https_browsers_are_told_to_stay_there(web: Web) -> None:
    for headers in ({"X-Forwarded-Proto": "https"}, {"X-Forwarded-Proto": "http"}, {}):
        for path in ("/webhooks/stripe", "/api/user", "/api/docs", "/nowhere"):
            hsts = web.client.get(path, headers=headers).headers.get(HSTS)
            assert hsts == (dict(OVER_HTTPS)[HSTS.encode()].decode() if "https" in headers.values() else None)


def test_an_answer_is_not_overruled_and_may_be_a_stream_or_an_error() -> None:
    async def stream(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x"

        return StreamingResponse(chunks(), headers={"Cache-Control": "private", "Cross-Origin-Opener-Policy": "x"})

    async def fails(request: Request) -> Response:
        raise RuntimeError

    whole = WebhooksFirst([], Starlette(routes=[Route("/stream", stream), Route("/fails", fails)]))

    async def ask(path: str, scheme: str) -> httpx.Response:
        transport = httpx.ASGITransport(whole, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://house") as client:
            return await client.get(path)

    streamed = asyncio.run(ask("/stream", "https"))
    assert missing(streamed, but=("cache-control", "cross-origin-opener-policy")) == {}
    assert streamed.text == "xxx"
    assert streamed.headers.get_list("cache-control") == ["private"]
    assert streamed.headers.get_list("cross-origin-opener-policy") == ["x"]
    assert HSTS in streamed.headers
    failed = asyncio.run(ask("/fails", "http"))
    assert (failed.status_code, missing(failed)) == (500, {})


# --- the page -----------------------------------------------------------------------------------------------


SHOWN = """
  const shown = (selector) => new Promise((done) => {
    const look = () => {
      const found = document.querySelector(selector);
      found ? done(found) : setTimeout(look, 10);
    };
    look();
  });
"""

LISTED = f"""(async () => {{ {SHOWN}
  await shown(".opblock");
  return [...document.querySelectorAll(".opblock")].map((each) => {{
    const path = each.querySelector(".opblock-summary-path").dataset.path;
    return each.querySelector(".opblock-summary-method").innerText + " " + path;
  }});
}})()"""

TRY = f"""(async () => {{ {SHOWN}
  (await shown(".btn.authorize")).click();
  const input = await shown(".auth-container input");
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, KEY);
  input.dispatchEvent(new Event("input", {{ bubbles: true }}));
  (await shown(".auth-btn-wrapper .authorize")).click();
  (await shown(".auth-btn-wrapper .btn-done")).click();
  (await shown("#operations-user-me_user_get .opblock-summary-control")).click();
  (await shown(".try-out__btn")).click();
  (await shown(".execute")).click();
  return (await shown(".live-responses-table .response .microlight")).innerText;
}})()"""


@pytest.mark.proof
def test_the_page_shows_every_operation_and_tries_one_without_another_server(
    web: Web, page: browser.Page, app: App
) -> None:
    origin = str(web.client.base_url).rstrip("/")
    described = web.client.get("/api/openapi.json").json()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    page.open(f"{origin}/api/docs")
    listed = page.run(LISTED)
    assert sorted(listed) == sorted(operations)

    tenant_id = a_tenant(app)
    answer = page.run(TRY.replace("KEY", json.dumps(a_key(app, tenant_id, "account:read"))))
    assert json.loads(answer)["tenant"]["id"] == str(tenant_id)
    assert page.complaints() == []
    assert [url for url in page.requested() if not url.startswith((f"{origin}/api/", "data:"))] == []

    # The check can fail: what the policy forbids is noticed.
    page.run("document.head.append(Object.assign(document.createElement('script'), {text: '1'}))")
    page.run("document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))")
    page.run("void (new Image().src = 'https://elsewhere.example.com/x.png')")
    assert len([text for text in page.complaints() if "Content Security Policy" in text]) == 3


def test_the_policy_of_the_page_names_nobody_else_and_nothing_unsafe(web: Web) -> None:
    policy = web.client.get("/api/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    sources = {source for part in policy.split("; ") for source in part.split()[1:]}
    assert sources == {"'none'", "'self'", "data:"}


@pytest.mark.parametrize("path", ["/api/redoc", "/api/docs/oauth2-redirect"])
def test_the_pages_of_the_framework_that_load_from_elsewhere_are_gone(web: Web, path: str) -> None:
    assert web.client.get(path).status_code == 404


def test_nothing_that_we_wrote_for_browsers_names_another_origin(web: Web) -> None:
    served = {path: web.client.get(path).text for path in ("/", "/api/docs", "/api/docs/assets/docs.js")}
    assert {path: found for path, text in served.items() if (found := ANOTHER_ORIGIN.findall(text))} == {}


def test_the_files_of_others_are_as_they_were_published() -> None:
    sums = dict(line.split()[::-1] for line in (VENDORED / "SHA256SUMS").read_text().splitlines())
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDORED.iterdir()}
    assert {name: digest for name, digest in found.items() if name not in ("README.md", "SHA256SUMS")} == sums
    version = (VENDORED / "README.md").read_text().splitlines()[0].removeprefix("# Swagger UI ")
    assert version.encode() in (VENDORED / "swagger-ui-bundle.js").read_bytes()


def test_the_package_holds_what_the_pages_need(tmp_path: Path) -> None:
    build: list[Any] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.iterdir()
    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in (ASSETS, OPS / "static", OPS / "templates"):
        needed = {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.is_file()}
        assert needed
        assert needed <= packed

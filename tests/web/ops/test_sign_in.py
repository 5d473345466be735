"""Signing in with a real browser: what it sends with our forms, and with those of others."""

from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.cli import browser
from tests.wait import until
from tests.web.ops.browsing import serving
from web.ops.app import ops_routes
from web.ops.live import Live
from workers.app import App
from workers.ops.operators import create_token

PLACE = "/ops/workers?q=a%26b"
THEIRS = "document.forms.length && location.hostname"
TEXT = "document.body ? document.body.innerText : ''"


@pytest.fixture
def address(app: App) -> Iterator[str]:
    live = Live(every=0.2)
    with serving(ops_routes(app, live), live) as address:
        yield address


def submit(page: browser.Page, token: str) -> None:
    page.run(f"document.querySelector('[name=token]').value = '{token}'")
    page.run("document.querySelector('.sign-in button').click()")


def test_a_person_signs_in_is_where_they_wanted_to_be_and_signs_out(app: App, page: browser.Page, address: str) -> None:
    token = create_token(app, "ada", "look").text
    page.open(f"{address}{PLACE}")
    assert page.run("location.pathname") == "/ops/login"
    submit(page, "wrong")
    until(lambda: "not known" in page.run(TEXT), "the refusal")
    submit(page, token)
    until(lambda: page.run("location.pathname + location.search") == PLACE, "the page that was asked for")
    until(lambda: "ada (look)" in page.run(TEXT), "the name")
    assert page.run("document.cookie") == ""  # no script reads it
    page.run("document.querySelector('.signed-in button').click()")
    until(lambda: page.run("location.pathname") == "/ops/login", "the form")
    page.open(f"{address}{PLACE}")
    assert page.run("location.pathname") == "/ops/login"
    assert [text for text in page.complaints() if "401" not in text] == []


def test_a_page_of_another_site_signs_nobody_in_or_out(app: App, page: browser.Page, address: str) -> None:
    mallory, ada = create_token(app, "mallory", "look").text, create_token(app, "ada", "look").text

    async def evil(request: Request) -> Response:
        form = f'<form method="post" action="{address}{request.query_params["at"]}">'
        form += f'<input name="token" value="{mallory}"><input name="form_token" value="x"></form>'
        link = f'<a href="{address}{PLACE}">look</a>'
        return HTMLResponse(form + link, headers={"Content-Security-Policy": "default-src 'none'"})

    page.open(f"{address}{PLACE}")
    submit(page, ada)
    until(lambda: "ada (look)" in page.run(TEXT), "the name")
    with serving([Route("/", evil)], Live()) as served:
        theirs = served.replace("127.0.0.1", "localhost")
        for at in ("/ops/login", "/ops/logout"):
            page.open(f"{theirs}/?at={at}")
            until(lambda: page.run(THEIRS) == "localhost", "their page")
            page.run("document.forms[0].submit()")
            until(lambda: "another origin" in page.run(TEXT), "the refusal")
        page.open(f"{theirs}/?at=/")
        until(lambda: page.run(THEIRS) == "localhost", "their page")
        page.run("document.querySelector('a').click()")  # as a link in a mail is followed
        until(lambda: "ada (look)" in page.run(TEXT), "the page")

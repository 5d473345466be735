"""`/ops` in a real browser: it breaks no policy, follows what happens, and fits a phone."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from tests.cli import browser
from tests.wait import until
from tests.web.ops.browsing import serving
from web.ops.app import PAGES, ops_routes
from web.ops.live import Live
from workers.app import App

PHONE = 360
WIDE_TABLES = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture
def address(app: App) -> Iterator[str]:
    live = Live(every=0.2)
    with serving(ops_routes(app, live), live) as address:
        yield address


def test_a_page_follows_what_happens_and_keeps_what_its_reader_does(page: browser.Page, address: str, app: App) -> None:
    page.open(f"{address}/ops/workers")
    until(lambda: page.run("document.getElementById('live').textContent") == "Live", "the stream")
    assert "No worker process has signed on" in page.run("document.body.innerText")
    page.run("document.querySelector('main').focus()")
    with app.db.transaction(SYSTEM) as tx:
        name = "<img src=x>" * 3
        tx.workers.beat(uuid4(), hostname=name, pid=7, queues=("llm",), version="1.0", lease=timedelta(minutes=1))
    until(lambda: page.run("document.querySelectorAll('main tbody tr').length") == 1, "the worker on the page")
    assert page.run("document.activeElement.id") == "main"
    assert page.complaints() == []


def test_no_page_breaks_the_policy_or_asks_anybody_else(page: browser.Page, address: str) -> None:
    for each in PAGES:
        if "{" not in each.path:
            page.open(f"{address}/ops{each.path}")
    assert page.complaints() == []
    assert {url.split("/")[2] for url in page.requested()} == {address.removeprefix("http://")}


@pytest.mark.proof
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(page: browser.Page, address: str, scheme: str) -> None:
    page.show_as(width=PHONE, height=740, scheme=scheme)
    for each in PAGES:
        if "{" not in each.path:
            page.open(f"{address}/ops{each.path}")
            assert page.run(WIDE_TABLES), each.path


def test_the_first_key_leads_past_the_menu(page: browser.Page, address: str) -> None:
    page.open(f"{address}/ops/workers")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.run("document.activeElement.id") == "main"

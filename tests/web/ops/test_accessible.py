"""Every page of `/ops` in a real browser, with something on it: axe finds nothing in both themes and at phone width,
everything is reached by keyboard and shows that it is, and nothing needs a script."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from benchmarks import world
from benchmarks.crawl import crawl
from cli.commands.schedules import calendar
from local.postgres import SUPERUSER
from tests.cli import browser
from tests.conftest import Servers
from tests.web.ops import axe
from tests.web.ops.browsing import serving
from web.ops.app import PAGES, ops_routes
from web.ops.live import Live
from workers.app import App

PHONE, DESK = 360, 1280
ADDRESSES_OF_A_PAGE = 2
MOST_STOPS = 250
"""Stops of the Tab key on a page that are looked at."""

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"

TOO_WIDE = """[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest('.scroll, .table, [tabindex="0"]')).slice(0, 3).map((e) => e.outerHTML.slice(0, 120))"""

STOPS = """(() => {
    const shown = (e) => e.getClientRects().length && getComputedStyle(e).visibility === 'visible' && !e.disabled
        && !(e.closest('details:not([open])') && !e.closest('summary'));
    const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')];
    return all.filter(shown).map((e, n) => { e.dataset.stop = n; return e.outerHTML.slice(0, 120); });
})()"""

FOCUSED = """(() => {
    const e = document.activeElement, s = getComputedStyle(e), p = e.parentElement && getComputedStyle(e.parentElement);
    const seen = (each) => each && ((each.outlineStyle !== 'none' && parseFloat(each.outlineWidth) > 0)
        || each.boxShadow !== 'none');
    return [e === document.body ? null : e.dataset.stop ?? 'other', Boolean(seen(s)), e.outerHTML.slice(0, 120)];
})()"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[browser.Page]:
    chromium = browser.find()
    if chromium is None:
        pytest.skip(f"a browser is needed: one of {', '.join(browser.NAMES)} (.ci/run installs the first)")
    with browser.a_page(chromium, tmp_path / "browser") as opened:
        yield opened


@pytest.fixture
def addresses(ops: TestClient, servers: Servers, database: str) -> list[str]:
    """Some of each page, found by following links in a small world."""
    world.fill(servers.postgres.url(SUPERUSER, database), world.SMALL)

    def ask(address: str) -> tuple[int, str]:
        response = ops.get(address)
        return response.status_code, response.text

    visits = crawl(ask, [page.path for page in PAGES], most=ADDRESSES_OF_A_PAGE)
    assert {visit.page for visit in visits} == {page.path for page in PAGES}, "a link leads to each page"
    assert [visit.address for visit in visits if visit.status >= 500] == []
    return [visit.address for visit in visits]


@pytest.fixture
def origin(app: App) -> Iterator[str]:
    live = Live()
    with serving(ops_routes(app, live, calendar=calendar()), live) as address:
        yield address


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_axe_finds_nothing(page: browser.Page, addresses: list[str], origin: str, scheme: str, width: int) -> None:
    script = axe.script()
    page.show_as(width=width, height=900, scheme=scheme)
    found: dict[str, object] = {}
    for address in addresses:
        page.open(origin + address)
        if wrong := axe.violations(page, script):
            found[address] = wrong
        if not page.run(FITS):
            found[f"{address} is wider than the window"] = page.run(TOO_WIDE)
    assert found == {}
    assert [each for each in page.complaints() if "status of 40" not in each] == []


@pytest.mark.timeout(600)
def test_all_is_reached_by_keyboard_and_shows_it(page: browser.Page, addresses: list[str], origin: str) -> None:
    page.show_as(width=DESK, height=900)
    for address in dict.fromkeys(addresses):
        page.open(origin + address)
        page.run("document.getElementById('live')?.remove()")  # a look in between would take the marks away
        stops = page.run(STOPS)
        missed, hidden = dict(enumerate(stops)), []
        for _ in range(min(len(stops) + 20, MOST_STOPS)):
            page.press("Tab")
            stop, seen, html = page.run(FOCUSED)
            if stop is None:
                break
            if stop != "other":
                missed.pop(int(stop), None)
            if not seen:
                hidden.append(html)
        assert hidden == [], address
        if len(stops) < MOST_STOPS:
            # A radio button is reached by the arrows from another of its name.
            assert [html for html in missed.values() if 'type="radio"' not in html] == [], address


@pytest.mark.timeout(600)
def test_no_page_needs_a_script(page: browser.Page, addresses: list[str], origin: str) -> None:
    page.without_scripts()
    for address in addresses:
        page.open(origin + address)
        assert page.run("typeof htmx") == "undefined"
        shown = page.run("document.querySelector('main').innerText")
        assert len(shown) > len(page.run("document.querySelector('main h1').innerText")), address
    assert [each for each in page.complaints() if "status of 40" not in each] == []

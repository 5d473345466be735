"""Every page of `/ops` in a real browser, with something on it: axe finds nothing in both themes and at phone width,
everything is reached by keyboard and shows that it is, and nothing needs a script."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from benchmarks import world
from benchmarks.crawl import crawl
from cli.commands.schedules import calendar
from local.postgres import APP, SUPERUSER
from tests.cli import browser
from tests.conftest import Servers, a_database, owner_url_of, settings_of
from tests.web.ops import axe
from tests.web.ops.browsing import serving
from web.ops.app import PAGES, ops_routes
from web.ops.live import Live
from workers.app import build

PHONE, DESK = 360, 1280
ADDRESSES_OF_A_PAGE = 2
MOST_STOPS = 250
"""Stops of the Tab key on a page that are looked at."""

ALIKE = 3
"""Rows of a table that differ in their texts alone, of which the browser looks at no more."""

THIN_OUT = f"""document.querySelectorAll('tbody').forEach((body) => {{
    const forms = {{}}, shape = (e) => e.tagName + [...e.attributes].map((a) =>
        a.name + (['class', 'style', 'role', 'type'].includes(a.name) ? a.value : ''));
    for (const row of [...body.rows]) {{
        const form = [row, ...row.querySelectorAll('*')].map(shape).join();
        forms[form] = (forms[form] ?? 0) + 1;
        if (forms[form] > {ALIKE}) row.remove();
    }}
}})"""

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


@pytest.fixture(scope="module")
def pages(servers: Servers, template: str) -> Iterator[list[str]]:
    """The addresses of some of each page, found by following links in a small world, which nothing here changes."""
    with a_database(servers, template) as database:
        world.fill(servers.postgres.url(SUPERUSER, database), world.SMALL)
        urls = servers.postgres.url(APP, database), owner_url_of(servers, database), servers.redis.url()
        app = build(settings_of(*urls), name="tests")
        live = Live()
        routes = ops_routes(app, live, calendar=calendar())
        client = TestClient(Starlette(routes=routes), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))

        def ask(address: str) -> tuple[int, str]:
            response = client.get(address)
            return response.status_code, response.text

        with client:
            visits = crawl(ask, [page.path for page in PAGES], most=ADDRESSES_OF_A_PAGE)
        assert {visit.page for visit in visits} == {page.path for page in PAGES}, "a link leads to each page"
        assert [visit.address for visit in visits if visit.status >= 500] == []
        with serving(routes, live) as origin:
            yield [origin + visit.address for visit in visits]
        app.close()


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_axe_finds_nothing(page: browser.Page, pages: list[str]) -> None:
    """Each page at a desk in the light and on a phone in the dark: that is each theme and each width."""
    script = axe.script()
    found: dict[str, object] = {}
    for address in pages:
        page.open(address)
        for width, scheme in ((DESK, "light"), (PHONE, "dark")):
            page.show_as(width=width, height=900, scheme=scheme)
            if not page.run(FITS):
                found[f"{address} is wider than {width}"] = page.run(TOO_WIDE)
            page.run(THIN_OUT)
            if wrong := axe.violations(page, script):
                found[f"{address}, {width}, {scheme}"] = wrong
    assert found == {}
    assert [each for each in page.complaints() if "status of 40" not in each] == []


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_all_is_reached_by_keyboard_and_shows_it(page: browser.Page, pages: list[str]) -> None:
    page.show_as(width=DESK, height=900)
    for address in dict.fromkeys(pages):
        page.open(address)
        page.run("document.getElementById('live')?.remove()")  # a look in between would take the marks away
        page.run(THIN_OUT)
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


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_no_page_needs_a_script(page: browser.Page, pages: list[str]) -> None:
    page.without_scripts()
    for address in pages:
        page.open(address)
        assert page.run("typeof htmx") == "undefined"
        shown = page.run("document.querySelector('main').innerText")
        assert len(shown) > len(page.run("document.querySelector('main h1').innerText")), address
    assert [each for each in page.complaints() if "status of 40" not in each] == []

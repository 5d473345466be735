"""Nothing that came from outside becomes markup on a page of `/ops`, wherever it is kept and whoever sent it.

The world has a marker in every column that takes any text, found from the schema; pages and filters are found by
following links and filling in forms. So a column, a page or a filter that is added later is tried without a line here.
"""

import inspect
import re
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import psycopg
import pytest
from starlette.testclient import TestClient

from benchmarks import world
from benchmarks.crawl import Document, Visit, crawl
from cli.commands.schedules import calendar
from local.postgres import SUPERUSER
from tests.cli import browser
from tests.conftest import Servers
from tests.web.ops.browsing import serving
from web.ops.app import PAGES, ops_routes
from web.ops.live import Live
from web.ops.page import Page
from workers.app import App

MARKER = "zq7"
"""In every marker, and in no text of ours."""

BREAKERS = (
    f"<img src=x onerror={MARKER}()>",
    f'"><script>{MARKER}()</script>',
    f"' onfocus='{MARKER}()' autofocus x='",
    f'" hx-get="/{MARKER}" hx-trigger="load" hx-on:load="{MARKER}()" x="',
    f"javascript:{MARKER}()//",
    f"</script><svg onload={MARKER}()>",
    f"{{{{ {MARKER} }}}}{{% raw %}}",
    f"</title></textarea></pre><a href=javascript:{MARKER}()>",
    f"//{MARKER}.example.com/",
)

ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post", "hx-push-url", "poster", "data", "xlink:href")


def places(text: str) -> list[str]:
    """Where on a page a marker is more than a text."""
    document, found = Document(text), []
    for element in document.elements:
        if MARKER in element.tag:
            found.append(f"an element {element.tag}")
        for name, value in element.attributes:
            if MARKER in name:
                found.append(f"an attribute {name} of {element.tag}")
            if MARKER in value and (name.startswith("on") or name in ("style", "srcdoc") or name.startswith("hx-on")):
                found.append(f"a script in {name} of {element.tag}")
            if name in ADDRESSES and value and leads_away(value):
                found.append(f"{name} of {element.tag} leads to {value[:60]}")
            if name.startswith("hx-") and element.tag not in ("main", "span", "body") and MARKER in value:
                found.append(f"{name} of {element.tag} is {value[:60]}")
    found += [f"text of {tag}" for tag, each in document.texts if tag in ("script", "style") and MARKER in each]
    return found


def leads_away(address: str) -> bool:
    """Whether it is anything but a path of ours. Browsers leave out control characters and spaces."""
    plain = re.sub(r"[\x00-\x20]", "", address)
    if plain.startswith("https://") and MARKER not in plain:
        return False
    return not plain.startswith(("/", "#", "?")) or plain.startswith(("//", "/\\"))


def plant(url: str) -> list[str]:
    """Write a marker into every column that takes any text, and into every JSON. Returns those that took it."""
    planted = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        columns = connection.execute("""
            SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns AS c
            JOIN information_schema.tables AS t USING (table_schema, table_name)
            WHERE table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
              AND c.data_type IN ('text', 'jsonb', 'ARRAY') AND c.table_name <> 'alembic_version'
              AND c.table_name NOT LIKE 'job\\_archive\\_2%' ORDER BY 1, 2
        """).fetchall()
        for table, column, kind in columns:
            each = ", ".join("%s::text" for _ in BREAKERS)
            marked = f"(ARRAY[{each}])[1 + mod(abs(hashtext(ctid::text)), {len(BREAKERS)})]"
            value = {
                "text": f"{marked} || ctid::text",
                "jsonb": f"jsonb_build_object({marked}, {marked}, 'id', {marked}, 'type', {marked})",
                "ARRAY": f"ARRAY[{marked}]",
            }[kind]
            arguments = list(BREAKERS) * value.count("(ARRAY[")
            for wanted, values in ((value, arguments), (marked, list(BREAKERS))):
                try:
                    connection.execute(f'UPDATE "{table}" SET "{column}" = {wanted}'.encode(), values)
                except psycopg.Error:
                    continue
                planted.append(f"{table}.{column}")
                break
    return planted


WRITTEN_BY_OTHERS = {
    *("tenants.name", "users.name", "users.email", "job_queue.payload", "job_queue.error_message"),
    *("job_queue.job_type", "job_queue.queue", "job_queue.cause", "job_attempts.error_message"),
    *("job_attempts.error_class", "job_attempts.error_group", "job_attempts.release", "webhook_events.payload"),
    *("webhook_events.type", "webhook_events.subject", "webhook_events.external_id", "webhook_events.detail"),
    *("social_posts.caption", "social_posts.permalink", "social_posts.title", "social_accounts.username"),
    *("videos.prompt", "videos.title", "workers.hostname", "workers.version", "changes.subject", "changes.before"),
    *("post_events.message", "job_archive.payload", "schedule_fires.schedule", "queue_policies.queue"),
}
"""Columns that must have taken a marker. What the database itself refuses (closed lists, patterns) needs none."""


@pytest.fixture
def planted(servers: Servers, database: str) -> list[str]:
    url = servers.postgres.url(SUPERUSER, database)
    world.fill(url, world.SMALL)
    return plant(url)


def visits_of(ops: TestClient) -> list[Visit]:
    def ask(address: str) -> tuple[int, str]:
        response = ops.get(address)
        return response.status_code, response.text

    return crawl(ask, [page.path for page in PAGES], typed=BREAKERS, most=60)


def test_nothing_from_outside_becomes_markup(ops: TestClient, planted: Sequence[str]) -> None:
    assert set(planted) >= WRITTEN_BY_OTHERS
    visits = visits_of(ops)
    assert {visit.address: places(visit.text) for visit in visits if places(visit.text)} == {}
    assert {visit.address: visit.status for visit in visits if visit.status >= 500} == {}
    shown = [visit for visit in visits if MARKER in visit.text]
    assert len(shown) > len(visits) / 4, "the pages show what is planted"


@pytest.mark.proof(but=["/failures", "/workers", "/jobs/{id}"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_filters_and_ids_of_an_address_are_text(ops: TestClient, page: Page) -> None:
    """Also filters that no form has, twice, and as the names of filters."""
    names = {*re.findall(r"\"([a-z_]+)\"", inspect.getsource(inspect.getmodule(page.view) or re)), "q", "x"}
    usual = re.sub(r"\{[^}]+\}", "1", page.path)
    for breaker in BREAKERS:
        unusual = re.sub(r"\{[^}]+\}", lambda _, text=breaker: quote(text, safe=""), page.path)  # type: ignore[misc]
        addresses = [unusual, *(f"{usual}?{urlencode({name: breaker})}" for name in sorted(names))]
        addresses += [f"{unusual}?{urlencode([(breaker, breaker), ('q', breaker), ('q', breaker)])}"]
        for address in addresses:
            response = ops.get(f"/ops{address}")
            assert response.status_code < 500, address
            assert places(response.text) == [], address


@pytest.mark.proof
def test_a_browser_runs_nothing_of_it(app: App, ops: TestClient, planted: Sequence[str], page: browser.Page) -> None:
    """Each page as it is, and with a marker in each filter; every one is also left time for what loads later."""
    addresses = {visit.page: visit.address for visit in visits_of(ops)}
    live = Live(every=0.2)
    with serving(ops_routes(app, live, calendar=calendar()), live) as origin:
        page.before_each_page(f"window.{MARKER} = () => document.documentElement.dataset.broken = 'yes'")
        for address in addresses.values():
            page.open(origin + address)
            joined = "&" if "?" in address else "?"
            assert page.run("document.documentElement.dataset.broken") is None, address
            page.open(origin + address + joined + urlencode([("q", BREAKERS[1]), ("x", BREAKERS[3])]))
            assert page.run("document.documentElement.dataset.broken") is None, address
        assert not [url for url in page.requested() if MARKER in url.partition("?")[0] and "/ops/" not in url]
        assert [each for each in page.complaints() if "400" not in each and "404" not in each] == []


def test_a_marker_that_is_markup_is_found() -> None:
    """The search itself."""
    assert places(f"<p>{MARKER}</p><a href='/ops/jobs?q={MARKER}'>{MARKER}</a>") == []
    for bad in (
        f"<img src=x onerror={MARKER}()>",
        f"<script>{MARKER}</script>",
        f"<a href='javascript:{MARKER}'>x</a>",
        f"<a href='java\tscript:{MARKER}'>x</a>",
        f"<a href='//{MARKER}.example.com'>x</a>",
        f"<p {MARKER}=1>",
        f"<b hx-get='/{MARKER}'>",
        f"<p style='x:{MARKER}'>",
    ):
        assert places(bad) != [], bad

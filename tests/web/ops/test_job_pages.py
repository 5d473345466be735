"""Queues and jobs on the operator's page: what is shown, what the filters do, and what text from outside cannot do."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from tests.builders import a_tenant
from workers.app import App

HOSTILE = (
    "</td><script>alert(1)</script><img src=x onerror=alert(2)>\" onclick='x' hx-get=/ hx-on:click=alert(3) {{7*7}}"
)


def a_job(app: App, **columns: object) -> UUID:
    values = {"job_type": "t", "queue": "default"} | columns
    names = ", ".join(values)
    statement = f"INSERT INTO job_queue ({names}) VALUES ({', '.join(f'%({name})s' for name in values)}) RETURNING id"
    with app.db.transaction(SYSTEM) as tx:
        [(job_id,)] = tx.driver.execute(statement.encode(), values).fetchall()
    return UUID(str(job_id))


def do(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


def shown(ops: TestClient, url: str, status: int = 200) -> str:
    response = ops.get(url, follow_redirects=False)
    assert response.status_code == status, response.text
    return response.text


class Markup(HTMLParser):
    """The tags of a page and the names of their attributes, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def is_harmless(page: str) -> None:
    """Nothing of `HOSTILE` became markup: no tag of it, and no attribute."""
    for tag, attributes in Markup(page).tags:
        assert tag != "img"
        assert tag != "script" or attributes.get("src", "").startswith("/ops/static/")
        assert not {"onclick", "onerror", "hx-on:click", "style", "x"} & attributes.keys()
        assert not attributes.get("hx-get")
        assert not str(attributes.get("href", "/")).startswith(("javascript:", "//"))


def test_queues_are_listed_with_their_age_against_the_target_and_lead_to_their_jobs(ops: TestClient, app: App) -> None:
    a_job(app)
    do(app, "UPDATE job_queue SET scheduled_for = now() - interval '2 hours'")
    page = shown(ops, "/ops/queues")
    assert "/ops/queues/default" in page
    assert "late" in page
    assert "2h" in page
    assert "viral queues list" in page
    link = next(
        unescape(each)
        for each in re.findall(r'href="(/ops/jobs[^"]+)"', page)
        if "default" in each and "waiting" in each
    )
    assert "viral jobs list --status waiting --queue default" in shown(ops, link)


def test_one_queue_says_who_waits_and_what_is_next(ops: TestClient, app: App) -> None:
    ada = a_tenant(app, name=HOSTILE)
    job_id = a_job(app, tenant_id=ada, queue="llm")
    do(app, "INSERT INTO queue_policies (queue, tenant_id, max_running) VALUES ('llm', %s, 3)", ada)
    page = shown(ops, "/ops/queues/llm")
    is_harmless(page)
    assert f"/ops/tenants/{ada}" in page
    assert f"/ops/jobs/{job_id}" in page
    assert "no job and no limit names the queue nope" in shown(ops, "/ops/queues/nope", 404)
    is_harmless(shown(ops, f"/ops/queues/{quote(HOSTILE.replace('/', ''))}", 404))


def test_a_queue_that_another_program_named_is_shown_with_its_odd_name(ops: TestClient, app: App) -> None:
    a_job(app, queue=HOSTILE.replace("/", ""))
    is_harmless(shown(ops, "/ops/queues"))
    is_harmless(shown(ops, f"/ops/queues/{quote(HOSTILE.replace('/', ''))}"))


def test_a_job_that_has_ended_in_a_queue_that_nobody_knows_any_more_leads_to_a_page(ops: TestClient, app: App) -> None:
    job_id = a_job(app, queue="theirs")
    assert 'href="/ops/queues/theirs"' in shown(ops, f"/ops/jobs/{job_id}")
    do(app, "UPDATE job_queue SET status = 'completed', completed_at = now()")
    page = shown(ops, f"/ops/jobs/{job_id}")
    assert "/ops/queues/theirs" not in page
    assert str(job_id) in shown(ops, "/ops/jobs?queue=theirs")
    assert 'href="/ops/jobs?queue=theirs"' in page


def test_jobs_are_filtered_by_the_url_and_each_leads_to_its_page(ops: TestClient, app: App) -> None:
    ada = a_tenant(app)
    hers, other = a_job(app, tenant_id=ada, job_type="a"), a_job(app, job_type="b")
    assert {str(hers), str(other)} <= set(re.findall(r"/ops/jobs/([0-9a-f-]{36})", shown(ops, "/ops/jobs")))
    page = shown(ops, f"/ops/jobs?tenant={ada}&type=a&status=pending&queue=&text=")
    assert f"/ops/jobs/{hers}" in page
    assert f"/ops/jobs/{other}" not in page
    nothing = shown(ops, "/ops/jobs?type=nothing")
    assert "No job fits these filters" in nothing
    assert "type: nothing fits, and this release knows no nothing; it knows accounts.due, " in nothing
    assert "this release knows" not in shown(ops, "/ops/jobs?type=quota.reset_due")
    assert f"/ops/jobs/{other}" in shown(ops, f"/ops/jobs?text={other}")
    for url in (f"/ops/jobs/{hers}", f"/ops/jobs/{other}"):
        assert f"viral jobs explain {url.rpartition('/')[2]}" in shown(ops, url)


def test_pages_of_a_list_follow_one_another(ops: TestClient, app: App) -> None:
    ids = {str(a_job(app, queue="llm")) for _ in range(120)}
    url, seen, pages = "/ops/jobs?queue=llm", [], 0
    while url:
        page = shown(ops, url)
        seen += re.findall(r'<th scope="row"><a class="id[^>]* href="/ops/jobs/([0-9a-f-]{36})"', page)
        older = re.search(r'<a href="([^"]+)" rel="next"', page)
        url = unescape(older[1]) if older else ""
        pages += 1
    assert (pages, len(seen), set(seen)) == (3, 120, ids)


@pytest.mark.parametrize(
    "query",
    [
        {"status": HOSTILE},
        {"tenant": HOSTILE},
        {"since": HOSTILE[:39]},
        {"after": HOSTILE[:70]},
        {"archive": HOSTILE[:70]},
        {HOSTILE: "1"},
        {"type": "x" * 10_000},
        {"since": "9" * 39},
        {"until": "-1"},
        {"tenant": "-999999999999999999999"},
        {"status": "pending", "archive": "yes"},
        {"text": "\0"},
        {"text": "\ud800".encode("utf-8", "surrogatepass")},
    ],
    ids=lambda query: str(query)[:30],
)
def test_a_filter_that_cannot_be_is_refused_in_words_and_never_obeyed(ops: TestClient, query: dict[str, str]) -> None:
    response = ops.get(f"/ops/jobs?{urlencode(query)}")
    assert response.status_code in (400, 200)
    is_harmless(response.text)
    if "text" not in query:
        assert response.status_code == 400


@pytest.mark.parametrize("name", ["type", "queue", "cause", "text"])
def test_a_filter_is_shown_as_the_text_that_it_is(ops: TestClient, name: str) -> None:
    page = shown(ops, f"/ops/jobs?{urlencode({name: HOSTILE})}")
    is_harmless(page)
    assert unescape(page).count("<script>alert(1)") >= 1


def test_one_job_is_shown_with_attempts_steps_and_a_masked_payload(ops: TestClient, app: App) -> None:
    secret = "sk_live_a_secret_of_somebody"
    job_id = a_job(
        app, job_type=HOSTILE, queue="default", payload=json.dumps({"password": secret, HOSTILE: secret}),
        error_message=HOSTILE, status="failed", attempts=2, ordering_key=HOSTILE, cause=f"person:{HOSTILE}",
    )  # fmt: skip
    do(app, "UPDATE job_queue SET completed_at = now(), result = %s", json.dumps({"token": secret}))
    do(
        app,
        "INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, traceback, started_at,"
        " ended_at) VALUES (%s, 1, 'failed', 'Oops', %s, %s, now(), now() - interval '1 hour')",
        *(job_id, HOSTILE, HOSTILE),
    )
    do(
        app,
        "INSERT INTO job_steps (job_id, step, status, idempotency_key, result) VALUES (%s, %s, 'confirmed', 'k', %s)",
        *(job_id, HOSTILE, json.dumps({"api_key": secret})),
    )
    child = a_job(app, cause=f"job:{job_id}")
    page = shown(ops, f"/ops/jobs/{job_id}")
    is_harmless(page)
    is_harmless(shown(ops, "/ops/jobs"))
    assert secret not in page
    assert "-3600" not in page
    assert "0.000 s" in page
    assert f"/ops/jobs/{child}" in page
    parent = shown(ops, f"/ops/jobs/{child}")
    assert f'href="/ops/jobs/{job_id}"' in parent


def test_an_archived_job_is_shown_too(ops: TestClient, app: App) -> None:
    job_id = a_job(app, status="completed", attempts=1)
    do(app, "UPDATE job_queue SET completed_at = now() - interval '3 days', started_at = now() - interval '3 days'")
    do(app, "INSERT INTO job_attempts (job_id, attempt, outcome, started_at) VALUES (%s, 1, 'lost', now())", job_id)
    do(app, "INSERT INTO job_steps (job_id, step, idempotency_key) VALUES (%s, 'upload', 'k')", job_id)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.move("completed", tx.now().replace(year=2020), tx.now(), 10).count == 1
    page = shown(ops, f"/ops/jobs/{job_id}")
    assert "archived" in page
    assert "upload" in page
    assert "lost" in page
    assert f"/ops/jobs/{job_id}" not in shown(ops, "/ops/jobs?status=completed")
    assert f"/ops/jobs/{job_id}" in shown(ops, "/ops/jobs?status=completed&archive=yes")


def test_a_job_that_is_not_there_is_404(ops: TestClient) -> None:
    assert "no job has the id" in shown(ops, f"/ops/jobs/{uuid4()}", 404)
    is_harmless(shown(ops, f"/ops/jobs/{quote(HOSTILE.replace('/', ''))}", 404))


UNSEEN = "</td>x\x15\x1b[31m\u202e y"


def test_nothing_unseen_is_in_what_a_page_says_or_offers_to_copy(ops: TestClient, app: App) -> None:
    """A terminal obeys `\x15` in a line that is pasted into it, and erases what stands before it."""
    job_id = a_job(app, queue=UNSEEN.replace("/", ""), error_message=UNSEEN)
    statement = (
        "INSERT INTO job_attempts (job_id, attempt, outcome, ended_at, traceback) VALUES (%s, 1, 'failed', now(), %s)"
    )
    do(app, statement, job_id, f"File 1\n{UNSEEN}")
    name = quote(UNSEEN.replace("/", ""))
    for page in (f"/ops/jobs/{job_id}", f"/ops/queues/{name}", "/ops/queues", "/ops/failures"):
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", shown(ops, page)), page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", shown(ops, "/ops/queues/nope", 404))
    for page in (f"/ops/jobs?text={name}", f"/ops/events?text={name}", f"/ops/tenants?name={name}"):
        copied = re.findall(r'<p class="shell"[^>]*><code>([^<]*)', shown(ops, page))
        assert any("\\x15" in unescape(each) for each in copied), page
        assert not re.search("[\x00-\x1f\u202e]", "".join(copied)), page
        fields = re.findall(r'<input id="filter-[^>]*>', shown(ops, page))
        assert any("u202e" in each for each in fields), page
        assert not re.search("[\x00-\x1f\u202e]", "".join(fields)), page


def test_an_error_of_a_megabyte_is_shown_in_part(ops: TestClient, app: App) -> None:
    job_id = a_job(app, status="failed", error_message="E" * 1_000_000)
    assert len(shown(ops, f"/ops/jobs/{job_id}")) < 100_000

"""No link of a page leads nowhere, or to a filter that its page does not know."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import psycopg
from starlette.testclient import TestClient

from benchmarks.crawl import Document
from db.ops import waiting
from db.queue import failures
from db.transaction import SYSTEM
from tests.builders import an_ended_job
from tests.web.ops.hurting import make_it_hurt
from web.ops.app import PAGES
from workers.app import App
from workers.ops.overview import status

MOST = 400


def test_each_link_of_each_page_leads_to_a_page(app: App, ops: TestClient) -> None:
    make_it_hurt(app)
    for name in ("..", "a/b", 'x"?y#z'):
        an_ended_job(app, "failed", ended=datetime.now(UTC), queue=name)
    asked, waiting_ones, wrong = set[str](), [f"/ops{page.path}" for page in PAGES if "{" not in page.path], {}
    while waiting_ones and len(asked) < MOST:
        address = waiting_ones.pop(0)
        if address in asked:
            continue
        asked.add(address)
        response = ops.get(address)
        if response.status_code != 200:
            wrong[address] = response.status_code
        links = [each for each in Document(response.text).links if each.startswith("/ops") and "theme=" not in each]
        waiting_ones.extend(links)
    assert {address: code for address, code in wrong.items() if address != "/ops/queues/..~"} == {}
    assert len(asked) > 30


def test_the_first_look_uses_filters_that_its_pages_know(app: App) -> None:
    make_it_hurt(app)
    views = {page.path: page for page in PAGES}
    fitting = {
        "/jobs": ("status",),
        "/events": ("source", "status", "flag"),
        "/tenants": ("harm",),
    }
    found = [urlsplit(f"/{harm.page}") for harm in status(app).harms]
    assert found
    for each in found:
        names = {name for name, _ in parse_qsl(each.query)}
        if names:
            assert each.path in views
            assert names <= set(fitting[each.path]), each


def test_posts_that_failed_are_found_by_their_index(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        rows = tx.driver.execute(f"EXPLAIN {waiting.FAILED}".encode(), {"limit": 50})
        plan = "\n".join(row[0] for row in rows)
    assert "social_posts_failed_idx" in plan, plan
    assert "Seq Scan on social_posts" not in plan, plan


def test_failures_read_a_window_from_the_end_of_the_attempts(app: App, owner_url: str) -> None:
    job_id = an_ended_job(app, "failed", ended=datetime.now(UTC))
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO job_attempts (job_id, attempt, outcome, error_group, ended_at)"
            " SELECT %s, n, CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'snoozed' END, 'g', now()"
            " FROM generate_series(1, 150000) AS n",
            (job_id,),
        )
        owner.execute("ANALYZE job_attempts")
    values = {"limit": 1000, "since": None, "looked_at": failures.LOOKED_AT, "error_group": "g"}
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL random_page_cost = 4")
        for query in (failures.GROUPS, failures.MINUTES, failures.OF_GROUP):
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {query}".encode(), values))
            assert "using job_attempts_pkey" in plan, plan
            assert "Seq Scan on job_attempts" not in plan, plan
            assert "Limit" in plan, plan

"""Two of the incidents of docs/operating.md, found and mended in a browser alone: from the start page by what its links
and buttons say, until nothing hurts any more."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from tests.builders import a_tenant, job_row
from tests.cli import browser
from tests.web.ops.browsing import serving
from tests.web.ops.test_acting_browser import shown, sign_in
from web.ops.app import ops_routes
from web.ops.live import Live
from workers.app import App
from workers.engine.outcomes import rescue
from workers.jobs.accounts import read_limits
from workers.jobs.upkeep import prune

FIND = """((text, within) => {
    const named = (each) => (each.innerText || "").trim();
    const inside = (each) => [...each.querySelectorAll("a, button, summary")];
    const all = [...document.querySelectorAll(within)].flatMap(inside);
    const found = all.find((each) => named(each) === text) || all.find((each) => named(each).includes(text));
    if (!found) throw new Error(`nothing says ${text}: ${all.map(named).join(" | ")}`);
    document.querySelectorAll("[data-next]").forEach((each) => each.removeAttribute("data-next"));
    found.setAttribute("data-next", "");
})"""


class Operator:
    """Somebody who reads pages, and goes on by what links and buttons say."""

    def __init__(self, page: browser.Page, origin: str) -> None:
        self._page = page
        self._origin = origin

    def start(self) -> str:
        """Return what the start page says."""
        self._page.open(f"{self._origin}/ops")
        return shown(self._page)

    def follow(self, text: str, *, within: str = "main") -> str:
        """Click what says this, and return what the page that follows says."""
        self._find(text, within)
        self._page.click("[data-next]")
        return shown(self._page)

    def unfold(self, text: str, *, within: str = "main") -> None:
        self._find(text, within)
        self._page.run("document.querySelector('[data-next]').click()")

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            field = json.dumps(f"[name='{name}'], [name='arg.{name}']")
            self._page.run(f"document.querySelector({field}).value = {json.dumps(value)}")

    def _find(self, text: str, within: str) -> None:
        self._page.run(f"{FIND}({json.dumps(text)}, {json.dumps(within)})")


@pytest.fixture
def operator(app: App, page: browser.Page) -> Iterator[Operator]:
    live = Live(every=0.2)
    with serving(ops_routes(app, live), live) as origin:
        sign_in(app, page, origin)
        yield Operator(page, origin)
        assert page.complaints() == []


@pytest.mark.timeout(120)
def test_a_poison_job(app: App, operator: Operator, drain: Callable[[], int]) -> None:
    with app.db.transaction(SYSTEM) as tx:
        jobs = [prune.enqueue(tx), prune.enqueue(tx, older_than=timedelta(days=7))]
    for _ in range(2):
        app.runner().claim(jobs, quarantined=True)  # a process that is never heard of again
        rescue(app.db, app.job_types)
    assert "2 failed jobs of nobody who pays wait" in operator.start()
    assert "its worker process died 2 times" in operator.follow("2 failed jobs")
    text = operator.follow(str(jobs[0]))
    assert "Why it is where it is" in text
    assert "WorkerLost" in text
    asked = operator.follow("Retry", within="nav.acts")
    assert "failed" in asked
    assert "with one more attempt" in asked
    operator.fill(reason="a release mends it")
    assert "due again" in operator.follow("Retry", within="form.act")
    drain()
    assert job_row(app, jobs[0])["status"] == "completed"

    operator.start()
    operator.follow("1 failed job")
    operator.follow(str(jobs[1]))
    assert "give up one that failed" in operator.follow("Cancel", within="nav.acts")
    operator.fill(reason="it can never work")
    text = operator.follow("Cancel", within="form.act")
    assert "given up" in text
    assert "status: failed → cancelled" in text
    assert "it can never work" in text
    assert "Nothing hurts." in operator.start()


@pytest.mark.timeout(120)
def test_a_tenants_flood(app: App, operator: Operator, drain: Callable[[], int]) -> None:
    loud, quiet = a_tenant(app, name="Loud"), a_tenant(app, name="Quiet")
    with app.db.transaction(SYSTEM) as tx:
        read_limits.enqueue_many(tx, [{"tenant_id": str(loud), "account_id": str(uuid4())} for _ in range(40)])
        read_limits.enqueue(tx, tenant_id=quiet, account_id=uuid4())
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() - interval '9 min'")
        tx.workers.beat(uuid4(), hostname="w", pid=7, queues=("social",), version="1.0", lease=timedelta(minutes=5))
    assert "The queue social is late" in operator.start()
    assert "Loud\tFREE\t40\t" in operator.follow("The queue social is late")
    operator.unfold("Act", within="tr:has(a[href*='/ops/tenants/'])")
    asked = operator.follow("Limit", within="details[open]")
    assert "Loud" in asked
    assert "Of each tenant" not in asked
    operator.fill(running="2", reason="a flood")
    assert "at most 2 at once" in operator.follow("Limit", within="form.act")

    operator.unfold("Act", within="tr:has(a[href*='/ops/tenants/'])")
    assert "Loud" in operator.follow("Pause", within="details[open]")
    operator.fill(reason="until we have spoken")
    text = operator.follow("Pause", within="form.act")
    assert "a flood" in text, "what was decided of the tenant is in the queue's history"
    with app.db.transaction(SYSTEM) as tx:
        [first] = tx.driver.execute("SELECT id FROM job_queue WHERE tenant_id = %s", (quiet,)).fetchone() or [None]
    assert f"Next jobs\nJob\tType\tTenant\tPriority\tDue\n{first}" in text
    assert drain() == 1
    text = operator.start()
    assert "is late" not in text, "nobody waits but whom a person has paused"
    assert "Loud is paused in the queue social: 40 jobs held." in text

    operator.follow("Loud is paused")
    operator.unfold("Act", within="tr:has(a[href*='/ops/tenants/'])")
    operator.follow("Resume", within="details[open]")
    operator.follow("Resume", within="form.act")
    drain()
    assert "Nothing hurts." in operator.start()

"""Acting in a real browser: a job is retried and a group of failures too from the page alone, with and without scripts,
and axe finds nothing on the pages on which that is done."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from tests.builders import an_ended_job, job_row
from tests.cli import browser
from tests.wait import until
from tests.web.ops import axe
from tests.web.ops.browsing import serving
from tests.web.ops.test_browser import WIDE_TABLES
from web.ops.app import ops_routes
from web.ops.live import Live
from workers.app import App
from workers.ops.operators import create_token

FORM = "form.act"


@pytest.fixture
def origin(app: App) -> Iterator[str]:
    live = Live(every=0.2)
    with serving(ops_routes(app, live), live) as address:
        yield address


def sign_in(app: App, page: browser.Page, origin: str) -> None:
    page.open(f"{origin}/ops/login")
    page.run(f"document.querySelector('[name=token]').value = '{create_token(app, 'ada', 'act').text}'")
    page.submit(".sign-in")


def shown(page: browser.Page) -> str:
    return str(page.run("document.querySelector('main').innerText"))


def states(app: App, *jobs: UUID) -> list[str]:
    return [job_row(app, each)["status"] for each in jobs]


def failures(app: App, count: int) -> list[UUID]:
    jobs = [an_ended_job(app, "failed", ended=datetime.now(UTC), job_type="quota.reset_due") for _ in range(count)]
    with app.db.transaction(SYSTEM) as tx:
        for job_id in jobs:
            tx.driver.execute(
                "INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, error_group, ended_at)"
                " VALUES (%s, 1, 'failed', 'ProviderUnavailable', 'the model answered 529', 'g1', now())",
                (job_id,),
            )
    return jobs


@pytest.mark.proof(but=["False"])
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scripts", [True, False])
def test_a_job_and_a_group_of_failures_are_retried_from_the_page_alone(
    app: App, page: browser.Page, origin: str, drain: Callable[[], int], *, scripts: bool
) -> None:
    jobs = failures(app, 4)
    if not scripts:
        page.without_scripts()
    sign_in(app, page, origin)
    page.open(f"{origin}/ops/jobs/{jobs[0]}")
    page.click(".acts a[href*='job.retry']")
    page.run("document.querySelector('[name=reason]').value = 'the model is back'")
    page.submit(FORM)
    assert page.run("document.querySelector('[role=status].outcome').innerText").startswith("done")
    assert states(app, jobs[0]) == ["pending"]

    page.open(f"{origin}/ops/failures")
    page.click("a[href^='/ops/failures/']")
    page.click("button[formaction*='job.retry'][value=all]")
    assert "Retry: 3" in shown(page)
    page.run("document.querySelector('[name=reason]').value = 'the model is back'")
    page.submit(FORM)
    drain()
    if not scripts:
        page.open(page.run("location.href"))
    until(lambda: "3 of 3" in shown(page), "the progress")
    assert "failed" not in states(app, *jobs)
    assert [text for text in page.complaints() if "status of 40" not in text] == []


@pytest.mark.timeout(300)
def test_what_is_ticked_stays_ticked_while_the_page_is_live(app: App, page: browser.Page, origin: str) -> None:
    jobs = failures(app, 3)
    sign_in(app, page, origin)
    page.open(f"{origin}/ops/jobs?status=failed")
    until(lambda: page.run("document.getElementById('live').textContent") == "Live", "the stream")
    page.run(f"document.querySelector('[value=\"job:{jobs[1]}\"]').click()")
    failures(app, 2)
    until(lambda: "ticked" in page.run("document.getElementById('live').textContent"), "a look")
    ticked = page.run("[...document.querySelectorAll('[name=target]:checked')].map((each) => each.value)")
    assert ticked == [f"job:{jobs[1]}"]


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_axe_finds_nothing_where_one_acts(app: App, page: browser.Page, origin: str) -> None:
    """On the confirm page of each kind of field, the audit, and a bulk action before and after its start."""
    script, jobs, found = axe.script(), failures(app, 3), {}
    sign_in(app, page, origin)
    page.open(f"{origin}/ops/jobs?status=failed")
    page.click("button[formaction*='job.retry'][value=all]")
    bulk = page.run("location.pathname")
    addresses = [
        *(f"/ops/act/job.retry?target=job:{jobs[0]}", f"/ops/act/job.prioritize?target=job:{jobs[0]}"),
        *("/ops/act/queue.limit?target=queue:llm", f"/ops/jobs/{jobs[0]}", "/ops/jobs?status=failed"),
        *("/ops/actions", bulk),
    ]

    def look() -> None:
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                page.show_as(width=width, height=900, scheme=scheme)
                for address in addresses:
                    page.open(f"{origin}{address}")
                    if wrong := axe.violations(page, script):
                        found[f"{address} {scheme} {width}"] = wrong
                    if not page.run(WIDE_TABLES):
                        found[f"{address} at {width}"] = ["wider than the window"]

    look()
    page.run("document.querySelector('[name=reason]').value = 'why not'")
    page.submit(FORM)
    assert "of 3" in shown(page)
    addresses[:] = [bulk, "/ops/actions"]
    look()
    assert found == {}

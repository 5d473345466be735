"""Acting on many things from the operator's page: what is previewed is acted on, and each refused one is said."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from tests.builders import an_ended_job, job_row
from tests.web.ops.forms import FROM_OWN, Form, forms_of, load, operator, send
from workers.app import App

ENDED = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def ada(app: App) -> Iterator[TestClient]:
    with operator(app) as client:
        yield client


def failed(app: App, count: int = 1, **columns: object) -> list[UUID]:
    columns |= {"job_type": "quota.reset_due", "attempts": 3}
    return [an_ended_job(app, "failed", ended=ENDED, **columns) for _ in range(count)]


def states(app: App, *jobs: UUID) -> list[str]:
    return [job_row(app, each)["status"] for each in jobs]


def previewed(ada: TestClient, form: Form, action: str = "job.retry", **values: object) -> str:
    """Press a button of a list; returns the address of the page that counts what is chosen."""
    sent = ada.post(f"/ops/act/{action}/preview", data=form.filled({}) | values, headers=FROM_OWN)
    assert sent.status_code == 303, sent.text
    assert re.fullmatch(r"/ops/bulk/[0-9a-f-]{36}", sent.headers["location"])
    return sent.headers["location"]


def test_all_that_fit_a_filter_are_counted_started_and_followed(
    app: App, ada: TestClient, drain: Callable[[], int]
) -> None:
    jobs, others = failed(app, 3, queue="llm"), failed(app, 2, queue="media")
    place = previewed(ada, load(ada, "/ops/jobs?status=failed&queue=llm"), scope="all")
    later = failed(app, 1, queue="llm")
    page = ada.get(place).text
    assert "Retry: 3" in page
    assert [str(each) in page for each in (*jobs, *others, *later)] == [True] * 3 + [False] * 3
    form = load(ada, place)
    assert send(ada, form, reason=" ").status_code == 400, "it needs a reason"
    assert states(app, *jobs) == ["failed"] * 3
    assert send(ada, form, reason="the model is back").status_code == 303
    drain()
    assert "failed" not in states(app, *jobs)
    assert states(app, *others, *later) == ["failed"] * 3
    page = ada.get(place).text
    assert "3 of 3" in page
    assert "the model is back" in page
    assert "operator:ada" in ada.get("/ops/actions").text


def test_only_what_is_ticked_is_chosen(app: App, ada: TestClient, drain: Callable[[], int]) -> None:
    jobs = failed(app, 4)
    form = load(ada, "/ops/jobs?status=failed")
    assert {value for name, value in form.boxes if name == "target"} == {f"job:{each}" for each in jobs}
    assert {button["formaction"] for button in form.buttons} >= {"/ops/act/job.retry/preview"}
    ticked = [f"job:{each}" for each in jobs[1:3]]
    place = previewed(ada, form, scope="ticked", target=ticked)
    send(ada, load(ada, place), reason="these two")
    drain()
    assert [state == "failed" for state in states(app, *jobs)] == [True, False, False, True]


def test_what_is_refused_is_listed_with_the_reason(app: App, ada: TestClient, drain: Callable[[], int]) -> None:
    first, second = failed(app, 2, unique_key="the same")
    place = previewed(ada, load(ada, "/ops/jobs?status=failed"), scope="all")
    send(ada, load(ada, place), reason="both")
    drain_once = ada.get(place).text
    assert "0 of 2" in drain_once or "of 2" in drain_once
    drain()
    page = ada.get(place).text
    assert "2 of 2" in page
    assert "of the same key is live" in page
    assert f"/ops/jobs/{second}" in page or f"/ops/jobs/{first}" in page


def test_what_is_left_is_cancelled(app: App, ada: TestClient, drain: Callable[[], int]) -> None:
    jobs = failed(app, 3)
    place = previewed(ada, load(ada, "/ops/jobs?status=failed"), scope="all")
    send(ada, load(ada, place), reason="all of them")
    form = load(ada, place)
    assert form.action == f"{place}/cancel"
    assert send(ada, form).status_code == 303
    drain()
    assert states(app, *jobs) == ["failed"] * 3
    assert "cancelled" in ada.get(place).text


def test_a_start_that_is_sent_by_twenty_threads_starts_once(app: App, ada: TestClient) -> None:
    failed(app, 3)
    form = load(ada, previewed(ada, load(ada, "/ops/jobs?status=failed"), scope="all"))
    with ThreadPoolExecutor(20) as threads:
        sent = list(threads.map(lambda _: send(ada, form, reason="once"), range(20)))
    assert {each.status_code for each in sent} <= {303, 400}
    with app.db.transaction(SYSTEM) as tx:
        started = tx.driver.execute("SELECT count(DISTINCT job_id), count(job_id) FROM bulk_actions").fetchone()
    assert started == (1, 1)


def test_an_action_that_takes_arguments_asks_for_them_and_keeps_what_was_chosen(app: App, ada: TestClient) -> None:
    jobs = failed(app, 2)
    form = load(ada, "/ops/jobs?status=failed")
    sent = ada.post(
        "/ops/act/job.prioritize/preview",
        data=form.filled({}) | {"scope": "ticked", "target": [f"job:{jobs[0]}"]},
        headers=FROM_OWN,
    )
    assert sent.status_code == 200
    [asked] = forms_of(sent.text)
    wrong = send(ada, asked, **{"arg.priority": "<b>urgent</b>"})
    assert (wrong.status_code, 'role="alert"' in wrong.text, "<b>urgent" in wrong.text) == (400, True, False)
    [asked] = forms_of(wrong.text)
    place = send(ada, asked, **{"arg.priority": "1"}).headers["location"]
    page = ada.get(place).text
    assert [str(each) in page for each in jobs] == [True, False]


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("job.retry", {"scope": "ticked"}, 400),
        ("job.retry", {"scope": "ticked", "target": "job:1"}, 400),
        ("job.retry", {"scope": "ticked", "target": "queue:<img src=x>"}, 400),
        ("job.retry", {"scope": "all", "filter.status": "<img src=x>"}, 400),
        ("job.retry", {"scope": "all", "of": "<img src=x>"}, 400),
        ("job.retry", {"scope": "all", "of": "failures", "filter.group": "<img src=x>"}, 400),
        ("queue.pause", {"scope": "all"}, 400),
        ("<img src=x>", {"scope": "all"}, 404),
    ],
)
def test_a_choice_that_cannot_be_is_said(
    app: App, ada: TestClient, action: str, fields: dict[str, str], status: int
) -> None:
    failed(app)
    form = load(ada, "/ops/jobs?status=failed")
    sent = ada.post(f"/ops/act/{action}/preview", data=form.filled({}) | fields, headers=FROM_OWN)
    assert (sent.status_code, "<img" in sent.text) == (status, False)


def test_whoever_looks_sees_a_bulk_action_without_its_buttons(app: App, ada: TestClient) -> None:
    failed(app)
    place = previewed(ada, load(ada, "/ops/jobs?status=failed"), scope="all")
    with operator(app, "lois", "look") as lois:
        page = lois.get(place)
        assert page.status_code == 200
        assert forms_of(page.text) == []
        assert forms_of(lois.get("/ops/jobs?status=failed").text) == []
    assert ada.get(f"/ops/bulk/{uuid4()}").status_code == 404
    assert ada.get("/ops/bulk/%3Cimg%3E").status_code == 404

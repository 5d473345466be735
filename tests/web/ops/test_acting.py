"""Acting on one thing from the operator's page: what is confirmed, who may, and that a form has one effect."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html import unescape
from threading import Barrier
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from domain.ops.action_list import ACTIONS
from domain.ops.actions import Argument, Kind
from tests.builders import a_tenant, an_ended_job, job_row
from tests.web.ops.forms import FROM_OWN, ORIGIN, forms_of, load, operator, send
from tests.web.ops.hurting import make_it_hurt
from web.ops.filters import place
from workers.app import App
from workers.ops.operators import create_token, revoke_token
from workers.ops.tenant_deletion import begin_deletion
from workers.ops.tenants import find_quota

EVIL = "</textarea></td><script>alert(1)</script><img src=x onerror=alert(2)>\" onclick='x' {{7*7}}"


@pytest.fixture
def ada(app: App) -> Iterator[TestClient]:
    with operator(app) as client:
        yield client


@pytest.fixture
def failed_job(app: App) -> UUID:
    return an_ended_job(app, "failed", ended=datetime.now(UTC), job_type="quota.reset_due", attempts=3)


def retry(job_id: UUID) -> str:
    return f"/ops/act/job.retry?target=job:{job_id}"


def actions(app: App) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT who, action, target, outcome, reason FROM operator_actions").fetchall()
    return [dict(zip(("who", "action", "target", "outcome", "reason"), row, strict=True)) for row in rows]


def test_a_form_acts_and_the_page_says_what_became_of_it(app: App, ada: TestClient, failed_job: UUID) -> None:
    page = ada.get(f"/ops/jobs/{failed_job}").text
    assert retry(failed_job).replace(":", "%3A") in page
    form = load(ada, retry(failed_job))
    sent = send(ada, form, reason="the model is back")
    assert (sent.status_code, sent.headers["location"].split("?")[0]) == (303, f"/ops/jobs/{failed_job}")
    assert job_row(app, failed_job)["status"] == "pending"
    after = ada.get(sent.headers["location"]).text
    assert 'role="status"' in after
    assert "the model is back" in after, "the history of the job"
    assert actions(app) == [
        {
            "who": "operator:ada",
            "action": "job.retry",
            "target": f"job:{failed_job}",
            "outcome": "done",
            "reason": "the model is back",
        }
    ]


def test_of_twenty_threads_that_send_one_form_one_acts(app: App, ada: TestClient, failed_job: UUID) -> None:
    form, together = load(ada, retry(failed_job)), Barrier(20)

    def press(_: int) -> str:
        together.wait()
        sent = send(ada, form)
        assert sent.status_code == 303, sent.text
        return sent.headers["location"]

    with ThreadPoolExecutor(20) as threads:
        places = set(threads.map(press, range(20)))
    assert len(places) == 1
    assert len(actions(app)) == 1
    assert job_row(app, failed_job)["max_attempts"] == 4, "retried once"
    assert send(ada, form).headers["location"] in places, "a reload shows the first one's outcome"


def test_what_is_refused_is_said_on_the_form_which_keeps_what_was_filled_in(app: App, ada: TestClient) -> None:
    job_id = an_ended_job(app, "completed", ended=datetime.now(UTC))
    sent = send(ada, load(ada, retry(job_id)), reason=EVIL)
    assert sent.status_code == 409
    assert 'role="alert"' in sent.text
    assert "only a failed or cancelled job" in sent.text
    [form] = forms_of(sent.text)
    assert form.filled({})["reason"] == EVIL
    assert "<script>alert" not in sent.text
    assert "<img src=x" not in sent.text
    assert [each["outcome"] for each in actions(app)] == ["refused"]
    assert "<img src=x" not in ada.get("/ops/actions").text
    assert "<img src=x" not in ada.get(f"/ops/jobs/{job_id}").text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("job.retry?target=job:00000000-0000-7000-8000-000000000000", 404),
        ("job.retry?target=queue:social", 404),
        ("job.retry", 400),
        ("job.retry?target=job:1", 400),
        ("job.burn?target=job:00000000-0000-7000-8000-000000000000", 404),
        ("%3Cimg%20src=x%3E?target=%3Cimg%20src=x%3E", 404),
        ("queue.pause?target=queue:%3Cimg%20src=x%3E", 404),
    ],
)
def test_what_cannot_be_acted_on_is_said(ada: TestClient, address: str, status: int) -> None:
    response = ada.get(f"/ops/act/{address}")
    assert response.status_code == status, response.text
    assert "<img" not in response.text
    assert forms_of(response.text) == []


# --- who may -----------------------------------------------------------------------------------------------------


def test_a_form_of_nobody_or_of_another_session_is_refused(app: App, ada: TestClient, failed_job: UUID) -> None:
    form = load(ada, retry(failed_job))
    with operator(app, "grace") as grace:
        of_grace = load(grace, retry(failed_job)).filled({})["form_token"]
        assert send(grace, form).status_code == 403, "ada's form, sent by grace"
    for proof in ("", "0" * 64, of_grace, "ü"):
        refused = send(ada, form, form_token=proof)
        assert (refused.status_code, "not made for your session" in refused.text) == (403, True)
    without = {name: value for name, value in form.filled({}).items() if name != "form_token"}
    assert ada.post(form.action, data=without, headers=FROM_OWN).status_code == 403
    assert actions(app) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(
    app: App, ada: TestClient, failed_job: UUID, headers: dict[str, str]
) -> None:
    form = load(ada, retry(failed_job))
    assert ada.post(form.action, data=form.filled({}), headers=headers).status_code == 403
    assert actions(app) == []


def changing_routes(client: TestClient) -> list[tuple[str, str]]:
    """Every method and path below /ops that is there to act, found from the routes themselves."""
    [guard] = client.app.routes  # type: ignore[attr-defined]
    found = []
    for route in guard.inside.routes:
        assert isinstance(route, Route | Mount)
        methods = route.methods or set() if isinstance(route, Route) else {"GET"}
        if "POST" in methods:
            path = route.path.replace("{action}", "job.retry").replace("{id}", str(uuid4()))
            found += [(method, path) for method in sorted(methods)]
    assert len(found) >= 3
    return found


def test_whoever_may_only_look_changes_nothing_anywhere(app: App, ops: TestClient, failed_job: UUID) -> None:
    """A token to look, a bearer of one to act, and a program on this machine while no token is needed."""
    target = {"target": f"job:{failed_job}"}
    for method, path in changing_routes(ops):
        refused = ops.request(method, path, params=target, headers=FROM_OWN)
        assert refused.status_code == 403, (method, path)
        assert method == "HEAD" or "viral ops token create NAME --role act" in refused.text
    assert "nobody may act" in ops.get(f"/ops/jobs/{failed_job}").text
    with operator(app, "lois", "look") as lois:
        assert "/ops/act/" not in lois.get(f"/ops/jobs/{failed_job}").text
        for method, path in changing_routes(lois):
            refused = lois.request(method, path, params=target, data={"form_token": "x"}, headers=FROM_OWN)
            assert refused.status_code == 403, (method, path)
            assert method == "HEAD" or "your token may look and not act" in refused.text
    bearer = {"Authorization": f"Bearer {create_token(app, 'robot', 'act').text}"}
    for method, path in changing_routes(ops):
        refused = ops.request(method, path, params=target, headers=bearer)
        assert refused.status_code == 403, (method, path)
        assert method == "HEAD" or "a bearer token only looks here" in refused.text
    assert actions(app) == []


def test_what_changes_something_is_understood_as_get_or_post_alone(ada: TestClient) -> None:
    for _, path in changing_routes(ada):
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert ada.request(method, path, headers=FROM_OWN).status_code == 405, (method, path)


def test_a_token_that_is_revoked_acts_no_more_at_once(app: App, failed_job: UUID) -> None:
    with operator(app, "mallory") as mallory:
        form = load(mallory, retry(failed_job))
        revoke_token(app, "mallory")
        assert send(mallory, form).status_code == 401
    assert actions(app) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"form_token=" + b"a" * 40_000, 413),
        (b"&".join(b"a%d=1" % n for n in range(400)), 400),
        (b"form_token=\xff", 400),
    ],
)
def test_a_form_is_bounded(ada: TestClient, failed_job: UUID, body: bytes, status: int) -> None:
    headers = FROM_OWN | {"Content-Type": "application/x-www-form-urlencoded"}
    assert ada.post(retry(failed_job), content=body, headers=headers).status_code == status
    assert ada.post(retry(failed_job), json={}, headers=FROM_OWN).status_code == 415


@pytest.mark.parametrize("field", [{"id": ""}, {"id": "1"}, {"reason": "x" * 501}, {"reason": "a\0b"}])
def test_a_field_that_cannot_be_is_refused_before_anything_is_done(
    app: App, ada: TestClient, failed_job: UUID, field: dict[str, str]
) -> None:
    assert send(ada, load(ada, retry(failed_job)), **field).status_code == 400
    assert actions(app) == []


# --- every action ------------------------------------------------------------------------------------------------


def one_of_each_kind(app: App) -> dict[Kind, str]:
    """Things that something can be done to."""
    make_it_hurt(app)

    def first(table: str) -> str:
        with app.db.transaction(SYSTEM) as tx:
            return str(tx.driver.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 1".encode()).fetchall()[0][0])

    return {
        Kind.JOB: f"job:{first('job_queue')}",
        Kind.EVENT: f"event:{first('webhook_events')}",
        Kind.POST: f"post:{first('social_posts')}",
        Kind.VIDEO: f"video:{first('videos')}",
        Kind.ACCOUNT: f"account:{first('social_accounts')}",
        Kind.TENANT: f"tenant:{first('tenants')}",
        Kind.PROVIDER: "provider:runway",
        Kind.QUEUE: "queue:llm",
    }


def usual(argument: Argument) -> str | None:
    if argument.choices and argument.required:
        return argument.choices[0]
    return str(argument.least) if argument.least is not None else None


@pytest.mark.timeout(120)
def test_each_action_has_its_button_its_confirm_page_and_a_form_that_acts(app: App, ada: TestClient) -> None:
    """Whichever actions there are: one that is added is tried without a line here. A button is there if what it does
    fits the state; the form says itself why it does not."""
    things, outcomes, offered = one_of_each_kind(app), {}, set()
    for action in ACTIONS.values():
        about = things[action.kind]
        button = f"/ops/act/{action.name}?{urlencode({'target': about})}"
        if button in unescape(ada.get(place(about)).text):
            offered.add(action.name)
        else:
            assert action.states, action.name
        page = ada.get(button)
        assert page.status_code == 200, (action.name, page.text)
        text = unescape(page.text)
        assert action.says in text
        assert action.warns in text
        assert f"viral {action.words}" in text
        filled = {f"arg.{each.name}": value for each in action.arguments if (value := usual(each)) is not None}
        filled |= {f"arg.{each.name}": about.partition(":")[2] for each in action.arguments if each.typed}
        [form] = forms_of(page.text)
        sent = send(ada, form, reason=f"to try {action.name}", **filled)
        assert sent.status_code in (303, 409), (action.name, sent.text)
        if sent.status_code == 303:
            assert sent.headers["location"].startswith(place(about) + "?done="), action.name
            assert 'role="status"' in ada.get(sent.headers["location"]).text
        [outcomes[action.name]] = [each["outcome"] for each in actions(app) if each["action"] == action.name]
    assert set(outcomes.values()) <= {"done", "unchanged", "refused"}, outcomes
    certain = ("job.retry", "queue.pause", "queue.resume", "queue.limit", "quota.reset", "provider.disable")
    assert {outcomes[name] for name in certain} == {"done"}, outcomes
    assert offered >= {*certain}, "what can be done is offered"


def test_concepts_are_granted_with_a_reason_and_taken_again_by_undo(app: App, ada: TestClient) -> None:
    tenant_id = a_tenant(app, name="Ada")
    page = f"/ops/act/quota.grant?target=tenant:{tenant_id}"
    assert "--reason TEXT" in ada.get(page).text
    form = load(ada, page)
    assert send(ada, form, **{"arg.count": "5"}).status_code == 400, "it needs a reason"
    sent = send(ada, form, reason="an apology", **{"arg.count": "5"})
    send(ada, form, reason="an apology", **{"arg.count": "5"})
    assert find_quota(app, tenant_id)["remaining"] == 15
    done = unescape(ada.get(sent.headers["location"]).text)
    assert "5 concepts granted" in done
    undo = f"/ops/act/quota.take?target=tenant%3A{tenant_id}&arg.count=5"
    assert undo in done
    send(ada, load(ada, undo), reason="granted twice", **{"arg.count": "5"})
    assert find_quota(app, tenant_id)["remaining"] == 10


def test_a_tenant_is_deleted_by_whoever_types_its_name(app: App, ada: TestClient) -> None:
    tenant_id = a_tenant(app, name="Ada's films")
    form = load(ada, f"/ops/act/tenant.delete?target=tenant:{tenant_id}")
    wrong = send(ada, form, reason="asked by its owner", **{"arg.name": "Ada"})
    assert (wrong.status_code, "neither its name nor its id" in unescape(wrong.text)) == (409, True)
    form = load(ada, f"/ops/act/tenant.delete?target=tenant:{tenant_id}")
    assert send(ada, form, reason="asked by its owner", **{"arg.name": "Ada's films"}).status_code == 303
    with app.db.transaction(SYSTEM) as tx:
        [(payload,)] = tx.driver.execute("SELECT payload FROM job_queue WHERE job_type LIKE 'tenants.%'").fetchall()
    assert payload["doomed_id"] == str(tenant_id)


def test_nothing_is_offered_for_a_deleted_tenant(ada: TestClient, app: App) -> None:
    tenant_id = a_tenant(app)
    assert f"tenant.delete?target=tenant%3A{tenant_id}" in ada.get(f"/ops/tenants/{tenant_id}").text
    begin_deletion(app, tenant_id, who="person:ada")
    page = ada.get(f"/ops/tenants/{tenant_id}").text
    assert "It was deleted" in page
    assert "/ops/act/" not in page

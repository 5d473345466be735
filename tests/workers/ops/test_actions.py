"""What operators do is done once, whoever asks how often, and the audit says who, what, why, before and after."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.queue.enqueue import NewJob
from db.transaction import SYSTEM
from domain.errors import Rejected
from domain.ops.action_list import ACTIONS
from domain.ops.actions import Outcome, Performed, Target, shell_line, target
from tests.builders import a_tenant, job_row
from workers.app import App
from workers.ops.actions import PERFORMERS, audit, find_action, perform, state_of

ADA = "person:ada"
THREADS = 8
SOME = "01a20417-5ccc-7850-9558-0a37b805228c"


def a_job(app: App, status: str = "pending", *, unique_key: str | None = None, **columns: Any) -> UUID:
    job_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(NewJob(job_id, "quota.reset_due", "default", unique_key=unique_key))
        ended = "now()" if status in ("failed", "cancelled") else "NULL"
        tx.driver.execute(f"UPDATE job_queue SET status = %s, completed_at = {ended} WHERE id = %s", (status, job_id))
        for name, value in columns.items():
            tx.driver.execute(f"UPDATE job_queue SET {name} = %s WHERE id = %s", (value, job_id))
    return job_id


def at_once(app: App, name: str, what: Target, arguments: dict[str, Any] | None = None) -> list[Performed]:
    barrier = Barrier(THREADS)

    def one(number: int) -> Performed:
        barrier.wait()
        return perform(app, name, what, arguments, who=f"person:ada{number}")

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def outcomes(done: Sequence[Performed]) -> list[str]:
    return sorted(each.outcome for each in done)


def test_each_action_has_a_performer_and_a_line_of_the_shell() -> None:
    assert ACTIONS.keys() == PERFORMERS.keys()
    for action in ACTIONS.values():
        assert action.undo is None or action.undo in ACTIONS
    tenant = "0190a5b2-5ccc-7850-9558-0a37b805228c"
    line = shell_line(ACTIONS["queue.limit"], target(f"queue:llm/{tenant}"), {"running": 4, "none": True}, "it's slow")
    assert line == f"viral queues limit llm --running 4 --none --tenant {tenant} --reason 'it'\"'\"'s slow'"
    line = shell_line(ACTIONS["model.promote"], target(f"tenant:{tenant}"), {"model": "ridge", "platform": "tiktok"})
    assert line == f"viral reflexion promote ridge --platform tiktok --tenant {tenant}"


@pytest.mark.parametrize(
    ("name", "status", "columns", "others"),
    [
        ("job.retry", "failed", {}, Outcome.REFUSED),
        ("job.cancel", "pending", {}, Outcome.REFUSED),
        ("job.cancel", "running", {"worker_id": UUID(SOME), "lease_token": 1}, Outcome.UNCHANGED),
        ("job.run_now", "pending", {"scheduled_for": "2999-01-01", "wake_at": "2999-01-01"}, Outcome.UNCHANGED),
        ("job.prioritize", "pending", {}, Outcome.UNCHANGED),
    ],
    ids=["retry", "cancel", "ask to stop", "run now", "prioritize"],
)
def test_of_many_who_do_the_same_to_a_job_one_does_it(
    app: App, name: str, status: str, columns: dict[str, Any], others: Outcome
) -> None:
    if status == "running":
        job_id = a_job(app)
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute(
                "UPDATE job_queue SET status = 'running', worker_id = %(worker_id)s, lease_token = %(lease_token)s"
                " WHERE id = %(id)s",
                columns | {"id": job_id},
            )
    else:
        job_id = a_job(app, status, **columns)
    arguments = {"priority": "1"} if name == "job.prioritize" else {}
    done = at_once(app, name, target(f"job:{job_id}"), arguments)
    assert outcomes(done) == sorted([Outcome.DONE, *[others] * (THREADS - 1)])
    [winner] = [each for each in done if each.outcome is Outcome.DONE]
    rows = audit(app, target=target(f"job:{job_id}"))
    assert sorted(row["outcome"] for row in rows) == outcomes(done)
    [row] = [row for row in rows if row["id"] == winner.id]
    assert row["before"] != row["after"]
    assert row["before"].keys() == row["after"].keys()
    assert row["ended_at"] >= row["at"]


def test_a_job_that_is_made_due_or_given_another_priority_is_notified_of_as_its_row_says(app: App) -> None:
    later = a_job(app, scheduled_for="2999-01-01", wake_at="2999-01-01", wake_count=3)
    with app.db.transaction(SYSTEM) as tx:
        assert not tx.transitions.prioritize(later, 5)
        assert tx.transitions.prioritize(later, 9)
        assert dict(tx.notifications) == {}  # it is not due
        assert tx.transitions.run_now(later)
        assert dict(tx.notifications) == {"default": {later: 9}}
        assert tx.transitions.prioritize(later, 0)
        assert dict(tx.notifications) == {"default": {later: 0}}
    row = job_row(app, later)
    assert (row["priority"], row["wake_at"], row["wake_count"]) == (0, None, 0)
    with app.db.transaction(SYSTEM) as tx:
        assert row["scheduled_for"] <= tx.now()
        assert later in tx.jobs.due_now()


def test_a_job_that_was_due_and_held_back_keeps_its_place(app: App) -> None:
    job_id = a_job(app, wake_at="2999-01-01")
    before = job_row(app, job_id)["scheduled_for"]
    assert perform(app, "job.run_now", target(f"job:{job_id}"), who=ADA).outcome is Outcome.DONE
    assert job_row(app, job_id)["scheduled_for"] == before
    ended = a_job(app, "failed")
    for name, arguments in (("job.run_now", {}), ("job.prioritize", {"priority": 3})):
        refused = perform(app, name, target(f"job:{ended}"), arguments, who=ADA)
        assert (refused.outcome, refused.says[:12]) == (Outcome.REFUSED, "it is failed")


def test_a_live_twin_is_a_refusal_with_its_id(app: App) -> None:
    failed = a_job(app, "failed", unique_key="k")
    twin = a_job(app, unique_key="k")
    done = perform(app, "job.retry", target(f"job:{failed}"), who=ADA, reason="try")
    assert done.outcome is Outcome.REFUSED
    assert str(twin) in done.says
    row = find_action(app, done.id)
    assert row is not None
    assert (row["outcome"], row["says"], row["who"], row["reason"]) == ("refused", done.says, ADA, "try")


def test_of_many_who_decide_the_same_of_a_queue_one_does(app: App) -> None:
    tenant_id = a_tenant(app)
    for what in (target("queue:llm"), target(f"queue:llm/{tenant_id}")):
        for name, arguments in (
            ("queue.pause", {}),
            ("queue.limit", {"running": "4"}),
            ("queue.resume", {}),
            ("queue.limit", {"none": "yes"}),
        ):
            done = at_once(app, name, what, arguments)
            assert outcomes(done) == sorted([Outcome.DONE, *[Outcome.UNCHANGED] * (THREADS - 1)]), name
    [lifted, resumed, limited, paused] = [row for row in audit(app, target=what) if row["outcome"] == "done"]
    assert paused["after"]["paused_at"] == resumed["before"]["paused_at"] is not None
    assert limited["after"] == {"max_running": 4, "max_running_per_tenant": None} == lifted["before"]
    with app.db.transaction(SYSTEM) as tx:
        assert tx.queues.policies() == []
        causes = {cause for (cause,) in tx.driver.execute("SELECT DISTINCT cause FROM changes")}
    assert causes
    assert all(cause.startswith("person:ada") for cause in causes)
    unknown = perform(app, "queue.pause", target("queue:nope"), who=ADA)
    assert (unknown.outcome, unknown.error) == (Outcome.REFUSED, "UnknownQueue")


def test_an_id_that_was_used_performs_nothing_again(app: App) -> None:
    tenant_id, row_id = a_tenant(app), uuid4()
    what = target(f"tenant:{tenant_id}")
    first = perform(app, "quota.reset", what, who="operator:ops", action_id=row_id)
    again = perform(app, "quota.reset", what, who="operator:ops", action_id=row_id)
    assert (again.id, again.outcome, again.says) == (first.id, Outcome.DONE, first.says)
    assert len(audit(app, target=what)) == 1
    with app.db.transaction(tenant_id) as tx:
        assert [row["cause"] for row in tx.quota.ledger(tenant_id) if row["kind"] == "reset"] == ["operator:ops"]
    with pytest.raises(Rejected, match="another one"):
        perform(app, "quota.reset", target(f"tenant:{uuid4()}"), who=ADA, action_id=row_id)


def test_an_action_that_is_cut_short_stays_begun(app: App) -> None:
    row_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.actions.begin(row_id, who=ADA, action="job.retry", target=f"job:{row_id}", arguments={}, reason=None)
    done = perform(app, "job.retry", target(f"job:{row_id}"), who=ADA, action_id=row_id)
    assert (done.outcome, done.says) == (Outcome.BEGUN, "it has begun, and it is not known yet what became of it")


@pytest.mark.parametrize(
    ("name", "what", "arguments", "reason", "says"),
    [
        ("job.explode", f"job:{SOME}", {}, None, "there is no action 'job.explode'"),
        ("job.retry", "queue:llm", {}, None, "is done to a job, not to a queue"),
        ("job.prioritize", f"job:{SOME}", {}, None, "needs priority"),
        ("job.prioritize", f"job:{SOME}", {"priority": "101"}, None, "is not between 0 and 100"),
        ("job.prioritize", f"job:{SOME}", {"priority": "low"}, None, "is no whole number"),
        ("job.prioritize", f"job:{SOME}", {"priority": "5_0"}, None, "is no whole number"),
        ("job.prioritize", f"job:{SOME}", {"priority": "٥"}, None, "is no whole number"),
        ("video.resolve", f"video:{SOME}", {"verdict": "lost", "charged": "1_0"}, None, "is no amount"),
        ("job.retry", f"job:{SOME}", {"at": "now"}, None, "takes no 'at'"),
        ("post.resolve", f"post:{SOME}", {"verdict": "perhaps"}, None, "there are found, lost"),
        ("post.retry", f"post:{SOME}", {"at": "tomorrow"}, None, "is no time"),
        ("job.retry", f"job:{SOME}", {}, "x" * 501, "at most 500 characters"),
    ],
)
def test_what_makes_no_sense_is_rejected_and_not_kept(
    app: App, name: str, what: str, arguments: dict[str, Any], reason: str | None, says: str
) -> None:
    with pytest.raises(Rejected, match=says):
        perform(app, name, target(what), arguments, who=ADA, reason=reason)
    assert audit(app) == []


def test_what_is_not_there_is_refused_and_has_no_state(app: App) -> None:
    some = {"tenant": str(uuid4()), "provider": "nobody", "queue": "nope"}
    needed = {"priority": 3, "verdict": "lost", "model": "ridge/v1", "count": 1, "name": "nobody"}
    for action in ACTIONS.values():
        what = target(f"{action.kind}:{some.get(action.kind, str(uuid4()))}")
        arguments = {each.name: needed[each.name] for each in action.arguments if each.required}
        arguments |= {"running": 1} if action.name == "queue.limit" else {}
        done = perform(app, action.name, what, arguments, who=ADA, reason="it is there")
        assert (done.outcome, done.before, done.after) == (Outcome.REFUSED, None, None), action.name
        assert done.says
        with pytest.raises(Rejected):
            state_of(app, action.name, what)
    assert len(audit(app, who=ADA)) == len(ACTIONS)

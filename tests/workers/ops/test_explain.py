"""From the facts of one job to the reasons: no database, only what follows from what."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.queue.explain import Ahead, Holder
from tests.builders import NOV_22
from workers.ops.explain import Facts, Reason, reasons

JOB, TENANT, WORKER = UUID(int=1), UUID(int=2), UUID(int=3)
MINUTE = timedelta(minutes=1)
NOBODY_AHEAD = Ahead(more_urgent=0, of_its_tenant=0, of_others=0)


def a_worker(**columns: Any) -> dict[str, Any]:
    row = {"id": WORKER, "hostname": "dyno-1", "pid": 42, "version": "1.0", "queues": ["llm"], "draining": False}
    return row | {"alive": True, "heartbeat_at": NOV_22 - timedelta(seconds=3)} | columns


def of_a_job(facts: dict[str, Any], **columns: Any) -> list[Reason]:
    """What is said of a job that has been due for 20 seconds, nobody ahead of it, one worker there; unless said."""
    row = {
        **{"id": JOB, "job_type": "videos.render", "queue": "llm", "tenant_id": TENANT, "status": "pending"},
        **{"attempts": 0, "max_attempts": 3, "payload_version": 1, "ordering_key": None, "error_message": None},
        **{"wake_at": None, "scheduled_for": NOV_22 - timedelta(seconds=20), "started_at": None, "completed_at": None},
        **{"deadline_at": None, "cancel_requested_at": None, "worker_id": None, "crashes": 0},
    }
    usual: dict[str, Any] = {"workers": [a_worker()], "serving": 1, "ahead": NOBODY_AHEAD}
    versions = {"videos.render": 1}
    return reasons(Facts(now=NOV_22, job=row | columns, version="1.0", payload_versions=versions, **usual | facts))


def an_attempt(outcome: str, **columns: Any) -> dict[str, Any]:
    row = {"attempt": 1, "outcome": outcome, "error_class": "ProviderUnavailable", "error_message": "503\nfor now"}
    return row | columns


# --- ended


def test_a_completed_job_says_when_and_in_which_attempt() -> None:
    [reason] = of_a_job({}, status="completed", attempts=2, completed_at=NOV_22 - 5 * MINUTE)
    assert (reason.code, reason.advice) == ("completed", "")
    assert reason.says == "it completed at 2026-11-22 11:55:00Z (5m ago), in attempt 2"


def test_a_failed_job_says_its_error_in_one_line_and_how_to_try_again() -> None:
    ended = {"status": "failed", "attempts": 3, "completed_at": NOV_22, "error_message": "503\nfor now"}
    [reason] = of_a_job({"attempts": [an_attempt("failed", attempt=3)]}, **ended)
    assert reason.says.endswith("after 3 attempts of 3: ProviderUnavailable: 503 for now")
    assert f"`viral jobs retry {JOB}`" in reason.advice
    [rejected] = of_a_job({"attempts": [an_attempt("rejected")]}, **ended | {"attempts": 1})
    assert "trying again alone cannot help" in rejected.says
    assert rejected.advice.startswith("mend what it says")


def test_a_cancelled_job_can_be_run_after_all() -> None:
    [reason] = of_a_job({}, status="cancelled", completed_at=NOV_22)
    assert reason.says == "it was cancelled at 2026-11-22 12:00:00Z (0s ago), after 0 attempts"
    assert f"`viral jobs retry {JOB}`" in reason.advice


# --- running

RUNS = {"status": "running", "attempts": 2, "started_at": NOV_22 - MINUTE, "worker_id": WORKER}


def test_a_running_job_says_who_runs_it_and_until_when() -> None:
    began, alive, deadline = of_a_job({}, **RUNS, deadline_at=NOV_22 + 9 * MINUTE)
    assert began.says == "process 42 on dyno-1 began attempt 2 of 3 at 2026-11-22 11:59:00Z (1m ago)"
    assert alive.says == "that process is alive: its last heartbeat was 3s ago"
    assert deadline.says == "it may take until 2026-11-22 12:09:00Z (in 9m)"


@pytest.mark.parametrize(
    ("facts", "columns", "code", "word"),
    [
        ({"workers": []}, {}, "lost", "not known any more"),
        ({"workers": [a_worker(alive=False)]}, {}, "lost", "is dead"),
        ({"workers": [a_worker(draining=True)]}, {}, "draining", "is stopping"),
        ({}, {"cancel_requested_at": NOV_22 - MINUTE}, "cancel_requested", "when its handler next looks up"),
        ({}, {"deadline_at": NOV_22 - timedelta(seconds=5)}, "overran", "(5s ago)"),
    ],
)
def test_what_is_unusual_about_a_run(facts: dict[str, Any], columns: dict[str, Any], code: str, word: str) -> None:
    [reason] = [each for each in of_a_job(facts, **RUNS | columns) if each.code == code]
    assert word in reason.says


def test_a_scheduler_is_missed_when_a_job_is_long_past_its_deadline() -> None:
    def advice(late: timedelta) -> str:
        return of_a_job({}, **RUNS, deadline_at=NOV_22 - late)[-1].advice

    assert "viral scheduler" not in advice(timedelta(seconds=20))
    assert "viral scheduler" in advice(MINUTE)


# --- pending: what holds it back


@pytest.mark.parametrize(
    ("facts", "columns", "code", "words"),
    [
        ({}, {"job_type": "x.y"}, "unknown_type", "this release (1.0) has no job type x.y"),
        (
            {"workers": [a_worker(version="2.0")]},
            {"payload_version": 3},
            "newer_payload",
            "of version 3, and this release reads 1 at most; the live workers of 2.0 may",
        ),
        ({}, {"scheduled_for": NOV_22 + MINUTE}, "scheduled", "scheduled for 2026-11-22 12:01:00Z (in 1m)"),
        (
            {"attempts": [an_attempt("failed")]},
            {"scheduled_for": NOV_22 + MINUTE, "attempts": 1},
            "backoff",
            "attempt 1 of 3 failed (ProviderUnavailable: 503 for now); the next is due at 2026-11-22 12:01:00Z",
        ),
        (
            {"attempts": [an_attempt("snoozed", error_class="Snoozed", error_message="tiktok is used up")]},
            {"scheduled_for": NOV_22 + MINUTE},
            "snoozed",
            "called again at 2026-11-22 12:01:00Z (in 1m): tiktok is used up",
        ),
        ({"queue_policy": {"paused_at": NOV_22 - MINUTE}}, {}, "paused", "the queue llm has been paused"),
        (
            {"tenant_policy": {"paused_at": NOV_22 - MINUTE}},
            {},
            "paused",
            "its tenant has been paused in the queue llm",
        ),
        (
            {"queue_policy": {"max_running": 3}, "running": {None: 1, TENANT: 1, WORKER: 1}},
            {},
            "limit",
            "3 of at most 3 jobs of the queue llm run",
        ),
        (
            {"queue_policy": {"max_running_per_tenant": 2}, "running": {TENANT: 2}},
            {},
            "limit",
            "2 of at most 2 jobs of its tenant",
        ),
        (
            {
                "queue_policy": {"max_running_per_tenant": 9},
                "tenant_policy": {"max_running": 1},
                "running": {TENANT: 1},
            },
            {},
            "limit",
            "1 of at most 1 job of its tenant",
        ),
        (
            {"order_ahead": Holder(WORKER, "running", 3), "ahead": None},
            {"ordering_key": "cus_1", "wake_at": NOV_22 + MINUTE},
            "ordered",
            f"key cus_1 run one after another, and before it {WORKER} (running) and 2 more have not ended",
        ),
        ({"ahead": None}, {"wake_at": NOV_22 + MINUTE}, "deferred", "looked at again at 2026-11-22 12:01:00Z (in 1m)"),
        (
            {"ahead": None},
            {"wake_at": NOV_22 + MINUTE, "crashes": 2},
            "quarantined",
            "died while they had it in hand: 2. It waits until no other such job runs in its process; it is looked at",
        ),
    ],
)
def test_what_holds_a_job_back_is_the_reason(
    facts: dict[str, Any], columns: dict[str, Any], code: str, words: str
) -> None:
    [reason] = of_a_job(facts, **columns)
    assert reason.code == code
    assert words in reason.says


def test_everything_that_holds_a_job_back_is_found() -> None:
    facts = {"queue_policy": {"paused_at": NOV_22, "max_running": 1}, "running": {TENANT: 1}}
    found = of_a_job(facts, job_type="x.y", scheduled_for=NOV_22 + MINUTE)
    assert [reason.code for reason in found] == ["unknown_type", "scheduled", "paused", "limit"]


def test_a_limit_with_room_or_of_others_holds_nobody_back() -> None:
    room = {"queue_policy": {"max_running": 3, "max_running_per_tenant": 2}, "running": {TENANT: 1, None: 1}}
    assert [reason.code for reason in of_a_job(room)] == ["waiting"]
    systems = {"queue_policy": {"max_running_per_tenant": 1}, "running": {None: 5}}
    assert [reason.code for reason in of_a_job(systems, tenant_id=None)] == ["waiting"]


# --- pending: nothing holds it back


def test_a_job_that_waits_for_its_turn_says_who_is_ahead_and_who_serves() -> None:
    [turn] = of_a_job({"ahead": Ahead(more_urgent=2, of_its_tenant=0, of_others=5), "serving": 2})
    assert turn.says == (
        "due since 2026-11-22 11:59:40Z (20s ago), it waits in the queue llm: about 7 jobs are ahead of it "
        "(2 more urgent, 5 of other tenants), and 2 live worker processes serve it"
    )


def test_a_job_that_should_have_begun_long_ago_sends_to_the_scheduler() -> None:
    [soon], [late] = of_a_job({}), of_a_job({}, scheduled_for=NOV_22 - MINUTE)
    assert soon.advice == ""
    assert "viral scheduler" in late.advice


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ([], "no worker process is alive"),
        ([a_worker(alive=False)], "no worker process is alive"),
        ([a_worker(draining=True)], "all live worker processes are stopping"),
        ([a_worker(queues=["events"])], "of 1 live worker processes none works on the queue llm"),
    ],
)
def test_nobody_to_work_on_it_is_a_reason_of_its_own(workers: list[dict[str, Any]], words: str) -> None:
    turn, nobody = of_a_job({"workers": workers, "serving": 0})
    assert (turn.code, nobody.code) == ("waiting", "no_worker")
    assert words in nobody.says
    assert "`viral worker" in nobody.advice


def test_what_sleeps_too_long_misses_a_scheduler() -> None:
    found = of_a_job({"overdue_since": NOV_22 - 5 * MINUTE, "ahead": None}, wake_at=NOV_22 - 5 * MINUTE)
    assert [reason.code for reason in found] == ["waiting", "no_scheduler"]
    assert "viral scheduler" in found[1].advice


def test_a_job_that_was_asked_to_stop_while_it_ran_says_so_while_it_waits() -> None:
    found = of_a_job({}, cancel_requested_at=NOV_22 - MINUTE)
    assert "its next attempt will not begin" in found[-1].says
    assert f"`viral jobs cancel {JOB}`" in found[-1].advice


def test_what_other_programs_named_cannot_break_a_line() -> None:
    [reason] = of_a_job({}, job_type=f"x\n{uuid4()}\x1b[31m")
    assert "\n" not in reason.says
    assert "\x1b" not in reason.says

"""`viral jobs`, as an operator types it, on a real database (`test_commands.py` has how)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from tests.builders import a_tenant, job_row
from tests.cli.shell import Shell, working
from tests.drain import drain as drain_app
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.quota import reset_due

NOBODY = uuid4()


def a_failed_job(app: App) -> UUID:
    """A dead letter: the event that it is to apply does not exist."""
    with app.db.transaction(SYSTEM) as tx:
        job_id = apply_stripe_event.enqueue(tx, event_id=uuid4())
    drain_app(app)
    assert job_row(app, job_id)["status"] == "failed"
    return job_id


def a_pending_job(app: App) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return reset_due.enqueue(tx)


# --- jobs enqueue


def test_enqueue_prints_the_id_of_a_job_that_is_due_now(viral: Shell, app: App) -> None:
    event_id = uuid4()
    [job_id] = viral.done("jobs", "enqueue", "billing.apply_stripe_event", f"event_id={event_id}").lines
    row = job_row(app, UUID(job_id))
    assert (row["job_type"], row["queue"], row["status"]) == ("billing.apply_stripe_event", "events", "pending")
    assert row["payload"] == {"event_id": str(event_id)}
    assert row["scheduled_for"] == row["created_at"]


def test_arguments_can_be_json(viral: Shell, app: App) -> None:
    event_id = str(uuid4())
    payload = json.dumps({"event_id": event_id})
    result = viral.json("jobs", "enqueue", "billing.apply_stripe_event", "--payload", payload)
    assert job_row(app, UUID(result["id"]))["payload"] == {"event_id": event_id}


def test_a_job_can_be_delayed_dated_and_preferred(viral: Shell, app: App) -> None:
    def enqueued(*options: str) -> dict[str, Any]:
        return job_row(app, UUID(viral.done("jobs", "enqueue", "quota.reset_due", *options).out.strip()))

    delayed = enqueued("--in", "1h30m", "--priority", "0")
    assert delayed["scheduled_for"] - delayed["created_at"] == timedelta(hours=1, minutes=30)
    assert delayed["priority"] == 0
    nine = (datetime.now(UTC) + timedelta(days=30)).replace(hour=9, minute=0, second=0, microsecond=0)
    for written in (f"{nine:%Y-%m-%dT%H:%M}", f"{nine:%Y-%m-%dT%H:%MZ}", f"{nine:%Y-%m-%d}T10:00+01:00"):
        assert enqueued("--at", written)["scheduled_for"] == nine
    just_now = datetime.now(UTC) - timedelta(minutes=4)
    assert enqueued("--at", just_now.isoformat())["scheduled_for"] == just_now


@pytest.mark.parametrize(("at", "says"), [("2020-01-01", "has passed"), ("2999-01-01", "is too far away")])
def test_a_time_at_which_nobody_means_a_job_to_begin_is_refused(viral: Shell, app: App, at: str, says: str) -> None:
    line = viral.refused("jobs", "enqueue", "quota.reset_due", "--at", at)
    assert f"the time {at} 00:00 UTC {says}" in line
    assert viral.json("jobs", "list") == []


@pytest.mark.parametrize("words", [("list",), ("cancel", "--status", "waiting"), ("retry", "--status", "failed")])
@pytest.mark.parametrize(("option", "listed"), [("--type", "quota.reset_due"), ("--queue", "llm")])
def test_a_filter_by_a_name_that_nobody_knows_names_those_that_there_are(
    viral: Shell, words: tuple[str, ...], option: str, listed: str
) -> None:
    why = () if words == ("list",) else ("--reason", "a slip")
    line = viral.senseless("jobs", *words, option, "nope", *why)
    assert "nothing fits, and this release knows no nope; it knows" in line
    assert listed in line
    assert viral.done("jobs", *words, option, listed, *why).code == 0


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (("actions", "list", "--action", "job.retryy"), "--action: no such action; there are "),
        (("tenants", "list", "--status", "activ"), "--status: no such status; there are none, "),
        (("events", "replay", "--parked", "thinn"), "--parked: no such reason; there are "),
    ],
)
def test_so_does_each_list_that_would_be_empty_for_a_slip(viral: Shell, words: tuple[str, ...], listed: str) -> None:
    assert listed in viral.senseless(*words)


def test_what_another_program_has_named_is_found(viral: Shell, app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO job_queue (job_type, queue) VALUES ('their.own', 'theirs')")
    for option, value in (("--type", "their.own"), ("--queue", "theirs")):
        assert [each["job_type"] for each in viral.json("jobs", "list", option, value)] == ["their.own"]
    words = ("jobs", "cancel", "--status", "waiting", "--type", "their.own", "--reason", "not ours", "--yes")
    with working(app):
        assert "1 done" in viral.done(*words).out


def test_a_key_given_twice_is_one_job_while_it_lives(viral: Shell, app: App) -> None:
    def enqueue() -> str:
        return viral.done("jobs", "enqueue", "quota.reset_due", "--key", "nightly").out.strip()

    first = enqueue()
    assert enqueue() == first
    drain_app(app)
    assert enqueue() != first


def test_a_job_for_a_tenant(viral: Shell, app: App) -> None:
    names = [
        name
        for name, declared in app.job_types.items()
        if "tenant_id" in declared.parameters
        and all(each.default is not each.empty for key, each in declared.parameters.items() if key != "tenant_id")
    ]
    assert names, "no job type works for one tenant and needs nothing else"
    tenant_id = a_tenant(app)
    for words in (("--tenant", tenant_id), (f"tenant_id={tenant_id}",)):
        job_id = UUID(viral.done("jobs", "enqueue", names[0], *words).out.strip())
        assert job_row(app, job_id)["tenant_id"] == tenant_id
    for unknown in (("--tenant", NOBODY), (f"tenant_id={NOBODY}",)):
        assert "no tenant has the id" in viral.refused("jobs", "enqueue", names[0], *unknown)


def test_wait_tells_how_the_job_ended(viral: Shell, app: App) -> None:
    with working(app):
        completed = viral("jobs", "enqueue", "quota.reset_due", "--wait")
        failed = viral("jobs", "enqueue", "billing.apply_stripe_event", f"event_id={NOBODY}", "--wait", "--json")
    assert completed.code == 0
    assert ["status", "completed"] in [line.split() for line in completed.lines]
    assert failed.code == 1
    assert json.loads(failed.out)["error_message"] == f"no event has the id {NOBODY}"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["x=1"], "x: extra inputs are not permitted"),
        (["event_id=abc"], "event_id: input should be a valid uuid"),
        ([], "event_id: field required"),
        (["--payload", "{}"], "event_id: field required"),
    ],
)
def test_arguments_that_do_not_fit_are_named_in_one_line(away: Shell, words: list[str], why: str) -> None:
    line = away.refused("jobs", "enqueue", "billing.apply_stripe_event", *words)
    assert line.startswith("viral: billing.apply_stripe_event: ")
    assert why in line
    assert "it takes event_id" in line


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nope"], "there is no 'nope'; there are:\n  accounts.due\n"),
        ([], "Missing argument 'TYPE'"),
        (["quota.reset_due", "--at", "2026-12-01", "--in", "5m"], "--at and --in: give one of them, not both"),
        (["quota.reset_due", "--at", "tomorrow"], "'--at': 'tomorrow' is no time; write 2026-12-01T09:00Z"),
        (["quota.reset_due", "--at", "9999-12-31T23:00-10:00"], "'--at'"),
        (["quota.reset_due", "--in", "5"], "'--in': '5' is no duration; write 90s"),
        (["quota.reset_due", "--in", "999999w"], "'--in': '999999w' is too long; at most 3650d"),
        (["quota.reset_due", "--priority", "101"], "'--priority'"),
        (["quota.reset_due", "--tenant", str(NOBODY)], "--tenant: quota.reset_due works for no tenant"),
        (["quota.reset_due", "--tenant", "abc"], "'--tenant'"),
        (["quota.reset_due", "word"], "KEY=VALUE: 'word' has no `=`"),
        (["quota.reset_due", "a=1", "a=2"], "KEY=VALUE: a is given twice"),
        (["quota.reset_due", "--payload", "{"], "--payload: not JSON"),
        (["quota.reset_due", "--payload", "[]"], "--payload: a JSON object is expected"),
    ],
)
def test_a_senseless_enqueue_says_what_would_make_sense(away: Shell, words: list[str], why: str) -> None:
    text = away.senseless("jobs", "enqueue", *words)
    assert text.startswith("viral: ")
    assert why in text


def test_a_job_is_enqueued_although_redis_is_away(viral: Shell, app: App) -> None:
    result = viral("jobs", "enqueue", "quota.reset_due", REDIS_URL="redis://127.0.0.1:1/0")
    assert result.code == 0
    assert job_row(app, UUID(result.out.strip()))["status"] == "pending"


# --- jobs list, show, retry, cancel


def test_jobs_are_listed_newest_first_and_filtered(viral: Shell, app: App) -> None:
    failed, pending = a_failed_job(app), a_pending_job(app)

    def listed(*options: object) -> list[str]:
        return [row["id"] for row in viral.json("jobs", "list", *options)]

    assert listed() == [str(pending), str(failed)]
    assert listed("--limit", 1) == [str(pending)]
    assert listed("--status", "failed") == [str(failed)]
    assert listed("--type", "quota.reset_due") == [str(pending)]
    assert listed("--queue", "events") == [str(failed)]
    assert listed("--tenant", NOBODY) == []


def test_a_table_has_one_line_a_job_and_only_columns_that_say_something(viral: Shell, app: App) -> None:
    failed, pending = a_failed_job(app), a_pending_job(app)
    header, first, second = viral.done("jobs", "list").lines
    assert header.split() == [
        *("id", "job_type", "status", "attempts", "scheduled_for", "completed_at", "error_message"),
    ]
    assert first.split()[:3] == [str(pending), "quota.reset_due", "pending"]
    assert second.split()[:3] == [str(failed), "billing.apply_stripe_event", "failed"]
    assert second[header.index("error_message") :].startswith("no event has the id ")
    assert max(map(len, (header, first, second))) < 200
    assert not any(line.endswith(" ") or "\x1b" in line for line in (header, first, second))


def test_a_job_is_shown_with_its_attempts(viral: Shell, app: App) -> None:
    job_id = a_failed_job(app)
    shown = viral.done("jobs", "show", job_id)
    assert ["status", "failed"] in [line.split() for line in shown.lines]
    assert "UnknownEvent" in shown.out
    [attempt] = viral.json("jobs", "show", job_id)["attempt_history"]
    assert (attempt["outcome"], attempt["error_class"]) == ("rejected", "UnknownEvent")


def test_what_somebody_else_wrote_into_a_row_stays_one_line(viral: Shell, app: App) -> None:
    """Line breaks, terminal escapes and square brackets come from webhooks and from other programs."""
    a_tenant(app, name="Ada\nLovelace \x1b[31m[/red] 日本")
    _, line = viral.done("tenants", "list").lines
    assert r"Ada Lovelace \x1b[31m[/red] 日本" in line


def test_failed_and_cancelled_jobs_are_retried(viral: Shell, app: App) -> None:
    failed, pending = a_failed_job(app), a_pending_job(app)
    assert viral.done("jobs", "cancel", pending).lines == [f"{pending}  cancelled"]
    assert job_row(app, pending)["status"] == "cancelled"
    assert viral.done("jobs", "retry", failed, pending).lines == [f"{failed}  due again", f"{pending}  due again"]
    assert [job_row(app, each)["status"] for each in (failed, pending)] == ["pending", "pending"]


def test_each_of_several_jobs_is_acted_on_and_one_in_the_wrong_state_fails_the_command(viral: Shell, app: App) -> None:
    failed, pending = a_failed_job(app), a_pending_job(app)
    result = viral("jobs", "retry", pending, NOBODY, failed)
    assert result.code == 1
    assert result.lines == [
        f"{pending}  it is pending, and only a failed or cancelled job can be",
        f"{NOBODY}  there is no such job",
        f"{failed}  due again",
    ]
    drain_app(app)
    result = viral("jobs", "cancel", pending)
    assert (result.code, result.lines) == (
        1,
        [f"{pending}  it is completed, and only a pending, running or failed job can be"],
    )


def test_a_job_is_not_retried_beside_a_live_one_of_its_key(viral: Shell, app: App) -> None:
    failed = a_failed_job(app)
    event = f"event_id={job_row(app, failed)['unique_key']}"
    [live] = viral.done("jobs", "enqueue", "billing.apply_stripe_event", event).lines
    result = viral("jobs", "retry", failed)
    assert (result.code, result.lines) == (
        1,
        [f"{failed}  the job {live} of the same key is live; it does the same work"],
    )

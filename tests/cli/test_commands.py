"""Every command as an operator types it, on a real database. Exit codes: 0 done, 1 failed, 2 makes no sense.

Most run in this process (a process of its own costs most of a second); an exception that escapes would be a traceback
to the operator, and fails the test.
"""

import getpass
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.main import get_command

from cli.main import COMMANDS
from cli.main import app as shell
from cli.shell import load
from db.events.writer import NewEvent, store_and_commit
from db.migrate import upgrade as migrate
from db.transaction import SYSTEM
from domain.events.outcomes import Outcome, Status
from domain.identity.people import ActiveMembership, Person, Role
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_stripe_event, a_tenant, job_row, tenant
from tests.cli.shell import NOWHERE, Result, Shell, a_process, working
from tests.conftest import Servers
from tests.drain import drain as drain_app
from tests.wait import until
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.quota import reset_due
from workers.jobs.upkeep import prune
from workers.settings import Settings

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


def an_event(app: App, external_id: str, *, status: str | None = None, **fields: Any) -> UUID:
    event_id = uuid4()
    values: dict[str, Any] = {
        "source": "stripe",
        "type": "invoice.paid",
        "api_version": None,
        "livemode": False,
        "occurred_at": NOV_22,
        "subject": "cus_ada",
        "payload": '{"amount": 14900, "note": "[bold]ünïcode[/bold]"}',
        "body": b"{}",
        "job_id": uuid4(),
        "job_type": "billing.apply_stripe_event",
        "queue": "events",
    }
    with app.db.connect() as connection:
        store_and_commit(connection, [NewEvent(id=event_id, external_id=external_id, **(values | fields))])
    if status is not None:
        with app.db.transaction(SYSTEM) as tx:
            tx.events.mark(event_id, Outcome(Status(status)))
    return event_id


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
    nine = datetime(2026, 12, 1, 9, tzinfo=UTC)
    for written in ("2026-12-01T09:00", "2026-12-01T09:00Z", "2026-12-01T10:00+01:00"):
        assert enqueued("--at", written)["scheduled_for"] == nine


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
    if not names:
        pytest.skip("no job type works for one tenant and needs nothing else")
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


# --- tenants, quota


def test_tenants_are_listed_and_shown_with_their_people(viral: Shell, app: App) -> None:
    ada, bob = a_tenant(app, name="Ada's shop"), a_tenant(app, name="Bob's", subscription_tier="PRO")
    person = Person("user_ada", email="ada@example.com", name="Ada Lovelace")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.identity.add_person(uuid4(), person, ActiveMembership(ada, Role.ADMIN))
    assert {row["id"] for row in viral.json("tenants", "list")} == {str(ada), str(bob)}
    assert [row["id"] for row in viral.json("tenants", "list", "--tier", "pro")] == [str(bob)]
    assert [row["name"] for row in viral.json("tenants", "list", "--search", "ADA")] == ["Ada's shop"]
    shown = viral.json("tenants", "show", ada)
    assert (shown["name"], shown["subscription_tier"], shown["monthly_quota"]) == ("Ada's shop", "FREE", 10)
    assert [user["email"] for user in shown["users"]] == ["ada@example.com"]
    assert "ada@example.com" in viral.done("tenants", "show", ada).out
    assert viral.done("tenants", "show", bob).lines[-2:] == [
        "No users.",
        "Nobody can sign in for this tenant, and it pays: a person should look.",
    ]
    assert [row["id"] for row in viral.json("tenants", "list", "--deserted")] == [str(bob)]
    assert [(row["id"], row["deserted"]) for row in viral.json("tenants", "list", "--tier", "free")] == [
        (str(ada), False)
    ]
    assert viral.json("tenants", "show", bob)["deserted"]


def test_a_reset_by_hand_begins_the_count_anew_and_names_the_person(viral: Shell, app: App) -> None:
    resets_at = datetime.now(UTC) + timedelta(days=3)
    tenant_id = a_tenant(app, used_quota=9, quota_reset_at=resets_at)
    assert viral.json("quota", "show", tenant_id)["remaining"] == 1
    assert viral.json("quota", "reset", tenant_id)["given_back"] == 9
    row = tenant(app, tenant_id)
    assert (row["used_quota"], row["quota_reset_at"]) == (0, resets_at)
    [entry, before] = viral.json("quota", "show", tenant_id)["ledger"]
    assert (entry["kind"], entry["amount"], entry["cause"]) == ("reset", -9, f"person:{getpass.getuser()}")
    assert (before["kind"], before["amount"]) == ("adjust", 9)
    assert f"person:{getpass.getuser()}" in viral.done("quota", "show", tenant_id).out


def test_what_somebody_else_wrote_does_not_reach_the_terminal_as_commands(viral: Shell, app: App) -> None:
    hostile = "Ada \x1b[31m\x9b31m\u202e"
    tenant_id = a_tenant(app, name=hostile)
    body = stripe_event("customer.updated", {"id": "cus_1", "object": "customer", "name": hostile}, at=NOV_22)
    a_stripe_event(app, body)
    for words in (("quota", "explain", tenant_id), ("events", "show", "--unmasked", body["id"])):
        out = viral.done(*words).out
        assert "Ada " in out
        assert all(line.isprintable() for line in out.split("\n")), words


def test_a_quota_is_explained_in_plain_words(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app, name="Ada's shop", quota_reset_at=datetime.now(UTC) + timedelta(days=3))
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, uuid4(), 4, datetime.now(UTC))
    explanation = viral.done("quota", "explain", tenant_id).out
    assert explanation.startswith("Ada's shop\nOn FREE: 10 concepts a month.\n")
    assert "4 were taken by a job." in explanation
    assert "4 of these are held by a job at work" in explanation
    assert viral.json("quota", "explain", tenant_id)["remaining"] == 6


# --- events


def test_events_are_listed_and_filtered(viral: Shell, app: App) -> None:
    parked = an_event(app, "evt_1", status="parked:unknown_customer")
    signed_up = an_event(app, "msg_1", source="clerk", type="user.created", status="applied")

    def listed(*options: str) -> list[str]:
        return [row["id"] for row in viral.json("events", "list", *options)]

    assert listed() == [str(signed_up), str(parked)]
    assert listed("--source", "stripe") == listed("--status", "parked") == listed("--type", "invoice.paid")
    assert listed("--status", "parked:unknown_customer") == [str(parked)]
    header, _, line = viral.done("events", "list").lines
    assert line.split()[:4] == [str(parked), "stripe", "invoice.paid", "parked:unknown_customer"]
    assert header.split()[:4] == ["id", "source", "type", "status"]


def test_it_is_shown_why_a_type_is_ignored(viral: Shell, app: App) -> None:
    an_event(app, "evt_1", type="invoice.payment_succeeded", job_id=None)
    an_event(app, "evt_2", type="moon.risen", job_id=None)
    assert viral.json("events", "show", "evt_1")["detail"].startswith("use invoice.paid")
    assert viral.json("events", "show", "evt_2")["detail"] is None
    assert len(viral.json("events", "list", "--status", "ignored:type")) == 2


def test_an_event_is_found_by_our_id_and_by_its_senders(viral: Shell, app: App) -> None:
    event_id = an_event(app, "evt_1")
    for name in (event_id, "evt_1"):
        assert viral.json("events", "show", name, "--unmasked")["payload"]["amount"] == 14900
    assert '"note": "[bold]ünïcode[/bold]"' in viral.done("events", "show", "evt_1", "--unmasked").out
    assert "ünïcode" not in viral.done("events", "show", "evt_1").out


# --- what is not there, and what makes no sense


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["jobs", "show", NOBODY], "no job has the id"),
        (["tenants", "show", NOBODY], "no tenant has the id"),
        (["quota", "show", NOBODY], "no tenant has the id"),
        (["quota", "reset", NOBODY], "no tenant has the id"),
        (["events", "show", NOBODY], "no event has the id"),
        (["events", "show", "evt_nope"], "no event has the id"),
    ],
)
def test_what_is_not_there_is_one_line(viral: Shell, words: list[object], why: str) -> None:
    assert why in viral.refused(*words)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nope"], "No such command 'nope'"),
        (["jobs", "lst"], "Did you mean 'list'?"),
        (["jobs", "list", "--status", "nope"], "--status: no such status; there are pending, running"),
        (["jobs", "list", "--limit", "0"], "--limit"),
        (["jobs", "show", "abc"], "'ID'"),
        (["jobs", "retry"], "Missing argument 'ID'"),
        (["tenants", "list", "--tier", "gold"], "--tier: no such tier; there are FREE, STARTER"),
        (["events", "list", "--source", "paypal"], "--source: no such source; there are stripe, clerk"),
        (["events", "list", "--status", "nope"], "--status: no such status; there are received"),
        (["events", "list", "--status", "ignored:x"], "no such status; there are ignored:type, ignored:other_mode"),
        (["worker", "--queue", "nope"], "--queue: no such queue; there are events, default"),
        (["up", "--port", "70000"], "'--port'"),
        (["dev", "send-event", "paypal", "x"], "SOURCE: there are stripe and clerk"),
        (["dev", "send-event", "stripe", "help"], "\n  checkout.session.completed "),
        (["dev", "send-event", "stripe", "nope.json"], "nope.json cannot be read: No such file"),
        (
            ["dev", "send-event", "stripe", "checkout", "--tier", "FREE"],
            "--tier: nobody can buy that; there are",
        ),
    ],
)
def test_a_senseless_command_line_is_explained(away: Shell, words: list[str], why: str) -> None:
    text = away.senseless(*words)
    assert why in text
    assert "Try 'viral " in text


def test_an_event_that_nobody_takes_is_one_line(away: Shell) -> None:
    send = ("dev", "send-event", "stripe", "invoice.paid")
    for url in ("http://127.0.0.1:1", "not a url", "http://[::1"):
        assert "does `viral up` run?" in away.refused(*send, "--url", url, STRIPE_WEBHOOK_SECRET="whsec_stripe")
    assert "STRIPE_WEBHOOK_SECRET is not set" in away.refused(*send)


def test_an_event_made_by_hand_is_of_the_account_that_is_set_up(away: Shell, tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    send = ("dev", "send-event", "--save", file, "--url", "http://127.0.0.1:1")
    secrets = {"STRIPE_WEBHOOK_SECRET": "whsec_stripe", "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_c3ZpeA=="}
    away.refused(*send, "clerk", "user.created", CLERK_INSTANCE_ID="ins_ours", **secrets)
    assert json.loads(file.read_text())["instance_id"] == "ins_ours"
    away.refused(*send, "stripe", "invoice.paid", STRIPE_LIVEMODE="true", **secrets)
    assert json.loads(file.read_text())["livemode"] is True


# --- doctor


def test_the_doctor_finds_nothing_wrong_with_a_fresh_system(viral: Shell, app: App) -> None:
    drain_app(app)  # a worker has signed on
    with app.db.transaction(SYSTEM) as tx:
        tx.schedule_runs.register(reset_due.name, tx.now())  # and a scheduler
    findings = viral.json("doctor")
    assert [each["check"] for each in findings if each["state"] != "ok"] == ["people are notified"], "of nobody"
    lines = viral.done("doctor").lines
    assert len(lines) == len(findings) > 10
    assert sum(not line.startswith("ok    ") for line in lines) == 1


def finding(result: Result, check: str) -> tuple[str, str]:
    return next((each["state"], each["says"]) for each in json.loads(result.out) if each["check"] == check)


def test_the_doctor_says_which_settings_are_missing(viral: Shell) -> None:
    result = viral.done("doctor", "--json", STRIPE_WEBHOOK_SECRET="", STRIPE_PRO_PRICE_ID="")
    assert finding(result, "STRIPE_WEBHOOK_SECRET")[0] == "warn"
    assert finding(result, "STRIPE_{STARTER,PRO,AGENCY}_PRICE_ID")[0] == "warn"
    assert finding(result, "CLERK_WEBHOOK_SIGNING_SECRET") == ("ok", "set")
    assert finding(result, "CLERK_ISSUER") == ("ok", "set")
    result = viral.done("doctor", "--json", CLERK_JWKS_URL="")
    assert finding(result, "CLERK_JWKS_URL or CLERK_JWT_KEY")[0] == "warn"
    assert finding(result, "workers") == ("warn", "none is alive, so jobs wait: start one with `viral worker`")


def test_the_doctor_sums_up_the_connections(viral: Shell, database: str, owner_url: str) -> None:
    def says(**env: str) -> tuple[str, str]:
        return finding(viral.done("doctor", "--json", **env), "connections")

    assert says()[0] == "ok"
    hold = "one web, 3 worker processes and one scheduler hold up to {} connections with these settings"
    state, text = says(WORKER_PROCESSES="3", DB_POOL_SIZE="2")
    assert (state, text.partition(";")[0]) == ("ok", hold.format(5 + 9 + 2))
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 15")
    state, text = says(WORKER_PROCESSES="3", DB_POOL_SIZE="2")
    assert state == "warn"
    assert "the server allows 15, of which" in text
    assert text.endswith("lower WORKER_PROCESSES or DB_POOL_SIZE")


def test_the_doctor_is_a_gate(viral: Shell, database_url: str) -> None:
    """0: nothing is broken; 1: something is, or with --strict wants attention; 2: the command makes no sense."""
    assert viral("doctor").code == 0, "no worker runs, which is a warning"
    assert viral("doctor", "--strict").code == 1
    assert viral("doctor", "--sternly").code == 2
    result = viral("doctor", DATABASE_URL=NOWHERE)
    assert result.code == 1
    assert result.lines[-1].startswith("skip  ")
    assert result.lines[-1].endswith(" checks: not looked at, since the check 'postgres' fails")
    result = viral("doctor", "--json", WORKER_THREADS="many")
    assert (result.code, result.err) == (1, "")
    [shown] = json.loads(result.out)
    assert (shown["check"], shown["state"]) == ("settings", "fail")
    assert shown["says"].startswith("WORKER_THREADS: ")


def test_the_doctor_says_what_has_no_effect_in_the_url(viral: Shell, database_url: str) -> None:
    result = viral.done("doctor", "--json", DATABASE_URL=f"{database_url}?schema=public&statement_cache_size=0")
    assert finding(result, "DATABASE_URL") == (
        "ok",
        "set; without effect here: statement_cache_size: there is no cache of statements to size",
    )


def test_the_doctor_looks_on_without_postgres_or_redis(viral: Shell) -> None:
    result = viral("doctor", "--json", DATABASE_URL=NOWHERE, REDIS_URL="redis://:sekret@127.0.0.1:1/0")
    assert result.code == 1
    assert finding(result, "postgres")[0] == "fail"
    assert finding(result, "redis")[0] == "warn"
    assert "sekret" not in result.out + result.err


def test_the_doctor_sends_whoever_forgot_to_migrate_to_do_it(
    viral: Shell, servers: Servers, empty_database: str
) -> None:
    url = servers.postgres.url("viral_app", empty_database)
    result = viral("doctor", "--json", DATABASE_URL=url)
    assert result.code == 1
    state, says = finding(result, "schema")
    assert state == "fail"
    assert "run `viral migrate`" in says
    assert "run `viral migrate`" in viral.refused("jobs", "list", DATABASE_URL=url)


def test_after_a_rollback_the_schema_may_be_newer_than_the_code(
    viral: Shell, servers: Servers, database: str, owner_url: str
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    result = viral("doctor", "--json")
    assert result.code == 1
    state, says = finding(result, "schema")
    assert state == "fail"
    assert "at 9999, which this release does not know" in says
    assert "viral migrate" not in says
    assert "at 9999, which this release does not know" in viral.refused("migrate", DIRECT_URL=owner_url)
    [line] = viral.done("migrate", "--allow-newer", DIRECT_URL=owner_url).lines
    assert line.startswith("schema: stays at 9999, which a newer release made; this one (it expects ")
    state, says = finding(viral("doctor", "--json"), "schema")
    assert state == "warn"
    assert says.startswith("at 9999, of a newer release; this one (it expects ")


@pytest.fixture
def unbound_url(servers: Servers, database: str, owner_url: str) -> Iterator[str]:
    """As an owner of tables who may not become the application's role: row-level security does not bind it."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE careless LOGIN PASSWORD 'careless'")
        try:
            connection.execute("GRANT careless TO CURRENT_USER")
            connection.execute("GRANT CREATE ON SCHEMA public TO careless")
            connection.execute("GRANT SELECT ON alembic_version TO careless")
            connection.execute("ALTER TABLE tenants OWNER TO careless")
            host = servers.postgres.url("viral_app", database).rpartition("@")[2]
            yield f"postgresql://careless:careless@{host}"
        finally:
            connection.execute("REASSIGN OWNED BY careless TO CURRENT_USER")
            connection.execute("DROP OWNED BY careless")
            connection.execute("DROP ROLE careless")


def test_the_doctor_fails_an_owner_whom_row_level_security_does_not_bind(viral: Shell, unbound_url: str) -> None:
    result = viral("doctor", "--json", DATABASE_URL=unbound_url)
    assert result.code == 1
    state, says = finding(result, "role")
    assert state == "fail"
    assert says.startswith("careless owns the tables and is no member of viral_app: GRANT viral_app TO careless")


@pytest.mark.proof
@pytest.mark.parametrize("command", [("worker",), ("web",), ("scheduler",), ("jobs", "list")])
def test_a_role_without_rights_is_explanation_in_one_line(
    viral: Shell, owner_url: str, command: tuple[str, ...]
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM viral_app")
    process = a_process(viral.environment | {"PORT": "0"}, *command, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "run `viral migrate`" in err
    assert "Traceback" not in err
    findings = {each["check"]: each for each in json.loads(viral("doctor", "--json").out)}
    assert "GRANT" in findings["role"]["says"]
    assert findings["schema"]["state"] == "skipped", "what follows from the missing rights is not told again"


def test_migrate_fails_where_the_processes_would_refuse_to_work(viral: Shell, unbound_url: str) -> None:
    result = viral("migrate", DATABASE_URL=unbound_url)
    assert result.code == 1
    assert "GRANT viral_app TO careless" in result.err


def test_the_doctor_names_what_waits_for_what_never_comes(viral: Shell, app: App) -> None:
    sql(app, "INSERT INTO job_queue (job_type, wake_at) VALUES ('upkeep.prune', '9998-01-01')")
    sql(app, "INSERT INTO job_queue (job_type, scheduled_for) VALUES ('of nobody', now() - interval '2 hours')")
    sql(app, "UPDATE tenants SET quota_reset_at = '9998-01-01' WHERE id = %s", a_tenant(app))
    result = viral.done("doctor", "--json")
    state, says = finding(result, "rows hold only what can be meant")
    assert state == "warn"
    assert "wake_at" in says
    assert "quota_reset_at" in says
    assert finding(result, "types of waiting jobs")[1].startswith("1 of 'of nobody' waited for over an hour")


def a_lost_job(app: App) -> None:
    sql(
        app,
        """
        UPDATE job_queue SET status = 'running', worker_id = gen_random_uuid(), lease_token = 1,
                             started_at = now() - interval '3 minutes' WHERE id = %s
        """,
        a_pending_job(app),
    )


def an_overdue_deferred_job(app: App) -> None:
    sql(app, "UPDATE job_queue SET wake_at = now() - interval '2 minutes' WHERE id = %s", a_pending_job(app))


def an_event_without_its_job(app: App) -> None:
    event_id = an_event(app, "evt_1")
    sql(app, "DELETE FROM job_queue WHERE payload ->> 'event_id' = %s::text", event_id)
    sql(app, "UPDATE webhook_events SET received_at = now() - interval '1 hour' WHERE id = %s", event_id)


def an_event_parked_for_long(app: App) -> None:
    event_id = an_event(app, "evt_1", status="parked:unknown_customer")
    sql(app, "UPDATE webhook_events SET received_at = now() - interval '16 minutes' WHERE id = %s", event_id)


def a_flagged_event(app: App) -> None:
    sql(app, "UPDATE webhook_events SET flag = 'refund' WHERE id = %s", an_event(app, "evt_1"))


def sql(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


@pytest.mark.parametrize(
    ("provoke", "check", "state", "advice"),
    [
        (a_failed_job, "no job waits for a person", "warn", "viral jobs list --status failed"),
        (
            an_event_parked_for_long,
            "no event is parked for over 15 minutes",
            "warn",
            "viral events list --status parked",
        ),
        (a_flagged_event, "no event of the last 30 days is flagged", "warn", "viral events list --flagged"),
        (
            lambda app: a_tenant(app, subscription_tier="PRO"),
            "a paying tenant has a person",
            "warn",
            "viral tenants list --deserted",
        ),
        (an_overdue_deferred_job, "deferred jobs are woken within a minute", "warn", "viral scheduler"),
        (
            lambda app: a_tenant(app, quota_reset_at=datetime.now(UTC) - timedelta(hours=3)),
            "due quotas are reset within two hours",
            "warn",
            "viral scheduler",
        ),
        (a_lost_job, "running jobs belong to a live worker", "fail", "1 row contradicts it"),
        (an_event_without_its_job, "a stored event has its job", "fail", "1 row contradicts it"),
        (
            lambda app: sql(app, "UPDATE tenants SET quota_period_start = quota_reset_at WHERE id = %s", a_tenant(app)),
            "quota periods end after they begin",
            "fail",
            "1 row contradicts it",
        ),
    ],
)
def test_the_doctor_finds_what_a_sound_system_never_has(
    viral: Shell, app: App, provoke: Callable[[App], object], check: str, state: str, advice: str
) -> None:
    """A warning is no failure: it waits for a person, the system itself is sound."""
    provoke(app)
    result = viral("doctor", "--json")
    assert finding(result, check)[0] == state
    assert advice in finding(result, check)[1]
    assert result.code == (1 if "fail" in {each["state"] for each in json.loads(result.out)} else 0)


# --- info, migrate, the settings


def test_info_hides_passwords_from_people_and_tells_programs(viral: Shell, settings: Settings) -> None:
    facts = viral.json("info")
    assert facts == {
        "database_url": settings.direct_url,
        "app_database_url": settings.database_url,
        "redis_url": settings.redis_url,
        "web_url": "http://127.0.0.1:8000",
        "version": facts["version"],
    }
    shown = viral.done("info")
    assert [line.split()[0] for line in shown.lines] == list(facts)
    for url in (settings.direct_url, settings.database_url, settings.redis_url):
        assert url.partition("://")[2].partition("@")[0].partition(":")[2] not in shown.out
    assert shown.out.count(":***@") == 3
    assert viral.done("--version").lines == [facts["version"]]


def test_migrating_twice_changes_nothing_more(viral: Shell, servers: Servers, empty_database: str) -> None:
    urls = {
        "DATABASE_URL": servers.postgres.url("viral_app", empty_database),
        "DIRECT_URL": servers.postgres.url("viral_owner", empty_database),
    }
    assert "permission denied" in viral.refused("migrate", **urls | {"DIRECT_URL": urls["DATABASE_URL"]})
    assert viral.done("migrate", **urls).out == f"schema: from nothing to {migrate.newest()}\n"
    assert viral.done("migrate", **urls).out == f"schema: already at {migrate.newest()}\n"


@pytest.mark.parametrize("command", [("jobs", "list"), ("migrate",)])
def test_a_database_that_is_away_is_one_line(viral: Shell, command: tuple[str, ...]) -> None:
    line = viral.refused(*command, DATABASE_URL=NOWHERE, DIRECT_URL=NOWHERE)
    assert "onnection refused" in line
    assert "sekret" not in line


def test_all_faults_of_the_settings_are_explanation_at_once(nothing_runs: Shell, tmp_path: Path) -> None:
    faulty = {"PORT": "abc", "LOG_FORMAT": "xml", "DATABASE_URL": "mysql://u:sekret@h/x"}
    for words in (("jobs", "list"), ("info",), ("doctor",), ("migrate",), ("web",), ("worker",), ("scheduler",)):
        result = nothing_runs(*words, **faulty)
        assert (result.code, result.out) == (1, "")
        header, *faults = result.err.splitlines()
        assert header == "viral: these settings cannot be used:"
        assert [fault.split()[0] for fault in faults] == ["DATABASE_URL:", "PORT:", "LOG_FORMAT:", "REDIS_URL"]
        assert "sekret" not in result.err


def test_without_a_database_the_way_out_is_one_line(nothing_runs: Shell, tmp_path: Path) -> None:
    line = nothing_runs.refused("jobs", "list")
    assert line.startswith(f"viral: DATABASE_URL and REDIS_URL not set, and nothing runs under {tmp_path / 'home'}: ")
    assert "`viral up`" in line
    assert not (tmp_path / "home").exists()


def test_a_web_server_that_cannot_listen_says_why_in_one_line(away: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        way_out = "stop what listens there, or choose another with --port or PORT"
        for line in (away.refused("web", "--port", port), away.refused("web", PORT=port)):
            assert line == f"viral: port {port} is taken: {way_out}"
    assert away.refused("web", HOST="sekret.invalid").startswith("viral: HOST: should be an address of this machine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sekret"),
        ("DATABASE_URL", "mysql://u:sekret@h/x"),
        ("DATABASE_URL", "postgresql://u:sekret@[::1/x"),
        ("DATABASE_URL", "postgresql://u:se/kret@127.0.0.1:1/x"),
        ("DATABASE_URL", "postgresql://u:sekret%zz@127.0.0.1:1/x"),
        ("DIRECT_URL", "postgresql://u:sekret@:::/x"),
        ("DIRECT_URL", "host=127.0.0.1 password=sekret"),
        ("REDIS_URL", "sekret"),
        ("REDIS_URL", "http://:sekret@127.0.0.1"),
        ("REDIS_URL", "redis://:sekret@127.0.0.1:port/0"),
        ("PORT", "sekret"),
        ("PORT", "65536"),
        ("WORKER_THREADS", "sekret"),
    ],
)
@pytest.mark.parametrize("words", [("jobs", "list"), ("info",), ("up",)], ids=" ".join)
def test_a_malformed_setting_is_named_and_its_value_is_kept_back(
    away: Shell, name: str, value: str, words: tuple[str, ...]
) -> None:
    """Whoever put a secret into the wrong variable does not find it in a log."""
    line = away.refused(*words, **{name: value})
    assert line.startswith(f"viral: {name}: ")
    assert "kret" not in line


# --- help, and other people's pipes


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(load(*COMMANDS[name]) if not path else each, (*path, name))


def test_help_tells_everything_that_a_command_takes(nothing_runs: Shell) -> None:
    seen = 0
    for path, command in commands(get_command(shell)):
        result = nothing_runs.done(*path, "--help")
        assert result.out.startswith(f"Usage: {' '.join(('viral', *path))} ")
        for parameter in command.params:
            name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
            assert name in result.out, (path, name)
            assert parameter.help, (path, name)
        assert command.help
        assert result.out.replace("\n", "").isprintable(), path
        assert "[[" not in result.out, path
        assert "<list[" not in result.out.partition("Options:")[2], path
        assert "{" not in result.out
        assert "..." not in result.out.partition("Commands:")[2], "the first sentence fits its line"
        seen += 1
    assert seen > 20


def test_the_list_of_commands_has_the_first_sentence_of_each(nothing_runs: Shell) -> None:
    table = nothing_runs.done("--help").out.partition("Commands:\n")[2]
    listed = dict(line.strip().split("  ", 1) for line in table.splitlines())
    for name, (place, sentence) in COMMANDS.items():
        assert listed[name].strip() == sentence
        assert load(place, sentence).get_short_help_str(100) == sentence


def test_a_word_alone_shows_its_commands(nothing_runs: Shell) -> None:
    for words in ((), ("jobs",), ("dev",)):
        assert "Commands:" in nothing_runs.senseless(*words)


@pytest.mark.proof
def test_a_reader_who_has_seen_enough_causes_no_traceback(environment: dict[str, str], app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        for _ in range(300):
            prune.enqueue(tx)
    for words in (("jobs", "list", "--json", "-n", "300"), ("jobs", "list", "-n", "300")):
        with a_process(environment, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(timeout=90) in (0, 1)


def test_ctrl_c_while_waiting_is_quiet(environment: dict[str, str], app: App) -> None:
    with a_process(
        environment, "jobs", "enqueue", "quota.reset_due", "--wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            until(lambda: count(app, "job_queue"), "the job to be enqueued")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")


def count(app: App, table: str) -> int:
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_a_worker_of_one_queue_works_on_that_queue(environment: dict[str, str], app: App, tmp_path: Path) -> None:
    with app.db.transaction(SYSTEM) as tx:
        other, ours = reset_due.enqueue(tx), apply_stripe_event.enqueue(tx, event_id=uuid4())
    small = {"WORKER_PROCESSES": "1", "WORKER_THREADS": "1"}
    log = tmp_path / "worker.log"
    with log.open("w") as file, a_process(environment | small, "worker", "-q", "events", stderr=file) as worker:
        try:
            until(lambda: job_row(app, ours)["status"] == "failed", "the events queue to be worked on")
            worker.terminate()
            assert worker.wait(timeout=90) == 0
        finally:
            worker.kill()
    assert job_row(app, other)["status"] == "pending"
    assert "Traceback" not in log.read_text()


def test_support_grants_and_takes_with_a_reason(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app, created_at=datetime.now(UTC), quota_reset_at=datetime.now(UTC) + timedelta(days=20))
    why = ("--reason", "lost on Monday")
    granted = viral.json("quota", "grant", tenant_id, 5, *why, "--key", "ticket 7")
    assert (granted["granted"], granted["remaining"], granted["again"]) == (5, 15, False)
    assert viral.json("quota", "grant", tenant_id, 5, *why, "--key", "ticket 7")["again"] is True
    assert viral.json("quota", "take", tenant_id, 2, *why)["remaining"] == 13
    assert viral("quota", "grant", tenant_id, 5).code == 2, "a reason is needed"
    assert viral("quota", "grant", tenant_id, 0, *why).code == 2
    assert "13 of 15" not in viral.refused("quota", "take", tenant_id, 14, *why)
    assert viral.json("quota", "show", tenant_id)["granted"] == 3


def test_a_tenant_is_exported_and_deleted_from_the_shell(viral: Shell, app: App, tmp_path: Path) -> None:
    tenant_id, file = a_tenant(app), tmp_path / "it.zip"
    done = viral.json("tenants", "export", tenant_id, "--to", file)
    assert (done["file"], done["files"], file.exists()) == (str(file), 0, True)
    assert viral.refused("tenants", "export", tenant_id, "--to", file).startswith(f"viral: {file} exists")
    assert "is a directory" in viral.refused("tenants", "export", tenant_id, "--replace", "--to", tmp_path)
    nowhere = viral("tenants", "export", tenant_id, "--to", tmp_path / "nowhere" / "it.zip")
    assert (nowhere.code, "cannot be written: No such file or directory" in nowhere.err) == (2, True)
    assert 'Say --yes to delete "Ada\'s shop"' in viral("tenants", "delete", tenant_id, "--reason", "x").err
    begun = viral.json("tenants", "delete", tenant_id, "--reason", "asked for", "--yes")
    assert "quota_ledger" in begun["kept"]
    assert (
        viral.done("tenants", "delete", tenant_id, "--reason", "asked for", "--yes")
        .lines[0]
        .startswith(f"Nobody can use it any more. The job {begun['job_id']} deletes")
    )
    done = viral.json("actions", "list", "--target", f"tenant:{tenant_id}")
    assert [(each["action"], each["outcome"]) for each in done] == [
        ("tenant.delete", "unchanged"),
        ("tenant.delete", "done"),
    ]
    drain_app(app)
    assert viral.json("jobs", "show", begun["job_id"])["status"] == "completed"

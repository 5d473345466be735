"""Every command as an operator types it, on a real database. Exit codes: 0 done, 1 failed, 2 makes no sense.

Most run in this process (a process of its own costs most of a second); an exception that escapes would be a traceback
to the operator, and fails the test.
"""

import getpass
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

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
from tests.cli.shell import NOWHERE, Shell, a_process
from tests.conftest import Servers
from tests.drain import drain as drain_app
from tests.wait import until
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.quota import reset_due
from workers.jobs.upkeep import prune
from workers.settings import Settings

NOBODY = uuid4()


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


@pytest.mark.proof
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

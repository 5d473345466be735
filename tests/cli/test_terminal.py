"""Whatever is in the rows, is typed or goes wrong: no character of it reaches a terminal that could obey it."""

import io
import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from rich.console import Console

from cli.output import VisibleConsole, print_json, show, show_one
from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.cli.shell import PYTHONPATH, Shell, without_settings
from tests.unseen import UNSEEN, unseen
from workers.app import App
from workers.jobs.upkeep import prune
from workers.runtime.terminal import VisibleStream, coloured

STORED = "".join(each for each in UNSEEN if each != "\0" and not "\ud800" <= each <= "\udfff")
HOSTILE = f"\x1b]0;owned\x07\x1b[2J[red]{STORED}[/red]"
PAYLOAD = {HOSTILE: {HOSTILE: [HOSTILE]}, "tenant_id": HOSTILE}

texts = st.text(st.characters(codec="utf-8") | st.sampled_from(STORED))
rows = st.dictionaries(texts.filter(bool), texts | st.lists(texts) | st.dictionaries(texts, texts), min_size=1)


@pytest.fixture
def planted(app: App, owner_url: str) -> dict[str, Any]:
    """A system whose every free text is hostile."""
    tenant_id = a_tenant(app, name=HOSTILE, subscription_status=HOSTILE, stripe_customer_id=HOSTILE)
    with app.db.transaction(SYSTEM) as tx:
        job_id = prune.enqueue(tx)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        job = (Jsonb(PAYLOAD), Jsonb(PAYLOAD), HOSTILE, HOSTILE, HOSTILE, HOSTILE, job_id)
        owner.execute(
            "update job_queue set payload = %s, result = %s, error_message = %s, job_type = %s, queue = %s,"
            " ordering_key = %s, status = 'failed', attempts = 1, completed_at = now() where id = %s",
            job,
        )
        owner.execute(
            "insert into job_attempts (job_id, attempt, outcome, error_class, error_message, traceback, started_at)"
            " values (%s, 1, 'failed', %s, %s, %s, now())",
            (job_id, HOSTILE, HOSTILE, f"line 1\n{HOSTILE}\nline 3"),
        )
        owner.execute(
            "insert into webhook_events (id, source, external_id, type, payload, occurred_at, status, detail)"
            " values (gen_random_uuid(), 'stripe', %s, %s, %s, now(), 'ignored:other', left(%s, 300))",
            (HOSTILE, HOSTILE, Jsonb(PAYLOAD), HOSTILE),
        )
        owner.execute(
            "insert into users (clerk_id, email, name, tenant_id) values (%s, %s, %s, %s)",
            (HOSTILE, HOSTILE, HOSTILE, tenant_id),
        )
        [event_id] = owner.execute("select id from webhook_events").fetchone() or [None]
        [user_id] = owner.execute("select id from users").fetchone() or [None]
    return {"tenant": tenant_id, "job": job_id, "event": event_id, "user": user_id}


COMMANDS = [
    "jobs list",
    "jobs show {job}",
    "jobs explain {job}",
    "events list",
    "events stats",
    "events show {event}",
    "tenants list",
    "tenants show {tenant}",
    "users list",
    "users show {user}",
    "queues list",
    "schedules list",
    "workers list",
    "keys list --tenant {tenant}",
    "quota show {tenant}",
    "quota explain {tenant}",
    "generations list --tenant {tenant}",
    "doctor",
]


def test_no_list_or_page_obeys_what_is_in_the_rows(viral: Shell, planted: dict[str, Any]) -> None:
    shown = ""
    for command in COMMANDS:
        words = command.format(**planted).split()
        table, as_json = viral(*words), viral(*words, "--json")
        assert table.code != 2, table.err
        assert unseen(table.out + table.err + as_json.out + as_json.err) == set(), command
        if as_json.out:
            shown += json.dumps(json.loads(as_json.out), ensure_ascii=False)
            assert json.loads(as_json.out) is not None
    assert json.dumps(HOSTILE, ensure_ascii=False)[1:-1] in shown, (
        "what was planted was looked at, and is equal as JSON"
    )


@pytest.mark.parametrize(
    "words",
    [
        (HOSTILE,),
        ("jobs", HOSTILE),
        ("jobs", "show", HOSTILE),
        ("jobs", "list", f"--{HOSTILE}"),
        ("jobs", "list", "--limit", HOSTILE),
        ("jobs", "enqueue", HOSTILE),
        ("jobs", "enqueue", "upkeep.prune", f"{HOSTILE}={HOSTILE}"),
        ("jobs", "enqueue", "upkeep.prune", "--payload", f'{{"{HOSTILE}'),
        ("queues", "pause", HOSTILE),
        ("schedules", "fire", HOSTILE),
        ("events", "show", HOSTILE),
        ("dev", "send-event", HOSTILE, HOSTILE),
        ("dev", "send-event", "stripe", f"{HOSTILE}.json"),
        ("dev", "verify-token", HOSTILE),
        ("dev", "verify-webhook", "stripe", HOSTILE),
        ("import-dexie", HOSTILE, "--new-tenant", HOSTILE),
    ],
    ids=lambda words: " ".join(words).replace(HOSTILE, "X").replace("\0", ""),
)
def test_what_was_typed_comes_back_visible(away: Shell, words: tuple[str, ...]) -> None:
    result = away(*words)
    assert result.code != 0
    assert result.err
    assert unseen(result.out + result.err) == set()


@pytest.mark.proof
@given(rows)
def test_any_row_is_shown_and_not_obeyed(row: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        table, as_json = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", table)
        show([row], tuple(row), as_json=False, nothing="")
        show_one(row, as_json=False)
        patch.setattr("sys.stdout", as_json)
        print_json(row)
    assert unseen(table.getvalue() + as_json.getvalue()) == set()
    assert len(table.getvalue().splitlines()) == 2 + sum(value is not None for value in row.values())
    assert json.loads(as_json.getvalue()) == row


@given(texts)
def test_on_a_terminal_there_are_our_colours_and_no_others(text: str) -> None:
    out = io.StringIO()
    VisibleConsole(out, force_terminal=True).print(text, style="bold")
    written = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert unseen(written) == set()
    out = io.StringIO()
    Console(file=out, force_terminal=True).print("ours", style="bold")
    assert "\x1b[1m" in out.getvalue(), "a terminal has colours at all"


@given(st.lists(st.text(st.characters() | st.sampled_from(UNSEEN))))
def test_nothing_passes_the_border_unseen(pieces: list[str]) -> None:
    out = io.StringIO()
    border = VisibleStream(out)
    border.writelines(pieces)
    print(*pieces, file=border)  # type: ignore[arg-type]
    assert unseen(out.getvalue()) == set()
    assert coloured(border) is out  # type: ignore[arg-type]
    assert not hasattr(border, "buffer"), "bytes would go past it"


BREAKS = """
import warnings
from workers.runtime.terminal import guard_output
guard_output()
text = "\\x1b[31m\\u202e\\x9b\\u2028\\x07"
print(text)
warnings.warn(text)
class Odd(Exception): pass
Odd.__name__ = text
raise Odd(text) from ValueError(text)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_traceback_and_a_warning_are_visible_too(encoding: str) -> None:
    environment = without_settings() | {"PYTHONPATH": PYTHONPATH, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", BREAKS], env=environment, capture_output=True, check=False
    )
    result = done.stdout.decode(encoding) + done.stderr.decode(encoding)
    assert done.returncode == 1
    assert "ValueError" in result
    assert result.count(r"\x1b[31m\u202e\x9b\u2028\x07") >= 4
    assert unseen(result) == set()


def test_an_id_is_parsed_before_it_is_shown(viral: Shell, planted: dict[str, Any]) -> None:
    assert UUID(str(planted["job"]))
    assert unseen(viral("jobs", "retry", planted["job"]).out) == set()

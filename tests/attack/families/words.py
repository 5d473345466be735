"""Words of others: escapes that a terminal would obey, and types of events without number."""

import json
import subprocess
import sys
import time
from typing import Any

import psycopg

from db.security import seeing_all_tenants
from integrations.stripe import webhooks as stripe
from tests.attack.stage import OWN, ROOT, Stage, attack
from tests.attack.wire import post
from tests.unseen import unseen

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u200b\u2028"
"""Renames the window, clears it, turns red, is read backwards, and is not seen."""

STATUSES = "SELECT count(DISTINCT status), count(*) FROM webhook_events WHERE starts_with(external_id, 'evt_words_')"


@attack("escapes in names and values of events", needs=(OWN,))
def escapes(stage: Stage) -> None:
    fields = {ESCAPES: {ESCAPES: [ESCAPES]}, "description": ESCAPES}
    with stage.watching():
        stage.note(sent(stage, f"evt_escapes_{time.time_ns()}", f"customer.{ESCAPES}", fields))
    for words in (["events", "list"], ["events", "list", "--json"], ["events", "show"], ["events", "show", "--json"]):
        shown = viral(stage, *words, *([newest(stage)] if "show" in words else []))
        stage.expect("owned" in shown, f"`viral {' '.join(words)}` does not show the event")
        stage.expect(not unseen(shown), f"`viral {' '.join(words)}` sends the terminal {sorted(unseen(shown))}")


@attack("types of events without number", needs=(OWN,))
def types(stage: Stage) -> None:
    count = stage.of(3000, 60)
    with stage.watching():
        for n in range(count):
            stage.note(sent(stage, f"evt_words_{n}", f"made.up.{n}", {"object": f"made up {n}"}))
    with psycopg.connect(seeing_all_tenants(stage.own.database_url)) as connection:
        [(statuses, stored)] = connection.execute(STATUSES).fetchall()
    stage.expect(stored == count, f"{stored} of {count} are stored")
    stage.expect(statuses == 1, f"they have {statuses} different statuses")


def sent(stage: Stage, event_id: str, kind: str, fields: dict[str, Any]) -> str:
    """Deliver an event of Stripe whose object has these fields; the answer's status."""
    data = {"object": {"id": "obj_words", "object": "customer", **fields}}
    event = {"id": event_id, "object": "event", "type": kind, "created": int(time.time()), "livemode": False}
    body = json.dumps(event | {"data": data}).encode()
    with stage.wire() as wire:
        signed = stripe.sign(body, stage.target.secret or "", int(time.time()))
        wire.send(post("/webhooks/stripe", body, f"Stripe-Signature: {signed}", "Connection: close"))
        return wire.answer()


def newest(stage: Stage) -> str:
    events = json.loads(viral(stage, "events", "list", "--json"))
    return next(str(event["id"]) for event in events if "owned" in event["type"])


def viral(stage: Stage, *words: str) -> str:
    """All that the command writes to the terminal."""
    command = [sys.executable, "-m", "cli.main", *words]
    ran = subprocess.run(
        command, cwd=ROOT, env=stage.own.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return ran.stdout.decode()

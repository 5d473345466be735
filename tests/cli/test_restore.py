"""`viral restore`, as it is typed after a backup was put back."""

import json
from datetime import datetime

from tests.builders import a_tenant
from tests.cli.shell import Shell
from workers.app import App


def test_a_restore_is_begun_shown_and_ended(viral: Shell, app: App) -> None:
    assert "posts go out" in viral("restore", "status").out
    begun = json.loads(viral("restore", "begin", "--taken-at", "2026-11-27T12:00Z", "--json").out)
    assert (begun["open"], begun["undecided"], begun["posts"]) == (True, 0, [])
    assert datetime.fromisoformat(begun["restore"]["taken_at"]) == datetime.fromisoformat("2026-11-27T12:00+00:00")
    assert "nothing is posted" in viral("restore", "status").out
    queues = {row["queue"]: row["paused_at"] for row in json.loads(viral("queues", "list", "--json").out)}
    assert queues["social"]
    assert queues["media"]
    assert "posts go out" in viral("restore", "end").out
    assert "posts go out" in viral("restore", "end").out
    queues = {row["queue"]: row["paused_at"] for row in json.loads(viral("queues", "list", "--json").out)}
    assert not queues["social"]


def test_its_end_names_the_autopilots_that_ask_again(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app)
    viral.done("autopilot", "set", "--tenant", tenant_id, "--mode", "auto")
    viral.done("restore", "begin", "--taken-at", "2026-11-27T12:00Z")
    command = f"viral autopilot set --tenant {tenant_id} --mode auto"
    assert command in viral.done("restore", "end").out.replace("\n", " ")
    viral.done("autopilot", "set", "--tenant", tenant_id, "--mode", "auto")
    assert command not in viral.done("restore", "status").out.replace("\n", " ")

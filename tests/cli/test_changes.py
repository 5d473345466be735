import getpass
import json

from db.migrate import upgrade as migrate
from tests.cli.shell import Shell


def test_what_was_changed_is_listed_with_who_did_it(viral: Shell, owner_url: str) -> None:
    assert "A deploy, changed settings" in viral("changes", "list").out
    migrate.downgrade(owner_url, "-1")
    viral("migrate")
    viral("queues", "pause", "llm")
    [migration] = [
        row for row in json.loads(viral("changes", "list", "--kind", "migration", "--json").out) if row["cause"]
    ]
    assert migration["cause"] == f"person:{getpass.getuser()}"
    assert "llm is paused" in viral("changes", "list", "--since", "2026-01-01").out
    assert viral("changes", "list", "--kind", "x").code == 2


def test_what_failed_and_what_waits_for_a_person_is_listed(viral: Shell) -> None:
    assert "No attempt has failed." in viral("failures", "list").out
    assert viral("failures", "show", "E-0").code == 1
    assert "Posts that may be live without our knowing" in viral("waiting").out
    assert [part["items"] for part in json.loads(viral("waiting", "--json").out)] == [[]] * 5

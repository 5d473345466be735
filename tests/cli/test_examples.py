"""The examples in the help of commands that only read are run on a small world, as they stand there."""

import re
import shlex
from uuid import UUID

from sqlalchemy import insert

from db.schema.concepts import generations
from db.schema.identity import users
from db.transaction import SYSTEM
from domain.ops.actions import target
from tests.builders import NOV_22
from tests.cli.shell import Shell
from tests.cli.test_acting import failed
from tests.reference.commands import commands, examples
from tests.web.ops.hurting import make_it_hurt
from tests.workers.ops.test_actions import a_job
from workers.app import App
from workers.ops.actions import perform

READS = frozenset(
    {
        *("list", "show", "status", "stats", "explain", "next", "accuracy", "history", "calendar", "chains"),
        *("sources", "policy", "budget", "deliveries", "info", "waiting", "doctor", "metrics", "completion"),
    }
)
NOT_HERE = {"viral autopilot explain ID"}
"""It needs an autopilot's day, which is another world (`tests/cli/test_autopilot.py`)."""
IN_CAPITALS = re.compile(r"^(ID|TENANT|POST|NAME|01a20417-\S+)$")


def a_small_world(app: App) -> UUID:
    """Return a tenant that pays, amid what hurts, with a person, a generation and a job that was retried."""
    tenant_id = make_it_hurt(app)
    with app.db.transaction(SYSTEM) as tx:
        ada = {"clerk_id": "user_ada", "email": "ada@example.com", "tenant_id": tenant_id}
        tx.sql.execute(insert(users).values(ada))
        tx.sql.execute(insert(generations).values({"tenant_id": tenant_id, "date": NOV_22, "concepts": []}))
    job_id = a_job(app, "failed")
    failed(app, job_id)
    perform(app, "job.retry", target(f"job:{job_id}"), who="person:ada")
    return tenant_id


def filled(line: str, words: tuple[str, ...], viral: Shell, tenant_id: UUID) -> list[str] | None:
    """Return the words of an example with ids of this world; None: it has none of what is asked for."""
    parts: list[str] = []
    for part in shlex.split(line)[1:]:
        found: str | None = part
        if IN_CAPITALS.match(part):
            if parts[-1] == "--tenant" or part == "TENANT" or words[0] == "tenants":
                found = str(tenant_id)
            else:
                rows = viral.json("posts" if part == "POST" else words[0], "list")
                rows = rows["groups"] if isinstance(rows, dict) else rows
                found = str(rows[0].get("id") or rows[0].get("name")) if rows else None
        if found is None:
            return None
        parts.append(found)
    return parts


def test_examples_that_only_read_run(viral: Shell, app: App) -> None:
    tenant_id = a_small_world(app)
    lines = [(words, line) for words, command in commands() if words[-1] in READS for line in examples(command)]
    assert len(lines) > 50
    for words, line in lines:
        if line in NOT_HERE:
            continue
        parts = filled(line, words, viral, tenant_id)
        assert parts is not None, line
        result = viral(*parts)
        if words != ("doctor",):  # no process runs here
            assert (result.code, result.err) == (0, ""), (line, parts, result)

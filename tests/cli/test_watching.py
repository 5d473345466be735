"""`viral jobs list` with its filters, `viral jobs tail`, and `viral queues show`."""

import json
import select
import signal
import subprocess
from uuid import uuid4

from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.cli.shell import Shell, a_process
from workers.app import App


def sql(app: App, statement: str, *values: object) -> list[tuple[object, ...]]:
    with app.db.transaction(SYSTEM) as tx:
        cursor = tx.driver.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def test_jobs_are_listed_by_filters_that_are_combined_and_checked(viral: Shell, app: App) -> None:
    ada = a_tenant(app)
    insert = "INSERT INTO job_queue (job_type, tenant_id, cause) VALUES ('t', %s, 'person:ada') RETURNING id"
    [(hers,)] = sql(app, insert, ada)
    sql(app, "INSERT INTO job_queue (job_type) VALUES ('t')")
    filters = ("--tenant", ada, "--type", "t", "--status", "waiting", "--cause", "person:ada", "--text", "ADA")
    filters += ("--since", "1h")
    assert [row["id"] for row in viral.json("jobs", "list", *filters)] == [str(hers)]
    assert viral.json("jobs", "list", "--text", hers)[0]["id"] == str(hers)
    assert viral.json("jobs", "list", "--archive") == []
    sql(app, "INSERT INTO job_queue (job_type, queue) VALUES ('t', 'of_others')")
    assert len(viral.json("jobs", "list", "--queue", "of_others")) == 1
    assert "this release knows no of_other; it knows" in viral.senseless("jobs", "list", "--queue", "of_other")
    assert "since: yesterday is no time" in viral.senseless("jobs", "list", "--since", "yesterday")
    assert "after: it is no place" in viral.senseless("jobs", "list", "--after", "here")
    assert "the archive has only what has ended" in viral.senseless("jobs", "list", "--archive", "--status", "running")


def test_one_queue_is_shown_with_who_waits(viral: Shell, app: App) -> None:
    ada = a_tenant(app, name="Ada's shop")
    sql(app, "INSERT INTO job_queue (job_type, queue, tenant_id) VALUES ('t', 'llm', %s)", ada)
    shown = viral.done("queues", "show", "llm").out
    assert "Ada's shop" in shown
    assert "Next in dispatch order" in shown
    report = viral.json("queues", "show", "llm")
    assert (report["overview"]["waiting"], len(report["next_jobs"])) == (1, 1)
    assert "names the queue nope" in viral.refused("queues", "show", "nope")


def test_a_tail_prints_a_line_an_end_and_ends_by_ctrl_c(environment: dict[str, str], app: App) -> None:
    with a_process(
        environment, "jobs", "tail", "--json", "--type", "t", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ids: list[str] = []
        for _ in range(200):  # the first looks may not have begun: until a line comes
            [(job_id,)] = sql(
                app,
                "INSERT INTO job_queue (job_type, status, completed_at, error_message)"
                " VALUES ('t', 'failed', now(), %s) RETURNING id",
                "it\nbroke \x1b[31m",
            )
            ids.append(str(job_id))
            if _readable(process):
                break
        event = json.loads(process.stdout.readline())
        assert event["id"] in ids
        assert (event["status"], event["job_type"], event["error"]) == ("failed", "t", "it\nbroke \x1b[31m")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr.read().startswith("this release knows no job type t; it knows accounts.due, ")


def _readable(process: subprocess.Popen[str]) -> bool:
    return bool(select.select([process.stdout], [], [], 0.5)[0])


def test_a_tail_ends_by_itself_and_refuses_senseless_filters(viral: Shell) -> None:
    assert viral.done("jobs", "tail", "--for", "0s", "--tenant", uuid4()).out == ""
    assert "no such status" in viral.senseless("jobs", "tail", "--status", "nope")

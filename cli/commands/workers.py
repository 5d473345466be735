"""`viral workers`"""

from cli.output import AsJson, print_json, show
from cli.session import session
from cli.shell import Group
from workers.ops.processes import state

app = Group()

COLUMNS = ("hostname", "pid", "state", "running", "queues", "version", "started_at", "heartbeat_age", "id")


@app.callback()
def workers() -> None:
    """Keeps `list` a subcommand although it is the only one."""


@app.command("list")
def list_workers(as_json: AsJson = False) -> None:
    """The worker processes, the youngest first.

    A dead one is shown for an hour, and as long as it owns a job.
    """
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        now = tx.now()
        rows = [row | {"state": state(row), "heartbeat_age": now - row["heartbeat_at"]} for row in tx.workers.all()]
    if as_json:
        print_json(rows)
        return
    table = [row | {"queues": " ".join(row["queues"])} for row in rows]
    show(table, COLUMNS, as_json=False, nothing="No worker process has signed on: start one with `viral worker`.")

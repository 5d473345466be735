"""`viral workers`"""

from collections.abc import Mapping
from typing import Any

from cli.output import AsJson, show
from cli.session import for_system
from cli.shell import Group
from workers.ops.processes import overview

app = Group()

COLUMNS = ("hostname", "pid", "state", "running", "queues", "version", "started_at", "heartbeat_age", "id")
NOTHING = "No worker process has signed on: start one with `viral worker`."


@app.command("list")
def list_workers(as_json: AsJson = False) -> None:
    """List the worker processes, the youngest first.

    A dead one is shown for an hour, and as long as it owns a job.

    \b
    viral workers list
    """
    with for_system() as tx:
        rows = overview(tx)
    show(rows, COLUMNS, as_json=as_json, nothing=NOTHING, simplified=_simplified)


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "queues": " ".join(row["queues"])}

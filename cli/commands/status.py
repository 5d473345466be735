"""`viral status`"""

from collections.abc import Mapping
from typing import Any

from cli.output import AsJson, console, print_json, show
from cli.session import session
from workers.ops import overview
from workers.ops.looking import looked
from workers.ops.queues import QueueOverview

QUEUES = ("queue", "waiting", "running", "scheduled", "oldest_age", "workers", "paused_at")


def status(as_json: AsJson = False) -> None:
    """Say what hurts first, then how much waits where.

    What cannot be known now is told before it. The page `/ops` shows the same, with charts.

    \b
    viral status
    """
    with session(log_level="ERROR") as app:
        found, _ = looked(app, overview.status)
    if as_json:
        print_json({"at": found.at, "doubts": found.doubts, "harms": found.harms, "queues": found.queues})
        return
    for doubt in found.doubts:
        _say("?", doubt.says, doubt.shell)
    for group in overview.Group:
        harms = [harm for harm in found.harms if harm.group == group]
        if harms:
            console().print(f"{group}:", style="bold")
        for harm in harms:
            _say("!", harm.says, harm.shell)
    if not found.harms:
        console().print("Nothing hurts.")
    console().print()
    show([_row(each) for each in found.queues], QUEUES, as_json=False, nothing="There is no queue.")


def _say(mark: str, says: str, shell: str) -> None:
    console().print(f"{mark} {says}")
    console().print(f"    {shell}", style="dim")


def _row(queue: QueueOverview) -> Mapping[str, Any]:
    return {name: getattr(queue, name) for name in QUEUES}

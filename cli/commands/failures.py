"""`viral failures`"""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from cli.acting import Reason, Yes, act_on_many
from cli.arguments import earlier
from cli.output import AsJson, console, print_json, show, show_one
from cli.session import for_system, session
from cli.shell import Group
from domain.ops.actions import Kind, Target
from workers.ops import failures

app = Group()

COLUMNS = (
    *("attempts", "waiting", "paying", "tenants", "title", "first_at", "first_release", "last_at", "rose_with"),
    "name",
)
RISES = ("release", "at", "before", "after", "says")
ATTEMPTS = ("ended_at", "job_id", "job_type", "status", "tenant_id", "attempt", "release", "error_message")

Since = Annotated[
    datetime | None,
    typer.Option(parser=earlier, metavar="TIME", help="Only those that failed since then, or in the last 2h, 1d."),
]


@app.command("list")
def list_failures(since: Since = None, as_json: AsJson = False) -> None:
    """List what failed, and which release made failures rise.

    Attempts that failed are put together by their error without what differs from case to case, those of paying
    tenants first. `waiting` jobs have given up. Below: each deploy of workers, with the failures a minute in the hour
    before and after it.

    \b
    viral failures list --since 1d
    """
    with for_system() as tx:
        found = failures.overview(tx, since)
    if as_json:
        print_json(asdict(found))
        return
    console().print(found.window.says)
    show([asdict(each) for each in found.groups], COLUMNS, as_json=False, nothing="No attempt has failed.")
    _show_rises(found.rises)


@app.command("show")
def show_group(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="A group, as `viral failures list` names it.")],
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Show one group of failures, by release and with its attempts.

    \b
    viral failures show NAME
    """
    with for_system() as tx:
        found = failures.group(tx, group, since)
    if as_json:
        print_json(asdict(found))
        return
    console().print(found.window.says)
    show_one(asdict(found.group), as_json=False)
    console().print()
    show(found.by_release, ("release", "attempts", "first_at", "last_at"), as_json=False, nothing="")
    _show_rises(found.rises)
    console().print()
    show([asdict(each) for each in found.attempts], ATTEMPTS, as_json=False, nothing="")


@app.command()
def retry(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="A group, as `viral failures list` names it.")],
    since: Since = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Retry the jobs of a group that have given up.

    It is shown how many they are, and asked; exactly those are retried, in the order in which they were enqueued.

    \b
    viral failures retry NAME --reason "the provider is back"
    """
    with session() as current:
        jobs = failures.waiting_in(current, group, since)
        if not jobs:
            console().print("No job of this group has given up.")
            return
        act_on_many(
            current, "job.retry", targets=[Target(Kind.JOB, str(each)) for each in jobs], reason=reason, yes=yes
        )


def _show_rises(rises: list[failures.Rise]) -> None:
    rows = [{**asdict(each), "release": each.deploy.release, "at": each.deploy.at} for each in rises]
    console().print()
    show(rows, RISES, as_json=False, nothing="No deploy of workers is recorded in this time.", whole=("says",))

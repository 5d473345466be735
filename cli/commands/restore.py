"""`viral restore`"""

from datetime import datetime
from typing import Annotated

import typer

from cli.arguments import moment
from cli.output import AsJson, console, print_json, progress, show
from cli.session import session
from cli.shell import Group
from workers.ops import restore
from workers.ops.restore import RestoreStatus

app = Group()

COLUMNS = ("id", "tenant_id", "platform", "account_id", "scheduled_for", "error_message")

TakenAt = Annotated[
    datetime,
    typer.Option(
        "--taken-at", parser=moment, metavar="TIME", help="The moment that the database has gone back to; UTC if bare."
    ),
]


@app.command()
def begin(taken_at: TakenAt, as_json: AsJson = False) -> None:
    """Post nothing, and look for what was published since the backup.

    Pauses the queues social and media. Posts that were due since then are in doubt, and are looked for on their
    platforms. Autopilots that asked nobody are set to approve. Doing it again does no harm.

    \b
    viral restore begin --taken-at 2026-12-01T03:00Z
    """
    with session() as current:
        with progress("posts in doubt", as_json=as_json):
            found = restore.begin(current, taken_at)
        _show(found, as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show whether posts go out, and what is undecided.

    \b
    viral restore status
    """
    with session() as current:
        _show(restore.status(current), as_json)


@app.command()
def end(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Although posts are undecided: they stay so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Post again, and resume the queues social and media.

    \b
    viral restore end
    """
    with session() as current:
        _show(restore.end(current, although_undecided=yes), as_json)


def _show(found: RestoreStatus, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    row = found.restore or {}
    if found.open:
        went = row["taken_at"]
        why = row["noticed"] or "a person said that the database was put back"
        console().print(f"nothing is posted: {why}")
        if went is None:
            console().print("to look for what went out since: `viral restore begin --taken-at TIME`")
        else:
            doubted = row["posts_in_doubt"]
            console().print(f"it went back to {went:%Y-%m-%d %H:%M:%S} UTC; {doubted} posts were in doubt")
    else:
        console().print("posts go out")
    if found.undecided:
        console().print(f"\nNot decided: {found.undecided}", style="bold")
        show(found.posts, COLUMNS, as_json=False, nothing="")
        console().print(
            "\none that you have seen: `viral posts resolve ID found EXTERNAL_ID`; one that is not there: … lost"
        )
    elif found.open and row["taken_at"] is not None:
        console().print("all of them are decided: `viral restore end`")
    if found.asking_again:
        console().print(f"\nAutopilots that ask before each post since then: {len(found.asking_again)}", style="bold")
        for tenant_id in found.asking_again:
            console().print(f"if nobody is to be asked again: `viral autopilot set --tenant {tenant_id} --mode auto`")

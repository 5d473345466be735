"""`viral notices`"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.output import AsJson, Limit, console, print_json, show
from cli.session import session
from cli.shell import Group
from domain.ops.notices import Notice
from workers.ops.notices import report, try_channels

app = Group()

COLUMNS = ("cause", "says", "number", "first_at", "sent_at", "ended_at", "shell")
CHANNELS = ("channel", "sent_at", "waiting", "given_up", "error")
NOTHING = "Nothing hurts of which people would be notified."
NOT_LOOKED = "Nobody has looked, so nobody was notified. See `viral status` for what hurts now."
NO_CHANNEL = "NOTIFY_URLS is not set: nobody is notified. See docs/notices.md."


@app.command("list")
def list_notices(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that are over.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the notices that people get, and the channels.

    Of each cause there is one, however many it hurts. What is not sent yet waits for the end of quiet hours, or for
    some minutes in which it may mend itself. For example: viral notices list --ended

    \b
    viral notices list
    """
    with session() as running:
        found = report(running, ended=ended, limit=limit)
    if as_json:
        print_json(asdict(found) | {"notices": [asdict(each) for each in found.notices]})
        return
    nothing = NOTHING if found.looked_at else NOT_LOOKED
    show([_row(each) for each in found.notices], COLUMNS, as_json=False, nothing=nothing, whole=("says", "shell"))
    console().print()
    show([asdict(each) for each in found.channels], CHANNELS, as_json=False, nothing=NO_CHANNEL, whole=("error",))


@app.command("test")
def test() -> None:
    """Send one message to each channel, and say which took it.

    The settings are those of this shell, which may differ from the processes'. For example: viral notices test

    \b
    viral notices test
    """
    with session() as running:
        outcomes = [*try_channels(running)]
    if not outcomes:
        console().print(NO_CHANNEL)
    for name, error in outcomes:
        console().print(error or f"{name}: taken")
    if not outcomes or any(error for _, error in outcomes):
        raise typer.Exit(1)


def _row(notice: Notice) -> dict[str, Any]:
    return {**asdict(notice), "says": " ".join(notice.says)}

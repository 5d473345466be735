"""`viral waiting`"""

from dataclasses import asdict

from cli.output import AsJson, console, print_json, show
from cli.session import for_system
from workers.ops.waiting import overview

COLUMNS = ("since", "tenant_id", "post_id", "video_id", "what", "why", "command")


def waiting(as_json: AsJson = False) -> None:
    """See what waits for a person, and how to resolve it.

    First the posts that may be live without our knowing, then paid clips in doubt, posts that failed, accounts that
    have to be connected again, and autopilots without consent.

    \b
    viral waiting
    """
    with for_system() as tx:
        parts = overview(tx)
    if as_json:
        print_json([asdict(each) for each in parts])
        return
    for number, each in enumerate(parts):
        console().print(f"{'' if not number else chr(10)}{each.title}", style="bold")
        show([asdict(item) for item in each.items], COLUMNS, as_json=False, nothing=each.nothing, whole=("command",))
        if each.more:
            console().print("There are more.")

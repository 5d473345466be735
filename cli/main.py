"""`viral`: the shell of operators. Exit code 0: done; 1: failed; 2: the command line makes no sense."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.commands import (
    billing,
    dev,
    dexie,
    events,
    generations,
    identity,
    jobs,
    keys,
    processes,
    queues,
    quota,
    schedules,
    tenants,
    verify,
    workers,
)
from cli.shell import Group
from workers.runtime.terminal import guard_output

app = Group(name="viral", help="The workers of Viral Dashboard: webhooks in, jobs done, each effect once.")
processes.add_to(app)
app.add_typer(jobs.app, name="jobs", help="Enqueue jobs, and see what became of them.")
app.add_typer(queues.app, name="queues", help="How much waits where; pause, resume and limit it.")
app.add_typer(schedules.app, name="schedules", help="What the calendar fires, and when.")
app.add_typer(workers.app, name="workers", help="The worker processes, alive and dead.")
app.add_typer(tenants.app, name="tenants", help="Who uses the system, on which plan.")
app.add_typer(identity.users, name="users", help="People, as Clerk says who they are.")
app.add_typer(identity.app, name="identity", help="Compare what we know of Clerk.")
app.add_typer(keys.app, name="keys", help="API keys: how programs come in, in a tenant's name.")
app.add_typer(quota.app, name="quota", help="What is left of a tenant's concepts, and since when.")
app.add_typer(billing.app, name="billing", help="Derive what we know of Stripe anew, or compare it.")
app.add_typer(generations.app, name="generations", help="Concepts that were made, from what, and daily ones.")
app.add_typer(events.app, name="events", help="What Stripe and Clerk told us, and what we made of it.")
verify.add_to(dev.app)
app.add_typer(dev.app, name="dev", help="Play the outside, without an account; judge what it signed.")
dexie.add_to(app)


def say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(processes.our_version())
        raise typer.Exit


@app.callback()
def viral(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the shell itself."""


def say_what_cannot_be_said() -> None:
    """Where the output is not UTF-8, have it escape what it has no letter for, instead of stopping in the middle."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def refuse_undecodable(words: Sequence[str]) -> None:
    """Exit with 2 if a word is not text: nothing that it could name or become is known to Postgres, or to a sender."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = repr(os.fsencode(word)).removeprefix("b")
            sys.stderr.write(f"viral: the argument {shown} is not UTF-8: write it as UTF-8 text\n")
            sys.exit(2)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; what this system foresees is one clear message on standard error, and never a traceback."""
    from domain.errors import ViralError

    say_what_cannot_be_said()
    guard_output()
    refuse_undecodable(sys.argv[1:] if words is None else words)
    try:
        try:
            app(words, prog_name="viral")
        finally:
            sys.stdout.flush()
    except ViralError as error:
        sys.stderr.write(f"viral: {error}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()

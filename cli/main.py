"""`viral`: the shell of operators. Exit code 0: done; 1: failed; 2: the command line makes no sense."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.shell import Group, lazy_group, run
from domain.errors import PostInvalid, ViralError
from workers.runtime.terminal import guard_output
from workers.runtime.version import VERSION

COMMANDS = {
    "up": ("cli.commands.up:up", "Start everything here, and stop it with Ctrl-C."),
    "info": ("cli.commands.info:info", "Show where everything is."),
    "migrate": ("cli.commands.migrate:migrate", "Bring the database to the newest schema."),
    "status": ("cli.commands.status:status", "Say what hurts first, then how much waits where."),
    "doctor": ("cli.commands.doctor:doctor", "Check what can be checked, and say what to do about it."),
    "web": ("cli.commands.web:web", "Serve the webhooks, the API and health checks."),
    "worker": ("cli.commands.worker:worker", "Work on jobs."),
    "scheduler": ("cli.commands.scheduler:scheduler", "Notify workers of jobs, rescue lost ones, run schedules."),
    "jobs": ("cli.commands.jobs:app", "Enqueue jobs, and see what became of them."),
    "actions": ("cli.commands.actions:app", "See who did what, and why; stop acts on many."),
    "queues": ("cli.commands.queues:app", "See how much waits where; pause, resume and limit queues."),
    "schedules": ("cli.commands.schedules:app", "See what the calendar runs, and when."),
    "workers": ("cli.commands.workers:app", "See the worker processes, alive and dead."),
    "failures": ("cli.commands.failures:app", "See what failed, and which release made that rise."),
    "waiting": ("cli.commands.waiting:waiting", "See what waits for a person, and how to resolve it."),
    "notices": ("cli.commands.notices:app", "See the notices that people get of what hurts; try it."),
    "changes": ("cli.commands.changes:app", "See what was changed: deploys, settings, limits, pauses."),
    "tenants": ("cli.commands.tenants:app", "See who uses the system, and on which plan."),
    "users": ("cli.commands.identity:users", "See people, as Clerk says who they are."),
    "identity": ("cli.commands.identity:app", "Compare what is stored of Clerk with Clerk itself."),
    "keys": ("cli.commands.keys:app", "Make and revoke the API keys that programs use."),
    "quota": ("cli.commands.quota:app", "See what is left of a tenant's concepts, and why."),
    "billing": ("cli.commands.billing:app", "Compare what is stored of Stripe, or derive plans anew."),
    "generations": ("cli.commands.generations:app", "See the concepts that were made; set daily ones."),
    "videos": ("cli.commands.videos:app", "Make videos of concepts, and see how far they are."),
    "providers": ("cli.commands.providers:app", "See who makes videos, and for how much."),
    "accounts": ("cli.commands.accounts:app", "Connect social accounts, and see how they post."),
    "posts": ("cli.commands.posts:app", "Post videos, each once, and see what became of them."),
    "analytics": ("cli.commands.analytics:app", "See how posts did, side by side."),
    "reflexion": ("cli.commands.reflexion:app", "See how scores are learned, and how far off they were."),
    "autopilot": ("cli.commands.autopilot:app", "Have videos made and posted without anybody's help."),
    "webhooks": ("cli.commands.webhooks:app", "See which programs are notified of tenants' posts."),
    "media": ("cli.commands.media:app", "See the files that are kept; check one for platforms."),
    "metrics": ("cli.commands.metrics:app", "See what is measured; write dashboards and alert rules."),
    "events": ("cli.commands.events:app", "See what Stripe and Clerk sent, and what became of it."),
    "ops": ("cli.commands.ops:app", "Say who may see the operator's page."),
    "restore": ("cli.commands.restore:app", "After a backup was put back: post nothing twice."),
    "dev": ("cli.commands.dev:app", "Show the whole loop; play and judge the outside."),
    "completion": ("cli.commands.completion:completion", "Have bash, zsh or fish complete what you type."),
    "import-trends": ("cli.commands.trends:import_trends", "Import sounds and competitors' videos as trends."),
    "import-dexie": ("cli.commands.dexie:import_dexie", "Take over what the old app kept in the browser."),
    "export-dexie": ("cli.commands.dexie:export_dexie", "Write a tenant's data as the old app kept it."),
}

app = Group(
    name="viral",
    cls=lazy_group(COMMANDS),
    help="The workers of Viral Dashboard: webhooks in, jobs done, each effect once.",
)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def viral(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the shell itself."""


def escape_unencodable() -> None:
    """Have an output that is not UTF-8 escape what it has no letter for, instead of stopping in the middle."""
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
    """Run one command; a foreseen error is one clear line on standard error, and never a traceback."""
    escape_unencodable()
    guard_output()
    refuse_undecodable(sys.argv[1:] if words is None else words)
    try:
        try:
            code = run(app, words)
        finally:
            sys.stdout.flush()
    except ViralError as error:
        sys.stderr.write(f"viral: {_line(error)}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code)


def _line(error: ViralError) -> str:
    """What the API has in `details` is said here, since a shell shows none."""
    if isinstance(error, PostInvalid) and error.details:
        return "; ".join(dict.fromkeys(fault for faults in error.details.values() for fault in faults))
    return str(error)


if __name__ == "__main__":
    main()

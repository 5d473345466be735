"""`viral up|info|migrate|doctor|web|worker|scheduler`: the processes, and whether they are well."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli.output import AsJson, console, print_json, show_one, without_password

Home = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the embedded servers keep their data. Default: VIRAL_HOME, or .viral."),
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="The web server's port; 0 picks a free one. Default: PORT, or 8000."),
]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", "-q", metavar="QUEUE", help="Work on this queue only; may be given again. Default: all."),
]


def add_to(app: typer.Typer) -> None:
    """Make these top-level commands."""
    for command in (up, info, migrate, doctor, web, worker, scheduler):
        app.command()(command)


def up(home: Home = None, port: Port = None) -> None:
    """Start everything here, and stop it with Ctrl-C.

    Postgres and Redis (unless DATABASE_URL and REDIS_URL say where others are), migrations, web, worker and scheduler.
    """
    from cli.up import run

    sys.exit(run(home, port))


def info(as_json: AsJson = False) -> None:
    """Where everything is. Passwords are shown with --json only.

    The database's owner, as which the embedded servers' database_url logs in, sees all tenants only in a session that
    says so; the URL does.
    """
    from cli.session import resolve
    from db.security import seeing_all_tenants

    settings, state = resolve()
    facts = {
        "database_url": seeing_all_tenants(settings.owner_url) if state else settings.owner_url,
        "app_database_url": settings.database_url,
        "redis_url": settings.redis_url,
        "web_url": state.web_url if state else settings.web_url,
        "version": our_version(),
    }
    if as_json:
        print_json(facts)
    else:
        show_one({name: without_password(value) for name, value in facts.items()}, as_json=False)


def migrate(
    allow_newer: Annotated[
        bool,
        typer.Option(
            "--allow-newer",
            help="For going back to this release: leave a newer release's schema as it is, and work on it.",
        ),
    ] = False,
) -> None:
    """Bring the database to the newest schema.

    Connects as the owner of the tables: DIRECT_URL, else DATABASE_URL.
    """
    from cli.session import resolve, run_migrations

    settings, _ = resolve()
    run_migrations(settings, allow_newer=allow_newer)


def web(port: Port = None) -> None:
    """Serve the webhooks, the API and health checks.

    On the address HOST. Without it: on every address if PORT is set, as platforms with a router do, else on this
    machine's own (127.0.0.1).
    """
    from cli.session import resolve
    from web.main import run
    from workers.runtime.redis_client import refuse_cluster

    settings, _ = resolve()
    refuse_cluster(settings.redis_url)
    given = {} if port is None else {"port": port, "host": settings.web_host}
    try:
        run(settings.model_copy(update=given))
    except SystemExit as stopped:  # uvicorn has exit codes of its own
        raise typer.Exit(1 if stopped.code else 0) from None


def worker(queues: Queues = None) -> None:
    """Work on jobs.

    In WORKER_PROCESSES processes of WORKER_THREADS threads each. SIGTERM, SIGINT and SIGHUP let them finish what they
    have begun, within WORKER_GRACE_SECONDS.
    """
    from cli.environment import WORKER, without_secrets_of_others
    from cli.session import environment_of, resolve
    from workers.engine.queues import QUEUES
    from workers.main import command
    from workers.runtime.redis_client import refuse_cluster
    from workers.settings import load

    settings, state = resolve()
    unknown = set(queues or ()) - set(QUEUES)
    if unknown:
        raise typer.BadParameter(f"no such queue; there are {', '.join(QUEUES)}", param_hint="--queue")
    refuse_cluster(settings.redis_url)
    argv, environment = command(queues or tuple(QUEUES))
    found = environment_of(load(), state.urls) if state else {}
    sys.stdout.flush()
    os.execve(argv[0], argv, without_secrets_of_others(WORKER, os.environ | found) | environment)  # noqa: S606 - it takes this process over


def scheduler() -> None:
    """Ring what is due, rescue what is lost, fire the calendar."""
    from cli.session import resolve
    from scheduler.main import run
    from workers.runtime.redis_client import refuse_cluster

    settings, _ = resolve()
    refuse_cluster(settings.redis_url)
    run(settings)


def doctor(as_json: AsJson = False) -> None:
    """Check what can be checked, and say what to do about it.

    Fails if something is broken; what only wants attention is a warning.
    """
    from cli.session import resolve
    from scheduler.schedule import SCHEDULES, overdue_since
    from workers.ops.doctor import examine
    from workers.runtime import logs

    settings, _ = resolve()
    logs.configure("console", "ERROR")  # a finding says what would be logged
    findings = examine(settings, {each.name: partial(overdue_since, each) for each in SCHEDULES})
    if as_json:
        print_json(findings)
    else:
        marks = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}
        for finding in findings:
            console().print(Text.assemble(marks[finding["state"]], f"  {finding['check']}: {finding['says']}"))
    if any(finding["state"] == "fail" for finding in findings):
        raise typer.Exit(1)


def our_version() -> str:
    from workers.runtime.version import VERSION

    return VERSION

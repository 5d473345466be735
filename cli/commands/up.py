"""`viral up`: everything on one machine, under one supervisor."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from cli.arguments import Port
from cli.commands.migrate import migrate_schema
from cli.configuration import embedded_environment
from cli.output import console, without_password
from cli.processes import children, free_port
from domain.text.visible import visible_json
from local.embedded import Embedded, start_embedded
from local.home import private_file
from local.spawn import LOOPBACK, answers
from local.supervisor import Supervisor
from simulators.outside import Outside, outside
from web.server.listen import PortTaken
from workers.runtime.redis_client import refuse_cluster
from workers.runtime.terminal import coloured
from workers.settings import Settings, load

SIMULATORS_LOG = "simulators.log"
HEADING = "\nViral Dashboard's workers are up."
SUMMARY = """
  web        {web}  (webhooks at /webhooks/stripe and /webhooks/clerk, health at /healthz and /readyz)
  postgres   {postgres}
  redis      {redis}
  data       {home}

{simulated}Next, in another shell:
{export_line}
  viral info                       where everything is
  viral dev send-event clerk user.created --email ada@example.com
  viral tenants list
  viral jobs list

Ctrl-C stops all of it; the data stays.
"""
SIMULATED = """The platforms are simulated: {names}.
Nobody sees what is posted, and all of it is forgotten when this stops; accounts are connected anew after that.
  posts and accounts   {page}
  what they receive    {log}

"""


def up(
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the embedded servers keep their data. Default: VIRAL_HOME, or .viral."),
    ] = None,
    port: Port = None,
    simulators: Annotated[
        bool,
        typer.Option("--simulators", help="Also play TikTok, YouTube, Instagram, Bluesky and Mastodon here."),
    ] = False,
) -> None:
    """Start everything here, and stop it with Ctrl-C.

    Postgres and Redis (unless DATABASE_URL and REDIS_URL say where others are), migrations, web, worker and scheduler.
    With simulated platforms, accounts of them are connected and posted to without an app there: nobody sees it.

    \b
    viral up
    viral up --home ~/viral --port 0 --simulators
    """
    if home is not None:
        os.environ["VIRAL_HOME"] = str(home)
    settings = load()
    if settings.redis_url:
        refuse_cluster(settings.redis_url)
    with start_embedded(
        settings.viral_home,
        postgres=not settings.database_url,
        redis=not settings.redis_url,
        bin_dir=settings.postgres_bin,
        say=print,
    ) as embedded:
        with _played(settings.viral_home) if simulators else nullcontext() as played:
            if played is not None:
                os.environ.update(played.settings)
                embedded.record(simulated=played.settings)
            code = _supervise(load(), embedded, port, played)
    sys.exit(code)


@contextmanager
def _played(home: Path) -> Iterator[Outside]:
    """Play the platforms in this process; what they receive is written to a file."""
    with private_file(home / SIMULATORS_LOG) as log:

        def say(event: Mapping[str, Any]) -> None:
            with suppress(OSError):  # a full disk is no reason to stop
                log.write(f"{visible_json(json.dumps({'at': datetime.now(UTC).isoformat(), **event}))}\n")
                log.flush()

        with outside(say) as played:
            yield played


def _supervise(settings: Settings, embedded: Embedded, port: int | None, played: Outside | None) -> int:
    environment = os.environ | {"LOG_FORMAT": os.environ.get("LOG_FORMAT", "console")}
    environment |= embedded_environment(settings, embedded.urls)
    host = settings.host or LOOPBACK
    environment |= {"VIRAL_HOME": str(settings.viral_home.absolute())}
    environment |= {"HOST": host, "PORT": str(_web_port(settings, host, port))}
    settings = load(environment)
    migrate_schema(settings)
    running = children(settings, environment, foreign_database=embedded.postgres is None)

    def announce() -> None:
        web_url = settings.web_url
        embedded.record(web_url=web_url)
        postgres, redis = without_password(settings.owner_url), without_password(settings.redis_url)
        home = settings.viral_home.absolute()
        console().print(HEADING, style="bold")
        simulated = (
            SIMULATED.format(names=", ".join(played.platforms), page=played.page, log=home / SIMULATORS_LOG)
            if played is not None
            else ""
        )
        lines = {"export_line": _export_line(home), "simulated": simulated}
        console().print(SUMMARY.format(web=web_url, postgres=postgres, redis=redis, home=home, **lines))

    return Supervisor(
        running,
        out=coloured(sys.stdout),
        on_exit=embedded.restart_dead,
        on_children=lambda found: embedded.record(children=found),
        ready=lambda: answers(settings.port, urlsplit(settings.web_url).hostname or LOOPBACK),
    ).run(announce)


def _export_line(home: Path) -> str:
    """Return the line that another shell, started where this one was, needs to find us."""
    usual = home == (Path.cwd() / Settings.model_fields["viral_home"].default)
    return "" if usual else f"\n  export VIRAL_HOME={shlex.quote(str(home))}"


def _web_port(settings: Settings, host: str, asked: int | None) -> int:
    """Return the port asked for; PORT, or another free one if nobody asked. `web` looks again whether it is free.

    Raises:
        CannotListen: the port asked for is taken, or none can be had.
    """
    wanted = settings.port if asked is None else asked
    try:
        return free_port(host, wanted)
    except PortTaken:
        if asked is not None:
            raise
    found = free_port(host)
    console().print(f"port {wanted} is taken; the web server listens on {found}")
    return found

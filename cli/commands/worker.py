"""`viral worker`"""

import os
import sys
from typing import Annotated

import typer

from cli.arguments import among
from cli.configuration import embedded_environment, resolve
from cli.environment import WORKER, without_secrets_of_others
from workers.engine.queues import QUEUES
from workers.main import command
from workers.runtime.redis_client import refuse_cluster
from workers.settings import load

Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        "-q",
        metavar="QUEUE",
        help="Work on this queue only; may be given again. Default: all.",
        autocompletion=among(QUEUES),
    ),
]


def worker(queues: Queues = None) -> None:
    """Work on jobs.

    In WORKER_PROCESSES processes. Each runs WORKER_THREADS jobs at once of a queue whose jobs need this machine, and
    WORKER_WAITING of one whose jobs wait for others. SIGTERM, SIGINT and SIGHUP let them finish what they have begun,
    within WORKER_GRACE_SECONDS.

    \b
    viral worker
    viral worker -q render
    """
    settings, state = resolve()
    if set(queues or ()) - set(QUEUES):
        raise typer.BadParameter(f"no such queue; there are {', '.join(QUEUES)}", param_hint="--queue")
    refuse_cluster(settings.redis_url)
    argv, environment = command(queues or tuple(QUEUES))
    provided = embedded_environment(load(), state.urls) if state else {}
    sys.stdout.flush()
    inherited = without_secrets_of_others(WORKER, os.environ | provided)
    os.execve(argv[0], argv, inherited | environment)  # noqa: S606 - it takes this process over

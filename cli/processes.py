"""The three processes of the system, as they run beside each other on one machine."""

import sys
from collections.abc import Mapping

from cli.environment import SCHEDULER, WEB, WORKER, environment_of_child
from local.supervisor import Child
from web.server.listen import bind
from workers.engine.queues import QUEUES
from workers.main import command as worker_command
from workers.settings import Settings


def children(settings: Settings, environment: Mapping[str, str], *, foreign_database: bool) -> list[Child]:
    """Return web, worker and scheduler, each with what it needs of `environment`, in the order to start them."""
    worker, queues = worker_command(tuple(QUEUES))
    web, scheduler = ([sys.executable, "-m", "cli.main", name] for name in (WEB, SCHEDULER))
    of_web, of_worker, of_scheduler = (
        environment_of_child(name, environment, foreign_database=foreign_database) for name in (WEB, WORKER, SCHEDULER)
    )
    return [
        Child(WEB, web, of_web, grace=15),
        Child(WORKER, worker, of_worker | queues, grace=settings.worker_grace_seconds + 5),
        Child(SCHEDULER, scheduler, of_scheduler, grace=15),
    ]


def free_port(host: str, wanted: int = 0) -> int:
    """Return a port that is free now: the one that is wanted, or any.

    Raises:
        PortTaken: the wanted one is not free.
        CannotListen: none can be had.
    """
    sockets = bind(host, wanted)
    found: int = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    return found

"""Worker processes that also know the benchmark's jobs; everything else is as shipped."""

import benchmarks.jobs
import workers.jobs
from workers.job import QUEUES
from workers.main import command, serve
from workers.settings import load


def start() -> None:
    """Called by Dramatiq in each worker process."""
    serve(load(), (workers.jobs, benchmarks.jobs))


def dyno() -> tuple[list[str], dict[str, str]]:
    """What `viral worker` would execute, but with these worker processes."""
    shipped, environment = command(load({}), tuple(QUEUES))
    return ["benchmarks.worker:start" if word == "workers.main:start" else word for word in shipped], environment

"""Worker processes that also know the benchmark's jobs; everything else is as shipped."""

import benchmarks.jobs
import workers.jobs
from workers.engine.queues import QUEUES
from workers.main import WorkerProcess, command
from workers.settings import load


def start() -> WorkerProcess:
    """Called in each worker process."""
    return WorkerProcess(load(), (workers.jobs, benchmarks.jobs))


def dyno() -> tuple[list[str], dict[str, str]]:
    """What `viral worker` would execute, but with these worker processes."""
    shipped, environment = command(tuple(QUEUES))
    return [*shipped, "benchmarks.worker:start"], environment

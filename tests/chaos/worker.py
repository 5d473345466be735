"""Worker processes that also know the chaos jobs: `dramatiq tests.chaos.worker:start`."""

import tests.chaos.jobs
import workers.jobs
from workers.main import serve
from workers.settings import load


def start() -> None:
    serve(load(), (workers.jobs, tests.chaos.jobs))

"""Worker processes that also know the benchmark's jobs: `dramatiq benchmarks.worker:start`."""

import benchmarks.jobs
import workers.jobs
from workers.main import serve
from workers.settings import load


def start() -> None:
    serve(load(), (workers.jobs, benchmarks.jobs))

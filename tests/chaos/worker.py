"""Worker processes that also know the chaos jobs: `python -m workers tests.chaos.worker:start`.

`CHAOS_INTERVAL` and `CHAOS_LEASE` (seconds) shorten the heartbeat, where an experiment needs many trials.
"""

import os
from datetime import timedelta

import tests.chaos.jobs
import workers.engine.heartbeat
import workers.jobs
from tests.chaos import crash_points
from workers.engine.heartbeat import INTERVAL, LEASE
from workers.main import WorkerProcess
from workers.settings import load


def start() -> WorkerProcess:
    crash_points.install_in_worker()
    workers.engine.heartbeat.CLAIM_IN_FLIGHT = seconds("CHAOS_IN_FLIGHT", workers.engine.heartbeat.CLAIM_IN_FLIGHT)
    process = WorkerProcess(
        load(),
        (workers.jobs, tests.chaos.jobs),
        interval=seconds("CHAOS_INTERVAL", INTERVAL),
        lease=seconds("CHAOS_LEASE", LEASE),
    )
    crash_points.watch_messages(process.broker)
    return process


def seconds(variable: str, shipped: timedelta) -> timedelta:
    return timedelta(seconds=float(os.environ.get(variable) or shipped.total_seconds()))

"""Drains a filled queue: jobs a second, by the database's own count of completions.

`python -m benchmarks.drain [JOBS] [--effect] [--single]`. Starts servers of its own in a temporary home, with fsync
and synchronous_commit on, fills the queue, starts a worker dyno (2 processes of 8 threads) and a scheduler. With
`--single` every job has been rung in a message of its own, as producers do that enqueue one at a time.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from cli.local.embedded import start_embedded
from db import migrate
from workers.broker import Doorbell, connect

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    jobs = int(next((word for word in sys.argv[1:] if word.isdigit()), "20000"))
    job_type = "bench.effect" if "--effect" in sys.argv else "bench.noop"
    with tempfile.TemporaryDirectory(prefix="viral-bench-") as folder, start_embedded(Path(folder) / "home") as servers:
        migrate.upgrade(servers.urls.database_url)
        with psycopg.connect(servers.urls.database_url, autocommit=True) as owner:
            owner.execute("INSERT INTO job_queue (job_type) SELECT %s FROM generate_series(1, %s)", (job_type, jobs))
            if "--single" in sys.argv:
                ring_one_by_one(owner, servers.urls.redis_url)
            owner.execute("VACUUM ANALYZE job_queue")
            print(f"{job_type}: {drain(owner, servers.urls.app_database_url, servers.urls.redis_url, jobs):.0f} jobs/s")


def ring_one_by_one(owner: psycopg.Connection, redis_url: str) -> None:
    doorbell = Doorbell(connect(redis_url, patience=5))
    for (job_id,) in owner.execute("UPDATE job_queue SET ring_at = now() + interval '1 hour' RETURNING id").fetchall():
        doorbell.ring({"default": [job_id]})
    doorbell.close()


def drain(owner: psycopg.Connection, database_url: str, redis_url: str, jobs: int) -> float:
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
        "LOG_LEVEL": "WARNING",
    }
    commands = [
        [sys.executable, "-m", "dramatiq", "benchmarks.worker:start", "--skip-logging", "--processes=2", "--threads=8"],
        [sys.executable, "-m", "cli.main", "scheduler"],
    ]
    if "--single" in sys.argv:
        # All has been rung: a scheduler that starts would ring it again, in bulk.
        commands.pop()
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment) for command in commands]
    try:
        began = wait_until(owner, "SELECT EXISTS (SELECT FROM job_queue WHERE status = 'completed')")
        ended = wait_until(
            owner,
            "SELECT NOT EXISTS (SELECT FROM job_queue WHERE status = 'pending') "
            "AND NOT EXISTS (SELECT FROM job_queue WHERE status = 'running')",
        )
        return jobs / (ended - began)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def wait_until(owner: psycopg.Connection, question: str) -> float:
    while not owner.execute(question).fetchone()[0]:
        time.sleep(0.05)
    return time.perf_counter()


if __name__ == "__main__":
    main()

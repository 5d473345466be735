"""The form that our engine would have without group commits, at its best: each job is claimed in one transaction, and
its one-row effect and its completion are another. Plain psycopg, a narrow table, no broker: every process is dealt its
half of the ids beforehand, so no thread looks for a job or meets another one's lock. As in the engine, a claim need
not be durable.

Driven like a peer; `work` is one process of eight threads. BENCH_WORKER (0 or 1) says whose half.
"""

import os
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

import psycopg

from benchmarks.peers.driving import drive, timed

THREADS = 8
URL = os.environ.get("DATABASE_URL", "")

TABLES = """
CREATE TABLE jobs (
    id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'pending', payload jsonb NOT NULL DEFAULT '{}',
    attempts int NOT NULL DEFAULT 0, started_at timestamptz, completed_at timestamptz
) WITH (fillfactor = 80);
CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, value int NOT NULL);
"""
LEFT = "SELECT count(*) FROM jobs WHERE status <> 'completed'"
DONE = "SELECT count(*) FROM jobs WHERE status = 'completed' AND attempts = 1"
EFFECTS = "SELECT count(*) FROM effects"

CLAIM = """
UPDATE jobs SET status = 'running', attempts = attempts + 1, started_at = now() WHERE id = %s AND status = 'pending'
RETURNING payload, attempts
"""
EFFECT = "INSERT INTO effects (name, value) VALUES ('bench', 1)"
COMPLETE = "UPDATE jobs SET status = 'completed', completed_at = now() WHERE id = %s AND status = 'running'"


def setup() -> None:
    with psycopg.connect(URL) as connection:
        connection.execute(TABLES)


def fill(jobs: int, how: str) -> None:
    with psycopg.connect(URL) as connection:
        timed(lambda: connection.execute("INSERT INTO jobs (id) SELECT generate_series(1, %s)", (jobs,)))


def send(pauses: Sequence[float]) -> list[tuple[int, int]]:
    raise NotImplementedError("its latency is not measured")


def work(purpose: str) -> None:
    ids: SimpleQueue[int] = SimpleQueue()
    with psycopg.connect(URL) as connection:
        query = "SELECT id FROM jobs WHERE status = 'pending' AND id %% 2 = %s ORDER BY id"
        for (job_id,) in connection.execute(query, (int(os.environ["BENCH_WORKER"]),)):
            ids.put(job_id)
    threads = [threading.Thread(target=run_all, args=(ids,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.Event().wait()  # until SIGTERM, as every worker


def run_all(ids: SimpleQueue[int]) -> None:
    # A statement alone is its own transaction: the claim is one round trip, and so is the pipeline of the second one.
    with connect("-c synchronous_commit=off") as claiming, connect() as finishing:
        while True:
            try:
                job_id = ids.get_nowait()
            except Empty:
                return
            if claiming.execute(CLAIM, (job_id,)).fetchone() is None:
                continue
            with finishing.pipeline(), finishing.transaction():
                finishing.execute(EFFECT)
                finishing.execute(COMPLETE, (job_id,))


def connect(options: str = "") -> psycopg.Connection:
    return psycopg.connect(URL, autocommit=True, prepare_threshold=0, options=options)


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

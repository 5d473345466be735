"""graphile-worker: enqueued by its SQL functions, worked on by Node (graphile_worker.cjs)."""

# mypy: ignore-errors
import json
import os
import subprocess
from pathlib import Path

import psycopg
from driving import drive, paced, parts, timed

URL = os.environ["DATABASE_URL"]
WORKER = Path(__file__).with_name("graphile_worker.cjs")

ADD_ONE = "SELECT graphile_worker.add_job('noop', %s::json)"
ADD_MANY = """
SELECT graphile_worker.add_jobs((
    SELECT array_agg(('noop', json_build_object('number', 0), null, null, null::text, null, null::int, null::text[]
                     )::graphile_worker.job_spec)
    FROM generate_series(1, %s)
))
"""


def setup():
    subprocess.run(["node", WORKER, "setup"], check=True)


def fill(jobs, how):
    with psycopg.connect(URL, autocommit=True) as connection:

        def bulk():
            for part in parts(jobs):
                connection.execute(ADD_MANY, (part,))

        def single():
            for _ in range(jobs):
                connection.execute(ADD_ONE, ('{"number": 0}',))

        timed(bulk if how == "bulk" else single)


def send(pauses):
    with psycopg.connect(URL, autocommit=True) as connection:
        return paced(pauses, lambda number: connection.execute(ADD_ONE, (json.dumps({"number": number}),)))


def work(purpose):
    os.execvp("node", ["node", str(WORKER), "work"])  # noqa: S606


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

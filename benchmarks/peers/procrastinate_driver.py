"""procrastinate: an async task (its fastest), LISTEN/NOTIFY on, batch_defer for bulk, logging at its quiet default."""

# mypy: ignore-errors
import asyncio
import os

import procrastinate
from driving import drive, paced, parts, started, timed

CONCURRENCY = 20
URL = os.environ["DATABASE_URL"]

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=2, max_size=12))
producer = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=URL))


@app.task(name="noop")
async def noop(number):
    started(number)


@producer.task(name="noop")
def enqueued(number):
    raise AssertionError("the producer runs nothing")


def setup():
    with producer.open():
        producer.schema_manager.apply_schema()


def fill(jobs, how):
    def bulk():
        for part in parts(jobs):
            enqueued.batch_defer(*[{"number": 0}] * part)

    def single():
        for _ in range(jobs):
            enqueued.defer(number=0)

    with producer.open():
        timed(bulk if how == "bulk" else single)


def send(pauses):
    with producer.open():
        return paced(pauses, lambda number: enqueued.defer(number=number))


def work(purpose):
    async def run():
        async with app.open_async():
            await app.run_worker_async(concurrency=CONCURRENCY)

    asyncio.run(run())


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

"""pgqueuer on asyncpg and uvloop, 100 jobs a batch."""

# mypy: ignore-errors
import os
import signal
from datetime import timedelta

import asyncpg
import uvloop
from driving import drive, paced, parts, started, timed
from pgqueuer.db import AsyncpgDriver
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

BATCH = 100
URL = os.environ["DATABASE_URL"]

loop = uvloop.new_event_loop()


async def queries():
    return Queries(AsyncpgDriver(await asyncpg.connect(URL)))


def setup():
    async def install():
        await (await queries()).install()

    loop.run_until_complete(install())


def fill(jobs, how):
    queue = loop.run_until_complete(queries())

    async def bulk():
        for part in parts(jobs):
            await queue.enqueue(["noop"] * part, [b"0"] * part, [0] * part)

    async def single():
        for _ in range(jobs):
            await queue.enqueue("noop", b"0")

    timed(lambda: loop.run_until_complete(bulk() if how == "bulk" else single()))


def send(pauses):
    queue = loop.run_until_complete(queries())
    return paced(pauses, lambda number: loop.run_until_complete(queue.enqueue("noop", b"%d" % number)))


def work(purpose):
    async def run():
        manager = QueueManager(await queries())

        @manager.entrypoint("noop")
        async def noop(job):
            started(int(job.payload))

        loop.add_signal_handler(signal.SIGTERM, manager.shutdown.set)
        await manager.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))

    loop.run_until_complete(run())


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

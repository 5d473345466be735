"""Dramatiq over Redis, nothing durable in Postgres: as shipped for latency, at its fastest setting for a drain."""

# mypy: ignore-errors
import os
import sys
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from driving import drive, paced, started, timed

broker = RedisBroker(url=os.environ["REDIS_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number):
    started(number)


def setup():
    pass


def fill(jobs, how):
    def single():
        for _ in range(jobs):
            noop.send(0)

    broker.client.ping()
    timed(single)


def send(pauses):
    broker.client.ping()
    return paced(pauses, noop.send)


def work(purpose):
    threads, settings = (1, {"dramatiq_queue_prefetch": "100"}) if purpose == "drain" else (8, {})
    command = [sys.executable, "-m", "dramatiq", Path(__file__).stem, "--processes=2", f"--threads={threads}"]
    os.chdir(Path(__file__).parent)
    os.execve(command[0], command, os.environ | settings)  # noqa: S606


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

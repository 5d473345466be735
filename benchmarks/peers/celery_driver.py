"""Celery over Redis, nothing durable in Postgres: two prefork processes, results ignored, acknowledged early."""

# mypy: ignore-errors
import os

from celery import Celery
from driving import drive, paced, started, timed

app = Celery("bench", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(number):
    started(number)


def setup():
    pass


def fill(jobs, how):
    def single():
        for _ in range(jobs):
            noop.delay(0)

    app.connection_for_write().ensure_connection()
    timed(single)


def send(pauses):
    app.connection_for_write().ensure_connection()
    return paced(pauses, noop.delay)


def work(purpose):
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", "--pool=prefork", "--concurrency=2", *quiet])


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)

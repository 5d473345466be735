"""A Dramatiq worker as its documentation has it, to see what a dyno's second SIGTERM does to one: `dramatiq
tests.chaos.plain` (its Redis is `REDIS_URL`, its notes go to the folder `CHAOS_PLAIN`)."""

import os
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))  # type: ignore[no-untyped-call]


@dramatiq.actor(max_retries=0)
def nap(name: str, seconds: float) -> None:
    here = Path(os.environ["CHAOS_PLAIN"])
    (here / f"{name}.begun").touch()
    time.sleep(seconds)
    (here / f"{name}.ended").touch()

"""The queues, and the actor that Dramatiq's threads call for each."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import dramatiq

QUEUES = {"events": 250, "default": 250, "llm": 1, "media": 1, "render": 1, "social": 1}
"""The queues, named by what their jobs wait for, and how many jobs a thread may take at once. Jobs that wait for the
outside are taken one by one; those that wait for nothing but Postgres are cheaper by the hundred.

The jobs of `media` wait for other people's servers and stores, those of `render` for this machine's cores: a process
runs only a few of them at once (`render_limit`)."""


WAITING = frozenset({"llm", "media", "social"})
"""The queues whose jobs wait for somebody else nearly all the time, and hold nothing meanwhile but a thread."""


QUEUES_VARIABLE = "WORKER_QUEUES"


def wanted_queues() -> tuple[str, ...]:
    """Return the queues that this process works on, as its environment names them: all, if it names none."""
    # Each once: Dramatiq refuses a second actor of one name.
    return tuple(dict.fromkeys(filter(None, os.environ.get(QUEUES_VARIABLE, "").split(",")))) or tuple(QUEUES)


EVENT_BATCHES = 2
"""Batches of events that a process handles at once: one computes while the other waits for Postgres. More of them would
be smaller ones, and cost as much each."""


def places(queues: Iterable[str], *, threads: int, waiting: int, drawing: int) -> Mapping[str, int]:
    """Return how many messages of each queue one worker process runs at once: `waiting` of those that wait, `drawing`
    of `render`, a few batches of `events`, `threads` of others. A queue has its places to itself: none is ever behind
    the jobs of another."""
    wanted = dict.fromkeys(WAITING, waiting) | {"render": drawing, "events": min(EVENT_BATCHES, threads)}
    return {queue: wanted.get(queue, threads) for queue in queues}


def render_limit(wanted: int, *, cores: int, processes: int) -> int:
    """Return how many jobs of `render` one worker process runs at once; `wanted` is 0 for its share of the cores."""
    return max(1, wanted or cores // processes)


def notifications_key(queue: str) -> str:
    """Return the Redis key of a queue's notifications; those of a queue that nobody declares go to the default one.

    All our keys have the hash tag `{viral}`: on a host that spreads keys over a cluster behind one address, a script
    may use several of them (docs/decisions/0021-redis-that-is-not-the-one-on-the-table.md).
    """
    return f"{{viral}}:notifications:{queue if queue in QUEUES else 'default'}"


def declare_actors(
    broker: dramatiq.Broker,
    queues: Iterable[str],
    run: Callable[[str, list[str]], None],
    batch_size: Callable[[str], int],
) -> None:
    """Declare one actor for each queue, with the queue's name: for a message with job ids it calls `run(queue, ids)`.

    `batch_size` says how many ids a message of the queue should have now.
    """
    for queue in queues:
        declare = dramatiq.actor(
            broker=broker, actor_name=queue, queue_name=queue, batch_size=partial(batch_size, queue)
        )
        declare(partial(run, queue))

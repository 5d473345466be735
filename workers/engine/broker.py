"""A Dramatiq broker over Redis sorted sets.

Dramatiq is here for the process model: one thread a queue fetches messages, worker threads run them, and at a stop it
begins no other, waits for those begun, and returns the rest. It is not here for durability, retry or delay: rows of
Postgres have these. A message carries ids of rows that *may* be ready, so ids are popped and not leased, there are no
dead letters, and an id that is lost, with its process or with all of Redis, is sent again by whoever reads the rows.
An acknowledgement frees the place that a message takes in this process, and does nothing in Redis.

Each queue is a sorted set of ids. The lowest score is popped first, and an id that is added twice is in it once. The
consumer blocks on the set instead of polling it (stock: up to a second), so a quiet system answers in milliseconds.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import redis
from dramatiq import Actor, Broker, Consumer, Message, MessageProxy, Middleware
from dramatiq.errors import BrokerConnectionError, QueueNotFound

from workers.runtime.redis_client import RedisClient, connect

BLOCK_SECONDS = 2.0
"""Longest wait for a message: bounds how long a stopping consumer takes, and costs half a command a second a queue."""

RECONNECT_SECONDS = 0.5
"""Between attempts to reach a Redis that is away."""

NO_LIMITS: Mapping[str, int] = {}


class BatchSize(Middleware):
    """Adds an option to actors: `batch_size` is called for the number of ids that the next message should have."""

    @property
    def actor_options(self) -> set[str]:
        return {"batch_size"}


class SortedSetBroker(Broker):
    """`keys` are the Redis keys of the queues, by name; the only argument of a message is a list of ids.

    `limits` are how many messages of a queue this process holds at most, if that is fewer than it has threads.
    """

    def __init__(self, url: str, keys: Mapping[str, str], limits: Mapping[str, int] = NO_LIMITS) -> None:
        super().__init__(middleware=[BatchSize()])
        self._client = connect(url, patience=BLOCK_SECONDS + 1, used_for="taking jobs")
        self._keys = keys
        self._limits = limits

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = self._keys[queue_name]
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put the ids of the message at the front of its queue.

        Raises:
            BrokerConnectionError: Redis does not answer, or refuses.
        """
        if delay is not None:
            raise NotImplementedError("a delay belongs in the row")
        self.emit_before("enqueue", message, delay)
        try:
            self._client.zadd(self.queues[message.queue_name], dict.fromkeys(message.args[0], 0.0))
        except redis.RedisError as error:
            raise BrokerConnectionError(str(error)) from error  # type: ignore[no-untyped-call]
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> "SortedSetConsumer":
        """Raises:
        QueueNotFound: the queue was never declared.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        # Dramatiq asks for two messages a thread; what is held here, no other process can take.
        most = max(1, prefetch // 2)
        held = min(most, self._limits.get(queue_name, most))
        return SortedSetConsumer(self, self._client, self.actors[queue_name], held)

    def close(self) -> None:
        self._client.close()


class SortedSetConsumer(Consumer):
    """Fetches messages for one actor, while fewer than `prefetch` of them are held by this process."""

    def __init__(self, broker: SortedSetBroker, client: RedisClient, actor: Actor[Any, Any], prefetch: int) -> None:
        self._broker = broker
        self._client = client
        self._actor = actor
        self._key = broker.queues[actor.queue_name]
        self._slots = threading.Semaphore(prefetch)

    def __next__(self) -> MessageProxy | None:
        if not self._slots.acquire(timeout=BLOCK_SECONDS):
            return None
        ids = self._pop()
        if not ids:
            self._slots.release()
            return None
        return MessageProxy(self._actor.message(ids))

    def _pop(self) -> list[str]:
        """Pop as many ids as the actor takes at once, or none after a while. An outage of Redis is waited out here."""
        popped: list[bytes] = []
        try:
            first: Any = self._client.bzpopmin([self._key], timeout=BLOCK_SECONDS)
            if first is not None:
                popped.append(first[1])
                more = self._actor.options["batch_size"]() - 1
                if more > 0:
                    popped += [member for member, _ in cast(Any, self._client.zpopmin(self._key, more))]
        except redis.RedisError:
            if not popped:
                time.sleep(RECONNECT_SECONDS)
        return [member.decode(errors="replace") for member in popped]

    def ack(self, message: MessageProxy) -> None:
        self._slots.release()

    def nack(self, message: MessageProxy) -> None:
        """The rows know what became of the jobs: a message that failed (Dramatiq has logged it) is not kept."""
        self._slots.release()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Return what this process has not begun, so that another takes it at once."""
        for message in messages:
            self._broker.enqueue(cast(Message[Any], message))

"""A Dramatiq broker over Redis sorted sets.

Dramatiq is here for the process model: it hands messages of each queue to worker threads, and at a stop it begins no
other, waits for those begun, and returns the rest. It is not here for durability, retry or delay: rows of Postgres have
these. A message carries ids of rows that *may* be ready, so ids are popped and not leased, there are no dead letters,
and an id that is lost, with its process or with all of Redis, is sent again by whoever reads the rows. An
acknowledgement frees the place that a message takes in this process, and does nothing in Redis.

Each queue is a sorted set of ids. The lowest score is popped first, and an id that is added twice is in it once. One
command of a process blocks on the sets of all its queues that have a place free (`Fetcher`), instead of a poll for each
(stock: up to a second): a quiet system answers in milliseconds, and costs two commands a minute.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, cast
from uuid import uuid4

import redis
from dramatiq import Actor, Broker, Consumer, Message, MessageProxy, Middleware, Worker
from dramatiq.errors import BrokerConnectionError, QueueNotFound

from workers.runtime.redis_client import RedisClient, connect

BLOCK_SECONDS = 30.0
"""Longest wait for a message. A server that hangs while its name leads elsewhere is noticed after it; one that is gone,
by the probes of TCP (`workers/runtime/redis_client.py`)."""

RECONNECT_SECONDS = 0.5
"""Between attempts to reach a Redis that is away."""

STOPPING_SECONDS = 0.1
"""How often a consumer looks, once nothing more is fetched, whether it may end: Dramatiq stops it last."""

WAKE_KEPT_SECONDS = 60
"""How long a call to a fetcher is kept that died before it could take it."""

NO_LIMITS: Mapping[str, int] = {}


class BatchSize(Middleware):
    """Adds an option to actors: `batch_size` is called for the number of ids that the next message should have."""

    @property
    def actor_options(self) -> set[str]:
        return {"batch_size"}


class StopFetching(Middleware):
    """When Dramatiq's worker stops, nothing more is fetched: what this process cannot begin is left to others."""

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        if isinstance(broker, SortedSetBroker):
            broker.fetcher.stop()


class SortedSetBroker(Broker):
    """`keys` are the Redis keys of the queues, by name; the only argument of a message is a list of ids.

    `limits` are how many messages of a queue this process holds at most, if that is fewer than it has threads.
    """

    def __init__(self, url: str, keys: Mapping[str, str], limits: Mapping[str, int] = NO_LIMITS) -> None:
        super().__init__(middleware=[BatchSize(), StopFetching()])
        self._client = connect(url, patience=RECONNECT_SECONDS * 2, used_for="taking jobs")
        self.fetcher = Fetcher(connect(url, patience=BLOCK_SECONDS + 1, used_for="waiting for jobs"), self._client)
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
        return SortedSetConsumer(self, self.actors[queue_name], self.queues[queue_name], held)

    def close(self) -> None:
        self.fetcher.stop()
        self._client.close()


class SortedSetConsumer(Consumer):
    """The messages of one actor, of which this process holds `places` at most at any time."""

    def __init__(self, broker: SortedSetBroker, actor: Actor[Any, Any], key: str, places: int) -> None:
        self._broker = broker
        self._actor = actor
        self.key = key
        self.inbox: SimpleQueue[list[str] | None] = SimpleQueue()
        """Ids of a message to come; None: a place is free again, and nobody waits for this queue in Redis."""
        broker.fetcher.add(self, places)

    def __next__(self) -> MessageProxy | None:
        """Wait for the next message. None, every now and then, once nothing more is fetched."""
        fetcher = self._broker.fetcher
        while True:
            try:
                ids = self.inbox.get(timeout=STOPPING_SECONDS if fetcher.stopping else None)
            except Empty:
                return None
            if ids is None:
                ids = fetcher.refill(self)
            if ids:
                return self._message(ids)
            if fetcher.stopping:
                return None

    def batch_size(self) -> int:
        """How many ids the next message should have."""
        size: int = self._actor.options["batch_size"]()
        return size

    def ack(self, message: MessageProxy) -> None:
        self._broker.fetcher.free(self)

    def nack(self, message: MessageProxy) -> None:
        """The rows know what became of the jobs: a message that failed (Dramatiq has logged it) is not kept."""
        self._broker.fetcher.free(self)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Return what this process has not begun, so that another takes it at once."""
        for message in messages:
            self._broker.enqueue(cast(Message[Any], message))

    def close(self) -> None:
        """Return what was fetched and handed to no thread."""
        self._broker.fetcher.remove(self)
        while not self.inbox.empty():
            if ids := self.inbox.get():
                self.requeue([self._message(ids)])

    def _message(self, ids: list[str]) -> MessageProxy:
        return MessageProxy(self._actor.message(ids))


class Fetcher:
    """Takes ids for all queues of a process that have a place free: one thread, and one command that blocks.

    A queue that has none free is left out of the command. When one of its messages ends, its consumer takes the next
    by itself (`refill`); if none is there, the blocking command is called off, and given again with this queue in it.
    It is called off by an element of a set of its own: closing the connection might lose an id that was just popped.
    """

    def __init__(self, waiting: RedisClient, client: RedisClient) -> None:
        """`waiting` blocks for `BLOCK_SECONDS`; `client` answers at once."""
        self._waiting = waiting
        self._client = client
        self._wake_key = f"{{viral}}:wake:{uuid4().hex}"
        self._places: dict[SortedSetConsumer, int] = {}
        """How many more messages each consumer may hold."""
        self._waits_for: Mapping[str, SortedSetConsumer] | None = None
        """The queues of the blocking command that is under way; None between two of them."""
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def add(self, consumer: SortedSetConsumer, places: int) -> None:
        with self._changed:
            self._places[consumer] = places
            if self._thread is None and not self.stopping:
                self._thread = threading.Thread(target=self._run, name="fetcher", daemon=True)
                self._thread.start()
        self._include(consumer)

    def remove(self, consumer: SortedSetConsumer) -> None:
        with self._changed:
            self._places.pop(consumer, None)

    def free(self, consumer: SortedSetConsumer) -> None:
        """One of the consumer's messages has ended. Does not wait for Redis."""
        with self._changed:
            if consumer not in self._places:
                return
            self._places[consumer] += 1
            self._changed.notify_all()
            left_out = self._waits_for is not None and consumer.key not in self._waits_for
        if left_out:
            consumer.inbox.put(None)

    def refill(self, consumer: SortedSetConsumer) -> list[str]:
        """Take ids for a consumer that was left out of the blocking command; it is included if there are none."""
        with self._changed:
            if self.stopping or not self._places.get(consumer):
                return []
            self._places[consumer] -= 1
        ids = self._pop(consumer, consumer.batch_size())
        if not ids:
            with self._changed:
                self._places[consumer] += 1
                self._changed.notify_all()
            self._include(consumer)
        return ids

    def stop(self) -> None:
        """Fetch nothing more. What was fetched is with the consumers when this returns, unless Redis hangs."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
            thread, consumers = self._thread, list(self._places)
        if thread is None:
            return
        self._call_off(lambda: self._waits_for is not None)
        thread.join(timeout=RECONNECT_SECONDS * 2)
        for consumer in consumers:
            consumer.inbox.put(None)

    def _include(self, consumer: SortedSetConsumer) -> None:
        self._call_off(lambda: self._waits_for is not None and consumer.key not in self._waits_for)

    def _call_off(self, wanted: Callable[[], bool]) -> None:
        """End the blocking command that is under way. If Redis is away, so does that."""
        with self._changed:
            if not wanted():
                return
        try:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.zadd(self._wake_key, {"": 0.0})
                pipe.expire(self._wake_key, WAKE_KEPT_SECONDS)
                pipe.execute()
        except redis.RedisError:  # the client has logged it
            return

    def _run(self) -> None:
        while (consumers := self._with_places()) is not None:
            try:
                found: Any = self._waiting.bzpopmin([self._wake_key, *consumers], timeout=BLOCK_SECONDS)
            except redis.RedisError:
                self._stop.wait(RECONNECT_SECONDS)
                continue
            finally:
                with self._changed:
                    self._waits_for = None
            if found is not None and (consumer := consumers.get(found[0].decode())) is not None:
                self._hand_over(consumer, found[1].decode(errors="replace"))
        self._waiting.close()

    def _with_places(self) -> Mapping[str, SortedSetConsumer] | None:
        """The consumers that can hold another message, by key; waits until there is one. None: no more is fetched."""
        with self._changed:
            while not self.stopping:
                if found := {consumer.key: consumer for consumer, places in self._places.items() if places > 0}:
                    self._waits_for = found
                    return found
                self._changed.wait()
        return None

    def _hand_over(self, consumer: SortedSetConsumer, first: str) -> None:
        """Hand a message to its consumer: the id that was popped, and as many more as the actor takes at once."""
        with self._changed:
            if consumer in self._places:
                self._places[consumer] -= 1
        more = consumer.batch_size() - 1
        consumer.inbox.put([first, *(self._pop(consumer, more) if more > 0 else [])])

    def _pop(self, consumer: SortedSetConsumer, most: int) -> list[str]:
        try:
            popped = cast("list[tuple[bytes, float]]", self._client.zpopmin(consumer.key, most))
        except redis.RedisError:  # the client has logged it; the rows know of the jobs
            return []
        return [member.decode(errors="replace") for member, _ in popped]

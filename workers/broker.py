"""All of Dramatiq and Redis: a doorbell.

The row of `job_queue` is the job; a message only says "these jobs may be ready". So a queue is a plain Redis list:
messages are popped, not leased, and need no acknowledgement, redelivery, delay or dead letters: a ring that is lost,
with its worker or with all of Redis, is rung again from the table. Dramatiq brings the process model, the threads and
the drain; its consumer here blocks on the list instead of polling it, which is what makes a quiet system answer in
milliseconds (stock: up to a second).
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import dramatiq
import redis
import structlog
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message

from workers.job import QUEUES

ACTOR = "run"
UUID_LENGTH = 36
BLOCK_SECONDS = 2.0
"""Longest wait for a bell: bounds how long a stopping consumer takes, and costs half a command a second a queue."""

DEAF_SECONDS = 0.5
"""Between attempts to reach a Redis that is away."""

EPOCH_KEY = "viral:epoch"
"""Present as long as Redis has not lost what it was told."""

log = structlog.get_logger()


def connect(url: str, *, patience: float = 0.3) -> redis.Redis:
    """A client whose every call fails within about `patience` seconds: nobody's commit waits for a bell."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=0.3,
        socket_timeout=patience,
        socket_keepalive=True,
        retry=None,
        client_name="viral",
    )


def bell_key(queue: str) -> str:
    """The list of a queue. A row may name a queue that nobody works on; its job is rung for on the default one."""
    return f"viral:bell:{queue if queue in QUEUES else 'default'}"


class Doorbell:
    """The ringing side. After a failure it stays quiet for `rest` seconds instead of making every caller wait."""

    def __init__(self, client: redis.Redis, *, rest: float = 2.0) -> None:
        self._client = client
        self._rest = rest
        self._quiet_until = 0.0

    def ring(self, rings: Mapping[str, Sequence[UUID]]) -> bool:
        """Tell the workers of each queue which jobs are due. False if Redis could not be told; never raises."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for queue, job_ids in rings.items():
                    pipe.rpush(bell_key(queue), *_bells(queue, job_ids))
                pipe.execute()
        except redis.RedisError as error:
            self._quiet_until = time.monotonic() + self._rest
            log.warning("bell.unheard", reason=str(error), jobs=sum(map(len, rings.values())))
            return False
        return True

    def waiting(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages that no worker has taken yet, by queue.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        names = list(queues)
        with self._client.pipeline(transaction=False) as pipe:
            for queue in names:
                pipe.llen(bell_key(queue))
            return dict(zip(names, pipe.execute(), strict=True))

    def epoch(self, fresh: str) -> str:
        """The sign that Redis still remembers; `fresh` is planted if there is none.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(EPOCH_KEY, fresh, nx=True)
            pipe.get(EPOCH_KEY)
            found: bytes = pipe.execute()[1]
        return found.decode()

    def ping(self) -> None:
        """Raises:
        redis.RedisError: Redis does not answer.
        """
        self._client.ping()

    def close(self) -> None:
        self._client.close()


class BellBroker(Broker):
    """Dramatiq's broker over plain Redis lists."""

    def __init__(self, url: str, queues: Iterable[str]) -> None:
        super().__init__(middleware=[])
        self._client = connect(url, patience=BLOCK_SECONDS + 1)
        for queue in queues:
            self.declare_queue(queue)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> "BellConsumer":
        return BellConsumer(self._client, queue_name, prefetch)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Raises:
        NotImplementedError: a worker rings through its `Doorbell`; nothing is sent as a Dramatiq message.
        """
        raise NotImplementedError("enqueue the job type instead")

    def close(self) -> None:
        self._client.close()


class BellConsumer(Consumer):
    """Waits for the bell of one queue, holding at most `prefetch` messages that no thread has finished with.

    What was rung one by one is handed to a thread together, as many ids as the queue allows.
    """

    def __init__(self, client: redis.Redis, queue: str, prefetch: int) -> None:
        self._client = client
        self._queue = queue
        self._key = bell_key(queue)
        self._most = QUEUES.get(queue, 1)
        self._prefetch = prefetch
        self._held = 0
        self._room = threading.Condition()
        self._hears = True

    def __next__(self) -> MessageProxy | None:
        with self._room:
            if not self._room.wait_for(lambda: self._held < self._prefetch, timeout=BLOCK_SECONDS):
                return None
        bells = self._listen()
        if not bells:
            return None
        with self._room:
            self._held += 1
        ids = b",".join(bells).decode(errors="replace").split(",")
        return MessageProxy(Message(self._queue, ACTOR, (self._queue, ids), {}, {}))

    def _listen(self) -> list[bytes]:
        """The next bells, or none after a while. An outage of Redis is waited out here, and told of once."""
        bells: list[bytes] = []
        try:
            popped: Any = self._client.blpop([self._key], timeout=BLOCK_SECONDS)
            if popped is not None:
                bells.append(popped[1])
                # A bell with many ids is a whole helping; of small ones, those that are there are taken along.
                if self._most > 1 and len(popped[1]) < UUID_LENGTH * 2:
                    more: Any = self._client.lpop(self._key, self._most // 4)
                    bells += more or []
        except redis.RedisError as error:
            if self._hears:
                log.warning("bell.deaf", queue=self._queue, reason=str(error))
            self._hears = False
            if not bells:
                time.sleep(DEAF_SECONDS)
            return bells
        if not self._hears:
            log.info("bell.hears_again", queue=self._queue)
        self._hears = True
        return bells

    def ack(self, message: MessageProxy) -> None:
        with self._room:
            self._held -= 1
            self._room.notify()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Ring for what this process has not begun, so that another takes it at once."""
        bells = [",".join(message.args[1]) for message in messages]
        if not bells:
            return
        try:
            self._client.lpush(self._key, *reversed(bells))
        except redis.RedisError as error:
            raise BrokerConnectionError(str(error)) from error  # type: ignore[no-untyped-call]


def declare_actor(broker: BellBroker, run: Callable[[str, list[str]], None]) -> None:
    """Make `run` what Dramatiq's threads call for every message of every queue."""
    dramatiq.actor(actor_name=ACTOR, queue_name=min(broker.queues), broker=broker)(run)


def _bells(queue: str, job_ids: Sequence[UUID]) -> list[str]:
    """What is put on the list: ids, comma-separated, as many as a thread may take at once."""
    size = QUEUES.get(queue, 1)
    return [",".join(map(str, job_ids[start : start + size])) for start in range(0, len(job_ids), size)]

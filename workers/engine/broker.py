"""All of Dramatiq and Redis: a doorbell.

The row of `job_queue` is the job; a message only says "this job may be ready". So a queue is a sorted set of ids, and
ringing twice is ringing once: the most urgent are popped, not leased, and need no acknowledgement, redelivery, delay
or dead letters. A ring that is lost, with its worker or with all of Redis, is rung again from the table. Dramatiq
brings the process model, the threads and the drain; its consumer here blocks on the set instead of polling it, which
is what makes a quiet system answer in milliseconds (stock: up to a second).

While little waits, whoever enqueues rings. When more waits than the workers get through in a moment, the relay alone
rings, in the order that the table decides (see `db/queue/dispatch.py`), and an enqueuer only calls the relay.

All keys have the hash tag `{viral}`: on a host that spreads keys over a cluster behind one address, a script may use
several of them (docs/decisions/0021-redis-that-is-not-the-one-on-the-table.md).
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast
from uuid import UUID

import dramatiq
import redis
import structlog
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message

from db.queue.dispatch import PRIORITY_STEP
from db.queue.notifications import Notifications
from workers.engine.job import QUEUES
from workers.runtime.redis_client import RedisClient, connect

ACTOR = "run"
BLOCK_SECONDS = 2.0
"""Longest wait for a bell: bounds how long a stopping consumer takes, and costs half a command a second a queue."""

DEAF_SECONDS = 0.5
"""Between attempts to reach a Redis that is away."""

FEW = 64
"""Ids that wait in Redis: with fewer, an enqueuer may ring by itself; with more, the relay decides who is next."""

EPOCH_KEY = "{viral}:epoch"
"""Present as long as Redis has not lost what it was told."""

CALL_KEY = "{viral}:dispatcher"
"""Where the relay waits to be called."""

PROBE_KEY, PROBE_SECONDS = "{viral}:probe", 60
"""Written to see whether Redis takes writes."""

MOVED_AT_ONCE = 1000
"""Ids of one script call: others are served between two calls, and Lua hands on no more than a few thousand words."""

# KEYS: the queue's set, the relay's call. ARGV: how many may wait, how many there are in all, (score, id) pairs.
NOTIFY = """
local room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
local rung = 0
for i = 3, #ARGV, 2 do
    if rung >= room then break end
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
    rung = rung + 1
end
if rung < tonumber(ARGV[2]) and redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
return rung
"""

# KEYS: the queue's set. ARGV: (score, id) pairs of jobs that should be in it. Moves those that are, and answers with
# the places in ARGV, counted in pairs from 1, of those that are not.
MOVE = """
local missing = {}
for i = 2, #ARGV, 2 do
    if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then missing[#missing + 1] = i / 2 end
end
if #missing < #ARGV / 2 then redis.call('ZADD', KEYS[1], 'XX', unpack(ARGV)) end
return missing
"""

log = structlog.get_logger()


def notifications_key(queue: str) -> str:
    """The set of a queue. A row may name a queue that nobody works on; its job is rung for on the default one."""
    return f"{{viral}}:notifications:{queue if queue in QUEUES else 'default'}"


class Notifier:
    """The ringing side. After a failure it stays quiet for `rest` seconds instead of making every caller wait."""

    def __init__(self, client: RedisClient, *, rest: float = 2.0) -> None:
        self._client = client
        self._rest = rest
        self._quiet_until = 0.0

    def notify(self, notifications: Mapping[str, Mapping[UUID, int]]) -> bool:
        """Tell the workers of each queue which jobs are due, or the relay, if that is not for us to decide.

        False if Redis could not be told; never raises.
        """
        if time.monotonic() < self._quiet_until:
            return False
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for queue, jobs in notifications.items():
                    first = [
                        word
                        for job_id, priority in itertools.islice(jobs.items(), FEW)
                        for word in (priority * PRIORITY_STEP, str(job_id))
                    ]
                    # A queue named without jobs: something may run there that could not before.
                    pipe.eval(NOTIFY, 2, notifications_key(queue), CALL_KEY, FEW, max(len(jobs), 1), *first)
                pipe.execute()
        except redis.RedisError:
            self._quiet_until = time.monotonic() + self._rest
            return False
        return True

    def notify_all(self, commits: Sequence[Notifications]) -> list[None]:
        """`ring` for several commits at once."""
        merged = Notifications()
        for notifications in commits:
            merged.merge(notifications)
        self.notify(merged)
        return [None] * len(commits)

    def put_back(self, queue: str, job_ids: Iterable[UUID]) -> None:
        """Return to the front what was taken and not begun; never raises: the relay finds what is lost here."""
        with suppress(redis.RedisError):
            self._client.zadd(notifications_key(queue), {str(job_id): 0.0 for job_id in job_ids})

    def line_up(self, queue: str, new: Mapping[str, float], known: Mapping[str, float]) -> set[str]:
        """Ring for `new` jobs; those that are `known` to have been rung change places if they still wait.

        Both with their scores: lower is taken first. Returns those of the known that do not wait in Redis.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        ids = list(known)
        chunks = [ids[first : first + MOVED_AT_ONCE] for first in range(0, len(ids), MOVED_AT_ONCE)]
        with self._client.pipeline(transaction=False) as pipe:
            for chunk in chunks:
                pairs = [word for job_id in chunk for word in (known[job_id], job_id)]
                pipe.eval(MOVE, 1, notifications_key(queue), *pairs)
            if new:
                pipe.zadd(notifications_key(queue), dict(new))
            answers = pipe.execute()
        return {chunk[place - 1] for chunk, places in zip(chunks, answers, strict=False) for place in places}

    def waiting(self, queues: Iterable[str]) -> dict[str, int]:
        """Jobs that have been rung and that no worker has taken yet, by queue.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        names = list(queues)
        with self._client.pipeline(transaction=False) as pipe:
            for queue in names:
                pipe.zcard(notifications_key(queue))
            return dict(zip(names, pipe.execute(), strict=True))

    def await_call(self, seconds: float) -> bool:
        """Wait until an enqueuer calls the relay; False if none did.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        return self._client.blpop([CALL_KEY], timeout=seconds) is not None

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
        """Write something: a server that only reads answers a PING as if all were well.

        Raises:
            redis.RedisError: Redis does not answer, or refuses.
        """
        self._client.set(PROBE_KEY, "1", ex=PROBE_SECONDS)

    def server(self) -> Mapping[str, Any]:
        """What Redis says of itself (INFO).

        Raises:
            redis.RedisError: Redis does not answer, or does not tell.
        """
        found: Mapping[str, Any] = self._client.info()
        return found

    def close(self) -> None:
        self._client.close()


class NotificationBroker(Broker):
    """Dramatiq's broker over Redis' sorted sets. `helping` says how many of a queue's jobs a thread takes at once."""

    def __init__(self, url: str, queues: Iterable[str], batch_size: Callable[[str], int]) -> None:
        super().__init__(middleware=[])
        self._client = connect(url, patience=BLOCK_SECONDS + 1, used_for="taking jobs")
        self._batch_size = batch_size
        for queue in queues:
            self.declare_queue(queue)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> "NotificationConsumer":
        # Dramatiq asks for two messages a thread; what is held here, no other process can take.
        return NotificationConsumer(
            self._client, queue_name, max(1, prefetch // 2), partial(self._batch_size, queue_name)
        )

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Raises:
        NotImplementedError: a worker rings through its `Doorbell`; nothing is sent as a Dramatiq message.
        """
        raise NotImplementedError("enqueue the job type instead")

    def close(self) -> None:
        self._client.close()


class NotificationConsumer(Consumer):
    """Waits for the bells of one queue, holding at most `prefetch` messages that no thread has finished with.

    What was rung is handed to a thread by the helping: as many ids as `helping` says it takes at once.
    """

    def __init__(self, client: RedisClient, queue: str, prefetch: int, batch_size: Callable[[], int]) -> None:
        self._client = client
        self._queue = queue
        self._key = notifications_key(queue)
        self._prefetch = prefetch
        self._batch_size = batch_size
        self._held = 0
        self._room = threading.Condition()

    def __next__(self) -> MessageProxy | None:
        with self._room:
            if not self._room.wait_for(lambda: self._held < self._prefetch, timeout=BLOCK_SECONDS):
                return None
        ids = self._listen()
        if not ids:
            return None
        with self._room:
            self._held += 1
        return MessageProxy(Message(self._queue, ACTOR, (self._queue, ids), {}, {}))

    def _listen(self) -> list[str]:
        """The ids of the next helping, or none after a while. An outage of Redis is waited out here."""
        popped: list[Any] = []
        try:
            first: Any = self._client.bzpopmin([self._key], timeout=BLOCK_SECONDS)
            if first is not None:
                popped.append(first[1])
                more = self._batch_size() - 1
                if more > 0:
                    popped += [member for member, _ in cast(Any, self._client.zpopmin(self._key, more))]
        except redis.RedisError:
            if not popped:
                time.sleep(DEAF_SECONDS)
        return [member.decode(errors="replace") for member in popped]

    def ack(self, message: MessageProxy) -> None:
        with self._room:
            self._held -= 1
            self._room.notify()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Ring for what this process has not begun, so that another takes it at once."""
        ids = {job_id: 0.0 for message in messages for job_id in message.args[1]}
        if not ids:
            return
        try:
            self._client.zadd(self._key, ids)
        except redis.RedisError as error:
            raise BrokerConnectionError(str(error)) from error  # type: ignore[no-untyped-call]


def declare_actor(broker: NotificationBroker, run: Callable[[str, list[str]], None]) -> None:
    """Make `run` what Dramatiq's threads call for every message of every queue."""
    dramatiq.actor(actor_name=ACTOR, queue_name=min(broker.queues), broker=broker)(run)

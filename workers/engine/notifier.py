"""Tells workers, through Redis, which jobs may be ready, and the dispatcher that it has something to decide.

While few notifications wait for a queue's workers, whoever enqueues a job sends one directly. When more wait than the
workers get through in a moment, the dispatcher alone sends them, in the order that the table decides (see
`db/queue/dispatch.py`), and an enqueuer only signals the dispatcher. It also wakes one that rests, which then looks
after the job until it has ended.
"""

import itertools
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

import redis

from db.queue.dispatch import PRIORITY_STEP
from db.queue.notifications import DEFERRED, Notifications
from workers.engine.queues import notifications_key
from workers.runtime.metrics import Metrics
from workers.runtime.redis_client import RedisClient

DIRECT_LIMIT = 64
"""Notifications of a queue that wait at most for an enqueuer to send more directly."""

EPOCH_KEY = "{viral}:epoch"
"""Present as long as Redis has not lost what was written to it."""

SIGNAL_KEY = "{viral}:dispatcher"
"""A list on which the dispatcher waits for a signal."""

ACTIVE_KEY, ACTIVE_SECONDS = "{viral}:dispatcher:active", 5
"""Present while a dispatcher looks at the table all the time: it need not be woken."""

PROBE_KEY, PROBE_SECONDS = "{viral}:probe", 60
"""Written to see whether Redis takes writes."""

SHORTEST_RETRY = 0.5
"""Seconds after which it is tried again, at the earliest, to wake the dispatcher."""

IDS_PER_SCRIPT = 1000
"""Ids of one script call: others are served between two calls, and Lua hands on no more than a few thousand words."""

# KEYS: the queue's set, the dispatcher's signal, whether one is active. ARGV: how many may wait, how many jobs there
# are in all, then (score, id) pairs. Returns how many were added; the dispatcher is signalled if that is not all.
ADD_WITHIN_LIMIT = """
local room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
local added = 0
for i = 3, #ARGV, 2 do
    if added >= room then break end
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
    added = added + 1
end
if added < tonumber(ARGV[2]) then
    if redis.call('LINDEX', KEYS[2], -1) ~= 'decide' then redis.call('RPUSH', KEYS[2], 'decide') end
elseif redis.call('EXISTS', KEYS[3]) == 0 and redis.call('LLEN', KEYS[2]) == 0 then
    redis.call('RPUSH', KEYS[2], 'wake')
end
return added
"""

# KEYS: the dispatcher's signal, and whether one is active.
WAKE = """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('LLEN', KEYS[1]) == 0 then redis.call('RPUSH', KEYS[1], 'wake') end
"""

# KEYS: the queue's set. ARGV: (score, id) pairs of jobs that should be in it. Gives those that are in it their new
# scores, and returns the positions, counted in pairs from 1, of those that are not.
RESCORE = """
local missing = {}
for i = 2, #ARGV, 2 do
    if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then missing[#missing + 1] = i / 2 end
end
if #missing < #ARGV / 2 then redis.call('ZADD', KEYS[1], 'XX', unpack(ARGV)) end
return missing
"""


class Signal(StrEnum):
    """What an enqueuer wants of the dispatcher: to look at the table at once, or to look at it again from now on."""

    DECIDE = "decide"
    WAKE = "wake"


class Notifier:
    """One per process. Methods raise `redis.RedisError` if Redis does not answer, except where they say otherwise.

    After a failure `notify` sends nothing for `rest` seconds instead of making every caller wait; then the dispatcher
    is woken, and finds in the table what nobody was notified of.
    """

    def __init__(self, client: RedisClient, *, rest: float = 2.0, metrics: Metrics | None = None) -> None:
        self.crowded = False
        """Whether no queue had a place for the jobs of the last notification, which only signalled the dispatcher."""
        self._client = client
        self._metrics = metrics or Metrics()
        self._rest = rest
        self._quiet_until = 0.0
        self._retry: threading.Timer | None = None
        self._lock = threading.Lock()
        self._closed = False

    def notify(self, notifications: Mapping[str, Mapping[UUID, int]]) -> bool:
        """Notify the workers of each queue, or signal the dispatcher where it decides who is next.

        A queue without jobs means that something in it may be ready that was not, and `DEFERRED` that a job is to be
        woken later. Never raises; False if Redis does not answer.
        """
        if time.monotonic() < self._quiet_until:
            self._count_lost(notifications)
            return False
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for queue, jobs in notifications.items():
                    if queue == DEFERRED:
                        pipe.eval(WAKE, 2, SIGNAL_KEY, ACTIVE_KEY)
                        continue
                    pairs = [
                        word
                        for job_id, priority in itertools.islice(jobs.items(), DIRECT_LIMIT)
                        for word in (priority * PRIORITY_STEP, str(job_id))
                    ]
                    keys = (notifications_key(queue), SIGNAL_KEY, ACTIVE_KEY)
                    pipe.eval(ADD_WITHIN_LIMIT, 3, *keys, DIRECT_LIMIT, max(len(jobs), 1), *pairs)
                added = pipe.execute()
        except redis.RedisError:
            self._quiet_until = time.monotonic() + self._rest
            self._wake_later()
            self._count_lost(notifications)
            return False
        self.crowded = any(notifications.values()) and not any(added)
        return True

    def _count_lost(self, notifications: Mapping[str, Mapping[UUID, int]]) -> None:
        if jobs := sum(map(len, notifications.values())):
            self._metrics.count("viral_notifications_lost_total", "refused", by=jobs)

    def _wake_later(self) -> None:
        with self._lock:
            if self._retry is None and not self._closed:
                self._retry = threading.Timer(max(self._rest, SHORTEST_RETRY), self._wake)
                self._retry.daemon = True
                self._retry.start()

    def _wake(self) -> None:
        with self._lock:
            self._retry, self._quiet_until = None, 0.0
        self.notify({DEFERRED: {}})

    def notify_all(self, commits: Sequence[Notifications]) -> list[None]:
        """`notify` for several commits at once."""
        merged = Notifications()
        for notifications in commits:
            merged.merge(notifications)
        self.notify(merged)
        return [None] * len(commits)

    def put_back(self, queue: str, job_ids: Iterable[UUID]) -> None:
        """Return to the front what was taken and not begun. Never raises: the dispatcher sends again what is lost."""
        with suppress(redis.RedisError):
            self._client.zadd(notifications_key(queue), {str(job_id): 0.0 for job_id in job_ids})

    def dispatch(self, queue: str, new: Mapping[str, float], sent: Mapping[str, float]) -> set[str]:
        """Notify workers of `new` jobs, and give those `sent` before their new scores. The lowest score is taken first.

        Returns the sent ones that do not wait in Redis.
        """
        ids = list(sent)
        chunks = [ids[first : first + IDS_PER_SCRIPT] for first in range(0, len(ids), IDS_PER_SCRIPT)]
        with self._client.pipeline(transaction=False) as pipe:
            for chunk in chunks:
                pairs = [word for job_id in chunk for word in (sent[job_id], job_id)]
                pipe.eval(RESCORE, 1, notifications_key(queue), *pairs)
            if new:
                pipe.zadd(notifications_key(queue), dict(new))
            answers = pipe.execute()
        return {chunk[position - 1] for chunk, missing in zip(chunks, answers, strict=False) for position in missing}

    def waiting(self, queues: Iterable[str]) -> dict[str, int]:
        """Count the notifications that no worker has taken yet, by queue."""
        names = list(queues)
        with self._client.pipeline(transaction=False) as pipe:
            for queue in names:
                pipe.zcard(notifications_key(queue))
            return dict(zip(names, pipe.execute(), strict=True))

    def wait_for_signal(self, seconds: float, *, called_off: str = SIGNAL_KEY) -> Signal | None:
        """Wait until an enqueuer signals the dispatcher; None if none did, or if somebody calls it off (`call_off`)."""
        found = cast("tuple[bytes, bytes] | None", self._client.blpop([called_off, SIGNAL_KEY], timeout=seconds))
        return None if found is None or found[0] != SIGNAL_KEY.encode() else Signal(found[1].decode())

    def call_off(self, key: str) -> None:
        """End the wait that has this key, now or when it begins. Never raises: where Redis is away, none lasts."""
        with suppress(redis.RedisError), self._client.pipeline(transaction=False) as pipe:
            pipe.rpush(key, "")
            pipe.expire(key, PROBE_SECONDS)
            pipe.execute()

    def stay_active(self) -> None:
        """Have enqueuers know for a while that a dispatcher looks at the table all the time."""
        self._client.set(ACTIVE_KEY, "1", ex=ACTIVE_SECONDS)

    def rest(self) -> None:
        """Have the next enqueuer wake the dispatcher."""
        self._client.delete(ACTIVE_KEY)

    def epoch(self, fresh: str) -> str:
        """Return the mark that was once left in Redis, and is gone when Redis has lost its data; then leave `fresh`."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(EPOCH_KEY, fresh, nx=True)
            pipe.get(EPOCH_KEY)
            found: bytes = pipe.execute()[1]
        return found.decode()

    def probe(self) -> None:
        """Write something: a server that only reads answers a PING as if all were well."""
        self._client.set(PROBE_KEY, "1", ex=PROBE_SECONDS)

    def clock(self) -> datetime:
        """Return the time of Redis at this moment."""
        seconds, microseconds = self._client.time()
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)

    def server_info(self) -> Mapping[str, Any]:
        """Return what Redis reports of itself (INFO)."""
        found: Mapping[str, Any] = self._client.info()
        return found

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._retry is not None:
                self._retry.cancel()
        self._client.close()

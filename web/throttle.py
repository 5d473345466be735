"""How many requests somebody may make: token buckets in Redis, taken from in one script, by Redis's own clock.

The policy is to fail open: while Redis is away, or refuses to write, everybody passes. What costs money is held against
the quota, in Postgres, and a limit that nobody can count is no reason to refuse customers. `Throttle.uncounted` counts
who passed so, a log line tells it once a minute, and the answer has a header (`web/api/limits.py`).

The keys have the hash tag `{viral}`, since one script takes from the buckets of a key and of its tenant.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import cast

import redis
import structlog

from workers.runtime.redis_client import RedisClient

TELL_EVERY = 60.0
"""Seconds between two log lines about requests that passed uncounted."""

# KEYS: the buckets. ARGV: capacity and tokens a second of each. One token is taken of every bucket, or of none.
TAKE = """
local now = redis.call('TIME')
local at = tonumber(now[1]) + tonumber(now[2]) / 1000000
local buckets, wait = {}, 0
for i, key in ipairs(KEYS) do
    local capacity, rate = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local kept = redis.call('HMGET', key, 'tokens', 'at')
    local tokens = tonumber(kept[1]) or capacity
    tokens = math.min(capacity, tokens + math.max(0, at - (tonumber(kept[2]) or at)) * rate)
    if tokens < 1 then wait = math.max(wait, (1 - tokens) / rate) end
    buckets[i] = {capacity, rate, tokens}
end
local told = {math.ceil(wait * 1000)}
for i, key in ipairs(KEYS) do
    local capacity, rate, tokens = unpack(buckets[i])
    if wait == 0 then tokens = tokens - 1 end
    redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', at))
    redis.call('PEXPIRE', key, math.ceil(capacity / rate * 1000) + 1000)
    told[#told + 1] = math.floor(tokens)
    told[#told + 1] = math.ceil((capacity - tokens) / rate)
end
return told
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """`requests` at once, and as many every `seconds`, evenly."""

    name: str
    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left in a bucket, and in how many seconds it is full again."""

    policy: Policy
    requests: int
    full_in: int


@dataclass(frozen=True, slots=True)
class Taken:
    """`wait`: whole seconds until there is a token again; 0 if one was taken."""

    wait: int
    left: tuple[Left, ...]


class Throttle:
    """After a failure Redis is left alone for `rest` seconds, instead of making every request wait for it."""

    def __init__(
        self, client: RedisClient, *, rest: float = 2.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._rest = rest
        self._monotonic = monotonic
        self._quiet_until = 0.0
        self._failing = False
        self.uncounted = 0
        """Requests that passed although a limit could not be counted, since the process began."""
        self._told, self._tell_at = 0, float("-inf")
        self._lock = threading.Lock()

    def take(self, buckets: Sequence[tuple[Policy, str]]) -> Taken | None:
        """Take a token of each bucket (a policy, and whose), or of none. None if nobody can count; never raises."""
        now = self._monotonic()
        if now < self._quiet_until:
            self._note_uncounted()
            return None
        if self._failing:
            # One request finds out whether Redis is back; the others do not wait with it.
            self._quiet_until = now + self._rest
        keys = [f"{{viral}}:rate:{policy.name}:{whose}" for policy, whose in buckets]
        rates = [number for policy, _ in buckets for number in (policy.requests, policy.requests / policy.seconds)]
        try:
            told = cast("list[int]", self._client.eval(TAKE, len(keys), *keys, *map(str, rates)))
        except redis.RedisError:
            self._failing, self._quiet_until = True, self._monotonic() + self._rest
            self._note_uncounted()
            return None
        self._failing, self._quiet_until = False, 0.0
        left = tuple(
            Left(policy, *figures)
            for (policy, _), figures in zip(buckets, zip(told[1::2], told[2::2], strict=True), strict=True)
        )
        return Taken(ceil(told[0] / 1000), left)

    def _note_uncounted(self) -> None:
        with self._lock:
            self.uncounted += 1
            now = time.monotonic()
            if now < self._tell_at:
                return
            requests, self._told, self._tell_at = self.uncounted - self._told, self.uncounted, now + TELL_EVERY
        log.warning("throttle.uncounted", requests=requests, in_all=self.uncounted)

    def close(self) -> None:
        self._client.close()

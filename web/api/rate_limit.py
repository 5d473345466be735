"""Rate limits of callers: token buckets in Redis, filled by Redis's own clock, and the headers that report them.

Rate limiting fails open: while Redis is away, or refuses to write, everybody passes. What costs money is held against
the quota, in Postgres, and a limit that nobody can count is no reason to refuse customers. `RateLimiter.uncounted`
counts the requests that passed so, a log line reports it once a minute, and `RateLimit-Status: uncounted` says so in
the response.

The other headers are those of draft-ietf-httpapi-ratelimit-headers (-10): `RateLimit-Policy: "key";q=120;w=60` is what
is allowed, `RateLimit: "key";r=119;t=1` what is left, and in how many seconds all of it is back.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import cast

import redis
import structlog

from domain.identity.access import Caller
from web.error_responses import retry_later
from web.server.clients import network_of
from workers.runtime.metrics import Metrics
from workers.runtime.redis_client import RedisClient
from workers.settings import Settings

REPORT_EVERY = 60.0
"""Seconds between two log lines about requests that passed uncounted."""

# KEYS: the buckets. ARGV: capacity and tokens a second of each. One token is taken of every bucket, or of none.
# The result is the wait in milliseconds, then the whole tokens of each bucket and the seconds until it is full.
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
local result = {math.ceil(wait * 1000)}
for i, key in ipairs(KEYS) do
    local capacity, rate, tokens = unpack(buckets[i])
    if wait == 0 then tokens = tokens - 1 end
    redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', at))
    redis.call('PEXPIRE', key, math.ceil(capacity / rate * 1000) + 1000)
    result[#result + 1] = math.floor(tokens)
    result[#result + 1] = math.ceil((capacity - tokens) / rate)
end
return result
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """A bucket holds `requests` tokens and gets as many every `seconds`, evenly."""

    name: str
    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class BucketState:
    """The tokens that a bucket has left, and the seconds until it is full again."""

    policy: Policy
    tokens: int
    full_in: int


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """`wait`: whole seconds until there is a token again; 0 if one was taken."""

    wait: int
    buckets: tuple[BucketState, ...]

    def headers(self) -> dict[str, str]:
        policies = [f'"{each.policy.name}";q={each.policy.requests};w={each.policy.seconds}' for each in self.buckets]
        tokens = [f'"{each.policy.name}";r={each.tokens};t={each.full_in}' for each in self.buckets]
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(tokens)}


UNCOUNTED_HEADERS = {"RateLimit-Status": "uncounted"}


class RateLimiter:
    """Takes tokens for requests. After a failure Redis is left alone for `rest` seconds, instead of making every
    request wait for it."""

    def __init__(
        self,
        client: RedisClient,
        *,
        rest: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._client = client
        self._rest = rest
        self._monotonic = monotonic
        self._quiet_until = 0.0
        self._failing = False
        self.uncounted = 0
        """Requests that passed although a limit could not be counted, since the process began."""
        self._reported, self._report_at = 0, float("-inf")
        self._lock = threading.Lock()

    def take(self, buckets: Sequence[tuple[Policy, str]]) -> RateLimitResult | None:
        """Take a token of each bucket (a policy, and its owner's key), or of none. None if nobody can count; never
        raises."""
        now = self._monotonic()
        if now < self._quiet_until:
            self._note_uncounted()
            return None
        if self._failing:
            # One request finds out whether Redis is back; the others do not wait with it.
            self._quiet_until = now + self._rest
        # One script takes of the buckets of a key and of its tenant: `{viral}` keeps them on one node of a cluster.
        keys = [f"{{viral}}:rate:{policy.name}:{owner}" for policy, owner in buckets]
        rates = [number for policy, _ in buckets for number in (policy.requests, policy.requests / policy.seconds)]
        try:
            wait, *states = cast("list[int]", self._client.eval(TAKE, len(keys), *keys, *map(str, rates)))
        except redis.RedisError:
            self._failing, self._quiet_until = True, self._monotonic() + self._rest
            self._note_uncounted()
            return None
        self._failing, self._quiet_until = False, 0.0
        return RateLimitResult(
            ceil(wait / 1000),
            tuple(
                BucketState(policy, tokens, full_in)
                for (policy, _), tokens, full_in in zip(buckets, states[::2], states[1::2], strict=True)
            ),
        )

    def _note_uncounted(self) -> None:
        self._metrics.count("viral_rate_limit_bypassed_total")
        with self._lock:
            self.uncounted += 1
            now = time.monotonic()
            if now < self._report_at:
                return
            requests = self.uncounted - self._reported
            self._reported, self._report_at = self.uncounted, now + REPORT_EVERY
        log.warning("rate_limit.uncounted", requests=requests, in_all=self.uncounted)

    def close(self) -> None:
        self._client.close()


class RateLimits:
    """The limits of the API: of one API key or person, of one tenant, and of an address that tries credentials."""

    def __init__(self, limiter: RateLimiter, settings: Settings) -> None:
        self._limiter = limiter
        self._caller = Policy("key", settings.rate_limit_per_caller, 60)
        self._tenant = Policy("tenant", settings.rate_limit_per_tenant, 60)
        self._address = Policy("address", settings.rate_limit_per_address, 60)

    def count(self, caller: Caller, credential: str) -> RateLimitResult | None:
        """Count the request of a known caller; None while nobody can count.

        Sessions have a new token every minute, so people are counted by who they are, and programs by their key.
        """
        own = caller.user_id or sha256(credential.encode()).hexdigest()[:32]
        tenant_id = caller.tenant_id
        return self._limiter.take([(self._caller, f"{own}:{tenant_id}"), (self._tenant, str(tenant_id))])

    def check(self, result: RateLimitResult | None) -> None:
        """Refuse a request that got no token.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        if result is not None and result.wait:
            text = f"too many requests: at most {self._caller.requests} a minute for a key or person, "
            text += f"{self._tenant.requests} for a tenant; try again in {result.wait} s"
            raise retry_later(text, "RATE_LIMITED", result.wait, status=429)

    def count_unknown(self, address: str | None) -> None:
        """Count a credential that was refused. Known callers are not limited by the address that they share.

        Raises:
            ApiError: this address has tried too many.
        """
        result = self._limiter.take([(self._address, sha256(network_of(address).encode()).hexdigest()[:32])])
        if result is not None and result.wait:
            text = f"at most {self._address.requests} unknown credentials a minute from one address; "
            raise retry_later(f"{text}try again in {result.wait} s", "RATE_LIMITED", result.wait, status=429)

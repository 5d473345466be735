"""Connects every process to Redis, and classifies answers that refuse.

A server that answers and refuses (a demoted primary, a full memory, one that still loads its data) is away. All
connections to it are dropped, and the command is tried once more over a new one, which reaches whoever the name leads
to by now. What still fails is logged once for each kind of trouble, not for each call, until it has been good for a
while. So callers catch `redis.RedisError` and know nothing of kinds.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from time import monotonic
from typing import Any, TypeVar

import redis
import structlog
from redis.client import Pipeline

from domain.errors import ViralError

T = TypeVar("T")

REOPEN_EVERY = 30.0
"""Seconds that a connection is used at most: the address behind a name may change while the old server lives on."""

PROBES = {
    name: value
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if (name := getattr(socket, option, None)) is not None
}
"""A server that is gone without a word is noticed after some ten seconds, however long we wait for it to answer."""

CONNECT_WITHIN = 1.0
"""Seconds at most that a patient client waits for a connection: the name may lead elsewhere at the next attempt."""

CALM = 5.0
"""Seconds without a failure after which the trouble is over. Reads succeed in between where only writes are refused."""

log = structlog.get_logger()


class Trouble(StrEnum):
    """Kinds of failure, as the log names them."""

    AWAY = "away"
    NOT_READY = "not_ready"
    REFUSES_WRITES = "refuses_writes"
    REFUSES_US = "refuses_us"
    IS_CLUSTER = "is_cluster"
    REFUSES = "refuses"


SAYS = {
    Trouble.AWAY: "Redis does not answer",
    Trouble.NOT_READY: "Redis is not ready",
    Trouble.REFUSES_WRITES: "Redis refuses writes",
    Trouble.REFUSES_US: "Redis does not let us in",
    Trouble.IS_CLUSTER: "Redis is in cluster mode",
    Trouble.REFUSES: "Redis refuses a command",
}

CODES = {
    **dict.fromkeys(("READONLY", "OOM", "MISCONF", "NOREPLICAS"), Trouble.REFUSES_WRITES),
    **dict.fromkeys(("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED"), Trouble.NOT_READY),
    **dict.fromkeys(("NOAUTH", "WRONGPASS", "NOPERM"), Trouble.REFUSES_US),
    **dict.fromkeys(("MOVED", "ASK", "CROSSSLOT"), Trouble.IS_CLUSTER),
}
"""The first word of an error answer. Redis before 7 has it further back if a script met the error."""

WORDS = {
    "max number of clients reached": Trouble.NOT_READY,
    "DB index is out of range": Trouble.REFUSES_US,
    "SELECT is not allowed in cluster mode": Trouble.IS_CLUSTER,
}
"""Answers that begin with no more than ERR."""

CODE = re.compile(rf"\b({'|'.join(CODES)})\b")
OF_PIPELINE = re.compile(r"^Command # \d+ .* of pipeline caused error: ", re.DOTALL)
OF_SCRIPT = re.compile(r" script: .*@user_script:\d+\.$")

USE_INSTEAD = (
    "use one without cluster mode (a primary, with replicas if you like), or a host whose one address speaks for "
    "the whole cluster as a plain Redis"
)


class RedisUnusable(ViralError):
    """The Redis that REDIS_URL names can never serve."""


CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The other side went away in the middle of a handshake, which says nothing about certificates."""


def diagnose(error: BaseException) -> Trouble:
    """Classify what redis-py raises."""
    if any(isinstance(cause, ssl.SSLError) and not isinstance(cause, CUT_SHORT) for cause in _causes(error)):
        return Trouble.REFUSES_US
    text = f"{getattr(error, 'status_code', None) or ''} {OF_PIPELINE.sub('', str(error))}"
    for words, trouble in WORDS.items():
        if words in text:
            return trouble
    if found := CODE.search(text):
        return CODES[found[1]]
    if isinstance(error, redis.AuthenticationError):
        return Trouble.REFUSES_US
    return Trouble.REFUSES if isinstance(error, redis.ResponseError) else Trouble.AWAY


def reason(error: BaseException) -> str:
    """The server's answer in one line, without the command, which may be a long script."""
    text = OF_SCRIPT.sub("", " ".join(OF_PIPELINE.sub("", str(error)).split()))
    code = getattr(error, "status_code", None)
    return f"{code} {text}" if code and code != "ERR" else text or type(error).__name__


def describe(error: BaseException) -> str:
    return f"{SAYS[diagnose(error)]} ({reason(error)})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class RenewablePool(redis.ConnectionPool):
    def renew(self) -> None:
        """Replace every connection: idle ones are closed now, those in use at their release.

        Both in one step: between two, a connection could change sides and be missed.
        """
        with self._lock:
            for connection in self._in_use_connections:
                connection.mark_for_reconnect()
            self.disconnect(inuse_connections=False)


class RedisClient(redis.Redis):
    """Every command, and every pipeline, goes through `attempt`. `used_for` is what a log line calls this client."""

    def __init__(self, pool: RenewablePool, *, used_for: str, stopwatch: Callable[[], float] = monotonic) -> None:
        super().__init__(connection_pool=pool)
        self._stopwatch = stopwatch
        self._pool = pool
        self.auto_close_connection_pool = True
        self._used_for = used_for
        self._reopen_at = self._stopwatch() + REOPEN_EVERY
        self._reported: set[Trouble] = set()
        self._failed_at = 0.0
        self._lock = threading.Lock()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        run: Callable[..., Any] = super().execute_command
        return self.attempt(lambda: run(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "RedisPipeline":
        return RedisPipeline(self, transaction, shard_hint)

    def attempt(self, act: Callable[[], T]) -> T:
        """Do it; if Redis answers and refuses, or the connection broke, do it again over a new connection.

        A timeout is not tried again: it has cost its caller all of its patience.

        Raises:
            redis.RedisError: it failed.
        """
        if self._stopwatch() > self._reopen_at:
            self._reopen()
        try:
            answer = act()
        except redis.RedisError as error:
            self._report(error)
            self._pool.renew()
            if isinstance(error, redis.TimeoutError):
                raise
            try:
                answer = act()
            except redis.RedisError as again:
                self._report(again)
                raise
        if self._reported:
            self._calm_down()
        return answer

    def _reopen(self) -> None:
        self._reopen_at = self._stopwatch() + REOPEN_EVERY
        self._pool.renew()

    def _report(self, error: redis.RedisError) -> None:
        trouble = diagnose(error)
        with self._lock:
            self._failed_at = self._stopwatch()
            if trouble in self._reported:
                return
            self._reported.add(trouble)
        log.warning(f"redis.{trouble}", used_for=self._used_for, reason=reason(error))

    def _calm_down(self) -> None:
        with self._lock:
            if not self._reported or self._stopwatch() - self._failed_at < CALM:
                return
            self._reported.clear()
        log.info("redis.back", used_for=self._used_for)


class RedisPipeline(Pipeline):
    def __init__(self, client: RedisClient, transaction: bool, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, run = self.command_stack, super().execute

        def all_of_them() -> list[Any]:
            self.command_stack = commands  # a failed execution has forgotten them
            return run(raise_on_error)

        return self._client.attempt(all_of_them)


def connect(
    url: str,
    *,
    patience: float = 0.3,
    used_for: str = "notifications",
    stopwatch: Callable[[], float] = monotonic,
) -> RedisClient:
    """A client whose every call fails within about `patience` seconds: nobody's commit waits for a notification."""
    return RedisClient(_pool(url, patience), used_for=used_for, stopwatch=stopwatch)


def _pool(url: str, patience: float) -> RenewablePool:
    of_tcp: dict[str, Any] = (
        {} if url.startswith("unix:") else {"socket_keepalive": True, "socket_keepalive_options": PROBES}
    )
    return RenewablePool.from_url(
        url,
        socket_connect_timeout=min(patience, CONNECT_WITHIN),
        socket_timeout=patience,
        retry=None,
        client_name="viral",
        driver_info=None,  # two commands less for each connection
        **of_tcp,
    )


def refuse_cluster(url: str) -> None:
    """A Redis that is away may turn out to be anything; it is used, or warned of, when it answers.

    Raises:
        RedisUnusable: it answers, and is a node of a cluster.
    """
    with _pool(url, 0.3) as pool:
        try:
            answer = redis.Redis(connection_pool=pool).info("cluster")
        except redis.RedisError:
            return
    if answer.get("cluster_enabled"):
        raise RedisUnusable(f"REDIS_URL: this Redis is in cluster mode: {USE_INSTEAD}")

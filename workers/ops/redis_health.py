"""Whether Redis can be used now, and what will be trouble: for `viral doctor` and `viral jobs explain`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from workers.engine.notifier import Notifier
from workers.ops.explain import Reason
from workers.runtime.redis_client import USE_INSTEAD, Trouble, describe, diagnose

NEARLY_FULL = 0.9
"""Share of Redis's maxmemory."""


def verdict(notifier: Notifier) -> tuple[str, str]:
    """The state (`ok`, `warn`, `fail`) and what it says. A Redis that is merely away is a warning: no work is lost."""
    server = _told_by(notifier)
    if server.get("cluster_enabled"):
        return "fail", f"Redis is in cluster mode: {USE_INSTEAD}"
    try:
        notifier.probe()
    except Exception as error:
        trouble, says = diagnose(error), describe(error)
        if trouble is Trouble.IS_CLUSTER:
            return "fail", f"{says}: {USE_INSTEAD}"
        if trouble is Trouble.REFUSES_US:
            return "fail", f"{says}: password, database or certificate are not the ones of REDIS_URL"
        waits = "jobs wait in the table until it is back, and requests of the API are not limited"
        return "warn", "; ".join([f"{says}: {waits}", *_doubts(server)])
    if doubts := list(_doubts(server)):
        return "warn", f"takes writes, but {'; '.join(doubts)}"
    return "ok", f"version {server.get('redis_version', 'unknown')} takes writes"


def _told_by(notifier: Notifier) -> Mapping[str, Any]:
    """Nothing of a server that is away, or of a host that keeps INFO to itself."""
    try:
        return notifier.server_info()
    except Exception:
        return {}


def _doubts(server: Mapping[str, Any]) -> Iterator[str]:
    """What a Redis that works today says of itself that will be trouble."""
    if server.get("role") in {"slave", "replica"}:
        yield "it is a replica: what is written to it is lost when it next follows its primary"
    policy = server.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"its maxmemory-policy is {policy}, which may throw away what waits: set it to noeviction"
    used, most = server.get("used_memory", 0), server.get("maxmemory", 0)
    if most and used >= NEARLY_FULL * most:
        yield f"{used / most:.0%} of its maxmemory is used: above that it refuses writes"


def unheard(probe: Callable[[], None]) -> Reason | None:
    """Why no worker can be told of a job, if it is so now; `probe` writes to Redis."""
    try:
        probe()
    except Exception as error:
        advice = "it begins within seconds of Redis taking writes again: `viral doctor` says more"
        return Reason(f"redis_{diagnose(error)}", f"no worker can be told of it: {describe(error)}", advice)
    return None

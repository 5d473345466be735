"""How many requests a caller may make, and what every answer says about it.

The fields are those of draft-ietf-httpapi-ratelimit-headers (-10): `RateLimit-Policy: "key";q=120;w=60` is what is
allowed, `RateLimit: "key";r=119;t=1` what is left, and in how many seconds all of it is back. Where nobody can count
(Redis is away, or refuses) the request passes, and `RateLimit-Status: uncounted` says so.
"""

from hashlib import sha256

from domain.access import Caller
from web.refusals import Refused
from workers.throttle import Policy, Taken, Throttle

PER_CALLER = Policy("key", 120, 60)
"""Of one API key, or of one person."""

PER_TENANT = Policy("tenant", 600, 60)


def limit(throttle: Throttle, caller: Caller, credential: str) -> Taken | None:
    """Count the request. None while nobody can count.

    Sessions have a new token every minute, so people are counted by who they are, and programs by their key.
    """
    own = caller.user_id or sha256(credential.encode()).hexdigest()[:32]
    return throttle.take([(PER_CALLER, f"{own}:{caller.tenant_id}"), (PER_TENANT, str(caller.tenant_id))])


def headers(taken: Taken | None) -> dict[str, str]:
    if taken is None:
        return {"RateLimit-Status": "uncounted"}
    policies = [f'"{left.policy.name}";q={left.policy.requests};w={left.policy.seconds}' for left in taken.left]
    rest = [f'"{left.policy.name}";r={left.requests};t={left.full_in}' for left in taken.left]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(rest)}


def too_many(taken: Taken) -> Refused:
    text = f"too many requests: at most {PER_CALLER.requests} a minute for a key or person, "
    text += f"{PER_TENANT.requests} for a tenant; try again in {taken.wait} s"
    return Refused(429, text, "RATE_LIMITED", {"retry_after": taken.wait}, {"Retry-After": str(taken.wait)})

"""How many requests a caller may make, and what every answer says about it.

The fields are those of draft-ietf-httpapi-ratelimit-headers (-10): `RateLimit-Policy: "key";q=120;w=60` is what is
allowed, `RateLimit: "key";r=119;t=1` what is left, and in how many seconds all of it is back. Where nobody can count
(Redis is away, or refuses) the request passes, and `RateLimit-Status: uncounted` says so.
"""

from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from domain.identity.access import Caller
from web.api.refusals import Refused
from web.throttle import Policy, Taken, Throttle
from workers.settings import Settings

Policies = tuple[Policy, Policy]
"""Of one API key or one person; and of one tenant."""


def policies(settings: Settings) -> Policies:
    return (Policy("key", settings.rate_limit_per_caller, 60), Policy("tenant", settings.rate_limit_per_tenant, 60))


def limit(throttle: Throttle, policies: Policies, caller: Caller, credential: str) -> Taken | None:
    """Count the request. None while nobody can count.

    Sessions have a new token every minute, so people are counted by who they are, and programs by their key.
    """
    own = caller.user_id or sha256(credential.encode()).hexdigest()[:32]
    per_caller, per_tenant = policies
    return throttle.take([(per_caller, f"{own}:{caller.tenant_id}"), (per_tenant, str(caller.tenant_id))])


def of_strangers(settings: Settings) -> Policy:
    """How many credentials that nobody knows one address may try."""
    return Policy("address", settings.rate_limit_per_address, 60)


def limit_stranger(throttle: Throttle, policy: Policy, address: str | None) -> None:
    """Count a credential that was refused. Whoever is known is not limited by the address that they share.

    Raises:
        Refused: this address has tried too many.
    """
    taken = throttle.take([(policy, sha256(_network(address).encode()).hexdigest()[:32])])
    if taken is not None and taken.wait:
        text = f"at most {policy.requests} unknown credentials a minute from one address; try again in {taken.wait} s"
        details, after = {"retry_after": taken.wait}, {"Retry-After": str(taken.wait)}
        raise Refused(429, text, "RATE_LIMITED", details, after)


def _network(address: str | None) -> str:
    """An IPv6 customer has 2⁶⁴ addresses at least."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "nowhere"
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or ip_address(int(found) >> 64 << 64)
    return str(found)


def headers(taken: Taken | None) -> dict[str, str]:
    if taken is None:
        return {"RateLimit-Status": "uncounted"}
    policies = [f'"{left.policy.name}";q={left.policy.requests};w={left.policy.seconds}' for left in taken.left]
    rest = [f'"{left.policy.name}";r={left.requests};t={left.full_in}' for left in taken.left]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(rest)}


def too_many(taken: Taken) -> Refused:
    per_caller, per_tenant = (left.policy for left in taken.left)
    text = f"too many requests: at most {per_caller.requests} a minute for a key or person, "
    text += f"{per_tenant.requests} for a tenant; try again in {taken.wait} s"
    return Refused(429, text, "RATE_LIMITED", {"retry_after": taken.wait}, {"Retry-After": str(taken.wait)})

"""Outgoing webhooks: of what tenants' own programs are notified, signed, at least once, in any order.

An *endpoint* is an address of a tenant's; a *delivery* is one event on its way to one endpoint. (A *webhook event* is
what Stripe or Clerk sent to us.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from domain.errors import Conflict, Rejected

POST_PUBLISHED: Final = "post.published"
POST_FAILED: Final = "post.failed"
EVENTS: Final = MappingProxyType(
    {
        POST_PUBLISHED: "a post is live on its account",
        POST_FAILED: "a post failed, and is certainly not live; a person may try it again",
    }
)
"""The closed list of events, and when each happens."""

MOST_ENDPOINTS: Final = 10
LONGEST_URL: Final = 2_000
CONTROL: Final = frozenset(map(chr, (*range(33), 127)))

WAITS: Final = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""After each attempt that was not taken: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.

Source: Standard Webhooks, "Deliverability and reliability", its example of a schedule."""
DISABLED_AFTER: Final = timedelta(days=5)
"""An endpoint that takes nothing for so long is disabled: its deliveries cost both sides, and nobody reads them."""

UNTIL_MENDED: Final = timedelta(minutes=10)
"""What cannot be signed here waits so long, until somebody sets the key; `viral doctor` says so meanwhile."""

TAKEN: Final = range(200, 300)
GONE: Final = 410
"""The receiver says that it wants no more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: the status of the receiver, or None and why there is none. `ours`: nothing was sent,
    since this installation cannot sign it."""

    status: int | None
    error: str | None = None
    ours: bool = False

    @property
    def taken(self) -> bool:
        return self.status is not None and self.status in TAKEN

    @property
    def says(self) -> str | None:
        """Why it was not taken."""
        if self.taken:
            return None
        return self.error if self.status is None else f"it answered {self.status}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows. `next_at`: it is tried again then. `disable` says why the endpoint gets nothing more. What was not
    `counted` is no attempt, and says nothing of the receiver."""

    delivered: bool
    next_at: datetime | None = None
    disable: str | None = None
    counted: bool = True


def judge(answer: Answer, *, attempts: int, failing_since: datetime | None, now: datetime) -> Verdict:
    """Decide after an attempt; `attempts` counts it, and `failing_since` is when the endpoint began to take nothing."""
    if answer.ours:
        return Verdict(delivered=False, next_at=now + UNTIL_MENDED, counted=False)
    if answer.taken:
        return Verdict(delivered=True)
    if answer.status == GONE:
        return Verdict(delivered=False, disable="it answered 410: it wants no more")
    if failing_since is not None and now - failing_since >= DISABLED_AFTER:
        return Verdict(delivered=False, disable=f"it took nothing for {DISABLED_AFTER.days} days: {answer.says}")
    wait = WAITS[attempts - 1] if attempts <= len(WAITS) else None
    return Verdict(delivered=False, next_at=None if wait is None else now + wait)


def check_endpoint(url: str, events: Sequence[str], *, others: int, home: str) -> tuple[str, ...]:
    """Return the events of an endpoint that may be made: all of them if none is named. `others` are those that the
    tenant has, `home` the address of a receiver that may be a private one. Where the host leads is checked each time
    that it is called.

    Raises:
        Rejected, Conflict: it may not be, and why.
    """
    if others >= MOST_ENDPOINTS:
        raise Conflict("TOO_MANY_ENDPOINTS", f"a tenant has {MOST_ENDPOINTS} endpoints at most; delete one first")
    if unknown := sorted(set(events) - EVENTS.keys()):
        raise Rejected(f"events: {unknown[0]} is none; there is {', '.join(EVENTS)}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Rejected("url: it cannot be read") from None
    at_home = bool(home) and (parts.scheme, parts.hostname, port) == _origin(home)
    if not parts.hostname or (parts.scheme != "https" and not at_home):
        raise Rejected("url: it should be an https address")
    if not at_home and _is_private(parts.hostname):
        raise Rejected("url: its host should be one of the internet")
    if parts.username or parts.password or parts.fragment or len(url) > LONGEST_URL or CONTROL & set(url):
        raise Rejected("url: it should have no name, password, fragment or spaces, and 2,000 characters at most")
    if not url.isascii():
        raise Rejected("url: it should be ASCII, escaped as a browser does")
    return tuple(each for each in EVENTS if not events or each in events)


def _is_private(host: str) -> bool:
    """Return whether the host says already that it is none of the internet's; names are looked up at each call."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def message_id(event_id: UUID) -> str:
    """Return the `webhook-id`: the same at each endpoint and each attempt."""
    return f"msg_{event_id.hex}"

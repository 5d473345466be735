"""When an account's tokens are refreshed, and what of them is kept.

An access token is refreshed shortly before its own end, each account at a moment of its own. One that lives for weeks
(Instagram's, 60 days) is refreshed at half of its time: it cannot be once it has ended, nor in its first 24 hours.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from domain.posting.accounts import Grant

EARLY = timedelta(minutes=10)
"""So long before its end a short token is refreshed, and up to as much earlier: not all accounts in one minute."""
LONG = timedelta(days=7)
"""A token of at least so long a time is refreshed at half of it."""
YOUNGEST = timedelta(hours=24)
"""Instagram refreshes no token that is younger."""
NEEDED = timedelta(minutes=2)
"""An access token that ends sooner is not used for a call any more."""


@dataclass(frozen=True, slots=True)
class Times:
    """When the present access token was given, and when it and its refresh token end; None where no end was named."""

    since: datetime
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None = None


def refresh_at(times: Times, account_id: UUID) -> datetime | None:
    """Return from when on the tokens are refreshed, always the same for these; None if they do not end."""
    if times.access_expires_at is None:
        return None
    whole = times.access_expires_at - times.since
    if whole >= LONG:
        # Within a tenth of its time, so that accounts that were connected together are not refreshed together.
        at = times.since + whole * (0.5 + 0.1 * _part(account_id))
        return max(at, times.since + YOUNGEST)
    early = min(EARLY, max(timedelta(0), whole) / 6)
    return times.access_expires_at - early * (1 + _part(account_id))


def due(times: Times, account_id: UUID, now: datetime) -> bool:
    """Whether the tokens are to be refreshed now, by the sweep."""
    at = refresh_at(times, account_id)
    return at is not None and now >= at


def usable(times: Times, now: datetime) -> bool:
    """Whether the access token still lasts for a call."""
    return times.access_expires_at is None or now < times.access_expires_at - NEEDED


def may_refresh(times: Times, now: datetime) -> bool:
    """Whether the refresh token still lasts. How many answers were lost is no reason not to ask again: what the
    platform says then is the only verdict that there is (docs/decisions/0037)."""
    return times.refresh_expires_at is None or now < times.refresh_expires_at


def merge(before: Grant, new: Grant) -> Grant:
    """Return what is kept when an account that has a grant is given another one, by a refresh or by connecting again.

    What is empty in the new one was not said, and does not replace what was: above all no refresh token does. The end
    of the refresh token belongs to the token that named it.
    """
    same = new.refresh_token in ("", before.refresh_token)
    return replace(
        new,
        access_token=new.access_token or before.access_token,
        access_expires_at=new.access_expires_at if new.access_token else before.access_expires_at,
        refresh_token=new.refresh_token or before.refresh_token,
        refresh_expires_at=new.refresh_expires_at or (before.refresh_expires_at if same else None),
        scopes=new.scopes or before.scopes,
        external_id=new.external_id or before.external_id,
        username=new.username or before.username,
        server=new.server or before.server,
    )


def _part(account_id: UUID) -> float:
    """Return the account's own part of one, always the same."""
    return account_id.int % 9973 / 9973

"""What the reasons in YouTube's errors mean (Data API v3, read on 27 November 2026)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from domain.errors import Unavailable, ViralError
from domain.posting.publishing import AccountRevoked, HeldOff, PostRefused, TokenExpired
from integrations.http.client import retry_after
from integrations.platforms.answers import Answer, words

NAME = "YouTube"
QUOTA = frozenset({"quotaExceeded", "dailyLimitExceeded", "dailyLimitExceededUnreg"})
"""Of our project; it begins anew at midnight there, where Google is."""
QUOTA_ZONE = ZoneInfo("America/Los_Angeles")
OFTEN = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "concurrentLimitExceeded", "tooManyRequests"})
UPLOADS = "uploadLimitExceeded"
REVOKED = {
    "insufficientPermissions": "the account did not give all that is asked for: connect it again, and tick everything",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "the account did not give all that is asked for: connect it again",
    "youtubeSignupRequired": "the account has no YouTube channel: make one, then connect it again",
    "channelClosed": "the channel is closed",
    "channelSuspended": "the channel is suspended",
    "accountClosed": "the account is closed",
    "accountSuspended": "the account is suspended",
}
NOT_GIVEN = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
"""The account's owner left out what a call needs; the others work."""
NOT_ENABLED = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
REJECTIONS = {
    "claim": "somebody else owns a part of it",
    "copyright": "it infringes a copyright",
    "duplicate": "the channel has this video already",
    "inappropriate": "its content is not allowed",
    "legal": "it was taken down for legal reasons",
    "length": "it is too long for this channel",
    "termsOfUse": "it violates the terms of use",
    "trademark": "it infringes a trademark",
    "uploaderAccountClosed": "the channel is closed",
    "uploaderAccountSuspended": "the channel is suspended",
    "codec": "its codec is not one that YouTube takes",
    "conversion": "it could not be converted",
    "emptyFile": "the file is empty",
    "invalidFile": "the file is not one that YouTube takes",
    "tooSmall": "the file is too small",
    "uploadAborted": "the upload was broken off",
}
"""`status.rejectionReason` and `status.failureReason` of a video."""


def error_of(answer: Answer, now: datetime, *secrets: str) -> ViralError | None:
    """Return what an answer refuses; None if it is a success."""
    if answer.ok:
        return None
    status = answer.status
    reason, message = _reason(answer.fields.get("error"))
    reason, message = words(reason, *secrets), words(message, *secrets)
    text = f"{NAME} answers {status}" + (f" {reason}" if reason else "") + (f": {message}" if message else "")
    wait = retry_after(answer.headers.get("retry-after"))
    if reason in REVOKED:
        return AccountRevoked(reason, f"{NAME} says {reason}: {REVOKED[reason]}")
    if status == 401:
        return TokenExpired(f"{NAME} does not take the access token any more")
    held_off = _held_off(reason, status, now, wait)
    if held_off:
        return held_off
    if status >= 500 or status in (408, 409, 425) or not 400 <= status < 500:
        return Unavailable(text, retry_after=wait)
    return PostRefused(reason or f"http_{status}", text)


def rejection_of(status: Mapping[str, Any]) -> PostRefused | None:
    """Return why YouTube does not show a video that it has taken; None if nothing is wrong with it."""
    state = status.get("uploadStatus")
    if state not in ("rejected", "failed"):
        return None
    reason = status.get("rejectionReason") or status.get("failureReason")
    code = words(reason) if isinstance(reason, str) and reason else str(state)
    why = REJECTIONS.get(code)
    return PostRefused(code, f"{NAME} has {state} the video: {code}" + (f" ({why})" if why else ""))


def _held_off(reason: str, status: int, now: datetime, wait: timedelta | None) -> HeldOff | None:
    if reason in QUOTA:
        message = f"{NAME} gives our project no more for today: its quota is used up"
        return HeldOff(reason, message, retry_after=_until_midnight(now), whole_app=True)
    if reason == UPLOADS:
        message = f"{NAME} takes no more videos of this channel today"
        return HeldOff(reason, message, retry_after=wait or timedelta(days=1))
    if reason in NOT_ENABLED:
        message = "the YouTube Data API is not enabled for our project: enable it where GOOGLE_CLIENT_ID was made"
        return HeldOff(reason, message, retry_after=timedelta(hours=1), whole_app=True)
    if reason in OFTEN or status == 429:
        message = f"{NAME} is asked too often"
        return HeldOff(reason or "http_429", message, retry_after=wait or timedelta(minutes=1))
    return None


def _until_midnight(now: datetime) -> timedelta:
    there = now.astimezone(QUOTA_ZONE)
    tomorrow = (there + timedelta(days=1)).replace(hour=0, minute=1, second=0, microsecond=0)
    return tomorrow.astimezone(now.tzinfo) - now


def _reason(error: Any) -> tuple[str, str]:
    """Return the reason and the message, of whichever of Google's two shapes."""
    if not isinstance(error, Mapping):
        return "", ""
    message = error.get("message")
    reasons = [each.get("reason") for each in _list(error.get("errors")) + _list(error.get("details"))]
    texts = [each for each in reasons if isinstance(each, str)]
    first = next((each for each in texts if each in REVOKED or each in QUOTA), texts[0] if texts else "")
    return first, message if isinstance(message, str) else ""


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []

"""What TikTok's error codes and reasons of failure mean (Content Posting API, read on 27 November 2026)."""

from datetime import timedelta

from domain.errors import Unavailable, ViralError
from domain.posting.publishing import AccountRevoked, HeldOff, PostRefused, TokenExpired
from integrations.http.client import retry_after
from integrations.platforms.answers import Answer, words

NAME = "TikTok"
A_MINUTE, AN_HOUR, A_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

HELD_OFF = {
    "rate_limit_exceeded": ("is asked too often for this account", A_MINUTE),
    "spam_risk_too_many_posts": ("takes no more posts of this account today", A_DAY),
    "spam_risk_too_many_pending_share": ("takes no more while so many videos wait in the account's inbox", A_DAY),
    "spam_risk_user_banned_from_posting": (
        "has banned this account from posting: its owner finds why in the app",
        A_DAY,
    ),
    "spam_risk": ("takes this for spam, and nothing of this account for now", A_DAY),
}
NOT_GIVEN = frozenset({"scope_not_authorized", "scope_permission_missed"})
"""The account's owner left out what a call needs; the others work."""
SCOPES = NOT_GIVEN | {"auth_removed"}
NOT_TAKEN = {
    "unaudited_client_can_only_post_to_private_accounts": (
        "our app is not audited by TikTok yet, so it posts to private accounts only, and as SELF_ONLY: make the "
        "account private and choose SELF_ONLY, or let the app be audited"
    ),
    "privacy_level_option_mismatch": (
        "this account does not offer the chosen privacy (any more): choose one of those that it has now"
    ),
    "url_ownership_unverified": "the video's address is at a domain that is not verified",
    "file_format_check_failed": "the video's format is not one that it takes",
    "duration_check_failed": "the video is too short or too long for this account",
    "frame_rate_check_failed": "the video's frame rate is not one that it takes",
    "picture_size_check_failed": "the video's width or height is not one that it takes",
    "spam_risk_text": "it takes the text for spam or a risk",
    "publish_cancelled": "the post was cancelled in TikTok",
}
"""Of a post that will not be taken as it is; reasons of a failure too."""
MOMENTARY = frozenset({"internal", "internal_error", "video_pull_failed"})
"""Reasons of a failure that say nothing about the post: another handle may succeed."""


def error_of(answer: Answer, *secrets: str) -> ViralError | None:
    """Return what an answer of the API refuses; None if it is a success, which only `"ok"` is."""
    body = answer.fields.get("error")
    code = body.get("code") if isinstance(body, dict) else None
    if answer.ok and code == "ok":
        return None
    if not isinstance(code, str):
        if answer.status == 401:
            return TokenExpired(f"{NAME} does not take the access token any more")
        return Unavailable(f"{NAME} answers {answer.status} with what cannot be read")
    message = body.get("message") if isinstance(body, dict) else None
    text = words(message, *secrets) if isinstance(message, str) else ""
    wait = retry_after(answer.headers.get("retry-after"))
    return meaning(words(code, *secrets), answer.status, text, wait)


def meaning(code: str, status: int = 200, text: str = "", wait: timedelta | None = None) -> ViralError:
    """Return the error that a code, or a reason of a failure, stands for; `text` are TikTok's own words."""
    if code == "access_token_invalid":
        return TokenExpired(f"{NAME} does not take the access token any more")
    if code in SCOPES:
        return AccountRevoked(code, f"{NAME} says {code}: connect the account again, and give all that is asked for")
    if code == "reached_active_user_cap":
        why = f"{NAME} lets no more accounts post by our app today"
        return HeldOff(code, why, retry_after=wait or AN_HOUR, whole_app=True)
    if code in HELD_OFF:
        why, usual = HELD_OFF[code]
        return HeldOff(code, f"{NAME} {why}", retry_after=wait or usual)
    if status == 429:
        return HeldOff(code, f"{NAME} is asked too often", retry_after=wait or A_MINUTE)
    why = NOT_TAKEN.get(code) or text
    message = f"{NAME} says {code}" + (f": {why}" if why else "")
    if code in MOMENTARY or status >= 500:
        return Unavailable(message, retry_after=wait)
    return PostRefused(code, message)

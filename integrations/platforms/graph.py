"""Errors of Meta's Graph API, as Instagram words them, and what each means for us.

The numbers are those of Instagram's page of errors of 2 Jun 2026. A text of Meta's is kept only without values, and
never with a token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from domain.errors import Unavailable, ViralError
from domain.posting.publishing import AccountRevoked, HeldOff, NotReady, PostRefused, TokenExpired
from domain.text.redaction import MASK
from integrations.http.client import Response, parse_json, retry_after
from integrations.platforms import answers

NAME = "Instagram"
A_MINUTE, AN_HOUR = timedelta(minutes=1), timedelta(hours=1)

TOKEN = frozenset({102, 190})
TOKEN_ENDED_BY_OWNER = frozenset({458, 459, 460, 464, 492})
"""Subcodes of a token that no refresh mends: the app was removed, the account is locked, the password was changed, the
person is not confirmed, or has no role any more."""
SCOPE = frozenset({3, 10, *range(200, 300)})
WHOLE_APP = frozenset({4})
ACCOUNT = frozenset({17, 32, 341, 368, 613, 80002})
MOMENTARY = frozenset({-2, -1, 1, 2, 24})
"""Codes of what may work at another time, or with a fresh container."""
SPAM, NO_OBJECT, DAILY_LIMIT, NOT_YET, RESTRICTED, THUMBNAIL = 2207051, 33, 2207042, 2207027, 2207050, 2207057
NOT_FETCHED = frozenset({2207001, 2207003, 2207006, 2207008, 2207020, 2207032, 2207052, 2207053, 2207082})
"""Subcodes of a container that came to nothing for a reason outside of the video: another one may succeed."""
CERTAIN_AT_PUBLISH = frozenset({352, 36000, 36001, 36003, 36004})
"""Codes that refuse a video or a caption for what it is; nothing is published with them."""
WORDS = {
    2207003: "it could not fetch the video in time",
    2207009: "the video's aspect ratio is not one that it takes",
    2207010: "the caption is longer than it takes, or has too many hashtags or mentions",
    2207020: "the video that it had fetched has expired",
    2207026: "the video's format is not one that it takes",
    2207050: "the account is restricted: sign in to Instagram's app, do what it asks, and connect the account again",
    2207051: "it took the post for spam",
    2207052: "it could not fetch the video from its address",
    2207053: "the upload failed for a reason that it does not name",
    2207057: "the cover must be a moment within the video",
}
SUBCODE = re.compile(r"\b2207\d{3}\b")
LONG_WORD = re.compile(r"[\w-]{40,}")
"""Longer than any word: a token."""


@dataclass(frozen=True, slots=True)
class GraphError:
    """`code` and `subcode` are 0 where there are none. `text` has no values in it."""

    status: int
    code: int = 0
    subcode: int = 0
    text: str = ""
    transient: bool = False
    wait: timedelta | None = None

    @property
    def word(self) -> str:
        """Meta's word for it: the more exact of its numbers."""
        return str(self.subcode or self.code or f"http_{self.status}")

    @property
    def message(self) -> str:
        reason = WORDS.get(self.subcode) or self.text
        numbers = " ".join(str(number) for number in (self.code, self.subcode) if number)
        status = f"{self.status} ({numbers})" if numbers else str(self.status)
        return f"{NAME} answers {status}: {reason}" if reason else f"{NAME} answers {status}"


def read_error(response: Response) -> GraphError | None:
    """Return the error of a response; None if it is a success. Some come with status 200."""
    body = read_json(response)
    found = body.get("error") if isinstance(body, Mapping) else None
    if response.status < 300 and not found:
        return None
    wait = retry_after(response.headers.get("retry-after")) or _regained_in(response)
    if not isinstance(found, Mapping):  # api.instagram.com has another shape
        text = body.get("error_message") if isinstance(body, Mapping) else None
        return GraphError(response.status, text=words(text), wait=wait)
    return GraphError(
        response.status,
        _number(found.get("code")),
        _number(found.get("error_subcode")),
        words(found.get("error_user_msg") or found.get("message")),
        found.get("is_transient") is True,
        wait,
    )


def meaning(error: GraphError) -> ViralError:
    """Return the error for a request that changes nothing that cannot be done again."""
    certain = meaning_if_certain(error)
    if certain is not None:
        return certain
    if error.subcode == SPAM:
        return HeldOff(error.word, error.message, retry_after=error.wait or AN_HOUR)
    again = error.transient or error.code in MOMENTARY or error.subcode in NOT_FETCHED
    if (again and error.subcode != THUMBNAIL) or error.status >= 500 or not 400 <= error.status < 500:
        return Unavailable(error.message, retry_after=error.wait)
    return PostRefused(error.word, error.message)


def meaning_if_certain(error: GraphError) -> ViralError | None:
    """Return the error if it says for certain that nothing was published; None if that must be looked up. What is
    taken for spam may be live (postiz#1681), and so may what is answered by 100/33 or 2207082."""
    certain: ViralError | None = None
    if error.code in TOKEN:
        certain = token_error(error)
    elif error.subcode == RESTRICTED or error.code in SCOPE:
        code = error.word if error.subcode == RESTRICTED else "scope"
        certain = AccountRevoked(code, error.message)
    elif error.subcode == DAILY_LIMIT:
        message = f"{NAME} publishes no more of this account for today"
        certain = HeldOff(error.word, message, retry_after=error.wait or AN_HOUR)
    elif error.subcode == NOT_YET or error.code == 9007:
        certain = NotReady(f"{NAME} is not done with the video yet", retry_after=A_MINUTE)
    elif error.subcode == SPAM or error.status >= 500:
        certain = None
    elif error.code in WHOLE_APP:
        certain = HeldOff(error.word, error.message, retry_after=error.wait or AN_HOUR, whole_app=True)
    elif error.code in ACCOUNT or error.status == 429:
        certain = HeldOff(error.word, error.message, retry_after=error.wait or AN_HOUR)
    elif error.code in CERTAIN_AT_PUBLISH:
        certain = PostRefused(error.word, error.message)
    return certain


def token_error(error: GraphError) -> ViralError:
    if error.subcode in TOKEN_ENDED_BY_OWNER:
        return AccountRevoked(error.word, f"{NAME} says that access was taken away: connect the account again")
    return TokenExpired(f"{NAME} does not take the access token any more")


def container_error(status: Any) -> GraphError:
    """Return what the status text of a container in the state ERROR says; its subcode is somewhere in it."""
    text = status if isinstance(status, str) else ""
    found = SUBCODE.search(text)
    return GraphError(200, subcode=int(found[0]) if found else 0, text=words(text))


def read_json(response: Response) -> Any:
    try:
        return parse_json(response.body)
    except ValueError:
        return None


def words(text: Any) -> str:
    """Return a text of Meta's in one line, without values and without what may be a token."""
    return answers.words(LONG_WORD.sub(MASK, text)) if isinstance(text, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _regained_in(response: Response) -> timedelta | None:
    """Return when the account's use of the API is within its limits again, by Meta's header."""
    try:
        use = parse_json(response.headers.get("x-business-use-case-usage", "").encode())
        minutes = max(each["estimated_time_to_regain_access"] for kinds in use.values() for each in kinds)
        return timedelta(minutes=min(minutes, 24 * 60)) or None
    except (ValueError, TypeError, AttributeError, LookupError):
        return None

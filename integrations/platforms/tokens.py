"""Answers of OAuth token endpoints (RFC 6749), as TikTok and Google word them: a grant, or why there is none."""

from collections.abc import Callable
from datetime import datetime, timedelta

from domain.errors import NotSetUp, Unavailable, ViralError
from domain.posting.accounts import AppRegistration, Grant
from domain.posting.publishing import AccountRevoked, HeldOff
from integrations.http.client import retry_after
from integrations.platforms.answers import Answer, words

NOT_OUR_APP = frozenset({"invalid_client", "unauthorized_client", "invalid_client_key"})
LONGEST = timedelta(days=400)
"""No token lives longer: a larger number is a mistake, and a far one does not even fit a date."""


def grant_of(name: str, answer: Answer, app: AppRegistration, now: datetime, *, settings: str, code: bool) -> Grant:
    """Return the tokens of an answer. `settings` are the names of those that registered us; `code`: a code was shown,
    and no refresh token.

    Raises:
        AccountRevoked: what was shown opens nothing (any more).
        NotSetUp: our registration is not accepted.
        Unavailable: there are no tokens in the answer, for another reason.
    """
    error = answer.text("error")
    if answer.ok and not error:
        token = answer.text("access_token")
        if not token:
            raise Unavailable(f"{name} answers {answer.status} without a token")
        return Grant(
            access_token=token,
            refresh_token=answer.text("refresh_token"),
            access_expires_at=ends_at(answer, now, "expires_in"),
            refresh_expires_at=ends_at(answer, now, "refresh_expires_in", "refresh_token_expires_in"),
            scopes=tuple(answer.text("scope").replace(",", " ").split()),
        )
    raise _error(name, answer, app, settings, code=code)


def _error(name: str, answer: Answer, app: AppRegistration, settings: str, *, code: bool) -> ViralError:
    error, described = answer.text("error"), answer.text("error_description")
    theirs = words(f"{error}: {described}" if described else error, app.client_secret, app.client_id)
    text = f"{name} answers {answer.status}" + (f": {theirs}" if theirs else "")
    if answer.status == 429:
        wait = retry_after(answer.headers.get("retry-after")) or timedelta(minutes=1)
        return HeldOff("rate_limit_exceeded", text, retry_after=wait, whole_app=True)
    if answer.status >= 500:
        return Unavailable(text)
    if error in NOT_OUR_APP:
        return NotSetUp(f"{text}; {settings} are not accepted")
    spent = error == "invalid_grant" or (error == "invalid_request" and "refresh token" in described.lower())
    if spent or (code and error in ("invalid_request", "access_denied")):
        what = "the code of the callback opens nothing" if code else "access was taken away, or has ended"
        return AccountRevoked(words(error), f"{name} says that {what}: connect the account again")
    return Unavailable(text)


def ends_at(answer: Answer, now: datetime, *names: str) -> datetime | None:
    """Return when a token ends, by the first of these fields that says so; None if none does, or says what none has."""
    for name in names:
        seconds = answer.fields.get(name)
        if isinstance(seconds, int | float) and 0 < seconds <= LONGEST.total_seconds():
            return now + timedelta(seconds=seconds)
    return None


Clock = Callable[[], datetime]

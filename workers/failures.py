"""A failed attempt in words that can always be kept, whatever the exception is and says."""

import traceback

from db.jobs import FailedAttempt
from domain.errors import Rejected, ViralError
from domain.storable import storable_text

LONGEST_MESSAGE, LONGEST_TRACEBACK = 10_000, 50_000
"""Characters; of a longer text the middle is left out."""


def described(error: Exception) -> FailedAttempt:
    """Describe the attempt that ended in `error`. Never raises, and never says what Postgres refuses."""
    name = type(error).__name__
    return FailedAttempt(
        outcome="rejected" if isinstance(error, Rejected) else "failed",
        error_class=name,
        error_message=_cut(text_of(error) or name, LONGEST_MESSAGE),
        traceback=None if isinstance(error, ViralError) else _cut(_traceback(error), LONGEST_TRACEBACK),
    )


def named(attempt: FailedAttempt, refusal: Exception) -> FailedAttempt:
    """Say of an attempt whose description could not be recorded no more than its class, and why."""
    message = f"{attempt.error_class} (its text could not be recorded: {type(refusal).__name__})"
    return FailedAttempt(attempt.outcome, attempt.error_class, message)


def text_of(error: BaseException) -> str:
    """Return what the exception says; if it cannot say it, that."""
    try:
        return str(error)
    except Exception as broken:
        return f"{type(error).__name__} (its text cannot be read: {type(broken).__name__})"


def _traceback(error: Exception) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as broken:
        return f"the traceback cannot be read: {type(broken).__name__}"


def _cut(text: str, longest: int) -> str:
    text = storable_text(text)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"

"""Describes a failed attempt in words that can always be kept, whatever the exception is and says.

They never repeat the values that provoked it (`workers/runtime/error_text.py`): an attempt outlives the person whose
data they were.
"""

from db.queue.transitions import FailedAttempt
from domain.errors import Rejected, ViralError
from domain.text.redaction import shortened
from domain.text.storable import storable_text
from workers.runtime.error_text import text_of, traceback_of

LONGEST_TRACEBACK = 50_000
"""Characters; of a longer text the middle is left out."""


def described(error: Exception) -> FailedAttempt:
    """Describe the attempt that ended in `error`. Never raises, and never says what Postgres refuses."""
    name = type(error).__name__
    outcome = "rejected" if isinstance(error, Rejected) else "failed"
    message = storable_text(text_of(error) or name)
    if isinstance(error, ViralError):
        return FailedAttempt(outcome, name, message)
    return FailedAttempt(outcome, name, message, storable_text(shortened(traceback_of(error), LONGEST_TRACEBACK)))


def named(attempt: FailedAttempt, cause: Exception) -> FailedAttempt:
    """Describe an attempt whose text could not be recorded, because of `cause`, by no more than its class."""
    message = f"{attempt.error_class} (its text could not be recorded: {type(cause).__name__})"
    return FailedAttempt(attempt.outcome, attempt.error_class, message)

"""The text and the traceback of any exception, without the values that provoked it (`db/postgres/error_text.py`)."""

from collections.abc import Iterator
from traceback import StackSummary, walk_tb

from db.postgres.error_text import text_of as text_without_values


def text_of(error: BaseException) -> str:
    """Return what the exception says, without values; or that it cannot be read."""
    try:
        return text_without_values(error)
    except Exception as broken:
        return f"{type(error).__name__} (its text cannot be read: {type(broken).__name__})"


def traceback_of(error: BaseException) -> str:
    """Return where it was raised and what it was caused by, as lines of code and texts without values."""
    try:
        return "\n".join(_lines(error, frozenset()))
    except Exception as broken:
        return f"the traceback cannot be read: {type(broken).__name__}"


def _lines(error: BaseException, above: frozenset[int]) -> Iterator[str]:
    """Yield the traceback as Python prints it, the cause first."""
    above |= {id(error)}
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in above:
        yield from _lines(before, above)
        how = "was the direct cause of" if error.__cause__ is not None else "was being handled during"
        yield f"\nThe exception above {how} the following one:\n"
    yield "Traceback (most recent call last):"
    yield "".join(StackSummary.extract(walk_tb(error.__traceback__)).format()).rstrip("\n")
    yield f"{type(error).__name__}: {text_of(error)}"
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if id(each) not in above:
            yield from _lines(each, above)

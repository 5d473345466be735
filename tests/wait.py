"""Waiting for a condition, with a bound: never for a while."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, *, seconds: float = 90, every: float = 0.02) -> None:
    """Return as soon as `condition` holds.

    Raises:
        AssertionError: it did not hold within the bound; the text says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)

"""How much time goes by, also while the machine sleeps: `time.monotonic` stands still then, and whoever measures by it
takes what was hours ago for now."""

import time


def elapsed() -> float:
    """Seconds since some moment, for differences."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)

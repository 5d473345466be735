"""`python -m workers workers.main:start …`: Dramatiq's command line, as `viral worker` runs it.

Dramatiq forks its processes and lets each import the application for itself. Here it is imported before, so that it is
in memory once: a dyno of two processes needs 100 MB instead of 125.
"""

import gc
import os
import signal
import sys
from types import FrameType

import dramatiq.__main__
from dramatiq.cli import main

import workers.jobs
import workers.main
from workers.app import discover

BOOT_SECONDS = 60
"""Dramatiq itself waits 30 s for its processes."""


def begin(boot_seconds: int = BOOT_SECONDS) -> None:
    """Never returns."""
    discover((workers.jobs,))
    # A collection writes to every object that it looks at, and a page that is written to is shared no longer.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGALRM, _give_up_booting)
    signal.alarm(boot_seconds)
    # On SIGHUP Dramatiq executes itself again, and this is how it knows how it was begun.
    sys.argv[0] = dramatiq.__main__.__file__
    sys.exit(main())  # type: ignore[no-untyped-call]


def _give_up_booting(signum: int, frame: FrameType | None) -> None:
    """A process that is killed just when it reports that it has booted leaves its parent waiting for ever, deaf to
    SIGTERM. So the parent ends: its other processes notice and drain, and the platform starts the dyno anew.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # once all have booted, it is Dramatiq's
        sys.stderr.write("viral worker: a process died while it started\n")
        os._exit(1)


if __name__ == "__main__":
    begin()

"""The parent of the worker processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "from workers.__main__ import begin; begin(boot_seconds=3)"


def killed_while_reporting() -> None:
    """Called by Dramatiq in a worker process: die as if killed in the middle of reporting the boot."""
    process: Any = multiprocessing.current_process()
    *_, booted = process._args
    booted._cond.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_while_it_reports_its_boot_does_not_leave_a_dyno_that_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, f"{__name__}:killed_while_reporting", "--processes=2", "--skip-logging"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "viral worker: a process died while it started\n")

"""Jobs that say where they are, so that a test can strike at that moment. Their effects are rows without any unique
constraint: one that happened twice would show."""

from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

from workers.engine.job import Context, Tx, job


def wait_for(path: Path, seconds: float = 60) -> None:
    """A handler's long work: it goes on until the test creates the file."""
    deadline = monotonic() + seconds
    while not path.exists() and monotonic() < deadline:
        sleep(0.01)


@job("chaos.slow", system=True)
def slow(ctx: Context, folder: str, name: str) -> None:
    here = Path(folder)
    (here / f"{name}.begun.{ctx.job.attempt}").touch()
    wait_for(here / f"{name}.go")
    with ctx.finish() as tx:
        mark(tx, name)
        (here / f"{name}.effect.{ctx.job.attempt}").touch()
        wait_for(here / f"{name}.commit")


@job("chaos.quick", system=True)
def quick(ctx: Context, name: str) -> None:
    with ctx.finish() as tx:
        mark(tx, name)


@job("chaos.poison", system=True, max_attempts=10)
def poison(ctx: Context) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def mark(tx: Tx, name: str) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))


@job("chaos.polling", system=True, queue="media")
def polling(ctx: Context, times: int, every_ms: int) -> None:
    """Waits for somebody else, as a job that polls does: it looks so many times, and holds no thread meanwhile."""
    if ctx.job.snoozes < times:
        ctx.snooze(timedelta(milliseconds=every_ms), "not yet")
    with ctx.finish():
        pass

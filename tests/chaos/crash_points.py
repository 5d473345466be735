"""The named moments at which a process of the harness kills itself, and the ways in which it can be made to cheat.

The product has no test code in it: these wrap it from outside, in the chaos processes only. To strike, the harness
puts a flag named after the point into the folder `CHAOS_FLAGS`; the first process that comes by takes it away, leaves
a note of what it was about to do in `hits/`, and is gone by SIGKILL.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import redis
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import Middleware

import db.postgres.connection
import db.queue.claim
import db.queue.transitions
import db.transaction
import scheduler.dispatcher
import scheduler.main
from workers.engine.batch import BatchJob
from workers.engine.context import Context

PUSHES = {"RPUSH", "LPUSH", "ZADD", "XADD", "PUBLISH", "EVALSHA", "EVAL"}
"""Redis commands by which somebody is told of a job."""

IN_HANDLERS = ("in_handler", "effects_written")
AT_COMMIT = {
    "before_enqueue_commit": "before",
    "committed_not_notified": "after",
    "commit_sent": "sent",
    "commit_answer_lost": "after",
}
"""What happens to the next COMMIT of the thread that took the flag."""

LEARNING_COMMITS = 6
"""Commits of one job that learns at which it is struck: of batches, of pages of a fold anew, of its result."""
MOMENTS = ("before", "sent", "after")

_armed = threading.local()


def folder() -> Path | None:
    named = os.environ.get("CHAOS_FLAGS")
    return Path(named) if named else None


def take(point: str) -> bool:
    """Whether it is this process that has to die at this point, now."""
    flags = folder()
    if flags is None:
        return False
    try:
        (flags / point).unlink()
    except FileNotFoundError:
        return False
    return True


def die(point: str, jobs: Iterable[object]) -> None:
    flags = folder()
    if flags is not None:
        note = flags / "hits" / f"{point}.{os.getpid()}.{time.monotonic_ns()}"
        note.write_text(" ".join(map(str, jobs)))
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def reach(point: str, ctx: Context | BatchJob) -> None:
    """A handler of the harness is at this point. Only first attempts die, so that no job is quarantined."""
    if ctx.job.attempt == 1 and take(point):
        die(point, [ctx.job.id])


def reach_commit(ctx: Context | BatchJob, *points: str) -> None:
    """The next COMMIT of this thread is the finish of this job."""
    if ctx.job.attempt == 1:
        for point in points:
            if take(point):
                _armed.at_commit = (AT_COMMIT[point], point, [ctx.job.id])
                return


def _commit(driver: psycopg.Connection[Any], *before: bytes) -> None:
    """`before`: what the product sends in one breath with its COMMIT."""
    moment, point, jobs = getattr(_armed, "at_commit", None) or _of_learning() or ("", "", [])
    _armed.at_commit = None
    if moment == "before":
        die(point, jobs)
    if moment == "sent":
        driver.pgconn.send_query(b"".join(before) + b"COMMIT")
        while driver.pgconn.flush():
            pass
        die(point, jobs)
    _shipped_commit(driver, *before)
    if moment == "after":
        die(point, jobs)


@contextmanager
def _begin(self: Context) -> Iterator[db.transaction.Tx]:
    """`Context.begin`, whose COMMIT is numbered in the first attempt of a job that learns."""
    learns = self.job.job_type == "reflexion.learn" and self.job.attempt == 1
    if learns:
        before, number = getattr(_armed, "learned", (None, 0))
        _armed.learned = self.job.id, number + 1 if before == self.job.id else 1
    try:
        with _shipped_begin(self) as tx:
            yield tx
            _armed.learning = learns
    finally:
        _armed.learning = False


def _of_learning() -> tuple[str, str, list[object]] | None:
    """Say what happens to this COMMIT, if it is one of a job that learns."""
    if getattr(_armed, "learning", False):
        job_id, number = _armed.learned
        for moment in MOMENTS:
            if take(f"learn_{moment}_{number}"):
                return moment, f"learn_{moment}_{number}", [job_id]
    return None


def _claim(self: db.queue.claim.Claims, *args: Any, **kwargs: Any) -> Any:
    began = time.perf_counter()
    claimed = _shipped_claim(self, *args, **kwargs)
    _time_claim(time.perf_counter() - began)
    fresh = [job.id for job in claimed if job.attempt == 1]
    if fresh and take("claim_answer_lost"):
        _armed.at_commit = ("after", "claim_answer_lost", fresh)
    return claimed


def _time_claim(seconds: float) -> None:
    if path := os.environ.get("CHAOS_TIMINGS"):
        with Path(path).open("a") as file:
            file.write(f"{time.time():.3f} {seconds * 1000:.3f}\n")


def _begin_context(self: Context, database: Any, claimed: Any, **kwargs: Any) -> None:
    if claimed.attempt == 1 and take("claimed_before_handler"):
        die("claimed_before_handler", [claimed.id])
    _shipped_context(self, database, claimed, **kwargs)


def _execute_pipeline(self: Any, *args: Any, **kwargs: Any) -> Any:
    commands = {str(command[0][0]).upper() for command in self.command_stack}
    if commands & PUSHES and take("dispatcher_before_notify"):
        die("dispatcher_before_notify", sorted(commands))
    return _shipped_pipeline(self, *args, **kwargs)


_shipped_commit = db.postgres.connection.commit
_shipped_claim = db.queue.claim.Claims.claim
_shipped_context = Context.__init__
_shipped_begin = Context.begin
_shipped_pipeline = redis.client.Pipeline.execute


def install_in_worker() -> None:
    cheat()
    if folder() is not None:
        vars(db.transaction)["commit"] = _commit  # where the product looks it up
        Context.__init__ = _begin_context  # type: ignore[method-assign, assignment]
        Context.begin = _begin  # type: ignore[method-assign]
    if folder() is not None or os.environ.get("CHAOS_TIMINGS"):
        db.queue.claim.Claims.claim = _claim  # type: ignore[method-assign]


def install_in_scheduler() -> None:
    cheat()
    if folder() is not None:
        redis.client.Pipeline.execute = _execute_pipeline  # type: ignore[method-assign]


class Messages(Middleware):
    """The two points that only Dramatiq sees."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if take("fetched_not_claimed"):
            die("fetched_not_claimed", message.args[0])

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        if take("finished_not_acked"):
            die("finished_not_acked", message.args[0])


def watch_messages(broker: Broker) -> None:
    if folder() is not None:
        broker.add_middleware(Messages())


# --- sabotage -----------------------------------------------------------------------------------------------


def cheat() -> None:
    """Break the protocol as `CHAOS_SABOTAGE` says, to prove that the harness would notice."""
    how = os.environ.get("CHAOS_SABOTAGE", "")
    if how == "fence":
        db.queue.transitions.Transitions.complete = _complete_whoever_owns_it  # type: ignore[method-assign]
        db.transaction.Tx.complete = _complete_alone  # type: ignore[method-assign]
    elif how == "sweeper":
        scheduler.dispatcher.Dispatcher.dispatch = _do_nothing  # type: ignore[method-assign]
    elif how == "reaper":
        scheduler.main.Rescuer.rescue = _do_nothing  # type: ignore[method-assign]
    elif how:
        raise SystemExit(f"no such sabotage: {how}")


def _complete_whoever_owns_it(self: db.queue.transitions.Transitions, done: Any) -> set[UUID]:
    ids = [each.job.id for each in done]
    self._driver.execute(
        "UPDATE job_queue SET status = 'completed', completed_at = now() WHERE id = ANY(%s::uuid[])", (ids,)
    )
    return set(ids)


def _complete_alone(self: db.transaction.Tx, done: Any) -> None:
    self.work_as(db.transaction.SYSTEM)
    self.transitions.complete([done])


def _do_nothing(self: object, **options: object) -> int:
    return 0

"""Jobs of a `grouped` type: the effects and completions of many are one commit.

A commit waits for the disk and a transaction costs round trips, which for a job that writes a row or two is most of
its price. A group shares them; each job has a savepoint. Being in a group never makes a job fail: whatever does not
go well there is undone and run alone, as if it had never been in the group.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import structlog

from db.queue.transitions import ClaimedJob
from db.transaction import SYSTEM, CommitUnknown, Database, LeaseMissing, Scope, Tx
from domain.errors import ViralError
from workers.engine.context import Context
from workers.engine.failures import text_of
from workers.engine.job import JobTypes

MOST = 50
"""Jobs of a group. Postgres keeps 64 subtransactions of a transaction where others can see them cheaply."""

log = structlog.get_logger()


class OnlyFinish(ViralError):
    """The handler of a grouped job used more of its context than `finish`: a bug in the handler."""


class GroupedContext(Context):
    """The context of one job of a group, whose transaction is `shared`."""

    def __init__(self, *args: Any, shared: Tx, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = shared

    @contextmanager
    def finish(self) -> Iterator[Tx]:
        with self._shared.savepoint(self._scope):
            yield self._shared
        self.finished = True

    def _open(self, scope: Scope, timeout: timedelta | None = None) -> AbstractContextManager[Tx]:
        # It would wait for locks that the group holds, and so for itself.
        raise OnlyFinish(f"{self.job.job_type} is grouped: its handler may use nothing of its context but `finish`")


def take_group(waiting: deque[ClaimedJob], job_types: JobTypes) -> list[ClaimedJob]:
    """Take the first of these, and those behind it that may share a transaction with it."""
    group = [waiting.popleft()]
    if job_types[group[0].job_type].grouped:
        while waiting and len(group) < MOST and waiting[0].job_type == group[0].job_type:
            group.append(waiting.popleft())
    return group


def run_group(
    db: Database, jobs: Sequence[ClaimedJob], handle: Callable[[ClaimedJob, Tx], GroupedContext]
) -> Sequence[ClaimedJob]:
    """Run the jobs in one transaction. Returns those that are to be run alone: all, if the database went away.

    Raises:
        CommitUnknown: they are completed, or nothing happened.
    """
    finished, alone = [], []
    try:
        with db.transaction(SYSTEM) as tx:
            for job in jobs:
                try:
                    finished.append(handle(job, tx).done)
                except Exception as error:
                    if tx.went_away(error):
                        raise
                    alone.append(job)
            tx.work_as(SYSTEM)
            if finished and len(tx.transitions.complete(finished)) < len(finished):
                raise LeaseMissing
    except CommitUnknown:
        raise
    except Exception as error:
        log.info("group.dissolved", jobs=len(jobs), reason=text_of(error) or type(error).__name__)
        return jobs
    log.info("jobs.completed", count=len(finished), job_type=jobs[0].job_type)
    return alone

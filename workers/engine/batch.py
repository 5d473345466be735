"""What a handler of many jobs is given (`@job(…, many=…)`): one transaction, and the jobs that it is to handle in it.

def count_all(batch: Batch) -> None:
    names = [each.arguments["name"] for each in batch.jobs]
    batch.tx.driver.execute("INSERT INTO counted SELECT unnest(%s::text[])", (names,))
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

import structlog

from db.queue.transitions import ClaimedJob, Done
from db.transaction import Origin, Tx
from domain.ports import Ports
from domain.text.storable import to_json
from workers.engine.clocks import elapsed
from workers.runtime.tracing import Span, Tracing
from workers.runtime.work import cause_of_job


class BatchJob:
    """One job of a batch; `arguments` are those of the handler, typed, by name."""

    __slots__ = ("_result", "_tracing", "arguments", "job", "left_because", "span")

    def __init__(self, job: ClaimedJob, arguments: Mapping[str, Any], tracing: Tracing) -> None:
        self.job = job
        self.arguments = arguments
        self.span: Span | None = None
        self._tracing = tracing
        self.left_because: str | None = None
        self._result: dict[str, Any] = {}

    def report(self, **facts: Any) -> None:
        """Add facts to the job's `result`, which is kept when it completes. JSON values only."""
        self._result |= facts

    def leave(self, reason: str) -> None:
        """Handle the job alone, after the others. Nothing may have been written for it."""
        self.left_because = reason

    def origin(self, queue: str) -> Origin:
        """Return the origin of a job that is enqueued on this queue for this job of the batch."""
        traceparent = self.job.traceparent if self.span is None else self.span.traceparent
        return Origin(cause_of_job(self.job.id), self._tracing.sent(queue, traceparent))

    @property
    def id(self) -> UUID:
        return self.job.id

    @property
    def done(self) -> Done:
        return Done(self.job, to_json(self._result) if self._result else None)


class Batch:
    """Jobs of one type, most urgent first, whose effects and completions are one commit, or nothing.

    What is enqueued names the one of them that it is enqueued for: `job_type.enqueue_many(batch.tx, payloads,
    by=jobs)`. A job that no single one of them enqueues has no cause: better none than a wrong one.

    `tx` sees every tenant's rows. An error undoes all of it; then the batch is halved, until what cannot be done is
    run alone.
    """

    def __init__(self, tx: Tx, jobs: Sequence[BatchJob], *, ports: Ports, clock: Callable[[], datetime] | None) -> None:
        self.tx = tx
        self.jobs = jobs
        self.ports = ports
        self._clock = clock
        self._began = elapsed()

    @cached_property
    def log(self) -> Any:
        return structlog.get_logger()

    def now(self) -> datetime:
        """Return the database's time: that of the claim, plus the time gone by since."""
        if self._clock is not None:
            return self._clock()
        return self.jobs[0].job.now + timedelta(seconds=elapsed() - self._began)

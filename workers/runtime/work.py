"""What the current thread works for: a request, an event, a job, a run of a schedule, somebody in the shell.

Log lines name it (`workers/runtime/logs.py`), and jobs that are enqueued meanwhile have it as their cause
(`workers/runtime/tracing.py`). A thread that is started for the work of another runs in a copy of its context.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import NamedTuple, Protocol
from uuid import UUID

from domain.ops.causes import CauseKind

BY_AN_EVENT = f"{CauseKind.EVENT}:"

TRACEPARENT = 55
"""Characters of a W3C `traceparent`, version 00."""


class WorkedJob(Protocol):
    """A job that a thread runs, as far as its log lines name it."""

    @property
    def id(self) -> UUID: ...
    @property
    def tenant_id(self) -> UUID | None: ...
    @property
    def job_type(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class Work(NamedTuple):
    """What is worked for. `cause` and `traceparent` are those of the jobs that this enqueues. (A named tuple: one is
    made for every job and every request.)"""

    cause: str | None = None
    traceparent: str | None = None
    job: WorkedJob | None = None
    tenant_id: UUID | None = None
    event_id: UUID | str | None = None
    request_id: str | None = None
    client_request_id: str | None = None


NO_WORK = Work()

current: ContextVar[Work] = ContextVar("work", default=NO_WORK)


class working:
    """Have the current thread work for this, for the length of a block: `with working(Work(...)): ...`."""

    __slots__ = ("_token", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> Work:
        self._token: Token[Work] = current.set(self._work)
        return self._work

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        current.reset(self._token)


def of_job(job: WorkedJob, cause: str | None, traceparent: str | None) -> Work:
    """Return the work of an attempt at a job that `cause` enqueued; what it enqueues is caused by the job."""
    event_id = cause.removeprefix(BY_AN_EVENT) if cause is not None and cause.startswith(BY_AN_EVENT) else None
    return Work(cause_of_job(job.id), traceparent, job, job.tenant_id, event_id)


def trace_id(traceparent: str) -> str | None:
    """Return the id of the trace; None if the text does not look like W3C's: another program may have written it."""
    text = traceparent[3:35] if len(traceparent) == TRACEPARENT else ""
    return text if text.isalnum() and text.isascii() else None


def on_behalf(job_id: UUID, traceparent: str | None) -> Work:
    """Return the current work, as done in the place of an attempt at this job: what it enqueues is caused by the job,
    and belongs to the trace of the current attempt, or else to that of the job's row."""
    now = current.get()
    return now._replace(cause=cause_of_job(job_id), traceparent=now.traceparent or traceparent)


def cause_of_job(job_id: UUID) -> str:
    """Return the cause of what this job enqueues (`domain/ops/causes.py`), of which many are written."""
    return f"job:{job_id}"

"""One job as an operator sees it: where it is and why, each attempt, its steps, what enqueued it and what it enqueued.
Payload and results are masked; jobs of the archive are shown like those of the queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from db.transaction import SYSTEM
from domain.ops.causes import CauseKind, parse
from domain.ops.masking import masked_payload, masked_result
from workers.app import App
from workers.ops.explain import Reason, explain
from workers.ops.lineage import Lineage, lineage
from workers.ops.tail import length

Row = Mapping[str, Any]

LINKED: Final = (CauseKind.JOB, CauseKind.EVENT)
"""Kinds of causes that have a page of their own."""


@dataclass(frozen=True)
class Link:
    """What enqueued a job: the words of `job_queue.cause`, and the kind and id of a page if it has one."""

    text: str
    kind: str | None = None
    id: UUID | None = None


@dataclass(frozen=True)
class Attempt:
    """An attempt, completed or not. `took` and `waited` (since the job was due, or since the attempt before ended) are
    never below zero; None is not known."""

    attempt: int
    outcome: str
    release: str | None
    worker_id: UUID | None
    started_at: datetime | None
    ended_at: datetime | None
    waited: timedelta | None
    took: timedelta | None
    error_class: str | None
    error_message: str | None
    error_group: str | None
    traceback: str | None


@dataclass(frozen=True)
class JobReport:
    """One job at one moment. `lineage` is what began it, and all that came of it."""

    at: datetime
    job: Row
    archived: bool
    reasons: list[Reason]
    attempts: list[Attempt]
    steps: list[dict[str, Any]]
    payload: Any
    result: Any
    tenant: str | None
    cause: Link | None
    lineage: Lineage


def job_report(app: App, job_id: UUID) -> JobReport:
    """Gather what there is to see of a job.

    Raises:
        UnknownJob, UnknownNode: there is no such job.
    """
    explained = explain(app, job_id)
    job, archived = explained.job, "archived" in explained.job
    with app.db.transaction(SYSTEM) as tx:
        history = job["attempt_history"] if archived else tx.jobs.attempts(job_id)
        steps = job["steps"] if archived else tx.jobs.steps(job_id)
        tenant = None if job["tenant_id"] is None else tx.jobs.tenant_name(job["tenant_id"])
        ancestry = lineage(tx, "job", job_id)
    return JobReport(
        at=explained.at,
        job=job,
        archived=archived,
        reasons=explained.reasons,
        attempts=_attempts(job, history),
        steps=[
            {
                **step,
                "created_at": _moment(step["created_at"]),
                "confirmed_at": _moment(step["confirmed_at"]),
                "result": masked_result(job["job_type"], step["result"]),
            }
            for step in steps
        ],
        payload=masked_payload(job["job_type"], job["payload"]),
        result=None if job["result"] is None else masked_result(job["job_type"], job["result"]),
        tenant=tenant,
        cause=cause_link(job["cause"]),
        lineage=ancestry,
    )


def masked_job(row: Row) -> dict[str, Any]:
    """Return a row of the queue or of the archive with what may be shown of its payload, its result and its steps."""
    masked = dict(row)
    if "payload" in row:
        masked["payload"] = masked_payload(row["job_type"], row["payload"])
    if row.get("result") is not None:
        masked["result"] = masked_result(row["job_type"], row["result"])
    if row.get("steps"):
        masked["steps"] = [each | {"result": masked_result(row["job_type"], each["result"])} for each in row["steps"]]
    return masked


def cause_link(cause: str | None) -> Link | None:
    """Read a cause, which other programs may write too: what is not understood is shown as it is."""
    if cause is None:
        return None
    found = parse(cause)
    if found is None:
        return Link(cause)
    return Link(found.words, str(found.kind), found.uuid) if found.kind in LINKED else Link(found.words)


def _attempts(job: Row, history: Sequence[Row]) -> list[Attempt]:
    """Those that did not complete, and the one that runs or completed, which has no row of its own."""
    found: list[Attempt] = []
    ended_before: datetime | None = None
    for row in history:
        started, ended = _moment(row["started_at"]), _moment(row["ended_at"])
        found.append(
            Attempt(
                attempt=row["attempt"],
                outcome=row["outcome"],
                release=row.get("release"),
                worker_id=row["worker_id"] and UUID(str(row["worker_id"])),
                started_at=started,
                ended_at=ended,
                waited=length(ended_before, started),
                took=length(started, ended),
                error_class=row["error_class"],
                error_message=row["error_message"],
                error_group=row.get("error_group"),
                traceback=row["traceback"],
            )
        )
        ended_before = ended
    if job["status"] in ("running", "completed"):
        found.append(
            Attempt(
                attempt=job["attempts"],
                outcome=job["status"],
                release=None,
                worker_id=job.get("worker_id"),
                started_at=job["started_at"],
                ended_at=job["completed_at"],
                waited=length(job["scheduled_for"], job["started_at"]),
                took=length(job["started_at"], job["completed_at"]),
                error_class=None,
                error_message=None,
                error_group=None,
                traceback=None,
            )
        )
    return found


def _moment(value: datetime | str | None) -> datetime | None:
    """Read a time of the archive, where it is text."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:  # `infinity`, which rows from before the rule may have
        return None

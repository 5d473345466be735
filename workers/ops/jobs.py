"""Acts on jobs and what there is to see of one, for whoever operates the system."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import Rejected
from domain.ops.actions import Kind, Outcome, Result, Target
from domain.text.times import time_faults
from workers.app import App
from workers.engine.job import JobType
from workers.ops.acting import Within, cancel_job, find_job, retry_job
from workers.ops.job_reports import masked_job
from workers.ops.reveals import note_reveal

Row = dict[str, Any]

AHEAD = timedelta(days=3650)
"""Nobody means a job to begin later."""


@dataclass(frozen=True)
class Change:
    """Whether a job was changed, and a sentence that says so, or why not."""

    done: bool
    says: str


def enqueue(app: App, job_type: JobType[Any], arguments: Mapping[str, Any], **options: Any) -> UUID:
    """Enqueue one job with the options of `JobType.with_options` and return its id.

    Raises:
        Rejected: the arguments are not those of the job type, or the time has passed or is too far away.
        UnknownTenant: it would work for a tenant that does not exist.
    """
    tenant_id = job_type.validated(arguments).get("tenant_id")
    with app.db.transaction(SYSTEM) as tx:
        if (at := options.get("scheduled_for")) is not None:
            for fault in time_faults(at, tx.now(), ahead=AHEAD):
                raise Rejected(fault)
        if tenant_id is not None:
            tx.tenants.get(UUID(tenant_id))
        return job_type.with_options(**options).enqueue_payload(tx, arguments)


def find(app: App, job_id: UUID) -> Row:
    """Return the row of a job of the queue or of the archive, as it stands.

    Raises:
        UnknownJob: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        return find_job(tx, job_id)


def shown(app: App, job_id: UUID, *, attempts: bool = False, unmasked: bool = False) -> Row:
    """Return a job as people see it: with payload and results masked unless they are asked for as they stand; with its
    `attempts` that did not complete as `attempt_history`.

    Raises:
        UnknownJob: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        row = find_job(tx, job_id)
        if attempts:
            row["attempt_history"] = row.pop("attempt_history", None) or tx.jobs.attempts(job_id)
        if unmasked:
            note_reveal(tx, f"job:{job_id}")
    return row if unmasked else masked_job(row)


def retry(app: App, job_ids: Iterable[UUID]) -> dict[UUID, Change]:
    """Make failed or cancelled jobs due now, in one transaction: none of them begins before all are due."""
    with app.db.transaction(SYSTEM) as tx:
        within = Within(tx, app.job_types, app.now(tx))
        return {each: _change(retry_job(within, of_job(each), {})) for each in sorted(set(job_ids))}


def cancel(app: App, job_id: UUID) -> Change:
    """Take a pending job off its queue, or ask a running one to stop."""
    with app.db.transaction(SYSTEM) as tx:
        return _change(cancel_job(Within(tx, app.job_types, app.now(tx)), of_job(job_id), {}))


def of_job(job_id: UUID) -> Target:
    return Target(Kind.JOB, str(job_id))


def _change(result: Result) -> Change:
    return Change(result.outcome in (Outcome.DONE, Outcome.UNCHANGED), result.says)

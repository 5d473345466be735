"""Acts on jobs and what there is to see of one, for whoever operates the system."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM, Tx
from domain.errors import UnknownJob
from workers.app import App
from workers.engine.job import JobType
from workers.engine.outcomes import cancel as cancel_job
from workers.ops.explain import find_job, overtaken
from workers.ops.job_reports import masked_job
from workers.ops.reveals import note_reveal

Row = dict[str, Any]

CANCELLED = {"cancelled": "cancelled", "running": "asked to stop; it does when its handler next looks up"}


@dataclass(frozen=True)
class Change:
    """Whether a job was changed, and a sentence that says so, or why not."""

    done: bool
    says: str


def enqueue(app: App, job_type: JobType[Any], arguments: Mapping[str, Any], **options: Any) -> UUID:
    """Enqueue one job with the options of `JobType.with_options` and return its id.

    Raises:
        Rejected: the arguments are not those of the job type.
        UnknownTenant: it would work for a tenant that does not exist.
    """
    tenant_id = job_type.validated(arguments).get("tenant_id")
    with app.db.transaction(SYSTEM) as tx:
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
        note_reveal(f"job:{job_id}")
    return row if unmasked else masked_job(row)


def retry(app: App, job_ids: Iterable[UUID]) -> dict[UUID, Change]:
    """Make failed or cancelled jobs due now, in one transaction: none of them begins before all are due."""
    with app.db.transaction(SYSTEM) as tx:
        return {job_id: _retry(tx, job_id) for job_id in sorted(set(job_ids))}


def _retry(tx: Tx, job_id: UUID) -> Change:
    try:
        row = find_job(tx, job_id)
        with tx.savepoint(SYSTEM):
            done = tx.transitions.retry(job_id)
    except UnknownJob:
        return Change(False, "there is no such job")
    except UniqueViolation:
        twin = tx.jobs.live_twin(row["job_type"], row["tenant_id"], row["unique_key"])
        return Change(False, f"the job {twin} of the same key is live; it does the same work")
    if not done:
        return Change(False, f"it is {_state(row)}, and only a failed or cancelled job can be")
    return Change(True, "; ".join(["due again", *(each.says for each in overtaken(tx.explain.overtaken_by(row)))]))


def cancel(app: App, job_id: UUID) -> Change:
    """Take a pending job off its queue, or ask a running one to stop."""
    with app.db.transaction(SYSTEM) as tx:
        result = cancel_job(tx, app.job_types, job_id)
        if result is not None:
            return Change(True, CANCELLED[result])
        try:
            return Change(False, f"it is {_state(find_job(tx, job_id))}, and only a pending or running job can be")
        except UnknownJob:
            return Change(False, "there is no such job")


def _state(row: Mapping[str, Any]) -> str:
    return "archived" if "archived" in row else str(row["status"])

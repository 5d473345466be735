"""`/api/jobs`: the state and the result of a job."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from db.transaction import SYSTEM
from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.error_responses import INTERNAL_ERROR, documented, not_found
from workers.engine.job import Tx

routes = APIRouter(prefix="/jobs", tags=["jobs"], route_class=AdmittedRoute)

EXAMPLE: JsonDict = {
    "id": "01937f3c-5a30-7cc0-8f2e-0d9b0e4f6a11",
    "type": "generation.generate_concepts",
    "status": "completed",
    "attempts": 1,
    "result": {
        "generation_id": "6f0f5c6e-8d4e-5a3b-9a3f-1f0f5c6e8d4e",
        "concepts": 5,
        "generator": "local-grammar/v1",
        "live_trends": 12,
        "evergreen_trends": 8,
        "failed_sources": {},
    },
    "error": None,
    "scheduled_for": "2026-11-22T12:00:00Z",
    "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:01Z",
    "completed_at": "2026-11-22T12:00:09Z",
}


class Job(BaseModel):
    """`pending` and `running` go on: ask again in a second or two. `error` says in words why a job failed, or why its
    last attempt did; `result` of a generation names it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    type: str = Field(validation_alias="job_type", serialization_alias="type")
    status: Literal["pending", "running", "completed", "failed", "cancelled"]
    attempts: int
    result: Any
    error: str | None = Field(validation_alias="error_message", serialization_alias="error")
    scheduled_for: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


@routes.get("/{job_id}", responses=documented(_404="no such job of yours"))
def get_job(job_id: UUID, caller: Annotated[Caller, requires(ApiScope.GENERATIONS_READ)], app: Running) -> Job:
    """Return a job. Ended ones are found for as long as the archive keeps them."""
    with app.db.transaction(caller.tenant_id) as tx:
        return own_job(tx, caller.tenant_id, job_id)


def own_job(tx: Tx, tenant_id: UUID, job_id: UUID) -> Job:
    """Return the tenant's job. The transaction may work as the system afterwards.

    Raises:
        ApiError: the tenant has no such job.
    """
    row = tx.requests.job(tenant_id, job_id)
    if row is None:
        raise not_found(f"job {job_id}")
    if row["error_message"] is not None:
        tx.work_as(SYSTEM)
        if not tx.requests.ended_as_foreseen(job_id):
            row["error_message"] = INTERNAL_ERROR  # its own text may quote queries or other people's data
    return Job.model_validate(row)


def new_job(job_id: UUID, job_type: str, now: datetime) -> Job:
    """Return a job as the transaction of this moment has enqueued it, without reading it back."""
    fresh = {"status": "pending", "attempts": 0, "scheduled_for": now, "created_at": now}
    none = dict.fromkeys(("result", "error_message", "started_at", "completed_at"))
    return Job.model_validate(none | fresh | {"id": job_id, "job_type": job_type})

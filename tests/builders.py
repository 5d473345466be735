"""Rows with readable defaults: a test states only the point."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert

from db.events.writer import NewEvent, store_and_commit
from db.postgres.connection import AppConnection
from db.schema.queue import job_queue
from db.schema.tenants import tenants
from db.transaction import SYSTEM
from domain.billing.tiers import PLANS, Tier
from domain.quota import quota
from integrations.clerk import webhooks as clerk
from integrations.envelope import Envelope
from integrations.stripe import webhooks as stripe
from workers.app import App
from workers.engine.job import JobType
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime.ids import Ids

new_id = Ids()
NOV_22 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def a_tenant(app: App, *, created_at: datetime = NOV_22, name: str = "Ada's shop", **columns: Any) -> UUID:
    """A tenant on the free plan since `created_at`; `columns` of the row may say otherwise."""
    tenant_id: UUID = columns.pop("id", None) or uuid4()
    free = quota.first_period(PLANS[Tier.FREE].monthly_quota, created_at)
    row = {
        "id": tenant_id,
        "name": name,
        "monthly_quota": free.limit,
        "quota_anchor": free.anchor,
        "quota_period_start": free.period_start,
        "quota_reset_at": free.resets_at,
        "created_at": created_at,
    }
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(tenants).values(row | columns))
    return tenant_id


def beside(app: App) -> App:
    """The same with connections of its own: as another process, while this thread is in a transaction."""
    return replace(app, db=app.db.separate())


def tenant(app: App, tenant_id: UUID) -> dict[str, Any]:
    """The tenant's row as it is now."""
    with app.db.transaction(SYSTEM) as tx:
        return tx.tenants.seen(tenant_id)


def job_row(app: App, job_id: UUID) -> dict[str, Any]:
    """The job's row as it is now."""
    with app.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id)
    assert row is not None
    return row


def an_ended_job(app: App, status: str = "completed", *, ended: datetime, **columns: Any) -> UUID:
    """A job of which nothing is said but its state, which it is in since `ended`."""
    row = {"job_type": "gone", "status": status, "completed_at": ended, "created_at": ended, "scheduled_for": ended}
    with app.db.transaction(SYSTEM) as tx:
        job_id: UUID = tx.sql.execute(insert(job_queue).values(row | columns).returning(job_queue.c.id)).scalar_one()
    return job_id


def where(app: App, *job_ids: UUID) -> list[str]:
    """In which tables each of the jobs is: "hot", "archived", none, or (which must not be) both."""
    with app.db.transaction(SYSTEM) as tx:
        return [
            " and ".join(name for name, group in (("hot", tx.jobs), ("archived", tx.archive)) if group.get(job_id))
            for job_id in job_ids
        ]


def a_stripe_event(app: App, body: Mapping[str, Any], over: AppConnection | None = None) -> UUID:
    """Store the event with its job, as the endpoint does. Returns the job's id; of a duplicate, the first delivery's.
    `over`: a connection in autocommit mode, for whoever stores many."""
    envelope = stripe.parse_event(json.dumps(body).encode())
    return _stored(app, "stripe", envelope, apply_stripe_event, over)


def a_clerk_event(app: App, body: Mapping[str, Any], message_id: str, over: AppConnection | None = None) -> UUID:
    """`a_stripe_event` for Clerk, whose events carry their id in a header."""
    envelope = clerk.parse_event(json.dumps(body).encode(), message_id)
    return _stored(app, "clerk", envelope, apply_clerk_event, over)


def _stored(app: App, source: str, envelope: Envelope, job: JobType[Any], over: AppConnection | None) -> UUID:
    event = NewEvent(
        id=new_id(),
        source=source,
        job_id=new_id(),
        job_type=job.name,
        queue=job.queue,
        max_attempts=job.max_attempts,
        **envelope._asdict(),
    )
    with nullcontext(over) if over else app.db.connect(autocommit=True) as connection:
        [stored] = store_and_commit(connection, [event])
    assert stored.job_id is not None
    return stored.job_id


def event_row(app: App, job_id: UUID) -> dict[str, Any]:
    """The stored event that this job applies, as it is now."""
    event_id = str(job_row(app, job_id)["payload"]["event_id"])
    with app.db.transaction(SYSTEM) as tx:
        row = tx.events.find(event_id)
    assert row is not None
    return row

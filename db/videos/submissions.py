"""Every change of a submission's state, each written once, together with the money that moves with it.

    intended ──accept──▶ submitted ──progress──▶ running ──end──▶ succeeded, failed, cancelled
       │ └──refuse──▶ refused        │              │
       └──────doubt──────────────────┴──────────────┴──▶ unconfirmed ──accept, refuse, end──▶ …

Every one is a compare-and-set on the state, under the lock of the month's budget: so of two that race exactly one wins
and moves the money, and the other sees no row. The month in which a submission was intended pays for it. Locks are
taken in this order: the budget, the submission, its video.
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.queue.notifications import COST, Count
from db.videos.budgets import VideoBudgets
from domain.videos.budget import Budget, month_of, reserve, revise, settle
from domain.videos.plan import Clip
from domain.videos.submissions import OPEN, ProviderJob, RefusedFor, SubmissionState

State = SubmissionState

COLUMNS = """id, tenant_id, video_id, scene, attempt, provider, model, resolution, prompt, seconds, state,
    provider_job_id, month, estimated_usd, final_usd, percent, queue, failed_fetches, error_code, error_message, job_id,
    media_id, created_at, submitted_at, deadline_at, checked_at, ended_at"""

OF_VIDEO = f"""
SELECT {COLUMNS} FROM provider_jobs WHERE tenant_id = %s AND video_id = %s ORDER BY scene, attempt
"""

ADD = f"""
INSERT INTO provider_jobs (id, tenant_id, video_id, scene, attempt, provider, model, resolution, prompt, seconds, month,
    estimated_usd, job_id, created_at)
SELECT %(id)s, %(tenant_id)s, %(video_id)s, %(scene)s, coalesce(max(attempt), 0) + 1, %(provider)s, %(model)s,
    %(resolution)s, %(prompt)s, %(seconds)s, %(month)s, %(usd)s, %(job_id)s, %(now)s
FROM provider_jobs WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s AND scene = %(scene)s
RETURNING {COLUMNS}
"""

# Clips that were paid for and are kept, of videos of the same concept that nobody makes any more. What could not be
# shown there would not be here.
KEPT = f"""
SELECT {", ".join(f"p.{name.strip()}" for name in COLUMNS.split(","))} FROM videos v
JOIN videos ended ON ended.tenant_id = v.tenant_id AND ended.generation_id = v.generation_id
    AND ended.concept_id = v.concept_id AND ended.id <> v.id AND ended.status IN ('failed', 'cancelled')
JOIN provider_jobs p ON p.tenant_id = ended.tenant_id AND p.video_id = ended.id AND p.state = 'succeeded'
JOIN media m ON m.tenant_id = p.tenant_id AND m.id = p.media_id AND m.stored_at IS NOT NULL
WHERE v.tenant_id = %(tenant_id)s AND v.id = %(video_id)s
    AND NOT coalesce(ended.details -> 'unusable_clips', '{{}}') ? p.scene::text
ORDER BY p.ended_at DESC
"""

# Under the locks of the row and of its video, so that a video which is made again keeps its clip, or loses it before.
TAKE_OVER = """
WITH kept AS (
    SELECT p.id, p.scene FROM provider_jobs p JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id
    WHERE p.tenant_id = %(tenant_id)s AND p.id = %(id)s AND p.video_id = %(of)s AND p.state = 'succeeded'
        AND p.media_id IS NOT NULL AND v.status IN ('failed', 'cancelled')
    FOR NO KEY UPDATE
)
UPDATE provider_jobs p SET video_id = %(video_id)s, attempt = (
    SELECT coalesce(max(attempt), 0) + 1 FROM provider_jobs
    WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s AND scene = kept.scene
)
FROM kept WHERE p.id = kept.id AND p.tenant_id = %(tenant_id)s
RETURNING p.id
"""

MONTH = "SELECT month FROM provider_jobs WHERE tenant_id = %s AND id = %s"

# The state before decides whether the row changes, and is returned.
CHANGE = """
WITH before AS (
    SELECT id, state, estimated_usd FROM provider_jobs
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND state = ANY(%(states)s) FOR NO KEY UPDATE
)
UPDATE provider_jobs p SET {assignments}
FROM before WHERE p.id = before.id AND p.tenant_id = %(tenant_id)s
RETURNING before.state, before.estimated_usd, p.provider, p.model, p.job_id
"""

EXPRESSIONS = {"final_usd": "coalesce(%(final_usd)s, p.estimated_usd)"}

# An answer that came after somebody had decided that there would be none.
BOOK_LATE = """
UPDATE provider_jobs SET provider_job_id = %(provider_job_id)s, final_usd = coalesce(final_usd, 0) + estimated_usd,
    error_message = concat_ws('; ', error_message, %(message)s::text)
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND provider_job_id IS NULL AND state <> ALL(%(states)s)
RETURNING estimated_usd, provider || '/' || model, job_id
"""

PROGRESS = """
UPDATE provider_jobs SET state = 'running', percent = %(percent)s, queue = %(queue)s, checked_at = %(now)s,
    error_code = NULL
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND state IN ('submitted', 'running')
    AND (state, percent, queue, error_code) IS DISTINCT FROM ('running', %(percent)s, %(queue)s, NULL)
"""

MISS = """
UPDATE provider_jobs SET error_code = %(code)s,
    checked_at = CASE WHEN error_code = %(code)s THEN checked_at ELSE %(now)s END
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND state IN ('submitted', 'running')
RETURNING checked_at
"""

FAILED_FETCH = """
UPDATE provider_jobs SET failed_fetches = failed_fetches + 1, error_message = %(message)s
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND state IN ('submitted', 'running')
RETURNING failed_fetches
"""

USAGE = """
INSERT INTO api_usage (tenant_id, kind, name, cost_usd, job_id) VALUES (%s, 'video', %s, %s, %s)
"""

COSTS = """
SELECT coalesce(sum(final_usd), 0) FROM provider_jobs WHERE tenant_id = %s AND video_id = %s
"""


class Submissions:
    """Query group. What changes a state returns the state before, or None if it was another than it can change."""

    def __init__(self, driver: psycopg.Connection[Any], count: Count) -> None:
        self._driver = driver
        self._count = count
        self._budgets = VideoBudgets(driver)

    def of_video(self, tenant_id: UUID, video_id: UUID) -> list[ProviderJob]:
        """Return the video's submissions, by scene and attempt."""
        with self._driver.cursor(row_factory=class_row(ProviderJob)) as cursor:
            return cursor.execute(OF_VIDEO.encode(), (tenant_id, video_id)).fetchall()

    def kept(self, tenant_id: UUID, video_id: UUID) -> list[ProviderJob]:
        """Return the submissions of failed and cancelled videos of the same concept whose clips are kept, newest
        first."""
        with self._driver.cursor(row_factory=class_row(ProviderJob)) as cursor:
            return cursor.execute(KEPT.encode(), {"tenant_id": tenant_id, "video_id": video_id}).fetchall()

    def take_over(self, row: ProviderJob, video_id: UUID) -> bool:
        """Give a submission of `kept` to this video; what it cost goes with it. False if it is not there any more: its
        video is made again, or another has taken it."""
        values = {"tenant_id": row.tenant_id, "id": row.id, "of": row.video_id, "video_id": video_id}
        return self._driver.execute(TAKE_OVER, values).fetchone() is not None

    def cost(self, tenant_id: UUID, video_id: UUID) -> Decimal:
        """Return what the video's submissions that have ended cost together."""
        [(usd,)] = self._driver.execute(COSTS, (tenant_id, video_id)).fetchall()
        return Decimal(usd)

    def intend(
        self, tenant_id: UUID, video_id: UUID, *, id: UUID, job_id: UUID, provider: str, clip: Clip, now: datetime
    ) -> ProviderJob:
        """Reserve what the clip may cost in the month of `now`, and write down that it is about to be ordered.

        Raises:
            BudgetExceeded: not so much is left.
            UniqueViolation: another submission of the video is open.
        """
        month = month_of(now)
        budget = reserve(self._budgets.lock(tenant_id, month), clip.usd, month)
        order = clip.order
        values = {"id": id, "tenant_id": tenant_id, "video_id": video_id, "scene": clip.scene, "provider": provider}
        values |= {"model": order.model, "resolution": order.resolution, "prompt": order.prompt}
        values |= {"seconds": order.seconds, "month": month, "usd": clip.usd, "job_id": job_id, "now": now}
        with self._driver.cursor(row_factory=class_row(ProviderJob)) as cursor:
            [row] = cursor.execute(ADD.encode(), values).fetchall()
        self._budgets.write(tenant_id, month, budget)
        return row

    def accept(
        self,
        tenant_id: UUID,
        id: UUID,
        *,
        provider_job_id: str,
        estimated_usd: Decimal | None,
        now: datetime,
        deadline_at: datetime,
    ) -> str | None:
        """intended, unconfirmed → submitted: the provider has taken it. What it says that it may cost is reserved.

        If the submission has been ended meanwhile, what it may cost is booked as spent, since it will be charged.
        """
        changes = {"state": State.SUBMITTED, "provider_job_id": provider_job_id, "submitted_at": now}
        changes |= {"deadline_at": deadline_at, "error_code": None, "error_message": None}
        if estimated_usd is not None:
            changes["estimated_usd"] = estimated_usd
        changed = self._change(tenant_id, id, (State.INTENDED, State.UNCONFIRMED), changes)
        if changed is None:
            self._book_late(tenant_id, id, provider_job_id)
            return None
        if estimated_usd is not None:
            budget = revise(changed.budget, changed.estimated_usd, estimated_usd)
            self._budgets.write(tenant_id, changed.month, budget)
        return changed.before

    def refuse(self, tenant_id: UUID, id: UUID, *, kind: RefusedFor, message: str, now: datetime) -> str | None:
        """intended, unconfirmed → refused: the provider has not taken it, and what was reserved is released."""
        changes = {"state": State.REFUSED, "error_code": kind.value, "error_message": message, "ended_at": now}
        changed = self._change(tenant_id, id, (State.INTENDED, State.UNCONFIRMED), changes)
        if changed is None:
            return None
        released = settle(changed.budget, changed.estimated_usd, Decimal(0))
        self._budgets.write(tenant_id, changed.month, released)
        return changed.before

    def doubt(self, tenant_id: UUID, id: UUID, *, message: str) -> str | None:
        """Any open state → unconfirmed: nobody can tell what became of it. It stays reserved until a person decides."""
        changes = {"state": State.UNCONFIRMED, "error_message": message}
        changed = self._change(tenant_id, id, (State.INTENDED, State.SUBMITTED, State.RUNNING), changes)
        return None if changed is None else changed.before

    def end(
        self,
        tenant_id: UUID,
        id: UUID,
        state: SubmissionState,
        *,
        final_usd: Decimal | None,
        now: datetime,
        code: str | None = None,
        message: str | None = None,
        media_id: UUID | None = None,
        since: Collection[SubmissionState] = (State.SUBMITTED, State.RUNNING, State.UNCONFIRMED),
    ) -> str | None:
        """Any open state but `intended`, or one of `since` → succeeded, failed or cancelled: book what was charged,
        once. Where the provider does not say, that is what was expected."""
        changes: dict[str, Any] = {"state": state, "error_code": code, "error_message": message, "ended_at": now}
        changes |= {"final_usd": final_usd, "media_id": media_id, "queue": None}
        changed = self._change(tenant_id, id, since, changes)
        if changed is None:
            return None
        charged = changed.estimated_usd if final_usd is None else final_usd
        self._budgets.write(tenant_id, changed.month, settle(changed.budget, changed.estimated_usd, charged))
        self._record_usage(tenant_id, f"{changed.provider}/{changed.model}", charged, changed.job_id)
        return changed.before

    def progress(self, tenant_id: UUID, id: UUID, *, percent: int | None, queue: int | None, now: datetime) -> None:
        """submitted, running → running, with what the provider tells. Nothing is written if nothing has changed."""
        values = {"tenant_id": tenant_id, "id": id, "percent": percent, "queue": queue, "now": now}
        self._driver.execute(PROGRESS, values)

    def miss(self, tenant_id: UUID, id: UUID, *, now: datetime) -> datetime:
        """Note that the provider knows no such job; return since when it has said nothing else."""
        values = {"tenant_id": tenant_id, "id": id, "now": now, "code": "unknown_job"}
        row = self._driver.execute(MISS, values).fetchone()
        return now if row is None or row[0] is None else row[0]

    def failed_fetch(self, tenant_id: UUID, id: UUID, *, message: str) -> int:
        """Count a copy of the finished clip that cannot be used; return how many there were."""
        row = self._driver.execute(FAILED_FETCH, {"tenant_id": tenant_id, "id": id, "message": message}).fetchone()
        return 0 if row is None else int(row[0])

    def _change(
        self, tenant_id: UUID, id: UUID, states: Collection[SubmissionState], changes: Mapping[str, Any]
    ) -> "_Changed | None":
        """Lock the budget, then change the row if it is in one of these states; return what it was."""
        month = self._month(tenant_id, id)
        if month is None:
            return None
        budget = self._budgets.lock(tenant_id, month)
        assignments = ", ".join(f"{name} = {EXPRESSIONS.get(name, f'%({name})s')}" for name in changes)
        values = {"tenant_id": tenant_id, "id": id, "states": list(states), **changes}
        row = self._driver.execute(CHANGE.format(assignments=assignments).encode(), values).fetchone()
        return None if row is None else _Changed(month, budget, *row)

    def _book_late(self, tenant_id: UUID, id: UUID, provider_job_id: str) -> None:
        month = self._month(tenant_id, id)
        if month is None:
            return
        budget = self._budgets.lock(tenant_id, month)
        values = {"tenant_id": tenant_id, "id": id, "provider_job_id": provider_job_id, "states": list(OPEN)}
        values["message"] = f"it was taken after all, as {provider_job_id}"
        row = self._driver.execute(BOOK_LATE, values).fetchone()
        if row is not None:
            usd, name, job_id = row
            self._budgets.write(tenant_id, month, settle(budget, Decimal(0), usd))
            self._record_usage(tenant_id, name, usd, job_id)

    def _month(self, tenant_id: UUID, id: UUID) -> date | None:
        row = self._driver.execute(MONTH, (tenant_id, id)).fetchone()
        return None if row is None else row[0]

    def _record_usage(self, tenant_id: UUID, name: str, charged: Decimal, job_id: UUID | None) -> None:
        self._driver.execute(USAGE, (tenant_id, name, charged, job_id))
        self._count(COST, name.partition("/")[0], by=charged)


class _Changed(NamedTuple):
    """A row as it was before a change, and the budget that pays for it, locked."""

    month: date
    budget: Budget
    before: str
    estimated_usd: Decimal
    provider: str
    model: str
    job_id: UUID | None

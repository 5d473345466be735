"""A tenant is deleted: what works for it stops, then its rows go, then its files; what has to be kept names nobody."""

from datetime import timedelta
from uuid import UUID

from workers.engine.job import Context, job
from workers.jobs.media import discard
from workers.jobs.submission_marks import MARKS_KEPT

PAGE = 1000
LOOK_AGAIN = timedelta(seconds=5)
UNKNOWN_FOR = timedelta(days=1)
"""After the marks of a submission are not looked at any more, by any clock."""


@job("tenants.delete", system=True, unique=("doomed_id",), max_attempts=20, timeout=timedelta(hours=6))
def delete(ctx: Context, doomed_id: UUID) -> None:
    """Delete a tenant that `viral tenants delete` has closed. Each step finds what is left of it, so that it goes on
    wherever an attempt has ended.

    Posts, with their videos and accounts, are emptied at once, and deleted when no mark remembers the last submission.
    """
    _stop(ctx, doomed_id)
    with ctx.begin() as tx:
        at_once, later = tx.tenant_rows.deleted(), tx.tenant_rows.deleted_later()
        tx.tenant_rows.empty(doomed_id)
    for table in at_once:
        _delete_rows(ctx, table, doomed_id)
    _delete_files(ctx, doomed_id)
    with ctx.begin() as tx:
        last = tx.tenant_rows.last_submission(doomed_id)
    if last is not None and (until := last + MARKS_KEPT + UNKNOWN_FOR) > ctx.now():
        why = f"its posts are empty, and go when nothing remembers the last submission: {until:%Y-%m-%d}"
        ctx.snooze(until - ctx.now(), why)
    for table in later:
        _delete_rows(ctx, table, doomed_id)
    with ctx.finish() as tx:
        # Whoever enqueued a job in the moment of the mark has committed, or waits no more.
        tx.tenant_rows.lock(doomed_id)
        tx.tenant_rows.delete_some("job_queue", doomed_id, PAGE)
        tx.tenant_rows.anonymise(doomed_id)


def _stop(ctx: Context, doomed_id: UUID) -> None:
    """Cancel its jobs, and come back while one of them is at work.

    Raises:
        Snoozed: one is.
    """
    with ctx.begin() as tx:
        tx.identity.lock_organizations()
        tx.tenant_rows.lock(doomed_id)
        tx.tenant_rows.close(doomed_id)
    with ctx.begin() as tx:
        tx.tenant_rows.silence(doomed_id)
    waiting = True
    while waiting:
        with ctx.begin() as tx:
            jobs = tx.tenant_rows.live_jobs(doomed_id, PAGE)
            for job_id in jobs:
                tx.transitions.cancel(job_id)
        ctx.count(cancelled=len(jobs))
        waiting = bool(jobs)
    with ctx.begin() as tx:
        running = tx.tenant_rows.running(doomed_id)
    if running:
        ctx.snooze(LOOK_AGAIN, f"{running} of its jobs are at work, and were asked to stop")


def _delete_rows(ctx: Context, table: str, doomed_id: UUID) -> None:
    gone = PAGE
    while gone == PAGE:
        with ctx.begin() as tx:
            gone = tx.tenant_rows.delete_some(table, doomed_id, PAGE)
        ctx.count(rows=gone)


def _delete_files(ctx: Context, doomed_id: UUID) -> None:
    """Delete each file and its row. A row whose file was on its way counts as stored for this: the store deletes what
    is not there, too."""
    after = None
    while True:
        with ctx.begin() as tx:
            ids = tx.tenant_rows.media_ids(doomed_id, after, PAGE)
        if not ids:
            return
        for media_id in ids:
            ctx.check()
            ctx.count(files=discard(ctx.begin, ctx.ports.media, doomed_id, media_id, unfinished_before=ctx.now()))
        after = ids[-1]

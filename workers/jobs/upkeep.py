"""Nothing that is finished is kept for ever."""

from datetime import UTC, datetime, timedelta

from domain.errors import Rejected
from domain.events.outcomes import IGNORED, SETTLED
from workers.engine.job import Context, job

KEEP_ENDED = {
    # Somebody who asks "what happened?" asks within a weekend. What claims read every moment stays small.
    "completed": timedelta(days=2),
    "cancelled": timedelta(days=2),
    # Dead letters wait for a person, who can retry them only while they are here.
    "failed": timedelta(days=90),
}
KEEP_ARCHIVED = timedelta(weeks=16)
"""After a job's end. A dead letter that nobody wanted can still be read for three weeks."""

KEEP_IGNORED = timedelta(days=30)
"""What an ignored event said, after it came: so long it can be applied by a release that learns to. Stripe keeps events
as long itself."""

KEEP_SETTLED = {
    # A yearly plan, and a month for what comes late: so long `viral billing rebuild` knows the whole past.
    "stripe": timedelta(days=400),
    # They name people, and the mirror says all that they told.
    "clerk": timedelta(days=90),
}
"""What an applied event said, by its source. Parked ones keep it until they are applied."""

LONGEST = timedelta(days=3650)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
JOBS_PER_TRANSACTION = 1000
BODIES_PER_TRANSACTION = 1000


@job("upkeep.prune", system=True)
def prune(ctx: Context, older_than: timedelta | None = None) -> None:
    """Archive what ended a while ago; drop old archives.

    `older_than` replaces what is usual for jobs that wait for nobody.
    """
    if older_than is not None and not timedelta(0) <= older_than <= LONGEST:
        raise Rejected(f"older_than is between 0 and {LONGEST.days} days, not {older_than.total_seconds():g} seconds")
    with ctx.begin() as tx:
        tx.archive.make_week(ctx.now() + timedelta(weeks=1))
    for status, keep in KEEP_ENDED.items():
        kept = keep if older_than is None or status == "failed" else older_than
        before, reached = ctx.now() - kept, BEGINNING
        while reached < before:
            with ctx.begin() as tx:
                moved = tx.archive.move(status, reached, before, JOBS_PER_TRANSACTION)
            reached = moved.until
            ctx.count(moved=moved.count)
    with ctx.begin() as tx:
        dropped = tx.archive.drop_weeks(ctx.now() - KEEP_ARCHIVED)
    ctx.count(dropped=dropped)
    with ctx.finish():
        pass


@job("upkeep.drop_bodies", system=True)
def drop_bodies(ctx: Context) -> None:
    """Drop what old events said, and what ignored ones said of people who are deleted since. The events stay: their ids
    are what makes a duplicate known."""
    with ctx.begin() as tx:
        ctx.count(of_deleted=tx.events.drop_bodies_of_deleted(), ignored=0, settled=0)
    for source, keep in KEEP_SETTLED.items():
        for name, statuses, kept in (("ignored", IGNORED, KEEP_IGNORED), ("settled", SETTLED, keep)):
            more = True
            while more:
                with ctx.begin() as tx:
                    dropped = tx.events.drop_bodies(source, statuses, ctx.now() - kept, BODIES_PER_TRANSACTION)
                ctx.count(**{name: dropped})
                more = dropped == BODIES_PER_TRANSACTION
    with ctx.finish():
        pass

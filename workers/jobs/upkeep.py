"""Upkeep archives ended jobs, drops old archives and the content of old events, and deletes media that nothing uses."""

from datetime import UTC, datetime, timedelta

from domain.errors import Rejected
from domain.events.outcomes import IGNORED, SETTLED
from domain.ops.metrics import METRICS, SAMPLED, Kind
from workers.engine.job import Context, job
from workers.jobs.imports import clear_overdue
from workers.jobs.media import discard_unused

KEEP_ENDED = {
    # Somebody who asks "what happened?" asks within a weekend. The table that claims read all the time stays small.
    "completed": timedelta(days=2),
    "cancelled": timedelta(days=2),
    # Dead letters wait for a person, who can retry them only while they are here.
    "failed": timedelta(days=90),
}
KEEP_ARCHIVED = timedelta(weeks=16)
"""The time since a job's end. A dead letter that nobody retried can still be read for three weeks."""

KEEP_IGNORED = timedelta(days=30)
"""The body of an ignored event is kept so long after it came: a release that learns to apply it still can. Stripe keeps
events as long itself."""

KEEP_SETTLED = {
    # A yearly plan, and a month for late events: so long `viral billing rebuild` has the whole past.
    "stripe": timedelta(days=400),
    # They name people, and the mirror has all that they say.
    "clerk": timedelta(days=90),
}
"""The body of an applied event is kept so long, by source. A parked event keeps it until it is applied."""

KEEP_UNUSED = timedelta(days=30)
"""A media file is kept so long after it was last used: by a video, or by whoever sent or made it again."""

KEEP_UNFINISHED = timedelta(days=1)
"""What never got to the media store is kept so long, that is longer than anything is on its way there."""

KEEP_OF_POSTS = {
    # What is remembered outside of the database is compared with these for 30 days.
    "post_submissions": timedelta(days=90),
    "post_events": timedelta(days=180),
}
KEEP_PLACES = timedelta(days=3)
"""Places of posts count for a day."""

KEEP_CHAIN_EVENTS = timedelta(days=180)
"""What happened to the autopilot's chains; the chains themselves stay."""

KEEP_SOUNDS = timedelta(days=90)
"""Captures of sounds that were imported."""

KEEP_METRICS = {"minute": timedelta(hours=48), "hour": timedelta(days=396)}
"""What was counted, by the length of time that a row stands for."""

KEEP_ACTIONS = {
    # A preview that nobody begins.
    "previews": timedelta(hours=1),
    "bulks": timedelta(days=90),
    "actions": timedelta(days=396),
}
"""What operators did: previews, bulk actions with their items, and the audit."""

KEEP_PROCESSES = timedelta(days=1)
"""What a process reported last. One that lives and says nothing for so long goes on by another id."""

KEEP_CHANGES = timedelta(days=396)
"""What was changed in the system, as long as the hours that it is drawn beside."""

KEEP_NOTICES = timedelta(days=90)
"""What people were told, after it was over."""

KEEP_DELIVERIES = timedelta(days=30)
"""What tenants' programs were told, or could not be."""

LONGEST = timedelta(days=3650)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
JOBS_PER_TRANSACTION = 1000
BODIES_PER_TRANSACTION = 1000
ROWS_PER_TRANSACTION = 1000
FILES_AT_ONCE = 200


@job("upkeep.prune", system=True)
def prune(ctx: Context, older_than: timedelta | None = None) -> None:
    """Archive jobs that ended a while ago, and drop old archives.

    `older_than` replaces the usual age of all but failed jobs, which wait for a person.
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
    _prune_posts(ctx)
    _prune_chain_events(ctx)
    _prune_sounds(ctx)
    _prune_actions(ctx)
    _sum_up_metrics(ctx)
    _prune_changes(ctx)
    _prune_deliveries(ctx)
    with ctx.finish():
        pass


def _prune_posts(ctx: Context) -> None:
    """Delete what was written down about posts, and their places, once nobody asks any more."""
    deleted = ROWS_PER_TRANSACTION
    while deleted >= ROWS_PER_TRANSACTION:
        with ctx.begin() as tx:
            pruned = [tx.reservations.prune(ctx.now() - KEEP_PLACES, ROWS_PER_TRANSACTION)]
            for table, keep in KEEP_OF_POSTS.items():
                pruned.append(tx.posts.prune(table, ctx.now() - keep, ROWS_PER_TRANSACTION))
        deleted = max(pruned)


def _prune_chain_events(ctx: Context) -> None:
    """Delete what happened to chains, once nobody asks any more."""
    deleted = ROWS_PER_TRANSACTION
    while deleted >= ROWS_PER_TRANSACTION:
        with ctx.begin() as tx:
            deleted = tx.chains.prune_events(ctx.now() - KEEP_CHAIN_EVENTS, ROWS_PER_TRANSACTION)


def _prune_actions(ctx: Context) -> None:
    """Delete previews that nobody began, and what operators did long ago."""
    for what, keep in KEEP_ACTIONS.items():
        deleted = ROWS_PER_TRANSACTION
        while deleted >= ROWS_PER_TRANSACTION:
            with ctx.begin() as tx:
                deleted = tx.actions.prune(what, ctx.now() - keep, ROWS_PER_TRANSACTION)


def _prune_sounds(ctx: Context) -> None:
    """Delete old captures of sounds: only those of the last week are trends."""
    deleted = ROWS_PER_TRANSACTION
    while deleted >= ROWS_PER_TRANSACTION:
        with ctx.begin() as tx:
            deleted = tx.imported_trends.prune_audio(ctx.now() - KEEP_SOUNDS, ROWS_PER_TRANSACTION)


def _prune_deliveries(ctx: Context) -> None:
    """Delete what tenants' programs were told, once nobody replays it any more."""
    deleted = ROWS_PER_TRANSACTION
    while deleted >= ROWS_PER_TRANSACTION:
        with ctx.begin() as tx:
            deleted = tx.outgoing.prune_deliveries(ctx.now() - KEEP_DELIVERIES, ROWS_PER_TRANSACTION)


def _sum_up_metrics(ctx: Context) -> None:
    """Sum up the minutes of what was counted into hours, and delete what is not kept any longer."""
    counted = [name for name, each in METRICS.items() if each.kind is not Kind.GAUGE]
    sampled = [name for name, each in METRICS.items() if each.sampled]
    with ctx.begin() as tx:
        tx.series.roll_up([*counted, *sampled], sampled, ctx.now() - KEEP_METRICS["minute"])
        tx.series.forget_processes(ctx.now() - KEEP_PROCESSES)
        tx.notices.prune_notices(ctx.now() - KEEP_NOTICES)
    for step, keep in KEEP_METRICS.items():
        for name in (*counted, *sampled, SAMPLED):
            deleted = ROWS_PER_TRANSACTION
            while deleted >= ROWS_PER_TRANSACTION:
                with ctx.begin() as tx:
                    deleted = tx.series.prune(name, step, ctx.now() - keep, ROWS_PER_TRANSACTION)


def _prune_changes(ctx: Context) -> None:
    """Delete changes that no chart reaches back to; of what is in force it can be seen since when, however long ago."""
    deleted = ROWS_PER_TRANSACTION
    while deleted >= ROWS_PER_TRANSACTION:
        with ctx.begin() as tx:
            deleted = tx.changes.prune(ctx.now() - KEEP_CHANGES, ROWS_PER_TRANSACTION)


@job("upkeep.drop_bodies", system=True)
def drop_bodies(ctx: Context) -> None:
    """Drop the bodies of old events, and those of ignored ones about people who are deleted since. The events stay: a
    duplicate is recognised by its id."""
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


@job("upkeep.media", queue="media", system=True)
def media(ctx: Context) -> None:
    """Delete media files that nothing has used for a while, what was left on its way to the store, and uploaded
    exports whose imports are over."""
    before, unfinished_before = ctx.now() - KEEP_UNUSED, ctx.now() - KEEP_UNFINISHED
    ctx.count(deleted=0, left_on_the_way=ctx.ports.media.sweep(unfinished_before))
    after = None
    while True:
        with ctx.begin() as tx:
            found = tx.media.unused(
                before=before, unfinished_before=unfinished_before, limit=FILES_AT_ONCE, after=after
            )
        if not found:
            break
        for tenant_id, media_id in found:
            deleted = discard_unused(
                ctx.begin, ctx.ports.media, tenant_id, media_id, before=before, unfinished_before=unfinished_before
            )
            ctx.count(deleted=deleted)
        after = found[-1][1]
    clear_overdue(ctx)
    with ctx.finish():
        pass

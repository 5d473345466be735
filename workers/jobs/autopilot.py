"""The autopilot: each day's chains, from concepts to posts, without anybody's help.

    autopilot.due ──each minute──▶ autopilot.advance ──▶ generation.generate_concepts, videos.render, posts
         └── begins days                  └── nothing to do yet: looked at again later

A link is an ordinary job. `advance` looks where the chain stands, and begins the next link in one commit with the
chain's change, under the tenant's lock: so a link is begun once, whatever dies when, and what a person allows (mode,
consent by account, budget) is what holds in that commit. Numbers are collected and learned from by the schedule,
without a link. Design: docs/decisions/0040.
"""

from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from domain.autopilot.chains import Mode, NewDay, Stage, due_days
from domain.autopilot.consent import SWITCHED_OFF
from domain.concepts.timing import SPREAD, spread, zone_of
from domain.errors import Rejected
from workers.engine.job import SYSTEM, Context, FailedJob, Tx, job, reason_for_people
from workers.jobs.autopilot_links import LINKS, NothingToMake
from workers.jobs.autopilot_turns import UNSETTLED_AGAIN, Turn

CHUNK = 200
"""Tenants, or chains, that are taken in one transaction."""
MOST_CHUNKS = 50
"""One run enqueues so many; the next goes on with those that have waited longest."""
LOOK_AGAIN = timedelta(minutes=10)
"""When a chain is looked at again whose job was lost."""
ON_TIME = timedelta(minutes=5)
HALTED_WAIT = timedelta(minutes=5)
FAILED_AGAIN = timedelta(hours=1)
"""When a chain is looked at again whose posts are made, and whose job has failed."""
NOBODY_WORKED = "no scheduler worked while this day was to be begun"
PUT_BACK = (
    "the database was put back to an earlier state, so it is not known what the autopilot did meanwhile; the next day "
    "begins as usual"
)


@job("autopilot.due", system=True, timeout=timedelta(minutes=5))
def find_due(ctx: Context) -> None:
    """Begin the days whose hour has come, and enqueue every chain that is to be looked at."""
    ctx.count(begun=0, left_out=0, looked_at=0)
    _begin_days(ctx)
    for _ in range(MOST_CHUNKS):
        with ctx.begin() as tx:
            now = ctx.now()
            found = tx.chains.claim(now, now + LOOK_AGAIN, CHUNK)
            advance.enqueue_many(tx, [{"tenant_id": tenant_id, "chain_id": chain_id} for tenant_id, chain_id in found])
        ctx.count(looked_at=len(found))
        if len(found) < CHUNK:
            break
    with ctx.finish():
        pass


def anything_due(tx: Tx, now: datetime) -> bool:
    """Whether `find_due` may find a chain to look at, or a day to begin."""
    if tx.chains.any_due(now):
        return True
    after, more = UUID(int=0), True
    while more:
        wanting = tx.chains.wanting(after, now, CHUNK)
        if any(due_days(zone_of(each.timezone), each.hour, each.last_on, now) for each in wanting):
            return True
        more, after = len(wanting) == CHUNK, wanting[-1].id if wanting else after
    return False


def _begin_days(ctx: Context) -> None:
    """Make the chains of each tenant's day. Days that nobody began are made too, and stopped with the reason."""
    after, more = UUID(int=0), True
    while more:
        with ctx.begin() as tx:
            now = ctx.now()
            restore = tx.restores.last()
            if restore is not None and restore.ended_at is None:
                return
            lost_until = None if restore is None or restore.taken_at is None else restore.noticed_at
            wanting = tx.chains.wanting(after, now, CHUNK)
            days: list[NewDay] = []
            for each in wanting:
                due = due_days(zone_of(each.timezone), each.hour, each.last_on, now)
                if due is None:
                    continue
                lost = lost_until is not None and due.began_at <= lost_until
                on_time = now - due.began_at < ON_TIME
                look_after = now + spread(each.id, SPREAD) if on_time else now
                missed = PUT_BACK if lost else NOBODY_WORKED
                days += [NewDay(each.id, day, look_after, missed) for day in due.skipped]
                days.append(NewDay(each.id, due.day, look_after, PUT_BACK if lost else None))
            made = tx.chains.begin(days, ctx.job.id, now)
        ctx.count(begun=made.get(Stage.CONCEPTS, 0), left_out=made.get(Stage.STOPPED, 0))
        more = len(wanting) == CHUNK
        after = wanting[-1].id if more else after


def stop_failed(tx: Tx, failed: FailedJob) -> None:
    """Stop the chain of a job that ended without an end for it. One whose posts are made is looked at again later: they
    go on without it."""
    if failed.tenant_id is None:
        return
    reason = reason_for_people(tx, failed)
    settings = tx.autopilot.lock(failed.tenant_id)
    chain = tx.chains.lock(failed.tenant_id, UUID(str(failed.arguments["chain_id"])))
    if chain is None or chain.ended:
        return
    now = tx.now()
    turn = Turn(tx, (), chain, settings, now, failed.id)
    if chain.stage is Stage.POSTS:
        turn.look_again(now + FAILED_AGAIN, f"it could not be looked at: {reason}")
    else:
        turn.end(Stage.STOPPED, reason)


@job("autopilot.advance", unique=("chain_id",), on_failure=stop_failed)
def advance(ctx: Context, tenant_id: UUID, chain_id: UUID) -> None:
    """Look where a chain stands, and begin its next link if it is time."""
    with ctx.finish() as tx:
        now = ctx.now()
        settings = tx.autopilot.lock(tenant_id)
        chain = tx.chains.lock(tenant_id, chain_id)
        if chain is None or chain.look_after is None:
            return
        _take(Turn(tx, ctx.ports.clips.keys(), chain, settings, now, ctx.job.id).settle())


def _take(turn: Turn) -> None:
    """Go on with the chain, or stop it and say why; what a link did that is refused is undone."""
    if turn.chain.ended:
        turn.look_again(turn.now + UNSETTLED_AGAIN if turn.chain.reserved_usd else None, turn.chain.reason)
        return
    try:
        with turn.tx.savepoint(turn.tenant_id):
            if _may_go_on(turn):
                LINKS[turn.chain.stage](turn)
    except NothingToMake as error:
        turn.end(Stage.STOPPED, str(error), decision=asdict(error.decision))
    except Rejected as error:
        turn.end(Stage.STOPPED, str(error))


def _may_go_on(turn: Turn) -> bool:
    """Check what holds for every link; False if the chain waits. Once its posts are made there is no link left to
    forbid: those that came back since the mode was changed are held back, as the others were then, and whoever is
    banned loses those of which nothing was sent.

    Raises:
        Rejected: the chain is to go no further.
    """
    turn.tx.work_as(SYSTEM)
    restore, abandoned = turn.tx.restores.last(), turn.tx.chains.abandoned(turn.tenant_id)
    turn.tx.work_as(turn.tenant_id)
    if turn.chain.stage is Stage.POSTS:
        if abandoned is not None:
            turn.tx.autopilot.cancel_posts(turn.tenant_id, turn.chain.id, abandoned, turn.now)
        elif restore is None or restore.ended_at is not None:
            turn.tx.autopilot.hold_back_again(turn.tenant_id, turn.chain.id, turn.mode, turn.now)
        return True
    if turn.mode is Mode.OFF:
        raise Rejected(SWITCHED_OFF)
    if abandoned is not None:
        raise Rejected(abandoned)
    if restore is not None and restore.ended_at is None:
        turn.look_again(turn.now + HALTED_WAIT, "it waits: the database was put back, and nothing is begun meanwhile")
        return False
    if restore is not None and restore.taken_at is not None and turn.chain.created_at <= restore.noticed_at:
        raise Rejected(PUT_BACK)
    return True

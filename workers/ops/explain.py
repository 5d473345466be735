"""Explains in plain words why a job is where it is: gathers its facts at one moment and derives what follows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.queue.explain import Ahead, Holder
from db.transaction import SYSTEM
from domain.billing.tiers import TENANT_WEIGHTS
from domain.concepts.wording import counted
from domain.text.readable import readable, span
from workers.app import App
from workers.ops.acting import find_job, overtaken_words
from workers.ops.processes import serving, state
from workers.runtime.redis_client import describe, diagnose

Row = Mapping[str, Any]

PATIENCE = timedelta(seconds=10)
"""A scheduler that runs wakes deferred jobs within a second, and notifies again of lost ones within a few."""

DEADLINE_GRACE = timedelta(seconds=30)
"""After its deadline, until the scheduler takes a job away from a live worker."""


@dataclass(frozen=True)
class Reason:
    """A word for programs, a sentence for people, and what they can do about it (often nothing)."""

    code: str
    says: str
    advice: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts that decide over one job. `payload_versions` holds the newest version of each job type that we read,
    `chains` the autopilot's that it works for."""

    now: datetime
    job: Row
    version: str
    payload_versions: Mapping[str, int]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)
    serving: int = 0
    queue_policy: Row = field(default_factory=dict)
    tenant_policy: Row = field(default_factory=dict)
    running: Mapping[UUID | None, int] = field(default_factory=dict)
    order_ahead: Holder | None = None
    ahead: Ahead | None = None
    overdue_since: datetime | None = None
    redis: Reason | None = None
    later: int = 0
    chains: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Explanation:
    """A job as it was at one moment, and the reasons why it was there."""

    at: datetime
    job: Row
    reasons: list[Reason]


def explain(app: App, job_id: UUID) -> Explanation:
    """Gather the facts of a job and derive the reasons.

    Raises:
        UnknownJob: there is no such job.
    """
    facts = _gather(app, job_id, redis_trouble(app.notifier.probe))
    return Explanation(facts.now, facts.job, reasons(facts))


def _gather(app: App, job_id: UUID, redis: Reason | None) -> Facts:
    versions = {name: declared.payload_version for name, declared in app.job_types.items()}
    with app.db.transaction(SYSTEM) as tx:
        tx.explain.use_one_snapshot()  # first of all, so that all facts are of one moment
        job = find_job(tx, job_id)
        workers = tx.workers.all()
        facts = Facts(
            now=tx.now(),
            job=job,
            version=app.release,
            payload_versions=versions,
            attempts=tx.jobs.attempts(job_id),
            workers=workers,
            later=tx.explain.overtaken_by(job),
            chains=tx.autopilot.of_job(job_id),
        )
        if job["status"] != "pending":
            return facts
        policies = {row["tenant_id"]: row for row in tx.queues.policies() if row["queue"] == job["queue"]}
        return replace(
            facts,
            serving=serving(workers, job["queue"]),
            queue_policy=policies.get(None, {}),
            tenant_policy=policies.get(job["tenant_id"], {}) if job["tenant_id"] else {},
            running=tx.explain.running(job["queue"]),
            order_ahead=tx.explain.same_key_ahead(job),
            ahead=tx.explain.ahead(job, TENANT_WEIGHTS),
            overdue_since=tx.explain.overdue_since(PATIENCE),
            redis=redis,
        )


def redis_trouble(probe: Callable[[], None]) -> Reason | None:
    """Return why no worker can be notified of a job, if it is so now; `probe` writes to Redis."""
    try:
        probe()
    except Exception as error:
        advice = "it begins within seconds of Redis taking writes again: `viral doctor` says more"
        return Reason(f"redis_{diagnose(error)}", f"no worker can be told of it: {describe(error)}", advice)
    return None


def reasons(facts: Facts) -> list[Reason]:
    """Derive the reasons: first what holds the job back, then which process should work on it and does not."""
    if facts.job["status"] == "pending":
        holds = [*_unreadable(facts), *_not_due(facts), *_policies(facts), *_followed(facts)]
        return [*(holds or _waiting(facts)), *_unattended(facts), *overtaken(facts.later), *_cause(facts.chains)]
    found = _running(facts) if facts.job["status"] == "running" else [_ended(facts)]
    return [*found, *overtaken(facts.later), *_cause(facts.chains)]


def overtaken(later: int) -> list[Reason]:
    """Say how many jobs of a job's ordering key were enqueued after it and completed before it, if any."""
    return [Reason("overtaken", says, "what it does now comes after what they did") for says in overtaken_words(later)]


def _cause(chains: Sequence[Row]) -> Iterator[Reason]:
    """Say for which of the autopilot's chains it is there, if for any: several share the day's concepts."""
    if not chains:
        return
    one = f"it is part of the autopilot's chain {chains[0]['id']}"
    says = f"{one} and of {len(chains) - 1} more of {chains[0]['day']}" if len(chains) > 1 else one
    where = "" if chains[0]["reason"] is None else f" ({chains[0]['stage']}: {readable(chains[0]['reason'])})"
    yield Reason("autopilot", f"{says}{where}", f"`viral autopilot explain {chains[0]['id']}`")


# --- it has ended


def _ended(facts: Facts) -> Reason:
    job, job_id = facts.job, facts.job["id"]
    status = str(job["status"])
    when = f"at {_ago(facts, job['completed_at'])}" if job["completed_at"] else "at some time"
    if "archived" in job:
        return Reason("archived", f"it ended {when} ({status}), and is archived: it can be read, not retried")
    if status == "completed":
        return Reason(status, f"it completed {when}, in attempt {job['attempts']}")
    last = facts.attempts[-1] if facts.attempts else {}
    why = _error(job["error_message"], last)
    if status == "cancelled":
        because = f": {why}" if job["error_message"] else ""
        says = f"it was cancelled {when}, after {_attempts(job)}{because}"
        return Reason(status, says, f"to run it after all: {_retry(job_id)}")
    if last.get("outcome") == "rejected":
        return Reason(
            status,
            f"it failed {when}, in attempt {job['attempts']}, and trying again alone cannot help: {why}",
            f"mend what it says, then {_retry(job_id)}",
        )
    return Reason(
        status,
        f"it failed {when}, after {_attempts(job)} of {job['max_attempts']}: {why}",
        f"`viral jobs show {job_id}` has each attempt; once its cause is mended, {_retry(job_id)}",
    )


def _attempts(job: Row) -> str:
    return "1 attempt" if job["attempts"] == 1 else f"{job['attempts']} attempts"


def _error(message: str | None, attempt: Row) -> str:
    kind, text = attempt.get("error_class"), message or attempt.get("error_message") or "nobody wrote down why"
    return readable(f"{kind}: {text}" if kind and kind not in text else text)


def _retry(job_id: UUID) -> str:
    return f"`viral jobs retry {job_id}`"


# --- it runs


def _running(facts: Facts) -> Iterator[Reason]:
    job = facts.job
    worker = next((row for row in facts.workers if row["id"] == job["worker_id"]), None)
    rescue = "the scheduler returns it to its queue within a minute; if it does not: does `viral scheduler` run?"
    who = "a process" if worker is None else f"process {worker['pid']} on {readable(worker['hostname'])}"
    yield Reason(
        "running", f"{who} began attempt {job['attempts']} of {job['max_attempts']} at {_when(facts, 'started_at')}"
    )
    if job["worker_id"] == UUID(int=0):  # `NOBODY` of `db/queue/workers.py`
        advice = "the scheduler ends it; if it does not: who holds a lock on the rows of its tenant?"
        yield Reason("abandoned", "that process has done with it, and could not record its end", advice)
        return
    if worker is None:
        yield Reason("lost", f"that process ({job['worker_id']}) is not known any more: it died", rescue)
        return
    beat = f"its last heartbeat was {span(facts.now - worker['heartbeat_at'])} ago"
    match state(worker):
        case "dead":
            yield Reason("lost", f"that process is dead: {beat}", rescue)
            return
        case "draining":
            yield Reason("draining", f"that process is stopping, and gives back what it cannot finish in time; {beat}")
        case _:
            yield Reason("alive", f"that process is alive: {beat}")
    if job["cancel_requested_at"] is not None:
        asked = f"at {_when(facts, 'cancel_requested_at')}"
        yield Reason("cancel_requested", f"somebody asked it to stop {asked}; it does when its handler next looks up")
    deadline = job["deadline_at"]
    if deadline is None:
        return
    if deadline > facts.now:
        yield Reason("deadline", f"it may take until {_in(facts, deadline)}")
    else:
        gives_up = "the scheduler takes it away from the process, and tries again if an attempt is left"
        late = facts.now - deadline > DEADLINE_GRACE + PATIENCE
        advice = f"{gives_up}: does `viral scheduler` run?" if late else gives_up
        yield Reason("overran", f"it should have ended at {_ago(facts, deadline)}", advice)


# --- it is pending: what holds it back


def _unreadable(facts: Facts) -> Iterator[Reason]:
    job, newest = facts.job, facts.payload_versions.get(facts.job["job_type"])
    deploy = f"start workers of the release that it was made for, or `viral jobs cancel {job['id']}`"
    others = sorted({row["version"] for row in facts.workers if row["alive"]} - {facts.version})
    except_for = f"; the live workers of {readable(', '.join(others))} may" if others else ""
    if newest is None:
        kind = readable(job["job_type"])
        yield Reason("unknown_type", f"this release ({facts.version}) has no job type {kind}{except_for}", deploy)
    elif job["payload_version"] > newest:
        versions = f"its payload is of version {job['payload_version']}, and this release reads {newest} at most"
        yield Reason("newer_payload", versions + except_for, deploy)


def _not_due(facts: Facts) -> Iterator[Reason]:
    job = facts.job
    if job["scheduled_for"] <= facts.now:
        return
    when = _in(facts, job["scheduled_for"])
    last = facts.attempts[-1] if facts.attempts else {}
    match last.get("outcome"):
        case "snoozed":
            yield Reason(
                "snoozed", f"it asked to be called again at {when}: {_error(None, {**last, 'error_class': None})}"
            )
        case "failed" | "lost":
            n, most = last["attempt"], job["max_attempts"]
            verb = "failed" if last["outcome"] == "failed" else "was lost"
            yield Reason("backoff", f"attempt {n} of {most} {verb} ({_error(None, last)}); the next is due at {when}")
        case _:
            yield Reason("scheduled", f"it is scheduled for {when}")


def _policies(facts: Facts) -> Iterator[Reason]:
    queue, tenant_id = facts.job["queue"], facts.job["tenant_id"]
    name, here = readable(queue), f"--tenant {tenant_id}"
    if paused_at := facts.queue_policy.get("paused_at"):
        yield Reason(
            "paused",
            f"the queue {name} has been paused since {_ago(facts, paused_at)}",
            f"`viral queues resume {name}`",
        )
    if paused_at := facts.tenant_policy.get("paused_at"):
        says = f"its tenant has been paused in the queue {name} since {_ago(facts, paused_at)}"
        yield Reason("paused", says, f"`viral queues resume {name} {here}`")
    most, run = facts.queue_policy.get("max_running"), sum(facts.running.values())
    raise_it = "it begins when one of them ends; to change the limit: `viral queues limit"
    if most is not None and run >= most:
        yield Reason(
            "limit",
            f"{run} of at most {counted(most, 'job')} of the queue {name} run",
            f"{raise_it} {name} --running N`",
        )
    if tenant_id is None:
        return
    own, each = facts.tenant_policy.get("max_running"), facts.queue_policy.get("max_running_per_tenant")
    run, most = facts.running.get(tenant_id, 0), each if own is None else own
    if most is not None and run >= most:
        option = f"{here} --running N" if own is not None else "--per-tenant N"
        says = f"{run} of at most {counted(most, 'job')} of its tenant in the queue {name} run"
        yield Reason("limit", says, f"{raise_it} {name} {option}`")


def _followed(facts: Facts) -> Iterator[Reason]:
    job = facts.job
    if (first := facts.order_ahead) is not None:
        key = readable(job["ordering_key"])
        says = f"jobs of the ordering key {key} run one after another, and before it {_first(first)}"
        yield Reason("ordered", says, f"`viral jobs explain {first.id}`")
    held = facts.order_ahead or job["scheduled_for"] > facts.now
    if not held and job["wake_at"] is not None and job["wake_at"] > facts.now:
        again = f"it is looked at again at {_in(facts, job['wake_at'])}"
        if job["crashes"]:
            died = f"worker processes that died while they had it in hand: {job['crashes']}"
            yield Reason("quarantined", f"{died}. It waits until no other such job runs in its process; {again}")
        else:
            yield Reason("deferred", again if any(_unreadable(facts)) else f"what held it back is gone; {again}")


def _first(holder: Holder) -> str:
    if holder.count == 1:
        return f"{holder.id} ({holder.status}) has not ended"
    return f"{holder.id} ({holder.status}) and {holder.count - 1} more have not ended"


# --- nothing holds it back


def _waiting(facts: Facts) -> Iterator[Reason]:
    since = f"due since {_ago(facts, facts.job['scheduled_for'])}"
    if facts.redis is not None:
        yield replace(facts.redis, says=f"{since}, and {facts.redis.says}")
        return
    if facts.ahead is None:
        # Its wake-up time has passed, and no scheduler has looked yet.
        yield Reason("waiting", f"{since}, and about to be woken")
        return
    counts = {
        "more urgent": facts.ahead.more_urgent,
        "of its own tenant" if facts.job["tenant_id"] else "of no tenant": facts.ahead.of_its_tenant,
        "of other tenants": facts.ahead.of_others,
    }
    total, queue = sum(counts.values()), readable(facts.job["queue"])
    listed = ", ".join(f"{count} {whose}" for whose, count in counts.items() if count)
    are = "is" if total == 1 else "are"
    ahead = f"about {counted(total, 'job')} {are} ahead of it ({listed})" if total else "no job is ahead of it"
    by = f", and {facts.serving} live worker {'process serves' if facts.serving == 1 else 'processes serve'} it"
    stuck = not total and facts.serving and facts.now - facts.job["scheduled_for"] > 3 * PATIENCE
    lost = "its notification may be lost: does `viral scheduler` run? `viral doctor` looks at the rest"
    yield Reason(
        "waiting",
        f"{since}, it waits in the queue {queue}: {ahead}{by if facts.serving else ''}",
        lost if stuck else "",
    )


def _unattended(facts: Facts) -> Iterator[Reason]:
    job = facts.job
    if job["cancel_requested_at"] is not None:
        says = f"somebody asked it to stop at {_when(facts, 'cancel_requested_at')}: its next attempt will not begin"
        yield Reason("cancel_requested", says, f"to cancel it now: `viral jobs cancel {job['id']}`")
    if facts.overdue_since is not None:
        since = _ago(facts, facts.overdue_since)
        says = f"no scheduler seems to run: a job that should have been woken at {since} is still deferred"
        yield Reason("no_scheduler", says, "start one with `viral scheduler`")
    if facts.serving or job["scheduled_for"] > facts.now:
        return
    alive = [row for row in facts.workers if row["alive"]]
    if not alive:
        yield Reason("no_worker", "no worker process is alive", "start one with `viral worker`")
    elif all(row["draining"] for row in alive):
        yield Reason("no_worker", "all live worker processes are stopping", "start one with `viral worker`")
    else:
        says = f"of {len(alive)} live worker processes none works on the queue {readable(job['queue'])}"
        yield Reason("no_worker", says, "start one with `viral worker`, which works on all queues")


# --- words for moments


def _when(facts: Facts, column: str) -> str:
    return _ago(facts, facts.job[column])


def _ago(facts: Facts, moment: datetime) -> str:
    return f"{readable(moment)} ({span(facts.now - moment)} ago)"


def _in(facts: Facts, moment: datetime) -> str:
    return f"{readable(moment)} (in {span(moment - facts.now)})"

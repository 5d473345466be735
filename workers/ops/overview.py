"""The operator's first look: what hurts first, then what cannot be known now, how much waits where, and the charts.

`/ops` and `viral status` say the same sentences. Each names where there is more: a page below `/ops`, and a shell line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import fmean
from typing import Any, Final
from urllib.parse import urlencode

from db.ops.overview import MOST, NAMED
from db.transaction import SYSTEM, Tx
from domain.billing.tiers import PLANS
from domain.concepts.wording import counted
from domain.events.outcomes import Flag
from domain.ops.event_filters import FLAGS
from domain.ops.metrics import percentile
from domain.text.readable import quoted, readable, span
from domain.text.shell import command
from workers.app import App
from workers.ops import queues
from workers.ops.changes import Change, rail
from workers.ops.queues import QueueOverview
from workers.ops.series import Point, Series, Step, series, series_by
from workers.runtime.redis_client import describe

TIERS: Final = sorted((each.tier for each in PLANS.values()), key=lambda tier: -PLANS[tier].usd_per_month)

QUIET_FOR: Final = timedelta(minutes=2)
"""Processes report with their heartbeat, so one that is silent for this long says nothing about now."""

PARKED_FOR: Final[Mapping[str, str]] = {
    "unknown_customer": "no tenant pays as their customer",
    "unknown_tenant": "their tenant is not known",
    "other_customer": "their tenant pays as another customer",
    "unknown_price": "their price is in no STRIPE_…_PRICE_ID",
    "thin": "what they tell of has to be looked up in Stripe",
    "incomplete": "a part of them is missing",
    "unfetchable": "what they tell of cannot be looked up",
    "unknown_user": "their person is not known",
    "unknown_organization": "their organization is not known",
}


class Group(StrEnum):
    """Whom something hurts, the worst first."""

    TENANTS = "Tenants that pay"
    MONEY = "Money"
    OUTSIDE = "Outside effects"
    SYSTEM = "The system"


@dataclass(frozen=True)
class Harm:
    """One thing that hurts. `says` is a sentence, in which names come from outside; `page` is where `/ops` tells more,
    and `shell` what to type. `at` is since when, or when it last happened. Harms of one `cause` are told to people as
    one (`domain/ops/notices.py` has their kinds)."""

    group: Group
    says: str
    page: str
    shell: str
    number: int
    at: datetime | None = None
    cause: str = field(kw_only=True)


@dataclass(frozen=True)
class Doubt:
    """Something that cannot be known now, or only in part, and why. People are notified of one with a `cause`."""

    says: str
    shell: str
    cause: str = ""


@dataclass(frozen=True)
class Status:
    """All of it at one moment."""

    at: datetime
    harms: list[Harm]
    doubts: list[Doubt]
    queues: list[QueueOverview]


def status(app: App) -> Status:
    """Look once. Redis is asked too, with the time limit of its client."""
    deaf = _deaf(app)
    with app.db.transaction(SYSTEM) as tx:
        signs, waits = tx.overview.signs_of_life(), queues.overview(tx)
        harms = [harm for look in LOOKS for harm in look(tx)]
        harms += _of_the_system(waits)
        doubts = [*deaf, *_doubts(tx, signs, harms)]
    order = [*Group]
    return Status(signs["at"], sorted(harms, key=lambda harm: order.index(harm.group)), doubts, waits)


# --- what hurts ---------------------------------------------------------------------------------------------


def _failed_jobs(tx: Tx) -> Iterator[Harm]:
    rows = tx.overview.hurt("jobs", TIERS)
    for row in _paying(rows):
        says = f"{_name(row)} has {_counted(row['number'], 'failed job')}, the last of type {readable(row['what'])}."
        page, shell = f"tenants/{row['tenant_id']}", f"viral jobs list --status failed --tenant {row['tenant_id']}"
        yield Harm(Group.TENANTS, says, page, shell, row["number"], row["last_at"], cause="failed_jobs")
    every = "jobs?status=failed", "viral jobs list --status failed", "failed_jobs"
    yield from _others(rows, "failed jobs", *every)
    yield from _unpaying(rows, "failed job", *every)


def _failed_posts(tx: Tx) -> Iterator[Harm]:
    rows = tx.overview.hurt("posts", TIERS)
    for row in _paying(rows):
        number, of = row["number"], row["tenant_id"]
        says = (
            f"{_counted(number, 'post')} of {_name(row)} failed or came too late in 7 days, the last for this: "
            f"{readable(row['what'])}."
        )
        shell = f"viral posts list --tenant {of} --status failed"
        yield Harm(Group.TENANTS, says, f"tenants/{of}", shell, number, row["last_at"], cause="failed_posts")
    yield from _others(rows, "failed posts", "posts", "viral posts list --status failed", "failed_posts")


def _lost_accounts(tx: Tx) -> Iterator[Harm]:
    rows = tx.overview.hurt("accounts", TIERS)
    shell = "viral accounts list --status needs_reconnect"
    for row in _paying(rows):
        needs = "needs its owner" if row["number"] == 1 else "need their owner"
        says = (
            f"{_counted(row['number'], 'account')} of {_name(row)} {needs} to connect again: nothing is posted there."
        )
        page, own = f"tenants/{row['tenant_id']}", f"{shell} --tenant {row['tenant_id']}"
        yield Harm(Group.TENANTS, says, page, own, row["number"], row["last_at"], cause="needs_reconnect")
    every = "tenants?harm=needs_reconnect", shell, "needs_reconnect"
    yield from _others(rows, "accounts that need their owner", *every)


def _deserted(tx: Tx) -> Iterator[Harm]:
    rows = tx.overview.deserted(TIERS)
    shell = "viral tenants list --deserted"
    for row in rows[:NAMED]:
        says = f"{_name(row)} pays, and nobody can sign in."
        yield Harm(Group.TENANTS, says, f"tenants/{row['tenant_id']}", shell, 1, cause="deserted")
    if len(rows) > NAMED:
        says = "More tenants pay, and nobody can sign in for them."
        yield Harm(Group.TENANTS, says, "tenants?harm=deserted", shell, 1, cause="deserted")


def _parked(tx: Tx) -> Iterator[Harm]:
    for row in tx.overview.parked():
        source, status = row["source"].capitalize(), row["status"]
        why = PARKED_FOR.get(status.partition(":")[2], status)
        about = f", {counted(row['invoices'], 'invoice')} among them" if row["invoices"] else ""
        says = f"{_counted(row['number'], 'event')} of {source} wait{'s' if row['number'] == 1 else ''}: {why}{about}."
        group = Group.MONEY if row["source"] == "stripe" else Group.SYSTEM
        shell = f"viral events list --source {row['source']} --status {status}"
        page = f"events?{urlencode({'source': row['source'], 'status': status})}"
        kind = "parked_money" if group is Group.MONEY else "parked_identity"
        yield Harm(group, says, page, shell, row["number"], row["since"], cause=f"{kind}:{status.partition(':')[2]}")


MEANS: Final = {Flag.DELETED_TENANT.value: "money for a deleted tenant, which a person has to end or give back"}


def _flagged(tx: Tx) -> Iterator[Harm]:
    for row in tx.overview.flagged():
        flag = MEANS.get(row["flag"]) or readable(row["flag"]).replace("_", " ")
        says = f"{_counted(row['number'], 'event')} of the last 30 days {_is(row['number'])} flagged: {flag}."
        is_listed = row["flag"] in FLAGS
        page = f"events?flag={row['flag'] if is_listed else 'any'}"
        shell = f"viral events list {'--flag ' + row['flag'] if is_listed else '--flagged'}"
        yield Harm(Group.MONEY, says, page, shell, row["number"], row["last_at"], cause=f"flagged:{row['flag']}")


def _unconfirmed(tx: Tx) -> Iterator[Harm]:
    clips, posts = tx.overview.unconfirmed_clips(), tx.overview.unconfirmed_posts()
    if number := clips["number"]:
        says = (
            f"{_counted(number, 'clip')} may have been bought or not, for ${clips['usd']:.2f} together: "
            "nothing more is ordered for these videos until a person says which."
        )
        shell = "viral videos list --status unconfirmed"
        yield Harm(Group.MONEY, says, "posts", shell, number, clips["since"], cause="unconfirmed_clips")
    if number := posts["number"]:
        says = f"{_counted(number, 'post')} may be live without our knowing."
        shell = "viral posts list --status unconfirmed"
        yield Harm(Group.OUTSIDE, says, "posts", shell, number, posts["since"], cause="unconfirmed_posts")


LOOKS: Final[Sequence[Callable[[Tx], Iterator[Harm]]]] = (
    *(_failed_jobs, _deserted, _lost_accounts, _failed_posts),
    *(_parked, _flagged, _unconfirmed),
)


def _of_the_system(waits: Sequence[QueueOverview]) -> Iterator[Harm]:
    for each in waits:
        name, age = readable(each.queue), each.oldest_age
        page, shell = f"queues/{quoted(each.queue)}", command(["viral", "queues", "show", each.queue])
        if each.paused_at is not None and each.waiting:
            cause = f"queue_paused:{each.queue}"
            says = f"The queue {name} is paused, and {_counted(each.waiting, 'job')} {_is(each.waiting)} due in it."
            yield Harm(
                Group.SYSTEM, says, page, shell, each.waiting, each.paused_at, cause=f"queue_paused:{each.queue}"
            )
        elif not each.workers and each.waiting:
            cause = f"queue_unserved:{each.queue}"
            says = f"No worker serves the queue {name}, and {_counted(each.waiting, 'job')} {_is(each.waiting)} due."
            yield Harm(
                Group.SYSTEM, says, page, shell, each.waiting, each.oldest_due, cause=f"queue_unserved:{each.queue}"
            )
        elif age is not None and each.late:
            cause = f"queue_late:{each.queue}"
            says = f"The queue {name} is late: a job has been due for {span(age)}, and may be for {span(each.target)}."
            yield Harm(Group.SYSTEM, says, page, shell, each.waiting, each.oldest_due, cause=cause)
        for tenant in each.tenants if each.paused_at is None else ():
            if tenant.held:
                says = f"{readable(tenant.name)} is paused in the queue {name}: {_counted(tenant.held, 'job')} held."
                yield Harm(
                    Group.SYSTEM, says, page, shell, tenant.held, tenant.paused_at, cause=f"queue_paused:{each.queue}"
                )


def _paying(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["tenant_id"] is not None]


def _others(rows: Sequence[Mapping[str, Any]], what: str, page: str, shell: str, cause: str) -> Iterator[Harm]:
    """Tell of the tenants that are not named."""
    if rows and (left := rows[0]["tenants"] - NAMED) > 0:
        says = f"{_counted(left, 'more tenant')} {'has' if left == 1 else 'have'} {what}."
        yield Harm(Group.TENANTS, says, page, shell, left, cause=cause)


def _unpaying(rows: Sequence[Mapping[str, Any]], what: str, page: str, shell: str, cause: str) -> Iterator[Harm]:
    for row in rows:
        if row["tenant_id"] is None:
            wait = "waits" if row["number"] == 1 else "wait"
            says = (
                f"{_counted(row['number'], what)} of nobody who pays {wait}, the last of type {readable(row['what'])}."
            )
            yield Harm(Group.SYSTEM, says, page, shell, row["number"], row["last_at"], cause=cause)


def _name(row: Mapping[str, Any]) -> str:
    return f"{readable(row['name']) or 'A tenant without a name'} ({row['tier']})"


def _counted(number: int, noun: str) -> str:
    return f"more than {counted(MOST, noun)}" if number > MOST else counted(number, noun)


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


# --- what cannot be known -----------------------------------------------------------------------------------


def _deaf(app: App) -> list[Doubt]:
    try:
        app.notifier.probe()
    except Exception as error:
        says = (
            f"Redis takes nothing ({describe(error)}): jobs begin late, and how many notifications wait is not known."
        )
        return [Doubt(says, "viral doctor", "redis_deaf")]
    return []


def _doubts(tx: Tx, signs: Mapping[str, Any], harms: Sequence[Harm]) -> Iterator[Doubt]:
    now, reported_at, sampled = signs["at"], signs["reported_at"], signs["sampled_until"]
    if signs["read_only"]:
        yield Doubt(
            "Postgres is read-only: no job begins or ends, and nothing here changes until it is not.", "viral doctor"
        )
    if reported_at is None:
        yield Doubt("No process has reported what it counts: the charts show nothing.", "viral workers list")
    elif now - reported_at > QUIET_FOR:
        says = f"No process has reported what it counts for {span(now - reported_at)}: the charts end there."
        yield Doubt(says, "viral workers list")
    last = tx.schedule_runs.last(now)
    run = max(last.values(), default=None)
    if run is None and sampled is None:
        yield Doubt("No scheduler has ever run here: nothing that is due later begins.", "viral scheduler")
    elif (sampled is None or now - sampled > QUIET_FOR) and (run is None or now - run > QUIET_FOR):
        heard = max(each for each in (sampled, run) if each is not None)
        says = f"No scheduler has been heard of for {span(now - heard)}: whether what is due later begins is not known."
        yield Doubt(says, "viral schedules list", "no_scheduler")
    if any(harm.number > MOST for harm in harms):
        says = f"What is more than {MOST:,} is not counted to the end, and tenants are named by the newest {MOST:,}."
        yield Doubt(says, "viral status --json")


# --- charts -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A stretch of time up to now that charts show, in points of `each`."""

    length: timedelta
    each: timedelta
    step: Step


WINDOWS: Final[Mapping[str, Window]] = {
    "3h": Window(timedelta(hours=3), timedelta(minutes=3), Step.MINUTE),
    "48h": Window(timedelta(hours=48), timedelta(hours=1), Step.HOUR),
    "30d": Window(timedelta(days=30), timedelta(hours=12), Step.HOUR),
}


@dataclass(frozen=True)
class Line:
    """One line of a chart; a value is None where nobody looked, or nothing happened that has one."""

    name: str
    values: list[float | None]


@dataclass(frozen=True)
class Chart:
    name: str
    unit: str
    lines: list[Line]
    times: list[datetime]


@dataclass(frozen=True)
class Charts:
    """The charts of a window, and what was changed in it, oldest first."""

    since: datetime
    until: datetime
    charts: list[Chart]
    changes: Sequence[Change]


MOST_CHANGES: Final = 50


def charts(app: App, window: Window) -> Charts:
    """Draw how jobs went: how long they waited, how many ended how, and how old the oldest due one was."""
    with app.db.transaction(SYSTEM) as tx:
        until = tx.now().replace(second=0, microsecond=0)  # the minute that runs is not known to its end
        since = until - window.length
        span_of: dict[str, Any] = {"since": since, "until": until, "step": window.step}
        wait = series(tx, "viral_job_wait_seconds", **span_of)
        ends = series_by(tx, "viral_attempts_total", "outcome", **span_of)
        oldest = series(tx, "viral_queue_oldest_due_age_seconds", **span_of)
        changed = rail(tx, since, until, limit=MOST_CHANGES)
    size = window.each // window.step.value
    waits = _coarser(wait.points, size, sum)
    times = [point.at for point in waits]
    bounds = wait.metric.buckets
    minutes = window.step.value / timedelta(minutes=1)

    def ended(*outcomes: str) -> list[float | None]:
        found = [_rates(ends[outcome], size, minutes) for outcome in outcomes if outcome in ends]
        return [_sum(each) for each in zip(*found, strict=True)] if found else _gaps(wait, size)

    return Charts(
        since,
        until,
        [
            Chart(
                "How long jobs waited",
                "s",
                [
                    Line("half of them, at most", [percentile(each.buckets, bounds, 0.5) for each in waits]),
                    Line("95 of 100, at most", [percentile(each.buckets, bounds, 0.95) for each in waits]),
                ],
                times,
            ),
            Chart("Attempts that completed", "a minute", [Line("completed", ended("completed"))], times),
            Chart(
                "Attempts that did not",
                "a minute",
                [Line("failed", ended("failed")), Line("tried again", ended("retried", "lease_lost"))],
                times,
            ),
            Chart(
                "Age of the oldest due job",
                "s",
                [Line("oldest", [each.value for each in _coarser(oldest.points, size, max)])],
                times,
            ),
        ],
        changed,
    )


def _coarser(points: Sequence[Point], size: int, of: Callable[[list[float]], float]) -> list[Point]:
    """Put `size` points into one each; the last may be of fewer."""
    found = []
    for at in range(0, len(points), size):
        some = points[at : at + size]
        values = [point.value for point in some if point.value is not None]
        cases = [point.buckets for point in some if point.buckets]
        buckets = tuple(map(sum, zip(*cases, strict=True)))
        found.append(Point(some[0].at, of(values) if values else None, buckets))
    return found


def _rates(counted_: Series, size: int, minutes: float) -> list[float | None]:
    """Per minute; of each stretch the steps count of which something is known."""
    return [None if each.value is None else each.value / minutes for each in _coarser(counted_.points, size, fmean)]


def _sum(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) if measured else None


def _gaps(of: Series, size: int) -> list[float | None]:
    """Of what has never been counted: nothing where somebody looked."""
    return [None if each.value is None else 0.0 for each in _coarser(of.points, size, sum)]

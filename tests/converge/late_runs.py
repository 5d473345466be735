"""One run over a scenario by the clock: each event delivered when it happened or up to months later, with consumption
and the hourly reset at any moment in between. One quota and one ledger of consumption result (docs/decisions/0012)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID

from db.postgres.connection import AppConnection
from db.schema.tenants import CONSUMPTION
from db.transaction import SYSTEM
from domain.errors import QuotaExceeded
from simulators.personas import Body, Shape
from tests.builders import a_stripe_event
from tests.converge.runs import CREATED, WHO, State, begin, events_of, expect
from tests.drain import drain
from workers.app import App
from workers.jobs.quota import reset_due

TENANT = "SELECT to_jsonb(t) - 'updated_at' FROM tenants t"
CONSUMED = f"""
SELECT jsonb_build_array(kind, cause, amount, taken_at) FROM quota_ledger
WHERE {CONSUMPTION} ORDER BY taken_at, cause, id
"""
PERIODS = f"""
SELECT jsonb_build_object(p.subscription_id, p.period_start, 'consumed', (
    SELECT sum(amount) FROM quota_ledger
    WHERE {CONSUMPTION} AND taken_at >= p.period_start AND taken_at < p.period_end
)) FROM stripe_paid_periods p ORDER BY p.subscription_id, p.period_start
"""

Act = tuple[datetime, Callable[[App, datetime], None]]


A_DAY, MONTHS = 1, 150
"""Up to how many days late."""


def run(app: App, name: str, shape: Shape, rng: Random, late: Sequence[int] = (A_DAY, MONTHS)) -> None:
    """The scenario in time, then delivered a day late and months late.

    Raises:
        Diverged: says what differs, or that the count is not what the ledger says.
    """
    with app.db.connect(autocommit=True) as connection:
        _run(app, name, shape, rng, late, connection)


def _run(app: App, name: str, shape: Shape, rng: Random, late: Sequence[int], connection: AppConnection) -> None:
    scenario: list[Act] = [
        (datetime.fromtimestamp(body["created"], UTC), partial(deliver, body, connection))
        for body in events_of(name, shape)
    ]
    end = max(at for at, _ in scenario) + timedelta(days=200)

    def some_moment() -> datetime:
        return CREATED + (end - timedelta(days=30) - CREATED) * rng.random()

    uses: list[tuple[datetime, partial[None]]] = []
    # No more than FREE allows, so that none is refused by what is not known yet.
    for held, made in ((3, 2), (2, 2), (1, 0), (2, None), (2, 1)):
        at, job_id = some_moment(), UUID(int=rng.getrandbits(128))
        uses += [
            (at, partial(hold, job_id, held)),
            (at + timedelta(days=rng.choice([0, rng.uniform(0, 60)])), partial(close, job_id, made)),
        ]
    while True:
        try:
            return _delivered_late(app, name, scenario, uses, end, late, rng)
        except HoldRefused as refused:
            uses = [(at, act) for at, act in uses if refused.job_id not in act.args]


class HoldRefused(Exception):
    """A hold in an ended period that nothing follows: answered by what is known then, so it is left out everywhere."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(str(job_id))
        self.job_id = job_id


def _delivered_late(
    app: App,
    name: str,
    scenario: Sequence[Act],
    uses: Sequence[Act],
    end: datetime,
    lateness: Sequence[int],
    rng: Random,
) -> None:
    def some_moment() -> datetime:
        return CREATED + (end - timedelta(days=30) - CREATED) * rng.random()

    in_time = played(app, [*uses, *scenario], end)
    for days in lateness:
        late = [(at + timedelta(days=rng.uniform(0, days)), act) for at, act in scenario]
        strikes = [(some_moment(), ask_who_is_due) for _ in range(4)]
        found = played(app, [*uses, *late, *strikes], end)
        differing = {what: (in_time[what], found[what]) for what in found if found[what] != in_time[what]}
        expect(not differing, f"{name} delivered up to {days} days late: {differing}")


def deliver(body: Body, connection: AppConnection, app: App, now: datetime) -> None:
    a_stripe_event(app, body, connection)
    drain(replace(app, clock=lambda: now))


def ask_who_is_due(app: App, now: datetime) -> None:
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    drain(replace(app, clock=lambda: now))


def hold(job_id: UUID, count: int, app: App, now: datetime) -> None:
    try:
        with app.db.transaction(WHO.tenant_id) as tx:
            tx.quota.hold(WHO.tenant_id, job_id, count, now)
    except QuotaExceeded as error:
        raise HoldRefused(job_id) from error


def close(job_id: UUID, made: int | None, app: App, now: datetime) -> None:
    """The job made so many of the concepts that it holds; or it failed."""
    with app.db.transaction(WHO.tenant_id) as tx:
        if made is None:
            tx.quota.release(WHO.tenant_id, job_id)
        else:
            tx.quota.settle(WHO.tenant_id, job_id, made)


def played(app: App, acts: Sequence[Act], end: datetime) -> State:
    """All of it, each at its time; the hourly reset once more at the end."""
    begin(app, used=0)
    for now, act in sorted([*acts, (end, ask_who_is_due)], key=lambda act: act[0]):
        act(app, now)
        with app.db.transaction(SYSTEM) as tx:
            wrong = tx.health.violations("what a tenant has used is what the ledger says")
        expect(not wrong, f"at {now} the ledger's sum is not what is used")
    with app.db.transaction(SYSTEM) as tx:
        return {
            what: [row for (row,) in tx.driver.execute(query.encode()).fetchall()]
            for what, query in {"tenant": TENANT, "consumed": CONSUMED, "paid periods": PERIODS}.items()
        }

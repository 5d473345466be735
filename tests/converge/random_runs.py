"""Runs over one random scenario, through storage, jobs and locks: all of its events in order and then doubled and
shuffled, without a key to ask Stripe with and with one; and by the clock, some late and some lost until a reconcile
repairs them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from db.transaction import SYSTEM
from domain.billing.subscriptions import certain
from domain.events.outcomes import Flag
from simulators.personas import Body
from simulators.stripe.api import StripeSimulator, embedded
from tests.builders import a_stripe_event
from tests.converge import oracle
from tests.converge.account import books
from tests.converge.late_runs import ask_who_is_due
from tests.converge.random_scenarios import CREATED, SOLD, TENANT, RandomScenario, random_scenario
from tests.converge.runs import Diverged, arranged, begin, state
from tests.drain import drain
from workers.app import App
from workers.jobs.reconcile import reconcile_billing
from workers.ops.rebuild import rebuild

USED: Final = 3
"""Concepts that the tenant used before it bought anything."""
LATE, REPAIRED_WITHIN = timedelta(days=40), timedelta(days=20)
AT_ONCE, EVENTS_KEPT = timedelta(seconds=5), timedelta(days=30)


@dataclass(frozen=True)
class Outcome:
    """The outcome of the scenario, the same in each run over it. `partial`: so many bodies did not carry all,
    and less is known without a key."""

    expected: oracle.Expected
    runs: int
    partial: int

    def __str__(self) -> str:
        has = self.expected
        rest = ", nothing left to draw" if has.blocked else ""
        cut = f"  ({self.partial} bodies did not carry everything)" if self.partial else ""
        return f"{has.tier} {has.status}, {has.limit} a month since {has.began:%Y-%m-%d %H:%M}{rest}{cut}"


@dataclass(frozen=True)
class Apps:
    """The same application twice: `app` cannot ask Stripe, `selling` asks `stripe`."""

    app: App
    selling: App
    stripe: StripeSimulator


def run(apps: Apps, scenario: RandomScenario, rng: Random) -> Outcome:
    """Every way of delivery, once.

    Raises:
        Diverged: says in which run what differs.
    """
    expected = oracle.expect(scenario)
    events = [cut(body) for body in scenario.account.events]
    partial = sum(map(is_partial, events))
    without_key(apps, scenario, events, rng, None if partial else expected)
    with_key(apps, scenario, arranged(events, "doubled", rng), expected)
    with_some_lost(apps, scenario, events, rng, expected)
    return Outcome(expected, 4, partial)


def shrunk(apps: Apps, scenario: RandomScenario) -> str:
    """The scenario up to the first act with which it diverges, as a report: its acts, its events, and what differs."""
    for most in range(len(scenario.acts) + 1):
        shorter = random_scenario(scenario.seed, most)
        try:
            run(apps, shorter, Random(scenario.seed))
        except Diverged as error:
            events = [
                f"{moment(body):%Y-%m-%d %H:%M:%S} {body['id']} {body['type']}" for body in shorter.account.events
            ]
            until = f"as of {shorter.now:%Y-%m-%d %H:%M:%S}, by the events"
            return "\n  ".join(["Shrunk to:", *shorter.acts, until, *events]) + f"\n{error}"
    return "Shrunk, it does not diverge."


def without_key(
    apps: Apps, scenario: RandomScenario, events: Sequence[Body], rng: Random, expected: oracle.Expected | None
) -> None:
    """What a body does not say is parked or flagged, and so it is in any order."""
    app, order = at(apps.app, scenario.now), arranged(events, "doubled", rng)
    found = deliver(app, events, scenario.now)
    compare(
        "without a key, doubled and shuffled",
        found,
        deliver(app, order, scenario.now, together=rng.randint(1, 100)),
        order,
    )
    if expected is not None and not found["in doubt"]:
        agree("without a key", expected, app, scenario, order)


def with_key(apps: Apps, scenario: RandomScenario, order: Sequence[Body], expected: oracle.Expected) -> None:
    apps.stripe.now, apps.stripe.books = scenario.now, books(scenario.account.events)
    app = at(apps.selling, scenario.now)
    deliver(app, order, scenario.now, together=len(order))
    agree("with a key, doubled and shuffled", expected, app, scenario, order)


def with_some_lost(
    apps: Apps, scenario: RandomScenario, events: Sequence[Body], rng: Random, expected: oracle.Expected
) -> None:
    """By the clock: each event comes late, some twice, and some never. What Stripe could not deliver, it lists; half of
    the time it believes to have delivered it, and then only the plan is repaired, not when a month of it began."""
    stripe, app = apps.stripe, replace(at(apps.selling, scenario.now), clock=lambda: apps.stripe.now)
    lost = {body["id"] for body in events if rng.random() < 0.25}
    listed = lost if rng.random() < 0.5 else set()
    acts: list[tuple[datetime, Callable[[], object]]] = []
    with app.db.connect(autocommit=True) as connection:
        for body in events:
            when = moment(body)
            if body["id"] in lost:
                night = min(when + REPAIRED_WITHIN * rng.random() + timedelta(minutes=1), scenario.now)
                acts.append((night, lambda: run_job(app, reconcile_billing)))
                continue
            for _ in range(rng.choice([1, 2])):
                late = min(when + AT_ONCE + LATE * rng.random() ** 4, scenario.now)
                acts.append((late, lambda body=body: a_stripe_event(app, body, connection)))  # type: ignore[misc]
        begin(app, USED, CREATED)
        for now, act in sorted(acts, key=lambda each: each[0]):
            past = [body for body in scenario.account.events if moment(body) <= now]
            stripe.now, stripe.books = now, books(past)
            stripe.books["events"] = [
                cut(body) for body in reversed(past) if body["id"] in listed and moment(body) > now - EVENTS_KEPT
            ]
            act()
            drain(app)
    app = at(app, scenario.now)
    ask_who_is_due(app, scenario.now)
    order = [body for body in events if body["id"] not in lost]
    how = f"by the clock, {len(lost)} lost until a reconcile, {len(listed)} of them listed"
    agree(how, expected, app, scenario, order, all_of_it=listed == lost)


def deliver(app: App, events: Sequence[Body], now: datetime, *, together: int = 1) -> Any:
    """All that the events decide, and what is parked or for a person to see: applied one after the other, or so many
    `together`, which is the same."""
    begin(app, USED, CREATED)
    with app.db.connect(autocommit=True) as connection:
        for body in events:
            a_stripe_event(app, body, connection)
    drain(app, together=together)
    ask_who_is_due(app, now)
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.events.recent(limit=1000)
        subscriptions = tx.billing.mirror(["cus_1"], []).subscriptions.values()
    flags = {(name_of(row), flag) for row in rows for flag in (row["flag"] or "").split(",")}
    doubtful = not all(map(certain, subscriptions))
    if doubtful and not any(flag == Flag.CONTRADICTION for _, flag in flags):
        raise Diverged("events of one second contradict each other, and no person is events")
    # (It derives the quota at the database's own moment, which is none of this scenario.)
    if differences := [each for each in rebuild(app.db, app.ports, cause="test") if each.what != "quota"]:
        raise Diverged(f"rebuilt from the stored events it would differ: {differences}")
    waiting = {(name_of(row), row["status"]) for row in rows if row["status"].startswith(("parked", "received"))}
    flagged = {each for each in flags if each[1] in (Flag.INCOMPLETE, Flag.UNKNOWN_STATUS)}
    return {**state(app), "waiting": waiting, "flagged": flagged, "in doubt": doubtful}


def name_of(row: Mapping[str, Any]) -> str:
    """Of an event that is by the events two event objects, the first's."""
    return str(row["external_id"]).removesuffix("_twin")


def agree(
    how: str,
    expected: oracle.Expected,
    app: App,
    scenario: RandomScenario,
    order: Sequence[Body],
    *,
    all_of_it: bool = True,
) -> None:
    """The tenant has what the account at Stripe says that it should have."""
    with app.db.transaction(SYSTEM) as tx:
        row = tx.tenants.get(TENANT)
        wrong = tx.health.violations("what a tenant has used is what the ledger says")
    until = row["quota_drawn_until"]
    left = row["monthly_quota"] - row["used_quota"]
    found = oracle.Expected(
        row["subscription_tier"],
        row["subscription_status"],
        row["stripe_subscription_id"],
        row["monthly_quota"],
        row["quota_period_start"],
        until is not None and until <= scenario.now and left > 0,
    )
    if not all_of_it:
        found = replace(found, began=expected.began, blocked=expected.blocked)
        compare(how, vars_of(expected), vars_of(found), order)
        return
    compare(how, vars_of(expected), vars_of(found), order)
    used = USED if expected.began == CREATED else 0
    if wrong or row["used_quota"] != used:
        raise Diverged(f"{how}: {row['used_quota']} are used, and {used} were")


def compare(how: str, expected: dict[str, Any], found: dict[str, Any], order: Sequence[Body]) -> None:
    differing = {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}
    if differing:
        lines = "".join(f"\n    {name}: {values[0]}\n      found {values[1]}" for name, values in differing.items())
        events = " ".join(body["id"].split("_")[1] for body in order)
        raise Diverged(f"{how} (events {events}):{lines}")


def vars_of(outcome: oracle.Expected) -> dict[str, Any]:
    return {name: str(getattr(outcome, name)) for name in outcome.__dataclass_fields__}


def at(app: App, now: datetime) -> App:
    return replace(app, clock=lambda: now, ports=replace(app.ports, prices=SOLD))


def run_job(app: App, job: Any) -> None:
    with app.db.transaction(SYSTEM) as tx:
        job.enqueue(tx)


def moment(body: Body) -> datetime:
    return datetime.fromtimestamp(body["created"], UTC)


def cut(body: Body) -> Body:
    """As Stripe delivers it: no more lines or items than a body carries."""
    about = embedded(body["data"]["object"])
    data = {**body["data"], "object": about}
    if isinstance(previous := data.get("previous_attributes"), dict):
        data["previous_attributes"] = embedded(previous)
    return {**body, "data": data}


def is_partial(body: Body) -> bool:
    about = body["data"]["object"]
    return any(about.get(part, {}).get("has_more") for part in ("items", "lines"))

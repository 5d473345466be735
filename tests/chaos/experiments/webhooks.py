"""R13: every Stripe event five times, all of them shuffled, through the real web process; the oracle is told once,
in order."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from random import Random
from typing import Any

import httpx

from domain.billing.tiers import Tier
from integrations.stripe import webhooks as stripe
from simulators.personas import Body, Shape, random_persona
from simulators.stripe.scenarios import lifecycle
from tests.builders import a_stripe_event, a_tenant
from tests.chaos.fleet import FAST
from tests.chaos.ledger import await_finished
from tests.chaos.report import Finding
from tests.chaos.servers import STRIPE_SECRET, System
from tests.chaos.stage import BAR, Stage
from tests.drain import drain

START = datetime(2026, 12, 22, 12, 0, tzinfo=UTC)
SOLD = {Tier.STARTER: "price_starter", Tier.PRO: "price_pro"}
SHAPES: Sequence[Shape] = ("acacia", "basil", "hybrid")
TIMES = 5

WRITTEN = {"tenants": "updated_at", "stripe_subscriptions": "updated_at", "stripe_paid_periods": "created_at"}
"""The tables that the events decide, and what in them is only the time of writing."""

JOBS_OF_EVENTS = "SELECT payload ->> 'event_id', count(*) FROM job_queue WHERE job_type LIKE 'billing.%' GROUP BY 1"


def shuffled(stage: Stage, finding: Finding) -> None:
    """R13."""
    rng = stage.rng()
    scenarios = [scenario(rng, n) for n in range(stage.size(40, 4))]
    events = [body for _, bodies in scenarios for body in bodies]
    deliveries = [body for body in events for _ in range(TIMES)]
    rng.shuffle(deliveries)
    with stage.system_and_fleet(**FAST) as (system, fleet):
        begin(system, scenarios)
        origin = fleet.web()
        fleet.workers(2)
        answers = post_all(origin, deliveries)
        finding.trials = len(deliveries)
        finding.recovery_s = await_finished(system)
        finding.expect(set(answers) == {200}, f"answers by status: {dict(answers)}")
        finding.expect(finding.recovery_s is not None, f"not every event was applied within {BAR} s")
        found = state(system)
        per_event = system.rows(JOBS_OF_EVENTS)
        stored = system.value("SELECT count(*) FROM webhook_events")
        finding.figures["jobs_by_status"] = dict(system.rows("SELECT status, count(*) FROM job_queue GROUP BY 1"))
        duplicates = sum(len(line.get("duplicates", ())) for line in fleet.lines())
        finding.saw("duplicates recognised", duplicates, least=len(deliveries) - len(events))
    with stage.servers.system(stage.name + "_oracle") as oracle:
        begin(oracle, scenarios)
        for body in events:
            a_stripe_event(oracle.app, body)
            drain(oracle.app)
        expected = state(oracle)
    finding.saw("deliveries out of order", out_of_order(deliveries, events))
    finding.lost = len(events) - len(per_event)
    finding.doubled = sum(count - 1 for _, count in per_event) + stored - len(events)
    finding.expect(finding.lost == 0, f"{len(events)} events, {len(per_event)} have a job")
    finding.expect(finding.doubled == 0, f"{stored} events stored; jobs per event: {Counter(n for _, n in per_event)}")
    for table in WRITTEN:
        differ = [(a, b) for a, b in zip(found[table], expected[table], strict=False) if a != b]
        same = len(found[table]) == len(expected[table]) and not differ
        finding.expect(same, f"{table} is not as if told in order: {differ[:1]}")


def scenario(rng: Random, number: int) -> tuple[Any, list[Body]]:
    who = random_persona(rng, shape=SHAPES[number % len(SHAPES)])
    return who.tenant_id, lifecycle(who, START, SOLD)


def begin(system: System, scenarios: Sequence[tuple[Any, list[Body]]]) -> None:
    for tenant_id, _ in scenarios:
        a_tenant(system.app, id=tenant_id, used_quota=7, name=str(tenant_id))


def post_all(origin: str, deliveries: Sequence[Body]) -> Counter[int]:
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(8) as pool:

        def post(body: Body) -> int:
            raw = json.dumps(body).encode()
            headers = {stripe.SIGNATURE_HEADER: stripe.sign(raw, STRIPE_SECRET, int(time.time()))}
            return client.post(f"{origin}/webhooks/stripe", content=raw, headers=headers).status_code

        return Counter(pool.map(post, deliveries))


def state(system: System) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    found = {}
    for table, written_at in WRITTEN.items():
        rows = [row for (row,) in system.rows(f"SELECT to_jsonb(t) - '{written_at}' FROM {table} t")]
        found[table] = sorted(rows, key=str)
    return found


def out_of_order(deliveries: Sequence[Body], events: Sequence[Body]) -> int:
    """First deliveries that come before the one of an event that happened earlier."""
    first = {body["id"]: n for n, body in reversed(list(enumerate(deliveries)))}
    order = [first[body["id"]] for body in events]
    return sum(later < earlier for earlier, later in pairwise(order))

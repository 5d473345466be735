"""The system as it ships, from outside: `viral up` to the first accepted webhook, and webhook to changed tenant."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import UUID

import httpx
import psycopg

from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, Running, ours, running, until
from db.security import seeing_all_tenants
from integrations.stripe import webhooks as stripe
from local.home import State, read_state
from simulators.kinds import KINDS
from simulators.personas import random_persona

SECRET = "whsec_bench"  # noqa: S105 - of a server that lives for a minute
WARM_UP = 3
"""Walks of a system that was just started, not of a quiet one; not counted."""


def measure(plan: Plan) -> None:
    accepted: list[float] = []
    changed: list[float] = []
    rng = plan.rng("walk")
    for _ in plan.rounds():
        with tempfile.TemporaryDirectory(dir=plan.folder) as folder:
            Path(folder).chmod(0o755)
            home = Path(folder) / "home"
            plan.settle()
            with up(home) as (cold, _):
                plan.report.add("up-cold", "ours", cold)
            plan.settle()
            with up(home) as (warm, state):
                plan.report.add("up-warm", "ours", warm)
                for n in range(WARM_UP + plan.sizes.walks):
                    time.sleep(rng.uniform(0.3, 0.7))
                    took = walk(state)
                    if n >= WARM_UP:
                        accepted.append(took[0])
                        changed.append(took[1])
    for name, values in (("accepted", accepted), ("changed", changed)):
        for percent in (50, 95):
            plan.report.add(f"walk-{name}-p{percent}", "ours", percentile(values, percent))
    plan.report.details["walk_ms"] = {"accepted": accepted, "changed": changed}


@contextmanager
def up(home: Path) -> Iterator[tuple[float, State]]:
    """`viral up`; yields the seconds until it accepted a webhook, and where everything is."""
    command = [sys.executable, "-m", "cli.main", "up", "--home", str(home), "--port", "0"]
    environment = ours(STRIPE_WEBHOOK_SECRET=SECRET, STRIPE_PRO_PRICE_ID="price_pro")
    began = time.perf_counter()
    with running(command, environment, home.parent) as system:
        state = first_accepted(home, system)
        yield time.perf_counter() - began, state


def first_accepted(home: Path, system: Running) -> State:
    body = json.dumps(KINDS["stripe"]["customer.deleted"].build(random_persona(Random(0)), datetime.now(UTC))).encode()
    found: list[State] = []

    def accepted() -> bool:
        system.check()
        state = read_state(home)
        if state is None or not state.web_url or post(client, state, body) != httpx.codes.OK:
            return False
        found.append(state)
        return True

    with httpx.Client(timeout=30) as client:
        until(accepted, "a webhook to be accepted", within=120, every=0.005)
    return found[0]


def post(client: httpx.Client, state: State, body: bytes) -> int:
    headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, SECRET, int(time.time()))}
    try:
        return client.post(f"{state.web_url}/webhooks/stripe", content=body, headers=headers).status_code
    except httpx.TransportError:
        return 0


def walk(state: State) -> tuple[float, float]:
    """A new tenant pays for PRO: milliseconds until Stripe has its answer, and until the tenant's row says so."""
    with (
        psycopg.connect(seeing_all_tenants(state.urls.database_url), autocommit=True) as owner,
        httpx.Client() as client,
    ):
        tenant = owner.execute("INSERT INTO tenants (name) VALUES ('bench') RETURNING id").fetchone()
        tenant_id: UUID = tenant[0] if tenant else UUID(int=0)
        who = random_persona(Random(str(tenant_id)), tenant_id=tenant_id, price_id="price_pro")
        body = json.dumps(KINDS["stripe"]["customer.subscription.updated"].build(who, datetime.now(UTC))).encode()
        client.get(f"{state.web_url}/healthz")  # Stripe keeps its connections, too
        began = time.perf_counter()
        if post(client, state, body) != httpx.codes.OK:
            raise BenchError("a webhook was not accepted")
        accepted = time.perf_counter()
        query = "SELECT FROM tenants WHERE id = %s AND subscription_tier = 'PRO'"
        until(lambda: owner.execute(query, (tenant_id,)).rowcount, "the tenant to change", within=60, every=0.0005)
        return (accepted - began) * 1000, (time.perf_counter() - began) * 1000

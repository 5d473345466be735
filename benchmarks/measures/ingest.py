"""Webhooks accepted durably a second by one web process, and how long a sender waits for its answer."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from benchmarks import load
from benchmarks.install import PEERS, PYTHON
from benchmarks.plan import Plan
from benchmarks.servers import BenchError, Running, answer, one, ours, running, until
from benchmarks.systems import OURS
from db.security import seeing_all_tenants
from integrations.stripe import webhooks as stripe
from local.spawn import answers, free_port
from simulators.kinds import KINDS
from simulators.personas import random_persona

SECRET = "whsec_bench"  # noqa: S105 - of a server that lives for a minute
CONNECTIONS = 64
WARM_UP_SECONDS = 1.0
MOST = 12_000
"""Events made for each second of load: more than anybody accepts, so that none is sent twice."""

FORMS = ("fastapi", "by-hand", "by-hand-no-push")
DATABASE = "bench_ingest"


def measure(plan: Plan) -> None:
    plan.report.details["ingest"] = {"load": "asyncio and uvloop, one process", "connections": CONNECTIONS}
    for _ in plan.rounds():
        for form in filter(plan.takes_part, ("ours", *FORMS)):
            with plan.turn_of(form):
                # Anew each time: a signature is good for five minutes.
                write_events(plan.folder / "warm-up.tsv", "warm", round(MOST * WARM_UP_SECONDS))
                write_events(plan.folder / "load.tsv", "load", round(MOST * plan.sizes.load_seconds))
                measure_one(plan, form)


def measure_one(plan: Plan, form: str) -> None:
    template = plan.system(OURS).template if form == "ours" else "template0"
    urls = plan.servers.create(DATABASE, template)
    environment = ours(
        DATABASE_URL=urls.app if form == "ours" else urls.owner, REDIS_URL=urls.redis, STRIPE_WEBHOOK_SECRET=SECRET
    )
    with serving(plan, form, environment) as (web, port):
        before = post(plan, port, "warm-up.tsv", WARM_UP_SECONDS)
        plan.settle()
        used = [web.cpu(), plan.servers.postgres_cpu()]
        found = post(plan, port, "load.tsv", plan.sizes.load_seconds)
        costs = [after - before for after, before in zip([web.cpu(), plan.servers.postgres_cpu()], used, strict=True)]
        time.sleep(0.2)
        with psycopg.connect(seeing_all_tenants(urls.owner)) as connection:
            rows = one(connection, "SELECT count(*) FROM webhook_events")
    asked = before["requests"] + found["requests"]
    # A request that is under way when the time is up may or may not be counted by the sender.
    if before["failed"] or found["failed"] or not asked <= rows <= asked + 2 * CONNECTIONS:
        raise BenchError(f"{form} stored {rows} events; it was sent {before} and {found}")
    plan.report.add("ingest", form, found["requests"] / found["seconds"])
    plan.report.add("ingest-p50", form, found["p50"])
    plan.report.add("ingest-p99", form, found["p99"])
    for name, seconds in zip(("ingest-cpu-web", "ingest-cpu-postgres"), costs, strict=True):
        plan.report.add(name, form, 1e6 * seconds / found["requests"])


@contextmanager
def serving(plan: Plan, form: str, environment: dict[str, str]) -> Iterator[tuple[Running, int]]:
    """One web process, and its port."""
    port = free_port()
    own = [sys.executable, "-m", "cli.main", "web", "--port", str(port)]
    command = own if form == "ours" else [str(PYTHON), str(PEERS / "webhooks.py"), form, str(port)]
    with running(command, environment, plan.folder) as web:

        def listens() -> bool:
            web.check()
            return answers(port)

        until(listens, f"{form} to listen", within=60)
        yield web, port


def post(plan: Plan, port: int, events: str, seconds: float) -> Any:
    environment = ours(**{load.BODIES: str(plan.folder / events)})
    return answer(load.command(port, CONNECTIONS, seconds), environment, plan.folder)


def write_events(path: Path, name: str, count: int) -> None:
    """Paid invoices, alike but for their ids: signature, tab, body, on a line each."""
    event = KINDS["stripe"]["invoice.paid"].build(random_persona(Random(0)), datetime.now(UTC))
    body = json.dumps(event, separators=(",", ":")).encode()
    before, _, after = body.partition(event["id"].encode())
    now = int(time.time())
    with path.open("wb") as file:
        for n in range(count):
            unique = before + f"evt_{name}{n:015d}".encode() + after
            file.write(b"%s\t%s\n" % (stripe.sign(unique, SECRET, now).encode(), unique))

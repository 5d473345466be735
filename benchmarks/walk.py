"""Times the main walk on the system as it ships: start to first accepted webhook, and webhook to changed tenant.

Run by `make bench`. Starts everything in a temporary home, sends signed Stripe events 0.3 to 0.7 s apart (a quiet
system), and watches the tenant's row. Prints a table; writes `reports/walk.json`. All times in milliseconds.
"""

import json
import os
import random
import statistics
import subprocess
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

from cli.local.home import read_state
from integrations import stripe
from integrations.fakes import KINDS, cast

ROOT = Path(__file__).resolve().parents[1]
EVENTS = 60
SECRET = "whsec_bench"  # noqa: S105 - of a server that lives for a minute


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="viral-bench-") as folder:
        home = Path(folder) / "home"
        with running(home) as cold:
            pass
        with running(home) as warm:
            walks = walk(home)
    report = {
        "up_to_first_accepted_webhook_cold": round(cold),
        "up_to_first_accepted_webhook_warm": round(warm),
        "events": EVENTS,
        "accepted_p50": percentile(walks["accepted"], 50),
        "accepted_p95": percentile(walks["accepted"], 95),
        "tenant_changed_p50": percentile(walks["changed"], 50),
        "tenant_changed_p95": percentile(walks["changed"], 95),
        "tenant_changed_max": round(max(walks["changed"]), 1),
    }
    (ROOT / "reports").mkdir(exist_ok=True)
    (ROOT / "reports" / "walk.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, value in report.items():
        print(f"{name:<36} {value:>10}")


@contextmanager
def running(home: Path) -> Iterator[float]:
    """`viral up`; yields the milliseconds until it accepted a webhook."""
    environment = os.environ | {
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_PRO_PRICE_ID": "price_pro",
        "PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    began = time.perf_counter()
    with (home.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--home", str(home), "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield first_accepted(home, began)
    finally:
        process.terminate()
        process.wait(60)


def first_accepted(home: Path, began: float) -> float:
    who = cast(Random(0))
    body = json.dumps(KINDS["stripe"]["customer.deleted"].build(who, datetime.now(UTC))).encode()
    with httpx.Client() as client:
        while time.perf_counter() - began < 60:
            state = read_state(home)
            if state is not None and state.web_url and post(client, state.web_url, body) == httpx.codes.OK:
                return (time.perf_counter() - began) * 1000
            time.sleep(0.005)
    raise SystemExit((home.parent / "up.log").read_text())


def post(client: httpx.Client, origin: str, body: bytes) -> int:
    headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, SECRET, int(time.time()))}
    try:
        return client.post(f"{origin}/webhooks/stripe", content=body, headers=headers).status_code
    except httpx.TransportError:
        return 0


def walk(home: Path) -> dict[str, list[float]]:
    """Milliseconds from before the request to its answer, and to the tenant's row saying PRO."""
    state = read_state(home)
    if state is None:
        raise SystemExit("the servers are gone")
    accepted: list[float] = []
    changed: list[float] = []
    pauses = random.Random(1)
    with psycopg.connect(state.urls.database_url, autocommit=True) as owner, httpx.Client() as client:
        for n in range(EVENTS + 3):
            tenant = owner.execute("INSERT INTO tenants (name) VALUES (%s) RETURNING id", (f"tenant {n}",)).fetchone()
            took = one_walk(owner, client, state.web_url, tenant[0])
            # The first ones find cold caches: they are the walk of a system just started, not of a quiet one.
            if n >= 3:
                accepted.append(took[0])
                changed.append(took[1])
            time.sleep(pauses.uniform(0.3, 0.7))
    return {"accepted": accepted, "changed": changed}


def one_walk(owner: psycopg.Connection, client: httpx.Client, origin: str, tenant_id: UUID) -> tuple[float, float]:
    who = cast(Random(str(tenant_id)), tenant_id=tenant_id, price_id="price_pro")
    body = json.dumps(KINDS["stripe"]["customer.subscription.updated"].build(who, datetime.now(UTC))).encode()
    began = time.perf_counter()
    if post(client, origin, body) != httpx.codes.OK:
        raise SystemExit("a webhook was not accepted")
    accepted = time.perf_counter()
    query = "SELECT FROM tenants WHERE id = %s AND subscription_tier = 'PRO'"
    while owner.execute(query, (tenant_id,)).fetchone() is None:
        if time.perf_counter() - accepted > 30:
            raise SystemExit("a tenant was not changed within 30 s")
        time.sleep(0.0005)
    return (accepted - began) * 1000, (time.perf_counter() - began) * 1000


def percentile(values: list[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 1)


if __name__ == "__main__":
    main()

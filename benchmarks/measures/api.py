"""How long `GET /api/history` takes a tenant of 100,000 generations, from one web process as shipped."""

import time
from datetime import UTC, datetime
from secrets import token_bytes
from uuid import uuid4

import httpx
import psycopg
from psycopg.types.json import Jsonb

from benchmarks.measures.ingest import serving
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, ours
from benchmarks.systems import OURS
from db.concepts.generations import PageCursor
from db.security import seeing_all_tenants
from domain.identity.access import KEY_BYTES, new_key
from web.api.cursors import encode_cursor

DATABASE = "bench_api"

FILL = """
INSERT INTO generations (tenant_id, date, concepts, trends, is_favorite)
SELECT %(tenant_id)s, now() - n * interval '1 minute', %(concepts)s, %(trends)s, n %% 100 = 0
FROM generate_series(1, %(generations)s) AS n
"""
HALFWAY = "SELECT date, id FROM generations ORDER BY date, id OFFSET %s LIMIT 1"
KINDS: dict[str, dict[str, str | int]] = {
    "api-history": {"limit": 20},
    "api-history-favorites": {"limit": 20, "favorites": "true"},
    "api-history-search": {"limit": 20, "search": "sourdough 3"},
}


def measure(plan: Plan) -> None:
    """With a key for each kind of request, no key asks more often than it may in a minute."""
    requests = plan.sizes.requests
    urls = plan.servers.create(DATABASE, plan.system(OURS).template)
    keys, halfway = filled(seeing_all_tenants(urls.owner), plan.sizes.generations)
    environment = ours(DATABASE_URL=urls.app, REDIS_URL=urls.redis, STRIPE_WEBHOOK_SECRET="whsec_bench")  # noqa: S106
    with (
        serving(plan, "ours", environment) as (_, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as client,
    ):
        plan.settle()
        for kind, asked in KINDS.items():
            key = keys.pop()
            p95(plan, kind, [ask(client, key, asked)[0] for _ in range(requests)])
        # Each page after the one before it.
        times, key, cursor = [], keys.pop(), halfway
        for _ in range(requests):
            seconds, cursor = ask(client, key, {"limit": 20, "cursor": cursor})
            times.append(seconds)
        p95(plan, "api-history-deep", times)


def p95(plan: Plan, kind: str, times: list[float]) -> None:
    plan.report.add(f"{kind}-p95", "ours", percentile(times, 95) * 1000)


def ask(client: httpx.Client, key: str, asked: dict[str, str | int]) -> tuple[float, str]:
    began = time.perf_counter()
    answer = client.get("/history", params=asked, headers={"Authorization": f"Bearer {key}"})
    seconds = time.perf_counter() - began
    if answer.status_code != 200 or len(answer.json()["generations"]) != asked["limit"]:
        raise BenchError(f"GET /api/history {asked}: {answer.status_code} {answer.text[:200]}")
    return seconds, answer.json()["next"]


def filled(url: str, generations: int) -> tuple[list[str], str]:
    """A tenant with generations of about 3 KB, and a key for each kind of request. Returns the keys, and the cursor
    of the middle of the history."""
    tenant_id, now = uuid4(), datetime.now(UTC)
    concept = {
        "title": "Why bakers wake at three",
        "category": "Food",
        "caption": "Bread, slowly.",
        "script": "x" * 400,
    }
    values = {
        "tenant_id": tenant_id,
        "concepts": Jsonb([concept | {"id": str(n), "hashtags": ["#bread", "#night"]} for n in range(5)]),
        "trends": Jsonb([{"topic": f"sourdough {n}", "live": True} for n in range(8)]),
        "generations": generations,
    }
    keys = [
        new_key(token_bytes(KEY_BYTES), name="bench", scopes=["generations:read"], expires_at=None, now=now, others=0)
        for _ in range(len(KINDS) + 1)
    ]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT set_config('app.tenant_id', '*', false)")
        connection.execute("INSERT INTO tenants (id, name) VALUES (%s, 'bench')", (tenant_id,))
        for key in keys:
            connection.execute(
                "INSERT INTO api_keys (tenant_id, name, prefix, key_hash, scopes) VALUES (%s, %s, %s, %s, %s)",
                (tenant_id, key.name, key.prefix, key.hash, list(key.scopes)),
            )
        connection.execute(FILL, values)
        connection.execute("VACUUM ANALYZE generations")
        place = connection.execute(HALFWAY, (generations // 2,)).fetchone()
    if place is None:
        raise BenchError("nothing was filled in")
    return [key.text for key in keys], encode_cursor(PageCursor(*place))

"""How long `GET /api/history` takes a tenant of 100,000 generations, and `POST /api/generate` any tenant, from one web
process as shipped."""

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
from domain.identity.access import KEY_BYTES, NewKey, new_key
from web.api.cursors import encode_cursor

DATABASE = "bench_api"

FILL = """
INSERT INTO generations (tenant_id, date, concepts, trends, is_favorite)
SELECT %(tenant_id)s, now() - n * interval '1 minute', %(concepts)s, %(trends)s, n %% 100 = 0
FROM generate_series(1, %(generations)s) AS n
"""
ADD_KEY = "INSERT INTO api_keys (tenant_id, name, prefix, key_hash, scopes) VALUES (%s, %s, %s, %s, %s)"
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


def generate(plan: Plan) -> None:
    """Each request is another tenant's; the first of each has noted the use of its key, which is not measured."""
    requests = plan.sizes.requests
    system = plan.system(OURS)
    for _ in plan.rounds():
        urls = plan.servers.create(DATABASE, system.template)
        keys = tenants_with_keys(seeing_all_tenants(urls.owner), requests)
        environment = ours(DATABASE_URL=urls.app, REDIS_URL=urls.redis, STRIPE_WEBHOOK_SECRET="whsec_bench")  # noqa: S106
        with (
            serving(plan, "ours", environment) as (web, port),
            httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as client,
            psycopg.connect(urls.owner, autocommit=True) as connection,
        ):
            for key in keys:
                request_concepts(client, key)
            plan.settle()

            def used() -> tuple[float, float]:
                return web.cpu(), plan.servers.postgres_cpu(connection.info.backend_pid)

            before = used()
            times = [request_concepts(client, key) for key in keys]
            spent = [after - earlier for after, earlier in zip(used(), before, strict=True)]
        plan.report.add("api-generate-p50", "ours", percentile(times, 50) * 1000)
        plan.report.add("api-generate-p95", "ours", percentile(times, 95) * 1000)
        plan.report.add("api-generate-cpu-web", "ours", spent[0] / requests * 1e6)
        plan.report.add("api-generate-cpu-postgres", "ours", spent[1] / requests * 1e6)


def request_concepts(client: httpx.Client, key: str) -> float:
    began = time.perf_counter()
    answer = client.post("/generate", json={"count": 2}, headers={"Authorization": f"Bearer {key}"})
    if answer.status_code != 202:
        raise BenchError(f"POST /api/generate: {answer.status_code} {answer.text[:200]}")
    return time.perf_counter() - began


def tenants_with_keys(url: str, count: int) -> list[str]:
    now = datetime.now(UTC)
    keys = [a_key("generations:write", now) for _ in range(count)]
    with psycopg.connect(url) as connection:
        for key in keys:
            tenant_id = uuid4()
            connection.execute("INSERT INTO tenants (id, name) VALUES (%s, 'bench')", (tenant_id,))
            connection.execute(ADD_KEY, (tenant_id, key.name, key.prefix, key.hash, list(key.scopes)))
    return [key.text for key in keys]


def a_key(scope: str, now: datetime) -> NewKey:
    return new_key(token_bytes(KEY_BYTES), name="bench", scopes=[scope], expires_at=None, now=now, others=0)


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
    keys = [a_key("generations:read", now) for _ in range(len(KINDS) + 1)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT set_config('app.tenant_id', '*', false)")
        connection.execute("INSERT INTO tenants (id, name) VALUES (%s, 'bench')", (tenant_id,))
        for key in keys:
            connection.execute(ADD_KEY, (tenant_id, key.name, key.prefix, key.hash, list(key.scopes)))
        connection.execute(FILL, values)
        connection.execute("VACUUM ANALYZE generations")
        place = connection.execute(HALFWAY, (generations // 2,)).fetchone()
    if place is None:
        raise BenchError("nothing was filled in")
    return [key.text for key in keys], encode_cursor(PageCursor(*place))

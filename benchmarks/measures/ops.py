"""How long the operator's pages take with a year of a large system behind them, and what many viewers cost Postgres."""

import asyncio
import time
from collections import defaultdict
from contextlib import suppress

import httpx

from benchmarks import world
from benchmarks.crawl import Visit, crawl
from benchmarks.measures.ingest import serving
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, ours
from benchmarks.systems import OURS
from web.ops.app import PAGES

DATABASE = "bench_ops"
TYPED = ("1", "videos.render", "posting.publish")
WATCHED = "/ops"
"""The page that viewers have open, if there is one; else the first."""


def measure(plan: Plan) -> None:
    """Fill a database once, and ask one web process as shipped for all that can be clicked, then have pages open."""
    urls = plan.servers.create(DATABASE, plan.system(OURS).template)
    began = time.monotonic()
    size = world.WHOLE if plan.sizes.ops_part == 1 else world.WHOLE.divided(plan.sizes.ops_part)
    world.fill(plan.servers.superuser(DATABASE), size, seed=plan.seed)
    plan.report.details["ops"] = {"world": vars(size), "seconds to fill it": round(time.monotonic() - began, 1)}
    environment = ours(DATABASE_URL=urls.app, REDIS_URL=urls.redis, HOST="127.0.0.1")
    with plan.servers.without_autovacuum(), serving(plan, "ours", environment) as (_, port):
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=60) as client:
            visits = found(client)
            plan.settle()
            times = asked_in_turn(client, visits, plan.sizes.ops_rounds)
        note(plan, visits, times)
        plan.settle()
        costs = [watched(plan, address, viewers) for viewers in (1, plan.sizes.ops_viewers)]
    plan.report.details["ops"]["transactions a minute"] = {"with one viewer": costs[0], "with all": costs[1]}
    plan.report.add("ops-viewer", "ours", costs[0])
    plan.report.add("ops-viewers", "ours", costs[1] / costs[0])
    plan.servers.drop(DATABASE)


def found(client: httpx.Client) -> list[Visit]:
    """All that can be got to by clicking, asked for once: what a process does only once is not measured."""

    def ask(address: str) -> tuple[int, str]:
        response = client.get(address)
        return response.status_code, response.text

    visits = crawl(ask, [page.path for page in PAGES], typed=TYPED, most=25)
    if broken := [f"{visit.address}: {visit.status}" for visit in visits if visit.status >= 500]:
        raise BenchError(f"{len(broken)} pages failed: {', '.join(broken[:9])}")
    if unseen := {page.path for page in PAGES} - {visit.page for visit in visits}:
        raise BenchError(f"nothing leads to {', '.join(sorted(unseen))}")
    return visits


def asked_in_turn(client: httpx.Client, visits: list[Visit], rounds: int) -> dict[str, list[float]]:
    """Seconds by address. All addresses have their turn before one is asked for again, so no answer is a kept one."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for visit in visits:
            began = time.perf_counter()
            client.get(visit.address)
            times[visit.address].append(time.perf_counter() - began)
    return times


def note(plan: Plan, visits: list[Visit], times: dict[str, list[float]]) -> None:
    by_page: dict[str, list[float]] = defaultdict(list)
    for visit in visits:
        by_page[visit.page] += times[visit.address]
    p95s = {page: percentile(seconds, 95) * 1000 for page, seconds in by_page.items()}
    slowest = sorted(times, key=lambda address: -min(times[address]))[:20]
    plan.report.details["ops"] |= {
        "p95 by page, ms": {page or "/": round(value, 1) for page, value in p95s.items()},
        "slowest addresses, least ms": {each: round(min(times[each]) * 1000, 1) for each in slowest},
        "addresses": len(visits),
    }
    plan.report.add("ops-p95", "ours", max(p95s.values()))
    plan.report.add("ops-p50", "ours", percentile([each for seconds in times.values() for each in seconds], 50) * 1000)


def watched(plan: Plan, address: str, viewers: int) -> float:
    """Transactions of Postgres a minute while so many have the start page open, and follow what happens."""
    return asyncio.run(_watched(plan, address, viewers))


async def _watched(plan: Plan, address: str, viewers: int) -> float:
    page = WATCHED if any(not each.path for each in PAGES) else f"/ops{PAGES[0].path}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    looks: list[float] = []
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        watching = [asyncio.create_task(_watch(client, page, looks)) for _ in range(viewers)]
        # What a session did it reports after a while, when it rests: the first seconds are those of others.
        await asyncio.sleep(plan.sizes.patience)
        before, began, asked = plan.servers.transactions(DATABASE), time.perf_counter(), len(looks)
        await asyncio.sleep(plan.sizes.ops_seconds)
        seconds = time.perf_counter() - began
        count = plan.servers.transactions(DATABASE) - before
        for each in watching:
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*watching)
    if not count or len(looks) == asked:
        raise BenchError(f"{viewers} viewers looked {len(looks) - asked} times, in {count} transactions")
    plan.report.details["ops"][f"looks a minute of {viewers}"] = round(60 * (len(looks) - asked) / seconds)
    return 60 * count / seconds


async def _watch(client: httpx.AsyncClient, page: str, looks: list[float]) -> None:
    """Do as a browser does with the page: look again whenever the stream says so."""
    await client.get(page)
    while True:
        async with client.stream("GET", "/ops/live") as stream:
            async for line in stream.aiter_lines():
                if line in ("event: look", "event: full"):
                    response = await client.get(page)
                    response.raise_for_status()
                    looks.append(time.perf_counter())

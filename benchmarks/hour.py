"""A whole hour of posting: `python -m benchmarks.hour [--speed 4] [--posts 10000] [--accounts 500] [--minutes 60]`.

10,000 posts of 500 accounts of 50 tenants, at random minutes of one hour, go to simulated platforms, beside accounts
that are disconnected, held off, or whose platform does not answer. Buckets go by the clock, so an hour is an hour; but
where a C compiler is, the clock of all processes goes `--speed` times as fast (`fast_clock.c`).

It ends with what was published and how late, which limits were broken, and how many posts were later than their policy
without saying so; the exit code is 1 if any was. The figures also go to reports/hour.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from benchmarks.measures.history import producing
from benchmarks.measures.posts import CROWDED_ACCOUNTS, LATER, Run, troubled
from benchmarks.plan import Plan, Sizes
from benchmarks.posting import Account, accounts_of, check_once, connected, filmed, outside, over, scheduled
from benchmarks.report import Report, machine, percentile
from benchmarks.servers import ROOT, BenchError, Servers, until_idle
from benchmarks.systems import OURS
from domain.posting.schedule import LATE_AFTER
from local.embedded import start_embedded

CLOCK = "FAST_CLOCK"
LOOK_EVERY = timedelta(minutes=5)
SOON = timedelta(minutes=5)
"""How late a post may be before it is counted as `waiting_without_a_word`."""

BEGIN = "UPDATE social_posts SET scheduled_for = now() + interval '1 minute' + (scheduled_for - %s) RETURNING 1"
PUBLISHED = """
SELECT a.platform, p.tenant_id, extract(epoch FROM p.submitted_at - p.scheduled_for)::float8
FROM social_posts p JOIN social_accounts a ON a.id = p.account_id
WHERE p.status = 'published' AND p.account_id = ANY(%s)
"""
NOT_PUBLISHED = """
SELECT a.platform, p.status, coalesce(p.error_message, a.reason, ''), now() - p.scheduled_for
FROM social_posts p JOIN social_accounts a ON a.id = p.account_id
WHERE p.status <> 'published' AND p.scheduled_for <= now()
"""


def main(words: Sequence[str] | None = None) -> int:
    asked = arguments(words)
    if asked.speed == 1 or CLOCK in os.environ:
        return lived(asked)
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        print("no C compiler is here, so the hour takes an hour", flush=True)
        return lived(argparse.Namespace(**(vars(asked) | {"speed": 1})))
    with tempfile.TemporaryDirectory(prefix="viral-clock-") as folder:
        Path(folder).chmod(0o755)
        library = Path(folder) / "fast_clock.so"
        source = Path(__file__).with_name("fast_clock.c")
        defined = {"SPEED": asked.speed, "BEGAN_REALTIME": time.time_ns(), "BEGAN_MONOTONIC": time.monotonic_ns()}
        options = ["-shared", "-fPIC", "-O1", *(f"-D{name}={value}LL" for name, value in defined.items())]
        subprocess.run([compiler, *options, "-o", library, source, "-ldl"], check=True)
        command = [sys.executable, "-m", "benchmarks.hour", *(sys.argv[1:] if words is None else words)]
        environment = os.environ | {"LD_PRELOAD": str(library), CLOCK: str(asked.speed)}
        with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hour", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", type=int, default=4, help="how many times as fast the clock goes (default: 4)")
    parser.add_argument("--posts", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "hour.json")
    return parser.parse_args(words)


def lived(asked: argparse.Namespace) -> int:
    accounts = accounts_of(min(50, asked.accounts), asked.accounts)
    each = -(-asked.posts // asked.accounts)
    beside = [(account, each) for account, _ in troubled(asked.accounts // 5, 0)[CROWDED_ACCOUNTS:]]
    with tempfile.TemporaryDirectory(prefix="viral-hour-") as name:
        Path(name).chmod(0o755)
        with start_embedded(Path(name) / "home") as embedded:
            plan = Plan(Sizes(), Servers(embedded), Report([]), Path(name), asked.seed)
            found = an_hour(plan, asked, [*((account, each) for account in accounts), *beside])
    found = {"machine": machine(), "asked": {key: str(value) for key, value in vars(asked).items()}} | found
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    asked.report.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 1 if found["over"] or found["silent"] else 0


def an_hour(plan: Plan, asked: argparse.Namespace, posts: Sequence[tuple[Account, int]]) -> dict[str, Any]:
    rng = Random(asked.seed)
    system = plan.system(OURS)
    system.fresh()
    folder = plan.folder / "outside"
    accounts = [account for account, _ in posts]
    healthy = [each.id for each in accounts if each == replace(each, behaviour="answers", status="active")]
    with outside(folder, accounts) as there, system.connect() as connection:
        connected(connection, accounts, there)
        for tenant_id in {each.tenant_id for each in accounts}:
            own = [(account, count) for account, count in posts if account.tenant_id == tenant_id]
            videos = filmed(connection, folder, tenant_id, max(count for _, count in own))
            times = [
                (account, video, LATER + timedelta(minutes=rng.randrange(asked.minutes)))
                for account, count in own
                for video in videos[:count]
            ]
            scheduled(connection, times)
        connection.execute("VACUUM ANALYZE")
        settings = there.settings | {"WORKER_GRACE_SECONDS": "5"}
        with system.working("posts", **settings) as workers, producing(system) as app:
            until_idle(workers)
            run = Run(plan, app, connection, there, workers)
            before, before_outside = run.cpu(), there.process.cpu()
            connection.execute(BEGIN, (LATER,))
            watch(run, timedelta(minutes=asked.minutes + 5))
            cpu, cpu_outside = run.cpu() - before, there.process.cpu() - before_outside
            found = what_became(connection, healthy)
        check_once(connection, there)
    count = sum(found["published"].values())
    found |= {"cpu_ms_per_post": 1000 * cpu / count, "outside_cpu_ms_per_post": 1000 * cpu_outside / count}
    return found | {"over": over(there), "calls": len(there.calls())}


def watch(run: Run, lasts: timedelta) -> None:
    """Let the time go by, and say how it goes."""
    began = time.time()
    while (gone := time.time() - began) < lasts.total_seconds():
        time.sleep(min(LOOK_EVERY.total_seconds(), lasts.total_seconds() - gone + 1))
        for each in [*run.workers, run.there.process]:
            each.check()
        rows = run.connection.execute(
            "SELECT status, count(*) FROM social_posts WHERE scheduled_for <= now() GROUP BY 1 ORDER BY 1"
        )
        print(f"  {(time.time() - began) / 60:5.1f} min: {dict(rows.fetchall())}", flush=True)


def what_became(connection: psycopg.Connection, healthy: Sequence[object]) -> dict[str, Any]:
    platforms: Counter[str] = Counter()
    by_tenant: dict[object, list[float]] = defaultdict(list)
    for platform, tenant_id, late in connection.execute(PUBLISHED, (list(healthy),)):
        platforms[platform] += 1
        by_tenant[tenant_id].append(late)
    waits = [late for values in by_tenant.values() for late in values]
    if not waits:
        raise BenchError("nothing was published")
    worst = [percentile(values, 95) for values in by_tenant.values()]
    rest: Counter[str] = Counter()
    silent = waiting = 0
    for platform, status, why, late in connection.execute(NOT_PUBLISHED):
        rest[f"{platform}, {status}: {why[:120]}"] += 1
        waiting += late > SOON and not why
        silent += late > LATE_AFTER and not why and status != "missed"
    return {
        "published": dict(platforms),
        "late_s": {f"p{percent}": percentile(waits, percent) for percent in (50, 95, 99, 100)},
        "late_s_by_tenant_p95": {"best": min(worst), "worst": max(worst)},
        "not_published": dict(rest.most_common(40)),
        "waiting_without_a_word": waiting,
        "silent": silent,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"hour: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

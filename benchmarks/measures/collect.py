"""Whether a day's numbers of many posts stay within what the platforms allow, and what one of them costs.

A day is played in steps of twelve minutes, of which each lasts until all that is due is measured: then all posts are
twelve minutes older, and so are the uses of the rates. Posts appear at times that such steps meet, for the eight days
of which numbers are collected on the day that is played. A few of them their platforms have no longer, and Instagram
has retired a metric: both cost calls beside the usual ones.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from benchmarks.measures.history import producing
from benchmarks.outside import LIVE
from benchmarks.plan import Plan
from benchmarks.posting import LIMITS, Account, Outside, accounts_of, connected, most_within, outside
from benchmarks.servers import BenchError, Running, until, until_idle
from benchmarks.systems import OURS
from db.transaction import SYSTEM
from domain.learning.horizons import JOINS_AT_MOST
from domain.learning.numbers import Horizon
from domain.posting.limits import CALLED
from workers.app import App
from workers.jobs import analytics

STEP = timedelta(minutes=12)
EVERY: Mapping[str, int] = {
    "tiktok": 8,
    "youtube-shorts": 12,
    "instagram-reels": 5,
    "bluesky": 5,
    "mastodon": 5,
}
"""Steps between two posts of an account: 15, 10 and 24 a day, together 20 an account, as 10,000 posts of 500 accounts.
TikTok takes no more of one account; ten accounts of YouTube make the 100 that it takes of a whole installation."""
TENANTS = 20
DAYS = 7.5
"""So long a post is measured, at the latest."""
WITHIN = 30.0
GONE_EACH = 50
"""One of so many posts is gone, of platforms that say so."""
SAYS_NOTHING = ("tiktok",)

TIMES = "CREATE TABLE bench_times (post_id uuid PRIMARY KEY, published_at timestamptz, due interval)"
VIDEO = "INSERT INTO videos (id, tenant_id, status, source) VALUES (%s, %s, 'completed', 'file')"
POST = """
INSERT INTO social_posts (id, tenant_id, video_id, account_id, status, external_id, published_at, measure_at)
VALUES (%s, %s, %s, %s, 'published', %s, 'infinity', NULL)
"""
SETTLED = "INSERT INTO missed_horizons (tenant_id, post_id, horizon, reason) VALUES (%s, %s, %s, 'before the day')"
# Of what age a post is measured next stands in `bench_times` until it is moved first, and on its row from then on.
MOVE = """
UPDATE social_posts p SET published_at = now() - v.age, measure_at = now() - v.age + v.due,
    gone_at = CASE WHEN isfinite(p.published_at) THEN p.gone_at + (now() - v.age - p.published_at) END
FROM (
    SELECT id, %(at)s - t.published_at AS age, t.published_at AS appeared,
        CASE WHEN isfinite(q.published_at) THEN q.measure_at - q.published_at ELSE t.due END AS due
    FROM bench_times t JOIN social_posts q ON q.id = t.post_id
) AS v WHERE p.id = v.id AND v.appeared <= %(at)s AND v.appeared + v.due <= %(at)s + %(ahead)s
"""
RATES = """
UPDATE rate_buckets SET used_until = used_until - %(step)s, promised_until = promised_until - %(step)s,
    closed_until = closed_until - %(step)s
"""
LEFT = """
SELECT (SELECT count(*) FROM social_posts WHERE measure_at <= now()),
    (SELECT count(*) FROM job_queue WHERE job_type LIKE 'analytics.%' AND status IN ('pending', 'running'))
"""
# A post that is gone misses what is left of its horizons, and no fault is anybody's.
FOUND = """
SELECT (SELECT count(*) FROM analytics_snapshots WHERE horizon IS NOT NULL),
    (SELECT count(*) FROM missed_horizons m JOIN social_posts p ON p.id = m.post_id
        WHERE m.reason <> 'before the day' AND p.status = 'published' AND p.gone_at IS NULL),
    (SELECT count(*) FROM performance_feedback), (SELECT count(*) FROM social_posts WHERE status = 'removed')
"""
WHY = """
SELECT m.reason FROM missed_horizons m JOIN social_posts p ON p.id = m.post_id
WHERE m.reason <> 'before the day' AND p.status = 'published' LIMIT 1
"""


@dataclass(frozen=True)
class Live:
    """A post that appears at this time of the eight days."""

    id: UUID
    account: Account
    external_id: str
    at: datetime
    is_there: bool


@dataclass(frozen=True)
class Played:
    """A day: how many numbers came, how many horizons were missed and posts removed, the seconds of work and of the
    processor, and every call with its time on that day."""

    measured: int
    missed: int
    removed: int
    seconds: float
    cpu: float
    calls: Sequence[tuple[float, str, str, str]]


def measure(plan: Plan) -> None:
    accounts = accounts_of(min(TENANTS, plan.sizes.collect_accounts), plan.sizes.collect_accounts)
    for _ in plan.rounds():
        day = a_day(plan, accounts)
        plan.report.add("collect", "ours", day.measured / day.seconds)
        plan.report.add("collect-cpu", "ours", day.cpu / day.measured * 1000)
        plan.report.add("collect-missed", "ours", day.missed)
        shares = {f"{name}, {what}": (most, allowed) for name, what, most, allowed in used(day.calls)}
        for platform in EVERY:
            mine = [most / allowed for name, (most, allowed) in shares.items() if name.startswith(f"{platform},")]
            plan.report.add(f"collect-{CALLED.get(platform, platform)}", "ours", 100 * max(mine, default=0))
        a_day_of = {name: sum(1 for each in day.calls if each[1] == name) for name in EVERY}
        plan.report.details["collect"] = {
            "calls": a_day_of,
            "most and limit of a window": shares,
            "posts that were gone": day.removed,
        }


def used(calls: Sequence[tuple[float, str, str, str]]) -> Iterator[tuple[str, str, int, int]]:
    """Yield of each limit the platform, its words, the most that arrived in any window, and what is allowed."""
    for limit in LIMITS:
        arrived: dict[str, list[tuple[float, int]]] = {}
        for at, platform, account, call in calls:
            if platform == limit.platform and (cost := limit.cost(call)):
                arrived.setdefault("" if limit.whole_app else account, []).append((at, cost))
        if arrived:
            most = max(most_within(costs, limit.seconds) for costs in arrived.values())
            yield limit.platform, limit.what, most, limit.most


def a_day(plan: Plan, accounts: Sequence[Account]) -> Played:
    system = plan.system(OURS)
    system.fresh()
    steps = plan.sizes.collect_steps
    dawn = datetime.now(UTC) - timedelta(days=1)
    posts = list(live(accounts, dawn, steps))
    with tempfile.TemporaryDirectory(dir=plan.folder) as name:
        folder = Path(name)
        (folder / LIVE).write_text(
            json.dumps(
                [[each.account.platform, each.account.external_id, each.external_id] for each in posts if each.is_there]
            )
        )
        with outside(folder, accounts) as there, system.connect() as connection:
            prepared(connection, accounts, posts, dawn, there)
            plan.settle()
            settings = there.settings | {"WORKER_GRACE_SECONDS": "1"}
            with system.working("numbers", **settings) as workers, producing(system) as app:
                until_idle([*workers, there.process])
                return play(plan, Day(connection, app, workers, there), dawn, steps)


@dataclass(frozen=True)
class Day:
    connection: psycopg.Connection
    app: App
    workers: Sequence[Running]
    there: Outside


def play(plan: Plan, day: Day, dawn: datetime, steps: int) -> Played:
    """Play the day, step by step."""
    looking = day.connection.info.backend_pid

    def cpu() -> float:
        return sum(each.cpu() for each in day.workers) + plan.servers.postgres_cpu(but=looking)

    starts: list[float] = []
    worked = used_cpu = 0.0
    for step in range(1, steps + 1):
        day.connection.execute(RATES, {"step": STEP})
        day.connection.execute(MOVE, {"at": dawn + step * STEP, "ahead": JOINS_AT_MOST})
        starts.append(time.time())
        began, before = time.perf_counter(), cpu()
        with day.app.db.transaction(SYSTEM) as tx:
            analytics.find_due.enqueue(tx)
        until(lambda: is_over(day), "the numbers of a step to be collected", within=WITHIN, every=0.02)
        worked += time.perf_counter() - began
        used_cpu += cpu() - before
    measured, missed, fed, removed = day.connection.execute(FOUND).fetchall()[0]
    if not measured or measured != fed:
        why = day.connection.execute(WHY).fetchone()
        raise BenchError(f"{measured} horizons were met, {missed} missed, and there are {fed} rows of feedback: {why}")
    return Played(measured, missed, removed, worked, used_cpu, list(on_the_day(day.there, starts)))


def is_over(day: Day) -> bool:
    for each in day.workers:
        each.check()
    return day.connection.execute(LEFT).fetchall()[0] == (0, 0)


def on_the_day(there: Outside, starts: Sequence[float]) -> Iterator[tuple[float, str, str, str]]:
    """Yield every call with its time on the day that was played, in seconds."""
    step = 0
    for at, platform, account, call in there.calls():
        while step + 1 < len(starts) and starts[step + 1] <= at:
            step += 1
        yield step * STEP.total_seconds() + max(0.0, at - starts[step]), platform, account, call


def live(accounts: Sequence[Account], dawn: datetime, steps: int) -> Iterator[Live]:
    """Yield the posts of the days before, of which numbers are collected on the day, and of the day itself."""
    before = round(timedelta(days=DAYS) / STEP)
    for number, account in enumerate(accounts):
        every = EVERY[account.platform]
        for step in range(-before + number % every, steps, every):
            place = f"{number:04d}{step + before:05d}"
            ids = {
                "youtube-shorts": f"yt{place}",
                "bluesky": f"at://{account.external_id}/app.bsky.feed.post/{place}",
            }
            is_there = account.platform in SAYS_NOTHING or (step + before) // every % GONE_EACH != number % GONE_EACH
            yield Live(uuid4(), account, ids.get(account.platform, f"7{place}"), dawn + step * STEP, is_there)


def prepared(
    connection: psycopg.Connection, accounts: Sequence[Account], posts: Sequence[Live], dawn: datetime, there: Outside
) -> None:
    """Write the posts down as they stand at dawn: what was due before is settled."""
    with connection.transaction(), connection.cursor() as cursor:
        connected(connection, accounts, there)
        cursor.execute(TIMES)
        videos = {each.id: uuid4() for each in posts}
        cursor.executemany(VIDEO, [(videos[each.id], each.account.tenant_id) for each in posts])
        cursor.executemany(
            POST,
            [(each.id, each.account.tenant_id, videos[each.id], each.account.id, each.external_id) for each in posts],
        )
        due = {each.id: [age for age in (one.age for one in Horizon) if each.at + age > dawn] for each in posts}
        times = [(each.id, each.at, min(due[each.id], default=None)) for each in posts]
        cursor.executemany("INSERT INTO bench_times VALUES (%s, %s, %s)", times)
        settled = [(each, horizon) for each in posts for horizon in Horizon if each.at + horizon.age <= dawn]
        cursor.executemany(SETTLED, [(each.account.tenant_id, each.id, horizon) for each, horizon in settled])
    connection.execute("VACUUM ANALYZE")

"""How many posts a second one worker dyno publishes on five platforms that are played here, and what those cost the
others that have two thousand due at once, no access, or a platform that does not answer."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from benchmarks.measures.history import producing
from benchmarks.outside import ANSWERS, HELD_OFF, SILENT
from benchmarks.plan import Plan
from benchmarks.posting import (
    TAKING_MANY,
    Account,
    Outside,
    accounts_of,
    check_once,
    connected,
    filmed,
    outside,
    over,
    scheduled,
)
from benchmarks.report import percentile
from benchmarks.servers import BenchError, Running, until, until_idle
from benchmarks.systems import OURS
from db.transaction import SYSTEM
from domain.posting.schedule import TURN
from workers.app import App
from workers.jobs import posting

TENANTS = 50
CROWDED_ACCOUNTS = 8
CLOSED = "needs_reconnect"
WITHIN = 180.0
LATER = datetime(2100, 1, 1, tzinfo=UTC)

STATES = "SELECT status, count(*) FROM social_posts WHERE account_id = ANY(%s) GROUP BY 1"
WAITS = """
SELECT extract(epoch FROM submitted_at - scheduled_for)::float8 FROM social_posts
WHERE account_id = ANY(%s) AND status = 'published' AND scheduled_for >= %s
"""
FIRST = """
UPDATE social_posts SET scheduled_for = now()
WHERE id IN (SELECT DISTINCT ON (account_id) id FROM social_posts WHERE account_id = ANY(%(accounts)s))
"""
ALL = """
UPDATE social_posts SET scheduled_for = now() WHERE account_id = ANY(%(accounts)s) AND status = 'scheduled'
"""
TURNS = """
UPDATE social_posts SET claimed_at = claimed_at - %(turn)s
WHERE account_id = ANY(%(accounts)s) AND claimed_at IS NOT NULL
"""
FILL = """
INSERT INTO social_posts (tenant_id, video_id, account_id, status, scheduled_for)
SELECT a.tenant_id, v.id, a.id, 'scheduled', now() + interval '1 day' + random() * interval '9 days'
FROM social_accounts a JOIN videos v ON v.tenant_id = a.tenant_id WHERE v.title = 'crowd' LIMIT %s
"""
FILL_VIDEOS = """
INSERT INTO videos (tenant_id, status, source, title)
SELECT t.id, 'completed', 'file', 'crowd' FROM tenants t, generate_series(1, %s)
"""


@dataclass(frozen=True)
class Burst:
    """What became of posts that were due at once: seconds until all were published, those of each until the call that
    publishes it, and the processor time of ours and of the platforms."""

    seconds: float
    waits: Sequence[float]
    cpu: float
    cpu_outside: float


@dataclass(frozen=True)
class Run:
    """The system at work on posts."""

    plan: Plan
    app: App
    connection: psycopg.Connection
    there: Outside
    workers: Sequence[Running]

    def cpu(self) -> float:
        """Return the processor seconds of ours so far, without those of the connection that looks."""
        looking = self.connection.info.backend_pid
        return sum(each.cpu() for each in self.workers) + self.plan.servers.postgres_cpu(but=looking)

    def published(self, account_ids: Sequence[UUID]) -> int:
        """Return how many posts of these accounts are published.

        Raises:
            BenchError: some never will be.
        """
        for each in self.workers:
            each.check()
        counts: dict[str, int] = dict(self.connection.execute(STATES, (account_ids,)).fetchall())
        if bad := counts.keys() & {"failed", "unconfirmed", "missed"}:
            why = self.connection.execute("SELECT error_message FROM social_posts WHERE status = ANY(%s)", (list(bad),))
            raise BenchError(f"posts are not published but {counts}: {why.fetchone()}")
        return counts.get("published", 0)


def measure(plan: Plan) -> None:
    for _ in plan.rounds():
        accounts = accounts_of(min(TENANTS, plan.sizes.posting_accounts), plan.sizes.posting_accounts)
        alone, beside, too_many = bursts(plan, accounts, troubled(len(accounts), plan.sizes.posting_crowd))
        count = len(accounts)
        plan.report.add("posts", "ours", count / alone.seconds)
        plan.report.add("posts-cpu", "ours", alone.cpu / count * 1000)
        plan.report.add("posts-cpu-outside", "ours", alone.cpu_outside / count * 1000)
        plan.report.add("posts-late-p50", "ours", percentile(alone.waits, 50))
        plan.report.add("posts-late-p99", "ours", percentile(alone.waits, 99))
        plan.report.add("posts-late-p99-beside", "ours", percentile(beside.waits, 99))
        plan.report.add("posts-over", "ours", len(too_many))
        plan.report.details["posts"] = {"alone_s": alone.waits, "beside_s": beside.waits, "over": too_many}
    due(plan, accounts)


def troubled(accounts: int, crowd: int) -> list[tuple[Account, int]]:
    """Return the accounts that must cost nobody else anything, each with how many posts it has due: those of one tenant
    that has a crowd of them, and each of another tenant those that get no answer, are held off, or are disconnected."""
    tenant_id = uuid4()
    silent, held_off, closed = max(1, accounts // 25), max(1, accounts // 125), max(1, accounts // 125)
    busy = [Account(tenant_id, TAKING_MANY[n % len(TAKING_MANY)], 50_000 + n) for n in range(CROWDED_ACCOUNTS)]
    kinds = [(SILENT, "active")] * silent + [(HELD_OFF, "active")] * held_off + [(ANSWERS, CLOSED)] * closed
    rest = [
        Account(uuid4(), TAKING_MANY[n % len(TAKING_MANY)], 60_000 + n, behaviour, status)
        for n, (behaviour, status) in enumerate(kinds)
    ]
    many, few = -(-crowd // CROWDED_ACCOUNTS), -(-crowd // 100)
    return [*((each, many) for each in busy), *((each, few) for each in rest)]


def bursts(
    plan: Plan, accounts: Sequence[Account], beside: Sequence[tuple[Account, int]]
) -> tuple[Burst, Burst, list[str]]:
    """Let every account have a post due now; and once more, with those beside it. Returns both, and where a platform
    was asked more than it allows."""
    system = plan.system(OURS)
    system.fresh()
    everybody = [*accounts, *(account for account, _ in beside)]
    polls = plan.sizes.posting_polls
    with tempfile.TemporaryDirectory(dir=plan.folder) as name, outside(Path(name), everybody, polls=polls) as there:
        with system.connect() as connection:
            prepared(connection, Path(name), there, [*((each, 2) for each in accounts), *beside])
            plan.settle()
            settings = there.settings | {"WORKER_GRACE_SECONDS": "1"}
            with system.working("posts", **settings) as workers, producing(system) as app:
                until_idle([*workers, there.process])
                run = Run(plan, app, connection, there, workers)
                # Whatever a process imports with its first post is not counted.
                burst(run, [account for account, _ in beside[: len(TAKING_MANY)]], 1)
                found = [burst(run, accounts, 1), burst(run, everybody, 2, of=accounts)]
            check_once(connection, there)
        return found[0], found[1], over(there)


def burst(run: Run, due: Sequence[Account], times: int, *, of: Sequence[Account] = ()) -> Burst:
    """Let posts be due, one of each account if it is the first time, else all; wait until as many of these accounts
    (`of`, or all) are published."""
    ids = [each.id for each in of or due]
    before, before_outside = run.cpu(), run.there.process.cpu()
    with run.app.db.transaction(SYSTEM) as tx:
        [(since,)] = tx.driver.execute("SELECT now()").fetchall()
        # Whoever has posted a moment ago would wait for its own turn, which is none of the others' doing.
        tx.driver.execute(TURNS, {"accounts": [each.id for each in due], "turn": TURN})
        tx.driver.execute(FIRST if times == 1 else ALL, {"accounts": [each.id for each in due]})
        posting.find_due.enqueue(tx)
    began = time.perf_counter()
    until(lambda: run.published(ids) == times * len(ids), "posts to be published", within=WITHIN, every=0.1)
    seconds = time.perf_counter() - began
    cpu, cpu_outside = run.cpu() - before, run.there.process.cpu() - before_outside
    waits = [row[0] for row in run.connection.execute(WAITS, (ids, since))]
    return Burst(seconds, waits, cpu, cpu_outside)


def prepared(
    connection: psycopg.Connection, folder: Path, there: Outside, posts: Sequence[tuple[Account, int]]
) -> None:
    """Write everything down; the posts are due a long time from now."""
    most: dict[UUID, int] = {}
    for account, count in posts:
        most[account.tenant_id] = max(most.get(account.tenant_id, 0), count)
    with connection.transaction():
        connected(connection, [account for account, _ in posts], there)
        videos = {tenant_id: filmed(connection, folder, tenant_id, count) for tenant_id, count in most.items()}
        scheduled(
            connection,
            ((account, video, LATER) for account, count in posts for video in videos[account.tenant_id][:count]),
        )
    connection.execute("VACUUM ANALYZE")


def due(plan: Plan, accounts: Sequence[Account]) -> None:
    """Measure one run of `posting.due` with nothing due, beside many posts that are scheduled, and beside a tenth."""
    rows, runs = plan.sizes.posting_rows, 5
    system = plan.system(OURS)
    for which, count in (("little", rows // 10), ("ours", rows)):
        system.fresh()
        with system.connect() as connection:
            connected(connection, accounts, None)
            connection.execute(FILL_VIDEOS, (-(-count // len(accounts)),))
            connection.execute(FILL, (count,))
            connection.execute("VACUUM ANALYZE")
        with producing(system) as app:
            times = [looked(app) for _ in range(runs + 1)][1:]
        plan.report.add("posts-due", which, statistics.median(times) * 1000)


def looked(app: App) -> float:
    """Ask for what is late, due and left alone, as the job does; return the seconds."""
    now, began = datetime.now(UTC), time.perf_counter()
    with app.db.transaction(SYSTEM) as tx:
        found = tx.posts.late(now=now, begun=timedelta(minutes=30), limit=posting.CHUNK)
    with app.db.transaction(SYSTEM) as tx:
        found += tx.posts.claim(now=now, last_turn=now - timedelta(minutes=2), look_after=now, limit=posting.CHUNK)
    with app.db.transaction(SYSTEM) as tx:
        found += tx.posts.left_alone(now=now, again=now, limit=posting.CHUNK)
    if found:
        raise BenchError(f"{len(found)} posts were due")
    return time.perf_counter() - began

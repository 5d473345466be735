"""How fast outcomes are learned: a backlog of many tenants by one worker dyno, and one that has just come in."""

import time
from collections.abc import Sequence
from uuid import UUID

import psycopg

from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, Running, until, until_idle
from benchmarks.systems import OURS
from db.transaction import SYSTEM
from workers.app import App
from workers.engine.heartbeat import LEASE
from workers.jobs import learning
from workers.runtime import logs

EACH = 100
"""Outcomes of a tenant: posts of ten videos on ten accounts."""
WITHIN = 1200.0
POLLED = 0.5

TENANTS = """
INSERT INTO tenants (name, quota_anchor, quota_period_start, quota_reset_at)
SELECT n::text, at, at, at + interval '1 month'
FROM generate_series(1, %(tenants)s) AS n, LATERAL (SELECT now() - interval '9 days' AS at) AS moment
"""
ACCOUNTS = """
INSERT INTO social_accounts (tenant_id, platform, external_id, status)
SELECT id, 'tiktok', id || '-' || n, 'active' FROM tenants, generate_series(1, 10) AS n
"""
VIDEOS = """
INSERT INTO videos (tenant_id, status, source) SELECT id, 'completed', 'file' FROM tenants, generate_series(1, 10)
"""
# What is random is so by the number of the row: each run has the same outcomes.
POSTS = """
CREATE UNLOGGED TABLE bench_posts AS
SELECT gen_random_uuid() AS id, tenant_id, video_id, account_id, at, category, views,
    (views * (0.02 + 0.1 * (hashint4(number) & 1023) / 1023.0))::int AS likes
FROM (
    SELECT v.tenant_id, v.id AS video_id, a.id AS account_id, row_number() OVER (ORDER BY v.id, a.id)::int AS number
    FROM videos v JOIN social_accounts a ON a.tenant_id = v.tenant_id
) AS pairs, LATERAL (SELECT
    now() - interval '7 days' + number %% 10000 * interval '1 minute' AS at,
    (ARRAY['news', 'tech', 'food', 'gaming'])[1 + (hashint4(-number) & 3)] AS category,
    500 + (hashint4(number + 1) & 65535) AS views
) AS made
"""
PUBLISHED = """
INSERT INTO social_posts (id, tenant_id, video_id, account_id, status, published_at)
SELECT id, tenant_id, video_id, account_id, 'published', at - interval '1 day' FROM bench_posts
"""
LOOKS = """
INSERT INTO analytics_snapshots (tenant_id, post_id, captured_at, horizon, age, views, likes, comments, shares,
    definition)
SELECT tenant_id, id, at, '24h', interval '1 day', views, likes, 3, 2, 'tiktok-views' FROM bench_posts
"""
PREDICTIONS = """
INSERT INTO post_predictions (tenant_id, post_id, horizon, model, platform, definition, value, score, low, high,
    features)
SELECT tenant_id, id, '24h', model, 'tiktok', 'tiktok-views/likes+comments+shares', 1.9, 65, 50, 80,
    jsonb_build_object('account', account_id, 'category', category, 'hour', extract(hour FROM at)::int, 'text_len', 90)
FROM bench_posts, unnest(ARRAY['shrinkage/v1', 'running-median/v1']) AS model
"""
OUTCOMES = """
INSERT INTO performance_feedback (tenant_id, post_id, platform, horizon, views, likes, comments, shares, observed_at)
SELECT tenant_id, id, 'tiktok', '24h', views, likes, 3, 2, at FROM bench_posts
"""
BACKLOG = (TENANTS, ACCOUNTS, VIDEOS, POSTS, PUBLISHED, LOOKS, PREDICTIONS, OUTCOMES)

LEFT = """
SELECT EXISTS (SELECT FROM performance_feedback
    WHERE learned_at IS NULL AND post_id IS NOT NULL AND horizon IN ('24h', '7d'))
"""
# What the outcomes say, and what the learners say.
BOOKS = """
SELECT (SELECT count(*) FROM performance_feedback WHERE learned_at IS NOT NULL AND set_aside IS NULL)::bigint,
    (SELECT sum(outcomes) FROM learners)::bigint, (SELECT sum((state ->> 'count')::int) FROM learners)::bigint
"""
ANOTHER = """
WITH account AS (
    SELECT id FROM social_accounts WHERE tenant_id = %(tenant_id)s LIMIT 1
), video AS (
    INSERT INTO videos (tenant_id, status, source) VALUES (%(tenant_id)s, 'completed', 'file') RETURNING id
), post AS (
    INSERT INTO social_posts (tenant_id, video_id, account_id, status, published_at)
    SELECT %(tenant_id)s, video.id, account.id, 'published', now() - interval '1 day' FROM video, account RETURNING id
), look AS (
    INSERT INTO analytics_snapshots (tenant_id, post_id, captured_at, horizon, age, views, likes, comments, shares,
        definition)
    SELECT %(tenant_id)s, id, now(), '24h', interval '1 day', 1000, 50, 3, 2, 'tiktok-views' FROM post
)
INSERT INTO performance_feedback (tenant_id, post_id, platform, horizon, views, likes, comments, shares, observed_at)
SELECT %(tenant_id)s, id, 'tiktok', '24h', 1000, 50, 3, 2, now() FROM post
"""


def measure(plan: Plan) -> None:
    """Outcomes learned a second from a full log, with the most memory meanwhile; then one at a time."""
    outcomes = plan.sizes.learn_tenants * EACH
    for _ in plan.rounds():
        system = plan.system(OURS)
        system.fresh()
        with system.connect() as connection:
            for statement in BACKLOG:
                connection.execute(statement.encode(), {"tenants": plan.sizes.learn_tenants})
            connection.execute("VACUUM ANALYZE")
            plan.settle()
            with system.working("learn") as workers, producing(system) as app:
                until_idle(workers)
                seconds, memory = backlog(connection, app, workers)
                plan.report.add("learn", "ours", outcomes / seconds)
                plan.report.add("learn-memory", "ours", memory)
            check(connection, outcomes)
            with producing(system) as app:
                waits = one_by_one(connection, app, plan.sizes.learn_ones)
            plan.report.add("learn-one", "ours", percentile(waits, 50) * 1000)
            plan.report.add("learn-one-p99", "ours", percentile(waits, 99) * 1000)
            check(connection, outcomes + len(waits))


def backlog(connection: psycopg.Connection, app: App, workers: Sequence[Running]) -> tuple[float, float]:
    """Have everything learned; return the seconds, and the most megabytes (PSS) of the worker dyno."""
    most, began = 0.0, time.perf_counter()
    with app.db.transaction(SYSTEM) as tx:
        learning.find_due.enqueue(tx)

    def done() -> bool:
        nonlocal most
        for each in workers:
            each.check()
        most = max(most, workers[0].pss())
        return connection.execute(LEFT).fetchone() == (False,)

    until(done, "all outcomes to be learned", within=WITHIN, every=POLLED)
    return time.perf_counter() - began, most


def one_by_one(connection: psycopg.Connection, app: App, count: int) -> list[float]:
    """Seconds of a job that learns one outcome which has just come in, from its claim to its completion."""
    logs.configure("console", "WARNING")
    runner, waits = app.runner(), []
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="bench", pid=0, queues=(), version="", lease=LEASE)
    tenants = connection.execute("SELECT tenant_id FROM learners ORDER BY tenant_id LIMIT %s", (count,)).fetchall()
    for number in range(count):
        tenant_id: UUID = tenants[number % len(tenants)][0]
        connection.execute(ANOTHER.encode(), {"tenant_id": tenant_id})
        with app.db.transaction(tenant_id) as tx:
            job_id = learning.learn.enqueue(tx, tenant_id)
        began = time.perf_counter()
        runner.run_one(job_id)
        waits.append(time.perf_counter() - began)
    return waits


def check(connection: psycopg.Connection, outcomes: int) -> None:
    """Raises:
    BenchError: an outcome was lost, or learned twice.
    """
    books = connection.execute(BOOKS).fetchone()
    if books != (outcomes, outcomes, outcomes):
        raise BenchError(f"of {outcomes} outcomes, the log, the learners and their states count {books}")

"""A system that has been at work for a year, made in one go: what the operator's pages are measured on, and looked at.

`fill` writes rows by sets, the same ones for the same seed (times count back from the database's clock). It needs a
superuser: triggers and foreign keys are off meanwhile, because a million rows would be looked up one by one, so what
they guard is made to hold here: a tenant's ledger ends with what it has used, and no row names a tenant that is not.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
from psycopg.rows import TupleRow

from domain.ops.metrics import ALL, SAMPLED, Kind, Metric


@dataclass(frozen=True)
class World:
    """How much there is. `finished` jobs are spread over `archived` (the older part, in the archive's weeks) and the
    live table; `metric_hours` and `metric_minutes` are how far back the series reach."""

    finished: int = 1_000_000
    pending: int = 100_000
    failed: int = 2000
    running: int = 40
    events: int = 1_000_000
    tenants: int = 10_000
    posts: int = 40_000
    metric_minutes: int = 48 * 60
    metric_hours: int = 13 * 730
    changes: int = 3000
    actions: int = 20_000

    @property
    def archived(self) -> int:
        return self.finished * 4 // 10

    def divided(self, by: int) -> "World":
        """The same on a small scale; there is some of everything all the same."""
        smaller = {name: max(20, value // by) for name, value in vars(self).items()}
        return replace(self, **smaller | {"running": min(self.running, 4)})


WHOLE = World()
SMALL = World().divided(1000)

# Stable and not immutable, as what they call (adding to a time): only then the planner puts their bodies in place.
TOOLS = """
CREATE FUNCTION pg_temp.draw(n bigint, salt int, below int) RETURNS int LANGUAGE sql STABLE AS
$$ SELECT ((hashint8extended(n * 64 + salt, {seed}) & 2147483647) % below)::int $$;
CREATE FUNCTION pg_temp.id(kind int, n bigint, at timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(kind), 3, '0') || '8'
            || lpad(to_hex(n), 15, '0'))::uuid
$$;
CREATE FUNCTION pg_temp.tenant(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n + 1), 12, '0'))::uuid $$;
CREATE FUNCTION pg_temp.ended(n bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN n <= {archived} THEN '{now}'::timestamptz - interval '15 weeks' * (1 - n::float8 / {archived})
                                          - interval '2 days'
                ELSE '{now}'::timestamptz - interval '2 days' * (1 - (n - {archived})::float8 / {live})
                     - interval '3 seconds' END
$$;
CREATE FUNCTION pg_temp.job(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT pg_temp.id(1, n, pg_temp.ended(n)) $$;
CREATE FUNCTION pg_temp.event(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT pg_temp.id(2, n, pg_temp.ended(n)) $$;
CREATE FUNCTION pg_temp.post(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT pg_temp.id(3, n, '{now}'::timestamptz - interval '90 days' * (1 - n::float8 / {posts})) $$;
CREATE FUNCTION pg_temp.posted(n bigint) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT '{now}'::timestamptz - interval '90 days' * (1 - n::float8 / {posts}) $$;
CREATE FUNCTION pg_temp.video(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT pg_temp.id(4, n / 2, pg_temp.posted(n / 2 * 2)) $$;
CREATE FUNCTION pg_temp.worker(n bigint) RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT pg_temp.id(5, n, '{now}'::timestamptz - interval '3 hours') $$;
CREATE FUNCTION pg_temp.acted(n bigint) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT '{now}'::timestamptz - interval '90 days' * power(n::float8 / {actions}, 2) - interval '1 minute' $$;
"""

# Of ten jobs that ended six applied an event, and the next was caused by a request, a job or a schedule. Job n is that
# of event n, of tenant n % tenants.
KIND = "(ARRAY['events','events','events','events','events','events','llm','media','social','default'])[n % 10 + 1]"
TYPE = (
    "(ARRAY['billing.apply_stripe_event','billing.apply_stripe_event','billing.apply_stripe_event',"
    "'billing.apply_stripe_event','identity.apply_clerk_event','identity.apply_clerk_event',"
    "'generation.generate_concepts','videos.render','posting.publish','quota.reset_due'])[n % 10 + 1]"
)
TENANT = "CASE WHEN n % 10 BETWEEN 6 AND 8 THEN pg_temp.tenant(n / 10 % {tenants}) END"
PAYLOAD = """CASE WHEN n % 10 < 6 THEN jsonb_build_object('event_id', pg_temp.event(n))
     WHEN n % 10 = 6 THEN '{{"count": 5}}'
     WHEN n % 10 = 7 THEN jsonb_build_object('video_id', pg_temp.video(n % {posts}))
     WHEN n % 10 = 8 THEN jsonb_build_object('post_id', pg_temp.post(n % {posts})) ELSE '{{}}' END"""
CAUSE = """CASE WHEN n % 10 < 6 THEN 'event:' || pg_temp.event(n)
     WHEN n % 10 = 6 THEN 'api:' || pg_temp.tenant(n % {tenants})
     WHEN n % 10 < 9 THEN 'job:' || pg_temp.job(n - 1)
     ELSE 'schedule:quota.reset_due@' || to_char(date_trunc('hour', at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SSZ')
     END"""
COLUMNS = "id, tenant_id, job_type, queue, status, priority, payload, result, error_message, attempts, max_attempts"
ENDED = f"""
SELECT pg_temp.job(n), {TENANT}, {TYPE}, {KIND}, CASE WHEN n % 500 = 7 THEN 'cancelled' ELSE 'completed' END,
       CASE WHEN n % 10 < 6 THEN 3 ELSE 5 END, {PAYLOAD},
       CASE WHEN n % 10 = 9 THEN '{{{{"reset": 3}}}}'::jsonb END, NULL, 1, 3,
       at - interval '1 second' * pg_temp.draw(n, 1, 90), at - interval '1 second' * (90 + pg_temp.draw(n, 2, 90)),
       at - interval '1 millisecond' * (5 + pg_temp.draw(n, 3, 900)), at, {CAUSE}
FROM generate_series({{first}}, {{last}}) AS n, LATERAL (SELECT pg_temp.ended(n) AS at) AS moment
"""  # noqa: S608 - all of it is ours

LIVE = f"""
INSERT INTO job_queue ({COLUMNS}, scheduled_for, created_at, started_at, completed_at, cause)
{ENDED.replace("{first}", "{archived} + 1").replace("{last}", "{finished}")}
"""
ARCHIVE = f"""
INSERT INTO job_archive ({COLUMNS}, scheduled_for, created_at, started_at, completed_at, cause)
{ENDED.replace("{first}", "1").replace("{last}", "{archived}")}
"""
WEEKS = """
SELECT make_job_archive_week('{now}'::timestamptz - interval '1 week' * n) FROM generate_series(-1, 18) AS n
"""

# Ready ones, scheduled ones, and some in backoff after an attempt; tenants have very different shares.
PENDING = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, status, priority, payload, attempts, error_message,
                       scheduled_for, wake_at, wake_count, created_at, cause)
SELECT pg_temp.id(6, n, created), CASE WHEN kind <> 'default' THEN
           pg_temp.tenant(CASE WHEN n % 3 = 0 THEN 7 ELSE pg_temp.draw(n, 4, {tenants}) END) END,
       (ARRAY['generation.generate_concepts','videos.render','posting.publish','videos.draw','quota.reset_due'])[kinds],
       kind, 'pending', CASE WHEN n % 50 = 0 THEN 1 ELSE 5 END,
       CASE kinds WHEN 1 THEN '{{"count": 5}}' WHEN 2 THEN jsonb_build_object('video_id', pg_temp.video(n % {posts}))
            WHEN 3 THEN jsonb_build_object('post_id', pg_temp.post(n % {posts}))
            WHEN 4 THEN jsonb_build_object('video_id', pg_temp.video(n % {posts})) ELSE '{{}}'::jsonb END,
       (n % 10 = 9)::int, CASE WHEN n % 10 = 9 THEN 'ProviderUnavailable: the model answered 529' END,
       due, CASE WHEN due > '{now}' THEN due END, 0, created,
       CASE WHEN n % 2 = 0 THEN 'job:' || pg_temp.job({finished} - n % 1000)
            WHEN n % 3 = 0 THEN 'api:' || pg_temp.tenant(n % {tenants}) WHEN n % 5 = 0 THEN 'person:ada' END
FROM generate_series(1, {pending}::bigint) AS n,
     LATERAL (SELECT '{now}'::timestamptz - interval '4 hours' * (1 - n::float8 / {pending}) AS created) AS made,
     LATERAL (SELECT (n % 5)::int + 1 AS kinds,
                     (ARRAY['llm','media','social','render','default'])[(n % 5)::int + 1] AS kind) AS which,
     LATERAL (SELECT CASE WHEN n % 10 = 9 THEN '{now}'::timestamptz + interval '1 hour 1 second' * (1 + n % 30)
                          WHEN n % 10 > 5 THEN '{now}'::timestamptz + interval '61 minutes' * (1 + n % 120)
                          ELSE created END AS due) AS times
"""
IN_BACKOFF = """
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_class, error_message, release, error_group,
                          started_at, ended_at)
SELECT id, 1, pg_temp.worker(1), 'failed', 'ProviderUnavailable', 'the model answered 529', '1.41.0',
       'ProviderUnavailable: the model answered #', created_at, created_at + interval '2 seconds'
FROM job_queue WHERE status = 'pending' AND attempts = 1
"""
RUNNING = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, status, payload, attempts, scheduled_for, created_at, started_at,
                       worker_id, lease_token, deadline_at, cause)
SELECT pg_temp.id(7, n, '{now}'), pg_temp.tenant(n % {tenants}), 'generation.generate_concepts', 'llm', 'running',
       '{{"count": 5}}', 1, '{now}'::timestamptz - interval '1 minute', '{now}'::timestamptz - interval '1 minute',
       '{now}'::timestamptz - interval '20 seconds', pg_temp.worker(n % 5), n, '{now}'::timestamptz + interval '1 hour',
       'api:' || pg_temp.tenant(n % {tenants})
FROM generate_series(1, {running}::bigint) AS n
"""
# Most of the errors came with the last release but one.
ERRORS = """
(VALUES ('ProviderUnavailable', 'the model answered %s', 'the model answered #'),
        ('PlatformRefused', 'account %s may not post', 'account # may not post'),
        ('KeyError', '''price_%s''', '''price_#'''),
        ('OperationalError', 'connection to %s was lost', 'connection to # was lost'),
        ('ValueError', 'video %s has no frames', 'video # has no frames'))
"""
FAILED = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, status, payload, error_message, attempts, scheduled_for,
                       created_at, started_at, completed_at, cause)
SELECT pg_temp.id(8, n, at), pg_temp.tenant(n % {tenants}),
       (ARRAY['posting.publish','videos.render','generation.generate_concepts'])[n % 3 + 1],
       (ARRAY['social','media','llm'])[n % 3 + 1], 'failed',
       CASE n % 3 WHEN 0 THEN jsonb_build_object('post_id', pg_temp.post(n % {posts}))
            WHEN 1 THEN jsonb_build_object('video_id', pg_temp.video(n % {posts})) ELSE '{{"count": 5}}'::jsonb END,
       class || ': ' || format(message, n), 3, at - interval '10 minutes', at - interval '10 minutes',
       at - interval '3 seconds', at, 'job:' || pg_temp.job({finished} - n % {finished})
FROM generate_series(1, {failed}::bigint) AS n,
     LATERAL (SELECT '{now}'::timestamptz - interval '14 days' * power(1 - n::float8 / {failed}, 3)
                     - interval '1 minute' AS at) AS moment,
     LATERAL (SELECT * FROM {errors} AS e (class, message, grouped) OFFSET n % 5 LIMIT 1) AS error
"""
FAILED_ATTEMPTS = """
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_class, error_message, traceback, release,
                          error_group, started_at, ended_at)
SELECT pg_temp.id(8, n, at), attempt, pg_temp.worker(n % 5), 'failed', class, format(message, n),
       'Traceback (most recent call last):' || chr(10) || '  File "workers/jobs/videos.py", line ' || n % 400
           || ', in render' || chr(10) || class || ': ' || format(message, n),
       CASE WHEN n % 8 = 0 THEN '1.40.2' ELSE '1.41.0' END, class || ': ' || grouped,
       at - interval '3 minutes' * (4 - attempt), at - interval '3 minutes' * (3 - attempt)
FROM generate_series(1, {failed}::bigint) AS n, generate_series(1, 3) AS attempt,
     LATERAL (SELECT '{now}'::timestamptz - interval '14 days' * power(1 - n::float8 / {failed}, 3)
                     - interval '1 minute' AS at) AS moment,
     LATERAL (SELECT * FROM {errors} AS e (class, message, grouped) OFFSET n % 5 LIMIT 1) AS error
"""
STEPS = """
INSERT INTO job_steps (job_id, step, status, idempotency_key, result, created_at, confirmed_at)
SELECT pg_temp.job(n), 'order', (ARRAY['confirmed','confirmed','confirmed','unknown'])[n / 10 % 4 + 1], 'key-' || n,
       '{{"clip": 1}}', pg_temp.ended(n), pg_temp.ended(n)
FROM generate_series({archived} / 10 * 10 + 17, {finished}::bigint, 100) AS n
"""

# Of a hundred events 92 are applied, some ignored, few parked; 1 in 2,000 has a flag.
EVENTS = """
INSERT INTO webhook_events (id, source, external_id, type, api_version, livemode, payload, occurred_at, received_at,
                            status, processed_at, job_id, subject, detail, flag, duplicates)
SELECT pg_temp.event(n), CASE WHEN stripe THEN 'stripe' ELSE 'clerk' END,
       CASE WHEN stripe THEN 'evt_' ELSE 'msg_' END || n,
       CASE WHEN stripe THEN (ARRAY['invoice.paid','customer.subscription.updated','checkout.session.completed',
                                    'invoice.payment_failed'])[n / 10 % 4 + 1]
            ELSE (ARRAY['user.created','user.updated','session.created'])[n / 10 % 3 + 1] END,
       CASE WHEN stripe THEN '2026-09-30.endive' END, CASE WHEN stripe THEN true END,
       CASE WHEN stripe THEN jsonb_build_object('customer', 'cus_' || n % {tenants}, 'amount_paid', 4900)
            ELSE jsonb_build_object('id', 'user_' || n % {tenants}) END,
       at - interval '4 seconds', at - interval '2 seconds', status,
       CASE WHEN status = 'received' OR status LIKE 'parked:%' THEN NULL ELSE at END,
       CASE WHEN n <= {finished} AND n % 10 < 6 THEN pg_temp.job(n) END,
       CASE WHEN stripe THEN 'cus_' || n % {tenants} ELSE 'user_' || n % {tenants} END,
       CASE WHEN n % 2000 = 1 THEN 'a refund of 49.00 usd' END, CASE WHEN n % 2000 = 1 THEN 'refund' END,
       (n % 97 = 0)::int
FROM generate_series(1, {events}::bigint) AS n,
     LATERAL (SELECT CASE WHEN {events} = {finished} THEN pg_temp.ended(n)
                     ELSE pg_temp.ended(greatest(1, n * {finished} / {events})) END AS at) AS moment,
     LATERAL (SELECT n % 10 < 4 OR n % 10 > 5 AS stripe) AS source,
     LATERAL (SELECT CASE WHEN n % 1000 = 3 THEN 'parked:unknown_customer'
                          WHEN n % 3000 = 21 THEN 'parked:unknown_price'
                          WHEN n % 3000 = 5 THEN 'parked:unknown_user' WHEN n % 20 = 9 THEN 'ignored:type'
                          WHEN n % 50 = 11 THEN 'stale' ELSE 'applied' END AS status) AS outcome
"""

# A third pays. Each has used what its ledger says.
TENANTS = """
INSERT INTO tenants (id, name, subscription_tier, subscription_status, stripe_customer_id, stripe_subscription_id,
                     monthly_quota, used_quota, quota_anchor, quota_period_start, quota_reset_at, daily_enabled,
                     created_at)
SELECT pg_temp.tenant(n), (ARRAY['Ada','Bakery','Cycle','Dojo','Elm'])[n % 5 + 1] || ' ' || n, tier,
       CASE WHEN tier = 'FREE' THEN 'none' WHEN n % 40 = 1 THEN 'past_due' ELSE 'active' END,
       CASE WHEN tier <> 'FREE' THEN 'cus_' || n END, CASE WHEN tier <> 'FREE' THEN 'sub_' || n END,
       quota, n % 10, '{now}'::timestamptz - interval '200 days', '{now}'::timestamptz - interval '1 hour' * (n % 600),
       '{now}'::timestamptz - interval '1 hour' * (n % 600) + interval '1 month', n % 4 = 1,
       '{now}'::timestamptz - interval '200 days'
FROM generate_series(0, {tenants}::bigint - 1) AS n,
     LATERAL (SELECT * FROM (VALUES ('FREE', 10), ('STARTER', 10), ('FREE', 10), ('PRO', 50), ('FREE', 10),
                                    ('AGENCY', 500)) AS t (tier, quota) OFFSET n % 6 LIMIT 1) AS plan
"""
LEDGER = """
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, at, taken_at)
SELECT id, kind, amount, used_after, monthly_quota, quota_period_start,
       'job:' || pg_temp.job(1 + pg_temp.draw(n, 9, {finished})), quota_period_start + interval '1 minute' * part,
       quota_period_start + interval '1 minute' * part
FROM tenants, LATERAL (SELECT ('x' || right(id::text, 12))::bit(48)::bigint AS n) AS number,
     LATERAL (
         SELECT 0 AS part, 'reset' AS kind, 0 AS amount, 0 AS used_after UNION ALL
         SELECT part * 2 - 1, 'hold', 2, part + 1 FROM generate_series(1, used_quota) AS part UNION ALL
         SELECT part * 2, 'settle', -1, part FROM generate_series(1, used_quota) AS part
     ) AS entry
ORDER BY id, part
"""
USERS = """
INSERT INTO users (id, clerk_id, email, name, tenant_id, role, created_at)
SELECT pg_temp.id(9, n, '{now}'), 'user_' || n, 'person' || n || '@example.com', 'Person ' || n,
       pg_temp.tenant(n % {tenants}), CASE WHEN n < {tenants} THEN 'ADMIN' ELSE 'MEMBER' END,
       '{now}'::timestamptz - interval '200 days'
FROM generate_series(0, {tenants}::bigint * 3 / 2) AS n
"""
CUSTOMERS = """
INSERT INTO stripe_customers (id, tenant_id) SELECT stripe_customer_id, id FROM tenants
WHERE stripe_customer_id IS NOT NULL
"""
SUBSCRIPTIONS = """
INSERT INTO stripe_subscriptions (id, customer_id, status, price_ids, started_at, billing_cycle_anchor, period_start,
                                  period_end, event_created, event_rank)
SELECT stripe_subscription_id, stripe_customer_id, subscription_status, ARRAY['price_' || lower(subscription_tier)],
       created_at, created_at, quota_period_start, quota_reset_at, quota_period_start, 1
FROM tenants WHERE stripe_subscription_id IS NOT NULL
"""

ACCOUNTS = """
INSERT INTO social_accounts (id, tenant_id, platform, external_id, username, status, reason)
SELECT pg_temp.id(10, n, '{now}'), pg_temp.tenant(n), (ARRAY['tiktok','youtube-shorts','instagram-reels'])[n % 3 + 1],
       'account-' || n, 'maker' || n, CASE WHEN n % 50 = 3 THEN 'needs_reconnect' ELSE 'active' END,
       CASE WHEN n % 50 = 3 THEN 'the token was revoked' END
FROM generate_series(0, {tenants}::bigint - 1) AS n
"""
VIDEOS = """
INSERT INTO videos (id, tenant_id, status, provider, prompt, duration_seconds, cost_usd, error_message, created_at,
                    completed_at, title, layout, estimated_usd, stage, job_id, updated_at)
SELECT pg_temp.video(n), pg_temp.tenant(n / 2 % {tenants}), status, CASE WHEN n % 4 = 0 THEN 'runway' END,
       'A baker at three in the morning', 12, CASE WHEN n % 4 = 0 THEN 1.25 END,
       CASE WHEN status = 'failed' THEN 'video has no frames' END, pg_temp.posted(n),
       CASE WHEN status IN ('completed', 'failed') THEN pg_temp.posted(n) + interval '2 minutes' END,
       'Why bakers wake at three, ' || n, CASE WHEN n % 4 = 0 THEN 'clips' ELSE 'storyboard' END,
       CASE WHEN n % 4 = 0 THEN 1.5 END, CASE status WHEN 'completed' THEN 'done' ELSE 'waiting' END,
       pg_temp.job({finished} - n % 1000 / 10 * 10 - 3), pg_temp.posted(n)
FROM generate_series(0, {posts}::bigint, 2) AS n,
     LATERAL (SELECT CASE WHEN n % 400 = 4 THEN 'unconfirmed' WHEN n % 100 = 6 THEN 'failed'
                          WHEN n % 300 = 8 THEN 'rendering' ELSE 'completed' END AS status) AS state
"""
SUBMISSIONS = """
INSERT INTO provider_jobs (id, tenant_id, video_id, scene, attempt, provider, model, resolution, prompt, seconds, state,
                           provider_job_id, month, estimated_usd, final_usd, job_id, created_at, submitted_at, ended_at)
SELECT pg_temp.id(11, n, pg_temp.posted(n)), pg_temp.tenant(n / 2 % {tenants}), pg_temp.video(n), 0, 1, 'runway',
       'gen4.5', '720p', 'A baker', 5, CASE WHEN n % 400 = 4 THEN 'unconfirmed' ELSE 'succeeded' END,
       CASE WHEN n % 400 <> 4 THEN 'task-' || n END, date_trunc('month', pg_temp.posted(n))::date, 1.5,
       CASE WHEN n % 400 <> 4 THEN 1.25 END, pg_temp.job({finished} - n % 1000 / 10 * 10 - 3), pg_temp.posted(n),
       pg_temp.posted(n), CASE WHEN n % 400 <> 4 THEN pg_temp.posted(n) END
FROM generate_series(0, {posts}::bigint, 4) AS n
"""
BUDGETS = """
INSERT INTO video_budgets (tenant_id, month, spent_usd, reserved_usd)
SELECT tenant_id, month, sum(coalesce(final_usd, 0)), sum(CASE WHEN final_usd IS NULL THEN estimated_usd ELSE 0 END)
FROM provider_jobs GROUP BY tenant_id, month
"""
POSTS = """
INSERT INTO social_posts (id, tenant_id, video_id, account_id, attempt_group, status, caption, scheduled_for,
                          external_id, permalink, error_message, submitted_at, published_at, created_at, title,
                          hashtags, error_code, job_id, claimed_at, updated_at, measure_at)
SELECT pg_temp.post(n), pg_temp.tenant(n / 2 % {tenants}), pg_temp.video(n),
       pg_temp.id(10, n / 2 % {tenants}, '{now}'), n % 2 + 1, status, 'Bread, slowly.', pg_temp.posted(n),
       CASE WHEN status = 'published' THEN 'outside-' || n END,
       CASE WHEN status = 'published' THEN 'https://social.example/' || n END,
       CASE WHEN status = 'failed' THEN 'account may not post' WHEN status = 'unconfirmed' THEN 'no answer' END,
       CASE WHEN status IN ('published', 'unconfirmed', 'submitting') THEN pg_temp.posted(n) END,
       CASE WHEN status = 'published' THEN pg_temp.posted(n) END, pg_temp.posted(n) - interval '1 hour',
       'Why bakers wake at three', ARRAY['#bread'], CASE WHEN status = 'failed' THEN 'refused' END,
       pg_temp.job({finished} - n % 1000 / 10 * 10 - 2),
       CASE WHEN status IN ('unconfirmed', 'submitting', 'claimed') THEN pg_temp.posted(n) END, pg_temp.posted(n),
       CASE WHEN status = 'published' AND n % 5 = 0 THEN '{now}'::timestamptz + interval '1 hour' END
FROM generate_series(1, {posts}::bigint) AS n,
     LATERAL (SELECT CASE WHEN n % 2 = 1 THEN CASE WHEN n % 40 = 1 THEN 'failed' ELSE 'cancelled' END
                          WHEN n % 1000 = 4 THEN 'unconfirmed'
                          WHEN n % 2000 = 6 THEN 'submitting' WHEN n % 300 = 8 THEN 'scheduled'
                          WHEN n % 700 = 10 THEN 'needs_approval' WHEN n % 500 = 12 THEN 'missed'
                          ELSE 'published' END AS status) AS state
"""
POST_EVENTS = """
INSERT INTO post_events (tenant_id, post_id, kind, message, job_id, at)
SELECT tenant_id, id, kind, message, job_id, created_at + interval '1 minute' * part
FROM social_posts, (VALUES (0, 'scheduled', 'asked for by its owner'), (1, 'claimed', 'it is time'),
                           (2, 'submitted', 'the platform was asked')) AS e (part, kind, message)
"""
SUBMITTED = """
INSERT INTO post_submissions (id, tenant_id, post_id, created_at)
SELECT pg_temp.id(12, row_number() OVER (ORDER BY id), submitted_at), tenant_id, id, submitted_at FROM social_posts
WHERE submitted_at IS NOT NULL
"""
FEEDBACK = """
INSERT INTO performance_feedback (id, tenant_id, post_id, platform, horizon, views, likes, shares, comments,
                                  predicted_score, actual_score, observed_at, definition, learned_at)
SELECT pg_temp.id(13, row_number() OVER (ORDER BY id), published_at), tenant_id, id, 'tiktok', '24h', 900, 80, 4, 7,
       6.5, 6.1, published_at + interval '1 day', 'views', published_at + interval '25 hours'
FROM social_posts WHERE status = 'published' AND published_at < '{now}'::timestamptz - interval '2 days'
"""
LEARNERS = """
INSERT INTO learners (tenant_id, platform, horizon, definition, outcomes, champion, updated_at)
SELECT pg_temp.tenant(n), 'tiktok', '24h', 'views', n % 90, CASE WHEN n % 9 = 1 THEN 'ridge' ELSE 'prior' END,
       '{now}'::timestamptz - interval '1 minute' * n
FROM generate_series(0, {tenants}::bigint - 1) AS n WHERE n % 5 = 0
"""
USAGE = """
INSERT INTO api_usage (tenant_id, kind, name, status_code, duration_ms, tokens_in, tokens_out, cost_usd, job_id,
                       created_at)
SELECT pg_temp.tenant(n % {tenants}), 'llm', 'claude', 200, 4000, 2000, 900, 0.0123,
       pg_temp.job({archived} + n * ({finished} - {archived}) / {usage} / 10 * 10 - 4),
       pg_temp.ended({archived} + n * ({finished} - {archived}) / {usage} / 10 * 10 - 4)
FROM generate_series(2, {usage}::bigint) AS n
"""
SCHEDULE_RUNS = """
INSERT INTO schedule_fires (schedule, fire_at, job_id, created_at)
SELECT name, date_trunc('hour', '{now}'::timestamptz) - step * n, pg_temp.job(({finished} - n * 10) / 10 * 10 - 1),
       date_trunc('hour', '{now}'::timestamptz) - step * n
FROM (VALUES ('quota.reset_due', interval '1 hour', 1000), ('posting.due', interval '1 minute', 10000),
             ('billing.reconcile', interval '1 day', 100)) AS s (name, step, runs), generate_series(0, runs) AS n
WHERE ({finished} - n * 10) / 10 * 10 > 10
"""
WORKERS = """
INSERT INTO workers (id, hostname, pid, queues, version, started_at, heartbeat_at, lease_until, draining)
SELECT pg_temp.worker(n), 'dyno-' || n, 100 + n, ARRAY['events','default','llm','media','render','social'],
       CASE WHEN n = 4 THEN '1.40.2' ELSE '1.41.0' END, '{now}'::timestamptz - interval '3 hours', '{now}',
       '{now}'::timestamptz + CASE WHEN n = 5 THEN interval '-20 minutes' ELSE interval '1 day' END, n = 4
FROM generate_series(0, 5) AS n
"""
POLICIES = """
INSERT INTO queue_policies (queue, tenant_id, paused_at, max_running, max_running_per_tenant)
VALUES ('render', NULL, '{now}'::timestamptz - interval '20 minutes', NULL, NULL), ('llm', NULL, NULL, 40, 8),
       ('llm', pg_temp.tenant(7), '{now}'::timestamptz - interval '2 hours', NULL, NULL)
"""
CHANGES = """
INSERT INTO changes (at, kind, subject, before, after, cause)
SELECT '{now}'::timestamptz - interval '395 days' * power(1 - n::float8 / {changes}, 2), kind, subject,
       jsonb_build_object(name, '1.' || 41 - ({changes} - n) / 100 - 1 || '.0'),
       jsonb_build_object(name, '1.' || 41 - ({changes} - n) / 100 || '.0'), 'person:ada'
FROM generate_series(1, {changes}::bigint) AS n,
     LATERAL (SELECT * FROM (VALUES ('deploy', 'worker', 'release'), ('setting', 'web', 'trends_contact'),
                                    ('limit', 'llm', 'max_running'), ('pause', 'render', 'paused'),
                                    ('migration', 'database', 'revision')) AS c (kind, subject, name)
              OFFSET n % 5 LIMIT 1) AS change
"""
# A tenth of what operators did was done in bulk, ten things at a time; the newest bulk action was not started yet.
BULKS = """
INSERT INTO bulk_actions (id, at, who, action, chosen, reason, state, items, started_at, ended_at, job_id)
SELECT pg_temp.id(12, n, at), at, 'operator:ada', 'job.retry', '{{"status": "failed"}}',
       CASE WHEN n > 1 THEN 'the model is back' END, CASE WHEN n > 1 THEN 'completed' ELSE 'previewed' END, 10,
       CASE WHEN n > 1 THEN at END, CASE WHEN n > 1 THEN at + interval '3 seconds' END,
       CASE WHEN n > 1 THEN pg_temp.job({finished} - n % {finished}) END
FROM generate_series(1, {actions}::bigint / 10) AS n, LATERAL (SELECT pg_temp.acted((n - 1) * 10) AS at) AS moment
"""
BULK_ITEMS = """
INSERT INTO bulk_items (bulk_id, position, target, outcome, says, at)
SELECT pg_temp.id(12, n, at), position, 'job:' || pg_temp.job({finished} - (n * 10 + position) % {finished}),
       CASE WHEN n > 1 THEN CASE WHEN position = 7 THEN 'refused' ELSE 'done' END END,
       CASE WHEN n > 1 THEN CASE WHEN position = 7 THEN 'another job of the same key is live' ELSE 'due again' END END,
       CASE WHEN n > 1 THEN at END
FROM generate_series(1, {actions}::bigint / 10) AS n, generate_series(0, 9) AS position,
     LATERAL (SELECT pg_temp.acted((n - 1) * 10) AS at) AS moment
"""
ACTED = """
INSERT INTO operator_actions (id, at, who, action, target, arguments, reason, outcome, says, before, after, ended_at,
                              bulk_id)
SELECT pg_temp.id(13, n, at), at, (ARRAY['operator:ada','operator:grace','person:root'])[n % 3 + 1], action, target,
       '{{}}', CASE WHEN n % 2 = 0 THEN 'the model is back' END,
       CASE n % 20 WHEN 3 THEN 'refused' WHEN 5 THEN 'begun' ELSE 'done' END,
       CASE n % 20 WHEN 3 THEN 'it is running, and only a failed or cancelled job can be' WHEN 5 THEN NULL
            ELSE 'due again' END,
       jsonb_build_object('status', 'failed'), jsonb_build_object('status', 'pending'),
       CASE WHEN n % 20 <> 5 THEN at + interval '20 milliseconds' END,
       CASE WHEN n % 10 = 0 AND n > 10 THEN pg_temp.id(12, n / 10, pg_temp.acted(n - 10)) END
FROM generate_series(1, {actions}::bigint) AS n, LATERAL (SELECT pg_temp.acted(n) AS at) AS moment,
     LATERAL (SELECT CASE n % 4 WHEN 0 THEN 'job.retry' WHEN 1 THEN 'job.cancel' WHEN 2 THEN 'post.retry'
                          ELSE 'queue.pause' END AS action,
                     CASE n % 4 WHEN 2 THEN 'post:' || pg_temp.post(n % {posts}) WHEN 3 THEN 'queue:render'
                          ELSE 'job:' || pg_temp.job({finished} - n % {finished}) END AS target) AS what
"""
SERIES = """
INSERT INTO system_metrics (name, value, labels, at, step, buckets)
SELECT name, CASE WHEN cases > 0 THEN (5 + pg_temp.draw(n * 50 + row, 20, 100)) * 0.05
                  ELSE pg_temp.draw(n * 50 + row, 20, 100) END, labels, at, step,
       CASE WHEN cases > 0 THEN array_fill(0::bigint, ARRAY[cases - 4])
                 || ARRAY[pg_temp.draw(n * 50 + row, 21, 40), pg_temp.draw(n * 50 + row, 22, 9), 0, 0]::bigint[] END
FROM unnest(%(names)s::text[], %(labels)s::jsonb[], %(cases)s::int[]) WITH ORDINALITY AS s (name, labels, cases, row),
     LATERAL (
         SELECT n, 'minute' AS step, date_trunc('minute', '{now}'::timestamptz) - interval '1 minute' * n AS at
         FROM generate_series(0, {metric_minutes}::bigint) AS n UNION ALL
         SELECT n, 'hour', date_trunc('hour', '{now}'::timestamptz) - interval '1 hour' * n
         FROM generate_series(1, {metric_hours}::bigint) AS n
     ) AS moment
"""
TOTALS = """
INSERT INTO metric_totals (name, labels, value, buckets)
SELECT name, labels, 12345, CASE WHEN cases > 0 THEN array_fill(100::bigint, ARRAY[cases]) END
FROM unnest(%(names)s::text[], %(labels)s::jsonb[], %(cases)s::int[]) AS s (name, labels, cases)
"""

FIRST = (TENANTS, WEEKS)
IN_TURN = (
    *(LIVE, ARCHIVE, PENDING, IN_BACKOFF, RUNNING, FAILED, FAILED_ATTEMPTS, STEPS, WORKERS, POLICIES),
    *(LEDGER, USERS, CUSTOMERS, SUBSCRIPTIONS, ACCOUNTS, VIDEOS, SUBMISSIONS, BUDGETS, POSTS, POST_EVENTS, SUBMITTED),
    *(FEEDBACK, LEARNERS, USAGE, SCHEDULE_RUNS),
)
BESIDE = (EVENTS, CHANGES, BULKS, BULK_ITEMS, ACTED, TOTALS, SERIES)

LABELS_OF_CODE = {
    "queue": ("events", "default", "llm", "media", "render", "social"),
    "job_type": ("billing.apply_stripe_event", "videos.render", "posting.publish"),
    "schedule": ("posting.due",),
    "version": ("1.41.0",),
}
MOST_OF_A_LABEL = 2

LARGE = ("job_queue", "webhook_events", "system_metrics")
MANY = 100_000
"""From so many rows on their indexes are made afterwards."""
THREADS = 2


def fill(url: str, world: World = WHOLE, *, seed: int = 1) -> None:
    """Fill the migrated, empty database at `url` (of a superuser)."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = _of(world, _now(connection), seed)
        _run(connection, names, FIRST)
        indexes = _drop_indexes(connection) if world.finished >= MANY else []
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda part: _beside(url, names, part), (IN_TURN, BESIDE)))
        list(threads.map(lambda index: _beside(url, names, (index,)), indexes))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _beside(url: str, names: Mapping[str, object], statements: Sequence[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        _run(connection, names, statements)


def _run(connection: psycopg.Connection[TupleRow], names: Mapping[str, object], statements: Sequence[str]) -> None:
    for statement in (*_begin(), *statements):
        _execute(connection, statement, names)


def _drop_indexes(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Drop what is quicker made for all rows at once. Returns the statements that make it again, as templates."""
    found = connection.execute(
        """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid::regclass::text = ANY(%s) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
          AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = indexrelid)
        ORDER BY indrelid, pg_get_indexdef(indexrelid)
        """,
        (list(LARGE),),
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}".encode())
    return [definition.replace("{", "{{").replace("}", "}}") for _, definition in found]


def _now(connection: psycopg.Connection[TupleRow]) -> datetime:
    [(moment,)] = connection.execute("SELECT date_trunc('milliseconds', now())").fetchall()
    found: datetime = moment
    return found


def _of(world: World, now: datetime, seed: int) -> dict[str, object]:
    numbers: dict[str, object] = dict(vars(world))
    return numbers | {
        "now": now.isoformat(),
        "seed": seed,
        "archived": world.archived,
        "live": world.finished - world.archived,
        "errors": ERRORS,
        "usage": max(20, world.finished // 20),
    }


def _begin() -> Iterator[str]:
    yield "SET session_replication_role = replica"
    yield "SET synchronous_commit = off"
    yield "SET timezone = 'UTC'"
    yield "SET maintenance_work_mem = '256MB'"
    yield TOOLS


def _execute(connection: psycopg.Connection[TupleRow], statement: str, names: Mapping[str, object]) -> None:
    text = statement.format(**names)
    if "%(names)s" in text:
        series = list(_series())
        values = {
            "names": [name for name, _, _ in series],
            "labels": [labels for _, labels, _ in series],
            "cases": [cases for _, _, cases in series],
        }
        connection.execute(text.encode(), values)
    else:
        connection.execute(text.encode())


def _series() -> Iterator[tuple[str, str, int]]:
    """Names of metrics with labels as JSON, and how many buckets (0: it has none). As many as a system of this size
    keeps: the first values of each label."""
    yield SAMPLED, "{}", 0  # a scheduler looked in each of these minutes, and has rolled their hours up
    for metric in ALL:
        if metric.kind is Kind.GAUGE and not metric.sampled:
            continue
        for labels in _labels(metric, metric.labels):
            yield metric.name, "{" + ", ".join(f'"{key}": "{value}"' for key, value in labels) + "}", _cases(metric)


def _labels(metric: Metric, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], ...]]:
    if not names:
        yield ()
        return
    values = tuple(metric.values.get(names[0], ())) or LABELS_OF_CODE[names[0]]
    few = values if names[0] == "queue" else values[:MOST_OF_A_LABEL]
    for value in few:
        for rest in _labels(metric, names[1:]):
            yield ((names[0], value), *rest)


def _cases(metric: Metric) -> int:
    return len(metric.buckets) + 1 if metric.buckets else 0

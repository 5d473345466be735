"""a deleted tenant is marked, and nothing begins for it any more

Safe under load: a column without a default, an index that is built without a lock, a short lock of one table at a time
for each trigger, and a constraint that is validated without making anyone wait. Outside a transaction, so that no lock
lasts; every step can be repeated after a failure. The release before begins deletions without a mark: its job, or that
of this release, is followed by one. What it would begin for a marked tenant is refused to it, too.
The column is not `deleted_at`: a query of the release before names one of another table beside `tenants`, and would
not know which is meant.

Tenants that were deleted before get their mark by what operators did.
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

GUARDED = (
    *("api_keys", "autopilots", "competitor_videos", "generations", "imports", "job_queue", "learners", "media"),
    *("oauth_states", "posting_policies", "queue_policies", "quota_holds", "reflexion_insights", "scoring_adjustments"),
    *("self_critiques", "social_accounts", "users", "video_budgets", "webhook_endpoints", "autopilot_accounts"),
    *("videos", "webhook_deliveries", "autopilot_chains", "provider_jobs", "social_posts", "analytics_snapshots"),
    *("missed_horizons", "performance_feedback", "post_predictions", "post_reservations", "post_submissions"),
)

REFUSE = """
    RAISE EXCEPTION USING ERRCODE = 'VD003', MESSAGE = format(
        'tenant %s was deleted on %s', {tenant}, to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
"""
LOOKING = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := (
        SELECT deletion_began_at FROM tenants WHERE id = {tenant} AND deletion_began_at IS NOT NULL
    );
BEGIN
    IF moment IS NOT NULL THEN{refuse}    END IF;
    RETURN NULL;
END
$$
"""
STAYS = f"""
CREATE OR REPLACE FUNCTION tenant_stays_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN{REFUSE.format(tenant="OLD.id", moment="OLD.deletion_began_at")}END
$$
"""
FUNCTIONS = {
    "tenant_is_not_deleted": LOOKING.format(
        name="tenant_is_not_deleted",
        tenant="NEW.tenant_id",
        refuse=REFUSE.format(tenant="NEW.tenant_id", moment="moment"),
    ),
    "home_is_not_deleted": LOOKING.format(
        name="home_is_not_deleted", tenant="NEW.home_id", refuse=REFUSE.format(tenant="NEW.home_id", moment="moment")
    ),
    "tenant_stays_deleted": STAYS,
}

TRIGGERS = {
    **{
        ("tenant_is_not_deleted", table): f"""
CREATE OR REPLACE TRIGGER tenant_is_not_deleted AFTER INSERT OR UPDATE OF tenant_id ON {table} FOR EACH ROW
WHEN (NEW.tenant_id IS NOT NULL{" AND NEW.cause IS NULL" if table == "job_queue" else ""})
EXECUTE FUNCTION tenant_is_not_deleted()
"""
        for table in GUARDED
    },
    ("tenant_is_not_deleted_again", "job_queue"): """
CREATE OR REPLACE TRIGGER tenant_is_not_deleted_again AFTER UPDATE OF status ON job_queue FOR EACH ROW
WHEN (NEW.tenant_id IS NOT NULL AND NEW.status = 'pending' AND OLD.status <> 'running' AND OLD.status <> 'pending')
EXECUTE FUNCTION tenant_is_not_deleted()
""",
    ("home_is_not_deleted", "account_tenants"): """
CREATE OR REPLACE TRIGGER home_is_not_deleted AFTER INSERT OR UPDATE OF home_id ON account_tenants FOR EACH ROW
EXECUTE FUNCTION home_is_not_deleted()
""",
    ("tenant_stays_deleted", "tenants"): """
CREATE OR REPLACE TRIGGER tenant_stays_deleted BEFORE UPDATE ON tenants FOR EACH ROW
WHEN (OLD.deletion_began_at IS NOT NULL AND (
    NEW.deletion_began_at IS NULL OR NEW.subscription_tier <> 'FREE' OR NEW.monthly_quota > 0 OR NEW.quota_granted > 0
    OR NEW.daily_enabled OR NEW.stripe_subscription_id IS NOT NULL
    OR NEW.stripe_customer_id IS DISTINCT FROM OLD.stripe_customer_id AND NEW.stripe_customer_id IS NOT NULL
)) EXECUTE FUNCTION tenant_stays_deleted()
""",
}

SIGNATURE = """
CREATE OR REPLACE FUNCTION enqueue_job(
    id uuid, job_type text, queue text, tenant_id uuid, payload jsonb, priority integer, max_attempts integer,
    unique_key text, ordering_key text, cost integer, payload_version integer, cause text, traceparent text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN"""
ENQUEUE = f"""{SIGNATURE}
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version, cause, traceparent)
    SELECT enqueue_job.id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
           cost, payload_version, cause, traceparent
    WHERE enqueue_job.tenant_id IS NULL OR NOT EXISTS (
        SELECT FROM tenants t WHERE t.id = enqueue_job.tenant_id AND t.deletion_began_at IS NOT NULL
    );
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'VD003', MESSAGE = format('tenant %s was deleted on %s', tenant_id, (
            SELECT to_char(t.deletion_began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM tenants t
            WHERE t.id = enqueue_job.tenant_id));
    END IF;
END $$
"""
ENQUEUE_BEFORE = f"""{SIGNATURE}
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version, cause, traceparent)
    VALUES (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
            cost, payload_version, cause, traceparent);
END $$
"""

# The moment at which its deletion was last asked for.
MARK = """
UPDATE tenants t SET deletion_began_at = action.at, subscription_tier = 'FREE', stripe_subscription_id = NULL,
    monthly_quota = 0, quota_granted = 0, quota_paid_until = quota_reset_at, daily_enabled = false
FROM (
    SELECT target, max(at) AS at FROM operator_actions WHERE action = 'tenants.delete' GROUP BY target
) AS action
WHERE action.target = 'tenant:' || t.id AND t.name = 'deleted' AND t.deletion_began_at IS NULL
"""

STATUSES = (
    *("received", "applied", "stale", "duplicate"),
    *("parked:unknown_customer", "parked:unknown_tenant", "parked:other_customer", "parked:unknown_price"),
    *("parked:thin", "parked:incomplete", "parked:unfetchable", "parked:unknown_user", "parked:unknown_organization"),
    *("ignored:type", "ignored:other_mode", "ignored:connected_account", "ignored:other_instance"),
    *("ignored:checkout_mode", "ignored:no_subscription", "ignored:no_tenant_named", "ignored:price_for_sale"),
    *("ignored:other_price", "ignored:gone", "ignored:actor", "ignored:other"),
)
KNOWN = ", ".join(f"'{status}'" for status in STATUSES)
OLD_FLAG = (
    "refund|dispute|fraud_warning|unknown_status|price_retired|other_tenant_named|several_subscriptions|unpaid_change"
    "|incomplete|contradiction|other"
)
NEW_FLAG = OLD_FLAG.removesuffix("other") + "deleted_tenant|other"
CHECK = "webhook_events_outcome_check"

# Each statement is a transaction of its own, and brings its settings: behind a pooler the next one has another session.
ALONE = """
DO $alone$ BEGIN
    SET LOCAL lock_timeout = '5s';
    SET LOCAL app.tenant_id = '*';
    {statement};
END $alone$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    with op.get_context().autocommit_block():
        _alone("ALTER TABLE tenants ADD COLUMN IF NOT EXISTS deletion_began_at timestamptz")
        # One that an interrupted run left behind is invalid: made anew.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS tenants_deleted_idx")
        op.execute("CREATE INDEX CONCURRENTLY tenants_deleted_idx ON tenants (id) WHERE deletion_began_at IS NOT NULL")
        _flags(NEW_FLAG)
        _alone(MARK)
        for function in FUNCTIONS.values():
            _alone(function)
        for trigger in TRIGGERS.values():
            _alone(trigger)
        _alone(ENQUEUE)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    with op.get_context().autocommit_block():
        _alone(ENQUEUE_BEFORE)
        for name, table in TRIGGERS:
            _alone(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        for name in FUNCTIONS:
            _alone(f"DROP FUNCTION IF EXISTS {name}()")
        _alone("UPDATE webhook_events SET flag = 'other' WHERE flag ~ 'deleted_tenant'")
        _flags(OLD_FLAG)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS tenants_deleted_idx")
        _alone("ALTER TABLE tenants DROP COLUMN IF EXISTS deletion_began_at")


def _flags(flag: str) -> None:
    flags = f"^({flag})(,({flag}))*$"
    _alone(f"""
CREATE OR REPLACE FUNCTION event_outcome() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.status LIKE 'ignored:%' AND NEW.status NOT IN ({KNOWN}) THEN
        NEW.detail := left(substr(NEW.status, 9), 300);
        NEW.status := CASE WHEN NEW.status LIKE 'ignored:unhandled %' THEN 'ignored:type' ELSE 'ignored:other' END;
    END IF;
    IF NEW.flag !~ '{flags}' THEN
        NEW.detail := left(concat_ws('; ', NEW.detail, NEW.flag), 300);
        NEW.flag := 'other';
    END IF;
    RETURN NEW;
END
$body$
""")
    _alone(f"""
CREATE OR REPLACE TRIGGER event_outcome_is_a_word BEFORE UPDATE OF status, flag ON webhook_events FOR EACH ROW
WHEN (NEW.status NOT IN ({KNOWN}) OR NEW.flag !~ '{flags}') EXECUTE FUNCTION event_outcome()
""")
    _alone(
        f"ALTER TABLE webhook_events DROP CONSTRAINT IF EXISTS {CHECK}, ADD CONSTRAINT {CHECK} CHECK "
        f"(status IN ({KNOWN}) AND flag ~ '{flags}' AND char_length(detail) <= 300) NOT VALID"
    )
    _alone(f"ALTER TABLE webhook_events VALIDATE CONSTRAINT {CHECK}")


def _alone(statement: str) -> None:
    op.execute(ALONE.format(statement=statement))

"""Tenants, what they have used, and the triggers that keep the count and its ledger in agreement."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from db.schema.base import (
    EARLIEST,
    LATEST,
    after_tables,
    boolean,
    count,
    one_of,
    readable_times,
    string,
    table,
    tenant_id,
    timestamp,
    uuid_key,
)
from domain.billing.tiers import Tier

LEDGER_KINDS = ("grant", "hold", "settle", "release", "reset", "adjust", "extra")
CONSUMPTION = "kind IN ('hold', 'settle', 'release', 'adjust')"
"""The condition on ledger entries whose sum is what a tenant has used; the others say why it began anew, or what there
is."""
IN_ONE_MONTH = sa.text("(((now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')")

tenants = table(
    "tenants",
    uuid_key(),
    string("name", nullable=False),
    string("subscription_tier", default="FREE"),
    string("subscription_status", default="none"),
    string("stripe_customer_id"),
    string("stripe_subscription_id"),
    count("monthly_quota", 10),
    count("used_quota"),
    timestamp("quota_anchor", now=True),
    timestamp("quota_period_start", now=True),
    sa.Column("quota_reset_at", sa.DateTime(timezone=True), server_default=IN_ONE_MONTH, nullable=False),
    timestamp("quota_paid_until"),
    timestamp("quota_restarted_at"),
    timestamp("quota_drawn_until"),
    # The region of their trends, their clock, and whether they get concepts every day.
    string("region", default="US"),
    string("timezone", default="UTC"),
    boolean("daily_enabled"),
    sa.Column("daily_hour", sa.SmallInteger, server_default=sa.text("9"), nullable=False),
    count("daily_count", 5),
    sa.Column("daily_last_on", sa.Date),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    # What support granted for this period on top of the plan's, or took.
    sa.Column("quota_granted", sa.Integer, server_default=sa.text("0"), nullable=False),
    # From then on nothing begins for it: `db/schema/deletion.py`.
    timestamp("deletion_began_at"),
    one_of("subscription_tier", Tier),
    sa.CheckConstraint("daily_hour BETWEEN 0 AND 23", name="daily_hour"),
    sa.CheckConstraint("daily_count BETWEEN 1 AND 20", name="daily_count"),
    sa.CheckConstraint("used_quota >= 0", name="used_quota"),
    sa.CheckConstraint("monthly_quota >= 0", name="monthly_quota"),
    # The index is partial, so that a change of the column is no change of a key: see `db/postgres/locks.py`.
    sa.Index(
        "tenants_stripe_customer_id_key",
        "stripe_customer_id",
        unique=True,
        postgresql_where=sa.text("stripe_customer_id IS NOT NULL"),
    ),
    sa.CheckConstraint(f"quota_drawn_until BETWEEN '{EARLIEST}' AND '{LATEST}'", name="quota_drawn_until"),
    sa.CheckConstraint("daily_last_on BETWEEN '1970-01-01' AND '9999-01-01'", name="daily_last_on"),
    readable_times(
        *("quota_anchor", "quota_period_start", "quota_reset_at", "quota_paid_until", "quota_restarted_at"),
        *("created_at", "updated_at"),
    ),
    sa.Index("tenants_quota_reset_at_idx", "quota_reset_at"),
    sa.Index("tenants_deleted_idx", "id", postgresql_where=sa.text("deletion_began_at IS NOT NULL")),
    sa.Index("tenants_daily_idx", "id", postgresql_where=sa.text("daily_enabled")),
)

quota_holds = table(
    "quota_holds",
    sa.Column("job_id", UUID(), primary_key=True),
    tenant_id(),
    sa.Column("count", sa.Integer, nullable=False),
    timestamp("taken_at", now=True),
    string("status", default="held"),
    timestamp("created_at", now=True),
    timestamp("closed_at"),
    one_of("status", ("held", "settled", "released")),
    sa.CheckConstraint("count > 0", name="count"),
    sa.Index("quota_holds_tenant_id_idx", "tenant_id", "status"),
)

quota_ledger = table(
    "quota_ledger",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    tenant_id(),
    string("kind", nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("used_after", sa.Integer, nullable=False),
    sa.Column("quota_after", sa.Integer, nullable=False),
    timestamp("period_start", nullable=False),
    string("cause", nullable=False),
    timestamp("at", now=True),
    timestamp("taken_at", now=True),
    one_of("kind", LEDGER_KINDS),
    sa.Index("quota_ledger_tenant_id_idx", "tenant_id", "id"),
    sa.Index("quota_ledger_tenant_id_taken_at_idx", "tenant_id", "taken_at"),
)

# A tenant that another program inserts has used its concepts in the period that ends at `quota_reset_at`.
after_tables(
    """
CREATE FUNCTION quota_period_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.quota_period_start := (NEW.quota_reset_at AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER quota_period_ends_at_reset BEFORE INSERT ON tenants
FOR EACH ROW WHEN (NEW.quota_period_start >= NEW.quota_reset_at) EXECUTE FUNCTION quota_period_ends()
""",
)

# Whoever begins a period, the release before and other programs too, ends what was granted in the one before it.
after_tables(
    """
CREATE FUNCTION quota_grants_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.quota_granted := 0;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER quota_grants_end_with_period BEFORE UPDATE ON tenants
FOR EACH ROW WHEN (NEW.quota_granted <> 0 AND NEW.quota_period_start <> OLD.quota_period_start)
EXECUTE FUNCTION quota_grants_end()
""",
)

# A change of `tenants.used_quota` by another program is entered into the ledger when it commits. The owner's rights do
# not exceed row-level security, and a transaction may end in another tenant's scope: hence the scope for the length of
# the function, if that of the transaction sees other rows. The settings make the last entry the first that the index
# by (tenant_id, id) has: Postgres expects few entries of a tenant, and would read and sort all.
after_tables(
    """
CREATE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp SET enable_sort = off AS $$
DECLARE
    scope text := coalesce(current_setting('app.tenant_id', true), '');
    elsewhere boolean := scope NOT IN ('*', NEW.id::text);
    entered integer;
    tenant tenants;
    happened timestamptz;
BEGIN
    IF elsewhere THEN
        PERFORM set_config('app.tenant_id', NEW.id::text, true);
    END IF;
    entered := (SELECT used_after FROM quota_ledger WHERE tenant_id = NEW.id ORDER BY id DESC LIMIT 1);
    entered := coalesce(entered, 0);
    IF entered <> NEW.used_quota THEN
        -- Not NEW: a row that is written twice in one transaction gets here twice, after both.
        SELECT * INTO tenant FROM tenants WHERE id = NEW.id;
        happened := greatest(tenant.quota_period_start, tenant.quota_restarted_at,
                             CASE TG_OP WHEN 'UPDATE' THEN clock_timestamp() END);
        IF tenant.used_quota < entered THEN
            -- The old count ends with its last moment; the new one begins with what is left.
            INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
            VALUES (tenant.id, 'adjust', -entered, 0, tenant.monthly_quota, tenant.quota_period_start,
                    'sql:' || session_user, happened);
            entered := 0;
            happened := happened + interval '1 microsecond';
            UPDATE tenants SET quota_restarted_at = happened WHERE id = tenant.id;
        END IF;
        IF tenant.used_quota > entered THEN
            INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
            VALUES (tenant.id, 'adjust', tenant.used_quota - entered, tenant.used_quota, tenant.monthly_quota,
                    tenant.quota_period_start, 'sql:' || session_user, happened);
        END IF;
    END IF;
    IF elsewhere THEN
        PERFORM set_config('app.tenant_id', scope, true);
    END IF;
    RETURN NULL;
END
$$
""",
    """
CREATE CONSTRAINT TRIGGER quota_agrees_with_ledger AFTER INSERT ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.used_quota <> 0) EXECUTE FUNCTION quota_agrees()
""",
    """
CREATE CONSTRAINT TRIGGER quota_still_agrees_with_ledger AFTER UPDATE ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.used_quota <> NEW.used_quota) EXECUTE FUNCTION quota_agrees()
""",
    "REVOKE ALL ON FUNCTION quota_agrees() FROM PUBLIC",
)

# An entry that differs from `tenants.used_quota` when it commits is refused.
after_tables(
    """
CREATE FUNCTION quota_entry_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := coalesce(current_setting('app.tenant_id', true), '');
    elsewhere boolean := scope NOT IN ('*', NEW.tenant_id::text);
    used integer;
    entered integer;
BEGIN
    IF elsewhere THEN
        PERFORM set_config('app.tenant_id', NEW.tenant_id::text, true);
    END IF;
    used := (SELECT used_quota FROM tenants WHERE id = NEW.tenant_id);
    IF used <> NEW.used_after THEN
        -- The last of several entries counts; it has its own turn here.
        SELECT used_after INTO entered FROM quota_ledger WHERE tenant_id = NEW.tenant_id ORDER BY id DESC LIMIT 1;
        IF used <> entered THEN
            RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = format(
                'tenant %s has used %s, and its quota ledger says %s', NEW.tenant_id, used, entered);
        END IF;
    END IF;
    IF elsewhere THEN
        PERFORM set_config('app.tenant_id', scope, true);
    END IF;
    RETURN NULL;
END
$$
""",
    """
CREATE CONSTRAINT TRIGGER quota_entry_agrees_with_tenant AFTER INSERT ON quota_ledger
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION quota_entry_agrees()
""",
    "REVOKE ALL ON FUNCTION quota_entry_agrees() FROM PUBLIC",
)

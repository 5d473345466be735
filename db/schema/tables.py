"""The whole schema on one page; `migrations/` makes it, and a test proves that the two agree.

Every table has row-level security (see `db/security.py`): a row is seen in the system scope, or in the scope of
the tenant whose id it carries. References between tenant-owned tables include `tenant_id`, so that no row can
point at another tenant's. Columns that other programs need not know have defaults: a row inserted into
`job_queue` by plain SQL is an enqueued job.
"""

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from domain.events.outcomes import MOST_DETAIL, Flag, Status, listed

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

TIERS = ("FREE", "STARTER", "PRO", "AGENCY")
ROLES = ("ADMIN", "MEMBER")
PLATFORMS = ("tiktok", "youtube-shorts", "instagram-reels")
JOB_STATUSES = ("pending", "running", "completed", "failed", "cancelled")
VIDEO_STATUSES = ("pending", "rendering", "completed", "failed")
POST_STATUSES = (
    "draft",
    "scheduled",
    "claimed",
    "submitting",
    "submitted",
    "processing",
    "published",
    "failed",
    "unconfirmed",
)
ATTEMPT_OUTCOMES = ("failed", "rejected", "lost", "returned", "snoozed", "cancelled")
LEDGER_KINDS = ("grant", "hold", "settle", "release", "reset", "adjust")
CONSUMPTION = "kind IN ('hold', 'settle', 'release', 'adjust')"
"""The entries whose sum is what a tenant has used; the others say why it began anew, or what there is."""

FLAGS = f"^({'|'.join(Flag)})(,({'|'.join(Flag)}))*$"
"""Flags of events, between commas."""

EARLIEST, LATEST = "1970-01-01Z", "9999-01-01Z"
"""Between these is every time that other programs may write: what lies outside, or is infinite, not all can read."""

NOW = text("now()")
EMPTY_OBJECT = text("'{}'::jsonb")
EMPTY_LIST = text("'[]'::jsonb")
LIVE = "status IN ('pending', 'running')"
LANE = """
CASE
    WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
    ELSE tenant_id
END"""
"""Whose turn it is among the jobs of a queue; what belongs to no tenant has a lane of its own. Not COALESCE: under
row-level security the planner does not take that for safe, and would not look it up in an index. Written as Postgres
writes it, so that Alembic finds no difference."""
NEW_JOB_ID = """
CREATE FUNCTION new_job_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$
"""
"""A version 7 UUID (RFC 9562), as in `domain/ids.py`: 48 bits of time in front. Postgres 18 has a function for it."""
event.listen(metadata, "before_create", DDL(NEW_JOB_ID))  # type: ignore[no-untyped-call]

SEARCHED = """
lower(
    jsonb_path_query_array(concepts, '$[*].title'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].caption'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].hashtags[*]'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].trendSource'::jsonpath)::text
    || jsonb_path_query_array(trends, '$[*].topic'::jsonpath)::text
)"""
"""What a search looks through: texts as JSON writes them, in small letters. No index would serve it: under row-level
security an index is only asked by operators that cannot leak, and neither LIKE nor a text search is one of them."""

IN_ONE_MONTH = text("(((now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _meant(*times: str) -> CheckConstraint:
    """The times are within those that every program can read. One constraint for all of them: what a statement pays for
    a constraint, it pays again each time that it is executed."""
    listed = ", ".join(times)
    return CheckConstraint(f"least({listed}) >= '{EARLIEST}' AND greatest({listed}) <= '{LATEST}'", name="times")


def _id() -> Column[Any]:
    return Column("id", UUID(), primary_key=True, server_default=text("gen_random_uuid()"))


def _time(name: str, *, default: Any = None, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), server_default=default, nullable=nullable)


def _created() -> Column[Any]:
    return _time("created_at", default=NOW, nullable=False)


def _updated() -> Column[Any]:
    return _time("updated_at", default=NOW, nullable=False)


def _tenant() -> Column[Any]:
    return Column("tenant_id", UUID(), ForeignKey("tenants.id"), nullable=False)


def _text(name: str, *, default: str | None = None, nullable: bool = True, unique: bool = False) -> Column[Any]:
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, Text, server_default=server_default, nullable=nullable and default is None, unique=unique)


def _count(name: str, default: int = 0, kind: type[Integer] = Integer) -> Column[Any]:
    return Column(name, kind, server_default=text(str(default)), nullable=False)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, server_default=text("false"), nullable=False)


def _json(name: str, default: Any = None) -> Column[Any]:
    return Column(name, JSONB, server_default=default, nullable=default is None)


def _within_tenant(column: str, parent: str) -> ForeignKeyConstraint:
    """A reference that cannot leave its tenant."""
    return ForeignKeyConstraint(["tenant_id", column], [f"{parent}.tenant_id", f"{parent}.id"])


# --- who ----------------------------------------------------------------------------------------------------

tenants = Table(
    "tenants",
    metadata,
    _id(),
    _text("name", nullable=False),
    _text("subscription_tier", default="FREE"),
    _text("subscription_status", default="none"),
    _text("stripe_customer_id"),
    _text("stripe_subscription_id"),
    _count("monthly_quota", 10),
    _count("used_quota"),
    _time("quota_anchor", default=NOW, nullable=False),
    _time("quota_period_start", default=NOW, nullable=False),
    _time("quota_reset_at", default=IN_ONE_MONTH, nullable=False),
    _time("quota_paid_until"),
    _time("quota_restarted_at"),
    _time("quota_drawn_until"),
    # Whose trends they see, whose clock they live by, and whether they want concepts every day.
    _text("region", default="US"),
    _text("timezone", default="UTC"),
    _flag("daily_enabled"),
    Column("daily_hour", SmallInteger, server_default=text("9"), nullable=False),
    _count("daily_count", 5),
    Column("daily_last_on", Date),
    _created(),
    _updated(),
    _one_of("subscription_tier", TIERS),
    CheckConstraint("daily_hour BETWEEN 0 AND 23", name="daily_hour"),
    CheckConstraint("daily_count BETWEEN 1 AND 20", name="daily_count"),
    CheckConstraint("used_quota >= 0", name="used_quota"),
    CheckConstraint("monthly_quota >= 0", name="monthly_quota"),
    # Partial, so that to change it is no change of a key: see `db/postgres/locks.py`.
    Index(
        "tenants_stripe_customer_id_key",
        "stripe_customer_id",
        unique=True,
        postgresql_where=text("stripe_customer_id IS NOT NULL"),
    ),
    CheckConstraint(f"quota_drawn_until BETWEEN '{EARLIEST}' AND '{LATEST}'", name="quota_drawn_until"),
    CheckConstraint("daily_last_on BETWEEN '1970-01-01' AND '9999-01-01'", name="daily_last_on"),
    _meant(
        *("quota_anchor", "quota_period_start", "quota_reset_at", "quota_paid_until", "quota_restarted_at"),
        *("created_at", "updated_at"),
    ),
    Index("tenants_quota_reset_at_idx", "quota_reset_at"),
    Index("tenants_daily_idx", "id", postgresql_where=text("daily_enabled")),
)

users = Table(
    "users",
    metadata,
    _id(),
    _text("clerk_id", unique=True),
    _text("email"),
    _text("name"),
    _text("image_url"),
    Column("tenant_id", UUID(), ForeignKey("tenants.id")),
    _text("role", default="MEMBER"),
    _time("last_login_at"),
    _time("source_updated_at"),
    _time("deleted_at"),
    _flag("banned"),
    _created(),
    _updated(),
    _one_of("role", ROLES),
    CheckConstraint("tenant_id IS NOT NULL OR deleted_at IS NOT NULL", name="tenant_unless_deleted"),
    _meant("last_login_at", "source_updated_at", "deleted_at", "created_at", "updated_at"),
    Index("users_tenant_id_idx", "tenant_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _tenant(),
    _text("name", nullable=False),
    _text("prefix", nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), server_default=text("'{}'"), nullable=False),
    _time("expires_at"),
    _time("last_used_at"),
    _time("revoked_at"),
    _created(),
    # Refers to `users`, without a foreign key: other programs delete people, and the key then has no maker any more.
    Column("maker_id", UUID()),
    Column("parent_id", UUID()),
    _text("operator"),
    UniqueConstraint("tenant_id", "id"),
    _within_tenant("parent_id", "api_keys"),
    Index("api_keys_tenant_id_idx", "tenant_id"),
    Index("api_keys_maker_id_idx", "maker_id", postgresql_where=text("revoked_at IS NULL")),
)

# --- what the outside told us -------------------------------------------------------------------------------

webhook_events = Table(
    "webhook_events",
    metadata,
    _id(),
    _text("source", nullable=False),
    _text("external_id", nullable=False),
    _text("type", nullable=False),
    _text("api_version"),
    Column("livemode", Boolean),
    _json("payload", EMPTY_OBJECT),
    Column("body", LargeBinary),
    _time("occurred_at"),
    _time("received_at", default=NOW, nullable=False),
    _text("status", default="received"),
    _time("processed_at"),
    Column("job_id", UUID()),
    _text("subject"),
    # What is particular to this event's outcome; the outcome and the flags themselves are words of closed lists.
    _text("detail"),
    _text("flag"),
    _count("duplicates"),
    _time("duplicate_at"),
    # Since when `body` and `payload` are kept no more.
    _time("dropped_at"),
    # One constraint for all of it: ingest pays for each.
    CheckConstraint(
        f"status IN ({listed(Status)}) AND flag ~ '{FLAGS}' AND char_length(detail) <= {MOST_DETAIL}", name="outcome"
    ),
    UniqueConstraint("source", "external_id"),
    Index("webhook_events_received_at_idx", "received_at"),
    Index("webhook_events_parked_idx", "status", "subject", postgresql_where=text("status LIKE 'parked:%'")),
    Index("webhook_events_flag_idx", "received_at", postgresql_where=text("flag IS NOT NULL")),
    Index("webhook_events_subject_idx", "subject", postgresql_where=text("subject IS NOT NULL")),
    # Whose body may be dropped; an event that waits for its job costs nothing here.
    Index(
        "webhook_events_kept_idx",
        *("source", "status", "received_at"),
        postgresql_where=text("processed_at IS NOT NULL AND dropped_at IS NULL"),
    ),
)

EVENT_OUTCOME = f"""
CREATE FUNCTION event_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status LIKE 'ignored:%%' AND NEW.status NOT IN ({listed(Status)}) THEN
        NEW.detail := left(substr(NEW.status, 9), {MOST_DETAIL});
        NEW.status := CASE WHEN NEW.status LIKE 'ignored:unhandled %%' THEN 'ignored:type' ELSE 'ignored:other' END;
    END IF;
    IF NEW.flag !~ '{FLAGS}' THEN
        NEW.detail := left(concat_ws('; ', NEW.detail, NEW.flag), {MOST_DETAIL});
        NEW.flag := 'other';
    END IF;
    RETURN NEW;
END
$$
"""
EVENT_OUTCOME_IS_A_WORD = f"""
CREATE TRIGGER event_outcome_is_a_word BEFORE UPDATE OF status, flag ON webhook_events FOR EACH ROW
WHEN (NEW.status NOT IN ({listed(Status)}) OR NEW.flag !~ '{FLAGS}') EXECUTE FUNCTION event_outcome()
"""
"""The release before writes the sender's words into `status` and `flag`; with it, this may go."""
for statement in (EVENT_OUTCOME, EVENT_OUTCOME_IS_A_WORD):
    event.listen(metadata, "after_create", DDL(statement))  # type: ignore[no-untyped-call]

# A customer may be known before its tenant is, so this refers to none.
stripe_customers = Table(
    "stripe_customers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", UUID()),
    _time("deleted_at"),
    _created(),
    _updated(),
    Index("stripe_customers_tenant_id_idx", "tenant_id", postgresql_where=text("tenant_id IS NOT NULL")),
)

stripe_subscriptions = Table(
    "stripe_subscriptions",
    metadata,
    Column("id", Text, primary_key=True),
    _text("customer_id", nullable=False),
    _text("status", nullable=False),
    Column("price_ids", ARRAY(Text), server_default=text("'{}'"), nullable=False),
    _time("started_at", nullable=False),
    _time("billing_cycle_anchor", nullable=False),
    _time("period_start"),
    _time("period_end"),
    _time("trial_end"),
    _time("cancel_at"),
    _time("ended_at"),
    _time("event_created", nullable=False),
    Column("event_rank", SmallInteger, nullable=False),
    _flag("collection_paused"),
    _time("paused_at"),
    # The whole row as `domain/billing/plan.py` has it; the columns are what people and other programs read.
    Column("told", JSONB),
    _updated(),
    Index("stripe_subscriptions_customer_id_idx", "customer_id"),
)

stripe_invoices = Table(
    "stripe_invoices",
    metadata,
    Column("id", Text, primary_key=True),
    _text("subscription_id", nullable=False),
    _text("customer_id", nullable=False),
    _text("status", nullable=False),
    _text("reason"),
    _time("issued_at", nullable=False),
    _time("due_at"),
    _json("lines", EMPTY_LIST),
    _time("event_created", nullable=False),
    _updated(),
    Index("stripe_invoices_customer_id_idx", "customer_id"),
)

# As the release before reads and writes them; what it was told of, and of which there is no invoice, counts.

stripe_paid_periods = Table(
    "stripe_paid_periods",
    metadata,
    Column("subscription_id", Text),
    _time("period_start", nullable=False),
    _time("period_end", nullable=False),
    _text("customer_id", nullable=False),
    _text("invoice_id", nullable=False),
    _created(),
    PrimaryKeyConstraint("subscription_id", "period_start"),
    Index("stripe_paid_periods_customer_id_idx", "customer_id"),
)

organizations = Table(
    "organizations",
    metadata,
    Column("clerk_id", Text, primary_key=True),
    _text("name"),
    _time("source_updated_at"),
    _time("deleted_at"),
    _updated(),
)

organization_memberships = Table(
    "organization_memberships",
    metadata,
    Column("clerk_id", Text, primary_key=True),
    _text("organization_clerk_id", nullable=False),
    _text("user_clerk_id", nullable=False),
    _text("role", nullable=False),
    _time("joined_at", nullable=False),
    _time("source_updated_at", nullable=False),
    _time("deleted_at"),
    _updated(),
    _one_of("role", ROLES),
    Index("organization_memberships_organization_idx", "organization_clerk_id"),
    Index("organization_memberships_user_idx", "user_clerk_id"),
)

account_tenants = Table(
    "account_tenants",
    metadata,
    Column("clerk_id", Text, primary_key=True),
    # Not `tenant_id`: the row is not the tenant's, who could take another account's place by changing it.
    Column("home_id", UUID(), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    _created(),
    Index("account_tenants_home_id_idx", "home_id"),
)

# --- content ------------------------------------------------------------------------------------------------

generations = Table(
    "generations",
    metadata,
    _id(),
    _tenant(),
    _text("source_id"),
    _time("date", default=NOW, nullable=False),
    _json("concepts", EMPTY_LIST),
    _json("trends", EMPTY_LIST),
    # What each trend source answered, the ones that failed included.
    _json("sources", EMPTY_LIST),
    _flag("is_favorite"),
    _text("generator"),
    Column("job_id", UUID()),
    _text("kept"),  # see `domain/dexie/records.py`, also for the tables of learning
    Column("searched", Text, Computed(SEARCHED, persisted=True)),
    _created(),
    UniqueConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "source_id"),
    UniqueConstraint("tenant_id", "job_id"),
    Index("generations_history_idx", "tenant_id", "date", "id"),
    Index("generations_favorites_idx", "tenant_id", "date", "id", postgresql_where=text("is_favorite")),
)

videos = Table(
    "videos",
    metadata,
    _id(),
    _tenant(),
    Column("generation_id", UUID()),
    _text("concept_id"),
    _text("status", default="pending"),
    _text("provider"),
    _text("prompt"),
    _text("video_url"),
    _text("thumbnail_url"),
    Column("duration_seconds", Numeric(8, 3)),
    Column("cost_usd", Numeric(12, 6)),
    _text("error_message"),
    _json("details", EMPTY_OBJECT),
    _created(),
    _time("completed_at"),
    UniqueConstraint("tenant_id", "id"),
    _within_tenant("generation_id", "generations"),
    _one_of("status", VIDEO_STATUSES),
    Index("videos_generation_idx", "tenant_id", "generation_id"),
)

social_accounts = Table(
    "social_accounts",
    metadata,
    _id(),
    _tenant(),
    _text("platform", nullable=False),
    _text("external_id", nullable=False),
    _text("username"),
    _text("niche"),
    _text("timezone", default="UTC"),
    _text("status", default="active"),
    Column("access_token", LargeBinary),
    Column("refresh_token", LargeBinary),
    _time("access_expires_at"),
    _time("refresh_expires_at"),
    Column("scopes", ARRAY(Text), server_default=text("'{}'"), nullable=False),
    Column("daily_limit", Integer),
    _created(),
    _updated(),
    UniqueConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "platform", "external_id"),
    _one_of("platform", PLATFORMS),
)

social_posts = Table(
    "social_posts",
    metadata,
    _id(),
    _tenant(),
    Column("video_id", UUID(), nullable=False),
    Column("account_id", UUID(), nullable=False),
    _count("attempt_group", 1),
    _text("status", default="draft"),
    _text("caption", default=""),
    _time("scheduled_for"),
    _json("handle"),
    Column("request_hash", LargeBinary),
    _text("external_id"),
    _text("permalink"),
    _json("prediction"),
    _text("error_message"),
    _time("submitted_at"),
    _time("published_at"),
    _created(),
    UniqueConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "video_id", "account_id", "attempt_group"),
    _within_tenant("video_id", "videos"),
    _within_tenant("account_id", "social_accounts"),
    _one_of("status", POST_STATUSES),
    Index("social_posts_account_idx", "tenant_id", "account_id"),
    Index("social_posts_due_idx", "scheduled_for", postgresql_where=text("status = 'scheduled'")),
)

# --- learning -----------------------------------------------------------------------------------------------

performance_feedback = Table(
    "performance_feedback",
    metadata,
    _id(),
    _tenant(),
    Column("generation_id", UUID()),
    _text("concept_id"),
    Column("post_id", UUID()),
    _text("platform", nullable=False),
    _text("horizon"),
    _count("views", kind=BigInteger),
    _count("likes", kind=BigInteger),
    _count("shares", kind=BigInteger),
    _count("comments", kind=BigInteger),
    Column("predicted_score", Numeric(10, 4)),
    Column("actual_score", Numeric(10, 4)),
    _time("observed_at", default=NOW, nullable=False),
    _created(),
    _within_tenant("generation_id", "generations"),
    _within_tenant("post_id", "social_posts"),
    _one_of("platform", PLATFORMS),
    Index("performance_feedback_observed_idx", "tenant_id", "observed_at"),
    Index("performance_feedback_generation_idx", "tenant_id", "generation_id"),
    Index(
        "performance_feedback_once_idx",
        "tenant_id",
        "post_id",
        "horizon",
        unique=True,
        postgresql_where=text("post_id IS NOT NULL AND horizon IS NOT NULL"),
    ),
)

analytics_snapshots = Table(
    "analytics_snapshots",
    metadata,
    _id(),
    _tenant(),
    Column("post_id", UUID(), nullable=False),
    _time("captured_at", default=NOW, nullable=False),
    Column("views", BigInteger),
    Column("likes", BigInteger),
    Column("shares", BigInteger),
    Column("comments", BigInteger),
    _json("details", EMPTY_OBJECT),
    UniqueConstraint("tenant_id", "post_id", "captured_at"),
    _within_tenant("post_id", "social_posts"),
)

self_critiques = Table(
    "self_critiques",
    metadata,
    _id(),
    _tenant(),
    _text("source_id"),
    _text("concept_id"),
    _text("category"),
    _text("platform"),
    Column("predicted_score", Numeric(10, 4)),
    Column("actual_score", Numeric(10, 4)),
    _json("performance_gap", EMPTY_OBJECT),
    _text("critique", default=""),
    _json("hypothesized_reasons", EMPTY_LIST),
    _json("scoring_issues", EMPTY_LIST),
    _text("adjustment_plan", default=""),
    _text("confidence_level", default="low"),
    _text("model"),
    _time("applied_at"),
    _text("kept"),
    _created(),
    UniqueConstraint("tenant_id", "source_id"),
    Index("self_critiques_concept_idx", "tenant_id", "concept_id"),
    Index("self_critiques_created_idx", "tenant_id", "created_at", "id"),
    Index("self_critiques_unapplied_idx", "tenant_id", "created_at", postgresql_where=text("applied_at IS NULL")),
)

reflexion_insights = Table(
    "reflexion_insights",
    metadata,
    _id(),
    _tenant(),
    _text("source_id"),
    _text("category", nullable=False),
    _text("platform", nullable=False),
    _text("pattern", nullable=False),
    _text("impact", default="neutral"),
    _text("recommendation", default=""),
    _count("evidence_count", kind=BigInteger),
    _json("evidence", EMPTY_LIST),
    _flag("applied_to_scoring"),
    _time("discovered_at", default=NOW, nullable=False),
    _time("last_seen_at", default=NOW, nullable=False),
    _time("expires_at"),
    _text("kept"),
    _created(),
    _updated(),
    UniqueConstraint("tenant_id", "source_id"),
    Index("reflexion_insights_seen_idx", "tenant_id", "last_seen_at", "id"),
    # Hashed: a btree entry holds 2,704 bytes at most, and a pattern may be longer.
    Index("reflexion_insights_once_idx", "tenant_id", "category", "platform", text("md5(pattern)"), unique=True),
)

scoring_adjustments = Table(
    "scoring_adjustments",
    metadata,
    _id(),
    _tenant(),
    _text("source_id"),
    _text("category", nullable=False),
    _text("platform"),
    _text("adjustment_type", default="category-weight"),
    Column("old_value", Double),
    Column("new_value", Double),
    _text("reason", default=""),
    _text("critique_id"),
    _count("sample_size"),
    _text("model_version"),
    _time("applied_at", default=NOW, nullable=False),
    _text("kept"),
    _created(),
    UniqueConstraint("tenant_id", "source_id"),
    Index("scoring_adjustments_cell_idx", "tenant_id", "category", "platform", "applied_at"),
    Index("scoring_adjustments_applied_idx", "tenant_id", "applied_at", "id"),
)

audio_trends = Table(
    "audio_trends",
    metadata,
    _id(),
    _text("platform", nullable=False),
    _text("external_id", nullable=False),
    _text("title", nullable=False),
    _text("artist"),
    _text("region", default="US"),
    Column("usage_count", BigInteger),
    Column("rank", Integer),
    _time("captured_at", default=NOW, nullable=False),
    UniqueConstraint("platform", "region", "external_id", "captured_at"),
    _one_of("platform", PLATFORMS),
)

competitor_videos = Table(
    "competitor_videos",
    metadata,
    _id(),
    _tenant(),
    _text("platform", nullable=False),
    _text("external_id", nullable=False),
    _text("url"),
    _text("channel"),
    _text("title"),
    Column("views", BigInteger),
    _json("details", EMPTY_OBJECT),
    _time("captured_at", default=NOW, nullable=False),
    UniqueConstraint("tenant_id", "platform", "external_id"),
    _one_of("platform", PLATFORMS),
)

# --- quota and usage ----------------------------------------------------------------------------------------

quota_holds = Table(
    "quota_holds",
    metadata,
    Column("job_id", UUID(), primary_key=True),
    _tenant(),
    Column("count", Integer, nullable=False),
    _time("taken_at", default=NOW, nullable=False),
    _text("status", default="held"),
    _created(),
    _time("closed_at"),
    _one_of("status", ("held", "settled", "released")),
    CheckConstraint("count > 0", name="count"),
    Index("quota_holds_tenant_id_idx", "tenant_id", "status"),
)

quota_ledger = Table(
    "quota_ledger",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    _text("kind", nullable=False),
    Column("amount", Integer, nullable=False),
    Column("used_after", Integer, nullable=False),
    Column("quota_after", Integer, nullable=False),
    _time("period_start", nullable=False),
    _text("cause", nullable=False),
    _time("at", default=NOW, nullable=False),
    _time("taken_at", default=NOW, nullable=False),
    _one_of("kind", LEDGER_KINDS),
    Index("quota_ledger_tenant_id_idx", "tenant_id", "id"),
    Index("quota_ledger_tenant_id_taken_at_idx", "tenant_id", "taken_at"),
)

# The owner's rights do not exceed row-level security, and a transaction may end in another tenant's scope: hence the
# scope for the length of the function.
QUOTA_AGREES = """
CREATE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
    tenant tenants;
    told integer;
    happened timestamptz;
BEGIN
    PERFORM set_config('app.tenant_id', NEW.id::text, true);
    -- Not NEW: a row that is written twice in one transaction gets here twice, after both.
    SELECT * INTO tenant FROM tenants WHERE id = NEW.id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.id ORDER BY id DESC LIMIT 1;
    told := coalesce(told, 0);
    happened := greatest(tenant.quota_period_start, tenant.quota_restarted_at,
                         CASE TG_OP WHEN 'UPDATE' THEN clock_timestamp() END);
    IF tenant.used_quota < told THEN
        -- The old count ends with its last moment; the new one begins with what is left.
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', -told, 0, tenant.monthly_quota, tenant.quota_period_start, 'sql:' || session_user,
                happened);
        told := 0;
        happened := happened + interval '1 microsecond';
        UPDATE tenants SET quota_restarted_at = happened WHERE id = tenant.id;
    END IF;
    IF tenant.used_quota > told THEN
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', tenant.used_quota - told, tenant.used_quota, tenant.monthly_quota,
                tenant.quota_period_start, 'sql:' || session_user, happened);
    END IF;
    PERFORM set_config('app.tenant_id', scope, true);
    RETURN NULL;
END
$$
"""

QUOTA_AGREES_ON_INSERT = """
CREATE CONSTRAINT TRIGGER quota_agrees_with_ledger AFTER INSERT ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.used_quota <> 0) EXECUTE FUNCTION quota_agrees()
"""
QUOTA_AGREES_ON_UPDATE = """
CREATE CONSTRAINT TRIGGER quota_still_agrees_with_ledger AFTER UPDATE ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.used_quota <> NEW.used_quota) EXECUTE FUNCTION quota_agrees()
"""
"""What another program writes into `tenants.used_quota` is entered into the ledger when it commits."""
QUOTA_ENTRY_AGREES = """
CREATE FUNCTION quota_entry_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
    used integer;
    told integer;
BEGIN
    PERFORM set_config('app.tenant_id', NEW.tenant_id::text, true);
    SELECT used_quota INTO used FROM tenants WHERE id = NEW.tenant_id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.tenant_id ORDER BY id DESC LIMIT 1;
    IF used <> told THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = format(
            'tenant %%s has used %%s, and its quota ledger says %%s', NEW.tenant_id, used, told);
    END IF;
    PERFORM set_config('app.tenant_id', scope, true);
    RETURN NULL;
END
$$
"""
QUOTA_ENTRY_AGREES_ON_INSERT = """
CREATE CONSTRAINT TRIGGER quota_entry_agrees_with_tenant AFTER INSERT ON quota_ledger
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION quota_entry_agrees()
"""
"""An entry that is not what `tenants.used_quota` says when it commits is refused."""
QUOTA_PERIOD_ENDS = """
CREATE FUNCTION quota_period_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.quota_period_start := (NEW.quota_reset_at AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$
"""
QUOTA_PERIOD_ENDS_AT_RESET = """
CREATE TRIGGER quota_period_ends_at_reset BEFORE INSERT ON tenants
FOR EACH ROW WHEN (NEW.quota_period_start >= NEW.quota_reset_at) EXECUTE FUNCTION quota_period_ends()
"""
"""What a tenant that another program inserts has used counts in the period that ends at `quota_reset_at`."""
for statement in (
    *(QUOTA_PERIOD_ENDS, QUOTA_PERIOD_ENDS_AT_RESET),
    *(QUOTA_AGREES, QUOTA_AGREES_ON_INSERT, QUOTA_AGREES_ON_UPDATE),
    *(QUOTA_ENTRY_AGREES, QUOTA_ENTRY_AGREES_ON_INSERT),
):
    event.listen(metadata, "after_create", DDL(statement))  # type: ignore[no-untyped-call]

api_usage = Table(
    "api_usage",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    _text("kind", nullable=False),
    _text("name", nullable=False),
    Column("status_code", Integer),
    Column("duration_ms", Integer),
    Column("tokens_in", BigInteger),
    Column("tokens_out", BigInteger),
    Column("cost_usd", Numeric(12, 6)),
    Column("job_id", UUID()),
    _created(),
    Index("api_usage_tenant_id_idx", "tenant_id", "created_at"),
    Index("api_usage_job_id_idx", "job_id", postgresql_where=text("job_id IS NOT NULL")),
)

# --- what generations are made from -------------------------------------------------------------------------

# The last answer of each trend source for each region, shared by all tenants, and how it is doing.
trend_sources = Table(
    "trend_sources",
    metadata,
    Column("source", Text),
    Column("region", Text),
    _json("sightings", EMPTY_LIST),
    _text("etag"),
    _text("modified"),
    _time("answered_at"),
    _time("tried_at"),
    _time("asked_until"),
    _count("failures"),
    _text("error"),
    _time("retry_at"),
    PrimaryKeyConstraint("source", "region"),
)

# Models and their prices, by the day from which they hold; the first by rank is asked.
language_models = Table(
    "language_models",
    metadata,
    Column("provider", Text),
    Column("model", Text),
    Column("valid_from", DateTime(timezone=True)),
    Column("rank", SmallInteger, nullable=False),
    Column("usd_per_million_in", Numeric(12, 6), nullable=False),
    Column("usd_per_million_out", Numeric(12, 6), nullable=False),
    _time("sunset_at"),
    Column("enabled", Boolean, server_default=text("true"), nullable=False),
    PrimaryKeyConstraint("provider", "model", "valid_from"),
)

# --- the engine ---------------------------------------------------------------------------------------------

job_lease_token = Sequence("job_lease_token", metadata=metadata)

job_queue = Table(
    "job_queue",
    metadata,
    Column("id", UUID(), primary_key=True, server_default=text("new_job_id()")),
    Column("tenant_id", UUID(), ForeignKey("tenants.id")),
    _text("job_type", nullable=False),
    _text("queue", default="default"),
    _text("status", default="pending"),
    Column("priority", SmallInteger, server_default=text("5"), nullable=False),
    _json("payload", EMPTY_OBJECT),
    _json("result"),
    _text("error_message"),
    _count("attempts"),
    _count("max_attempts", 3),
    _time("scheduled_for", default=NOW, nullable=False),
    _time("created_at", default=NOW, nullable=False),
    _time("started_at"),
    _time("completed_at"),
    _text("unique_key"),
    _text("ordering_key"),
    # Awake (NULL): the job waits for its turn. Asleep: when the relay wakes it; and how often it woke too early.
    _time("ring_at"),
    _count("rings", kind=SmallInteger),
    # What it weighs among its tenant's jobs, and which version of its type's payload it has.
    _count("cost", 1),
    _count("payload_version", 1, kind=SmallInteger),
    # The batch that it belongs to is known by the job that follows it.
    Column("batch_id", UUID()),
    _flag("follows_batch"),
    # The lease: which boot of which process runs it, and the token that its finish must show.
    Column("worker_id", UUID()),
    Column("lease_token", BigInteger),
    _time("deadline_at"),
    _count("crashes", kind=SmallInteger),
    _count("snoozes", kind=Integer),
    _time("cancel_requested_at"),
    _one_of("status", JOB_STATUSES),
    CheckConstraint("cost > 0", name="cost"),
    CheckConstraint("max_attempts > 0", name="max_attempts"),
    CheckConstraint("least(attempts, rings, crashes, snoozes, payload_version - 1) >= 0", name="counts"),
    _meant(
        *("scheduled_for", "ring_at", "created_at", "started_at", "completed_at", "deadline_at"),
        "cancel_requested_at",
    ),
    CheckConstraint("jsonb_typeof(payload) = 'object'", name="payload_object"),
    # Of a new row it is the whole size, not yet compressed. Workers claim a hundred at once.
    CheckConstraint("pg_column_size(payload) <= 262144", name="payload_size"),
    CheckConstraint("status <> 'running' OR (worker_id IS NOT NULL AND lease_token IS NOT NULL)", name="lease"),
    Index(
        "job_queue_turn_idx",
        *("queue", "priority", text(f"({LANE})"), "scheduled_for", "id"),
        postgresql_where=text("status = 'pending' AND ring_at IS NULL"),
    ),
    Index("job_queue_asleep_idx", "ring_at", postgresql_where=text("status = 'pending' AND ring_at IS NOT NULL")),
    Index("job_queue_running_idx", "queue", "tenant_id", postgresql_where=text("status = 'running'")),
    Index(
        "job_queue_ordering_idx",
        "ordering_key",
        "status",
        "id",
        postgresql_where=text(f"ordering_key IS NOT NULL AND {LIVE}"),
    ),
    Index("job_queue_batch_idx", "batch_id", "status", postgresql_where=text("batch_id IS NOT NULL")),
    Index(
        "job_queue_unique_idx",
        "job_type",
        "tenant_id",
        "unique_key",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text(f"unique_key IS NOT NULL AND {LIVE}"),
    ),
    # See `db/queue/archive.py`.
    Index("job_queue_ended_idx", "status", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
    Index("job_queue_tenant_idx", "tenant_id", "created_at", postgresql_where=text("tenant_id IS NOT NULL")),
    postgresql_with={
        "fillfactor": "80",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.02",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

job_attempts = Table(
    "job_attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", UUID(), ForeignKey("job_queue.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", UUID()),
    _text("outcome", nullable=False),
    _text("error_class"),
    _text("error_message"),
    _text("traceback"),
    _time("started_at"),
    _time("ended_at", default=NOW, nullable=False),
    _one_of("outcome", ATTEMPT_OUTCOMES),
    Index("job_attempts_job_id_idx", "job_id"),
)

job_steps = Table(
    "job_steps",
    metadata,
    Column("job_id", UUID(), ForeignKey("job_queue.id", ondelete="CASCADE")),
    Column("step", Text),
    _text("status", default="intended"),
    _text("idempotency_key", nullable=False),
    _json("result"),
    _created(),
    _time("confirmed_at"),
    PrimaryKeyConstraint("job_id", "step"),
    _one_of("status", ("intended", "confirmed", "unknown")),
)

# Jobs that ended a while ago, whole, by the week in which they ended: see `db/queue/archive.py` and
# `db/schema/partitions.py`.
# It refers to nothing: making and dropping a week would lock the table referred to.
job_archive = Table(
    "job_archive",
    metadata,
    Column("id", UUID(), nullable=False),
    Column("tenant_id", UUID()),
    _text("job_type", nullable=False),
    _text("queue", nullable=False),
    _text("status", nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("payload", JSONB, nullable=False),
    _json("result"),
    _text("error_message"),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    _time("scheduled_for", nullable=False),
    _time("created_at", nullable=False),
    _time("started_at"),
    _time("completed_at", nullable=False),
    _text("unique_key"),
    _text("ordering_key"),
    Column("batch_id", UUID()),
    # What `job_attempts` and `job_steps` said of it, oldest first.
    _json("attempt_history", EMPTY_LIST),
    _json("steps", EMPTY_LIST),
    Index("job_archive_id_idx", "id"),
    Index("job_archive_tenant_idx", "tenant_id", "completed_at"),
    postgresql_partition_by="RANGE (completed_at)",
)

# What operators decided of a queue (no tenant), or of one tenant's jobs in it.
queue_policies = Table(
    "queue_policies",
    metadata,
    _text("queue", nullable=False),
    Column("tenant_id", UUID(), ForeignKey("tenants.id")),
    _time("paused_at"),
    Column("max_running", Integer),
    Column("max_running_per_tenant", Integer),
    _updated(),
    UniqueConstraint("queue", "tenant_id", postgresql_nulls_not_distinct=True),
    CheckConstraint("max_running > 0", name="max_running"),
    CheckConstraint("max_running_per_tenant > 0", name="max_running_per_tenant"),
    CheckConstraint("tenant_id IS NULL OR max_running_per_tenant IS NULL", name="per_tenant_of_a_queue"),
)

# What the outside lets us do a moment, by account: see `domain/queue/rate.py`.
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("name", Text, primary_key=True),
    _time("used_until", nullable=False),
    _time("promised_until", nullable=False),
    _time("closed_until"),
    _updated(),
)

workers = Table(
    "workers",
    metadata,
    Column("id", UUID(), primary_key=True),
    _text("hostname", nullable=False),
    Column("pid", Integer, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    _text("version", default=""),
    _time("started_at", default=NOW, nullable=False),
    _time("heartbeat_at", default=NOW, nullable=False),
    _time("lease_until", nullable=False),
    _flag("draining"),
)

schedule_fires = Table(
    "schedule_fires",
    metadata,
    Column("schedule", Text),
    Column("fire_at", DateTime(timezone=True)),
    Column("job_id", UUID()),
    _created(),
    PrimaryKeyConstraint("schedule", "fire_at"),
    _meant("fire_at", "created_at"),
)

system_metrics = Table(
    "system_metrics",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("name", nullable=False),
    Column("value", Numeric, nullable=False),
    _json("labels", EMPTY_OBJECT),
    _time("at", default=NOW, nullable=False),
    Index("system_metrics_name_idx", "name", "at"),
)

"""Videos, the media files that they are kept in, the providers that render them, and the money for that.

`provider_jobs` has one row a submission, so a video that is asked of several providers has several; at most one of them
is open, and each open one reserves money in `video_budgets`. See `domain/videos/submissions.py`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import boolean, count, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key, within_tenant
from domain.videos.media import MediaKind
from domain.videos.plan import VIDEO_STATUSES
from domain.videos.submissions import OPEN, SubmissionState

LIVE = "status IN ('pending', 'rendering', 'unconfirmed')"
_OPEN = ", ".join(f"'{state}'" for state in OPEN)

media = table(
    "media",
    uuid_key(),
    tenant_id(),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    string("kind", nullable=False),
    string("extension", nullable=False),
    jsonb("probe"),
    # NULL while the file is on its way to the store; a row without it is not used.
    timestamp("stored_at"),
    timestamp("created_at", now=True),
    timestamp("last_used_at", now=True),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "sha256"),
    one_of("kind", MediaKind),
    sa.CheckConstraint("octet_length(sha256) = 32 AND bytes >= 0", name="content"),
    sa.Index("media_last_used_idx", "last_used_at"),
    sa.Index("media_listed_idx", "tenant_id", "created_at", "id"),
)

videos = table(
    "videos",
    uuid_key(),
    tenant_id(),
    sa.Column("generation_id", UUID()),
    string("concept_id"),
    string("status", default="pending"),
    string("provider"),
    string("prompt"),
    string("video_url"),
    string("thumbnail_url"),
    sa.Column("duration_seconds", sa.Numeric(8, 3)),
    sa.Column("cost_usd", sa.Numeric(12, 6)),
    string("error_message"),
    jsonb("details", "{}"),
    timestamp("created_at", now=True),
    timestamp("completed_at"),
    string("title", default=""),
    # Whose file it is: rendered from a concept, or the tenant's own.
    string("source", default="concept"),
    # How it is made (`domain/videos/plan.py`), and what it is expected to cost.
    string("layout", default="storyboard"),
    sa.Column("estimated_usd", sa.Numeric(12, 6)),
    string("stage", default="waiting"),
    sa.Column("percent", sa.SmallInteger),
    sa.Column("job_id", UUID()),
    sa.Column("media_id", UUID()),
    sa.Column("thumbnail_id", UUID()),
    sa.Column("cover_at", sa.Numeric(8, 3)),
    timestamp("updated_at", now=True),
    sa.UniqueConstraint("tenant_id", "id"),
    within_tenant("generation_id", "generations"),
    within_tenant("media_id", "media"),
    within_tenant("thumbnail_id", "media"),
    one_of("status", VIDEO_STATUSES),
    sa.Index("videos_generation_idx", "tenant_id", "generation_id"),
    sa.Index("videos_listed_idx", "tenant_id", "created_at", "id"),
    sa.Index("videos_created_idx", "created_at", "id"),
    sa.Index("videos_media_idx", "tenant_id", "media_id"),
    sa.Index("videos_thumbnail_idx", "tenant_id", "thumbnail_id"),
    # One video a concept is made at a time: asking twice buys once.
    sa.Index(
        "videos_live_idx",
        "tenant_id",
        "generation_id",
        "concept_id",
        unique=True,
        postgresql_where=sa.text(f"{LIVE} AND concept_id IS NOT NULL"),
    ),
)

# Models that make clips, with what they can and cost, by the day from which that holds; the first by rank is asked.
video_providers = table(
    "video_providers",
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("valid_from", sa.DateTime(timezone=True)),
    sa.Column("rank", sa.SmallInteger, nullable=False),
    # Lengths of a clip in seconds, longest prompt in UTF-16 units, and the size in the provider's own words.
    sa.Column("durations", ARRAY(sa.SmallInteger), nullable=False),
    sa.Column("prompt_limit", sa.Integer, nullable=False),
    string("resolution", nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    boolean("has_sound"),
    sa.Column("usd_per_second", sa.Numeric(12, 6), nullable=False),
    # After how long a submission is late, and looked at ever more rarely.
    sa.Column("patience", sa.Interval, nullable=False),
    sa.Column("enabled", sa.Boolean, server_default=sa.text("true"), nullable=False),
    # Why nobody can use it, whatever the settings are; NULL if it can be used.
    string("unavailable"),
    timestamp("sunset_at"),
    count("failures"),
    string("last_error"),
    timestamp("retry_at"),
    sa.PrimaryKeyConstraint("provider", "model", "valid_from"),
)

provider_jobs = table(
    "provider_jobs",
    uuid_key(),
    tenant_id(),
    sa.Column("video_id", UUID(), nullable=False),
    # Which clip of the video, and which try at it.
    sa.Column("scene", sa.SmallInteger, nullable=False),
    sa.Column("attempt", sa.SmallInteger, nullable=False),
    string("provider", nullable=False),
    string("model", nullable=False),
    string("resolution", nullable=False),
    string("prompt", nullable=False),
    sa.Column("seconds", sa.SmallInteger, nullable=False),
    string("state", default="intended"),
    string("provider_job_id"),
    # The month whose budget it reserves and is paid from.
    sa.Column("month", sa.Date, nullable=False),
    sa.Column("estimated_usd", sa.Numeric(12, 6), nullable=False),
    sa.Column("final_usd", sa.Numeric(12, 6)),
    sa.Column("percent", sa.SmallInteger),
    sa.Column("queue", sa.Integer),
    # How many copies of the finished clip could not be used.
    sa.Column("failed_fetches", sa.SmallInteger, server_default=sa.text("0"), nullable=False),
    string("error_code"),
    string("error_message"),
    sa.Column("job_id", UUID()),
    sa.Column("media_id", UUID()),
    timestamp("created_at", now=True),
    timestamp("submitted_at"),
    timestamp("deadline_at"),
    timestamp("checked_at"),
    timestamp("ended_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "video_id", "scene", "attempt"),
    within_tenant("video_id", "videos"),
    within_tenant("media_id", "media"),
    one_of("state", SubmissionState),
    sa.CheckConstraint("estimated_usd >= 0 AND coalesce(final_usd, 0) >= 0", name="money"),
    sa.Index(
        "provider_jobs_open_idx",
        "tenant_id",
        "video_id",
        unique=True,
        postgresql_where=sa.text(f"state IN ({_OPEN})"),
    ),
    sa.Index(
        "provider_jobs_bought_idx",
        "provider",
        "provider_job_id",
        unique=True,
        postgresql_where=sa.text("provider_job_id IS NOT NULL"),
    ),
    sa.Index("provider_jobs_media_idx", "tenant_id", "media_id"),
    sa.Index("provider_jobs_unconfirmed_idx", "created_at", postgresql_where=sa.text("state = 'unconfirmed'")),
)

# A month's money of a tenant. Without a limit of its own, the plan's holds (`domain/videos/budget.py`).
video_budgets = table(
    "video_budgets",
    tenant_id(),
    sa.Column("month", sa.Date, nullable=False),
    sa.Column("limit_usd", sa.Numeric(12, 6)),
    sa.Column("reserved_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
    sa.Column("spent_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
    sa.PrimaryKeyConstraint("tenant_id", "month"),
    sa.CheckConstraint("reserved_usd >= 0 AND spent_usd >= 0 AND coalesce(limit_usd, 0) >= 0", name="money"),
)

"""videos that are rendered

Media files, providers with dated prices, their jobs and the money for them; `videos` gets what a rendering needs.

Safe under load: columns with constant defaults need no rewrite, and the wider CHECK and the foreign keys hold for new rows
at first; the next migration validates them, and builds the indexes on `videos`. One transaction: it happens or it does not.
What the release before this one reads stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import force, protect

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

STATUSES = "'pending', 'rendering', 'completed', 'failed'"
MORE_STATUSES = f"{STATUSES}, 'unconfirmed', 'cancelled'"
STATES = "'intended', 'submitted', 'running', 'unconfirmed', 'succeeded', 'failed', 'cancelled', 'refused'"
OPEN = "state IN ('intended', 'submitted', 'running', 'unconfirmed')"

COLUMNS = {
    "title": "text NOT NULL DEFAULT ''",
    "source": "text NOT NULL DEFAULT 'concept'",
    "layout": "text NOT NULL DEFAULT 'storyboard'",
    "estimated_usd": "numeric(12, 6)",
    "stage": "text NOT NULL DEFAULT 'waiting'",
    "percent": "smallint",
    "job_id": "uuid",
    "media_id": "uuid",
    "thumbnail_id": "uuid",
    "cover_at": "numeric(8, 3)",
    "updated_at": "timestamptz NOT NULL DEFAULT now()",
}
# Lengths, limits and prices of November 2026. A change is a row with a later day.
# Runway publishes its lengths, sizes, prompt limit (in its SDK) and the price of a credit, $0.01; that gen4.5 takes 12 a
# second is reported, and each order's answer says it. Google publishes its prices per second of video; $0.105 at 1080p is
# what those who read its page report, as are the 15 seconds of Omni 1.2. Google counts tokens, so its prompt limit is ours.
# Luma publishes its lengths and that a price goes by size and length; $1.00 for 5 s at 720p, twice that for 10 s, and 6,000
# characters of prompt are what others who sell it report.
PROVIDERS = [
    {
        "provider": "runway",
        "model": "gen4.5",
        "rank": 1,
        "durations": [2, 3, 4, 5, 6, 7, 8, 9, 10],
        "prompt_limit": 1000,
        "resolution": "720:1280",
        "width": 720,
        "height": 1280,
        "has_sound": False,
        "usd_per_second": "0.12",
        "patience": "20 minutes",
        "unavailable": None,
        "sunset_at": None,
    },
    {
        "provider": "google",
        "model": "gemini-omni-1.2-flash",
        "rank": 2,
        "durations": [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        "prompt_limit": 3000,
        "resolution": "1080p",
        "width": 1080,
        "height": 1920,
        "has_sound": True,
        "usd_per_second": "0.105",
        "patience": "20 minutes",
        "unavailable": None,
        "sunset_at": None,
    },
    {
        "provider": "luma",
        "model": "ray-3.2",
        "rank": 3,
        "durations": [5, 10],
        "prompt_limit": 6000,
        "resolution": "720p",
        "width": 720,
        "height": 1280,
        "has_sound": False,
        "usd_per_second": "0.20",
        "patience": "20 minutes",
        "unavailable": None,
        "sunset_at": None,
    },
    {
        "provider": "openai",
        "model": "sora-2",
        "rank": 4,
        "durations": [4, 8, 12],
        "prompt_limit": 3000,
        "resolution": "720x1280",
        "width": 720,
        "height": 1280,
        "has_sound": True,
        "usd_per_second": "0.10",
        "patience": "20 minutes",
        "unavailable": "OpenAI removed its Videos API (Sora) on 24 September 2026, without a replacement",
        "sunset_at": "2026-09-24T00:00:00Z",
    },
]


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    _create_media()
    for name, kind in COLUMNS.items():
        op.execute(f"ALTER TABLE videos ADD COLUMN {name} {kind}")
    for name in ("media_id", "thumbnail_id"):
        op.execute(
            f"ALTER TABLE videos ADD CONSTRAINT videos_tenant_id_{name}_fkey "
            f"FOREIGN KEY (tenant_id, {name}) REFERENCES media (tenant_id, id) NOT VALID"
        )
    _allow(MORE_STATUSES)
    _create_providers()
    _create_provider_jobs()
    _create_budgets()
    _create_store_views()
    for table, owner in (
        ("media", "tenant_id"),
        ("video_providers", None),
        ("provider_jobs", "tenant_id"),
        ("video_budgets", "tenant_id"),
        ("store_views", None),
    ):
        for statement in (*protect(table, owner_column=owner), force(table)):
            op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("UPDATE videos SET status = 'failed' WHERE status IN ('unconfirmed', 'cancelled')")
    _allow(STATUSES)
    for name in COLUMNS:
        op.execute(f"ALTER TABLE videos DROP COLUMN {name}")
    for table in ("store_views", "video_budgets", "provider_jobs", "video_providers", "media"):
        op.drop_table(table)


def _allow(statuses: str) -> None:
    op.execute(
        "ALTER TABLE videos DROP CONSTRAINT videos_status_check, "
        f"ADD CONSTRAINT videos_status_check CHECK (status IN ({statuses})) NOT VALID"
    )


def _create_media() -> None:
    op.create_table(
        "media",
        _key(),
        _tenant(),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("probe", postgresql.JSONB(), nullable=True),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        _moment("created_at"),
        _moment("last_used_at"),
        sa.CheckConstraint("kind IN ('video', 'image')", name=op.f("media_kind_check")),
        sa.CheckConstraint("octet_length(sha256) = 32 AND bytes >= 0", name=op.f("media_content_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("media_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("media_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("media_tenant_id_id_key")),
        sa.UniqueConstraint("tenant_id", "sha256", name=op.f("media_tenant_id_sha256_key")),
    )
    op.create_index("media_last_used_idx", "media", ["last_used_at"])
    op.create_index("media_listed_idx", "media", ["tenant_id", "created_at", "id"])


def _create_providers() -> None:
    providers = op.create_table(
        "video_providers",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("durations", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("prompt_limit", sa.Integer(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("has_sound", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("usd_per_second", sa.Numeric(12, 6), nullable=False),
        sa.Column("patience", sa.Interval(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("unavailable", sa.Text(), nullable=True),
        sa.Column("sunset_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("provider", "model", "valid_from", name=op.f("video_providers_pkey")),
    )
    op.bulk_insert(providers, [row | {"valid_from": "2026-11-01T00:00:00Z"} for row in PROVIDERS])


def _create_provider_jobs() -> None:
    op.create_table(
        "provider_jobs",
        _key(),
        _tenant(),
        sa.Column("video_id", sa.UUID(), nullable=False),
        sa.Column("scene", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("seconds", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'intended'"), nullable=False),
        sa.Column("provider_job_id", sa.Text(), nullable=True),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("estimated_usd", sa.Numeric(12, 6), nullable=False),
        sa.Column("final_usd", sa.Numeric(12, 6), nullable=True),
        sa.Column("percent", sa.SmallInteger(), nullable=True),
        sa.Column("queue", sa.Integer(), nullable=True),
        sa.Column("failed_fetches", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("media_id", sa.UUID(), nullable=True),
        _moment("created_at"),
        *(
            sa.Column(name, sa.DateTime(timezone=True), nullable=True)
            for name in ("submitted_at", "deadline_at", "checked_at", "ended_at")
        ),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("provider_jobs_state_check")),
        sa.CheckConstraint(
            "estimated_usd >= 0 AND coalesce(final_usd, 0) >= 0", name=op.f("provider_jobs_money_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("provider_jobs_tenant_id_fkey")),
        *(
            sa.ForeignKeyConstraint(
                ["tenant_id", column],
                [f"{parent}.tenant_id", f"{parent}.id"],
                name=op.f(f"provider_jobs_tenant_id_{column}_fkey"),
            )
            for column, parent in (("video_id", "videos"), ("media_id", "media"))
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("provider_jobs_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("provider_jobs_tenant_id_id_key")),
        sa.UniqueConstraint(
            "tenant_id", "video_id", "scene", "attempt", name=op.f("provider_jobs_tenant_id_video_id_scene_attempt_key")
        ),
    )
    for name, columns, condition in (
        ("provider_jobs_open_idx", ["tenant_id", "video_id"], OPEN),
        ("provider_jobs_bought_idx", ["provider", "provider_job_id"], "provider_job_id IS NOT NULL"),
    ):
        op.create_index(name, "provider_jobs", columns, unique=True, postgresql_where=sa.text(condition))
    op.create_index("provider_jobs_media_idx", "provider_jobs", ["tenant_id", "media_id"])


def _create_budgets() -> None:
    op.create_table(
        "video_budgets",
        _tenant(),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("limit_usd", sa.Numeric(12, 6), nullable=True),
        sa.Column("reserved_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
        sa.Column("spent_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "reserved_usd >= 0 AND spent_usd >= 0 AND coalesce(limit_usd, 0) >= 0",
            name=op.f("video_budgets_money_check"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("video_budgets_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("tenant_id", "month", name=op.f("video_budgets_pkey")),
    )


def _create_store_views() -> None:
    op.create_table(
        "store_views",
        _key(),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("sees", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        _moment("started_at"),
        _moment("seen_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("store_views_pkey")),
    )


def _key() -> sa.Column[object]:
    return sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False)


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)

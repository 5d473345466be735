"""learning

What each model said of a post before it was out, what each tenant has learned, the pooled priors; and what outcomes,
critiques, insights and adjustments need for it. The gaps of critiques are actual minus predicted from now on: those that
are there have the old app's sign, and are turned (what the release before this one imports until it is gone keeps it).

Safe under load but for one thing: turning the gaps takes some seconds where there are hundreds of thousands of critiques
(4 s for 200,000), and nothing is measured or learned meanwhile. Columns without defaults, or with constant ones, need no
rewrite; the next migration builds the indexes of tables that have rows. One transaction: it happens or it does not. What
the release before this one reads and writes stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import force, protect

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

PLATFORMS = "'tiktok', 'youtube-shorts', 'instagram-reels', 'bluesky', 'mastodon'"
HORIZONS = "'1h', '6h', '24h', '72h', '7d'"
COLUMNS = {
    "performance_feedback": {"definition": "text", "learned_at": "timestamptz", "set_aside": "text"},
    "self_critiques": {"account_id": "uuid", "evidence": "jsonb NOT NULL DEFAULT '[]'::jsonb", "job_id": "uuid"},
    "reflexion_insights": {
        "critique_id": "uuid",
        "account_id": "uuid",
        "formats": "jsonb NOT NULL DEFAULT '{}'::jsonb",
        "retired_at": "timestamptz",
        "retired_because": "text",
    },
    "scoring_adjustments": {
        "horizon": "text",
        "definition": "text",
        "report": "jsonb NOT NULL DEFAULT '{}'::jsonb",
    },
}
MODELS = (
    ("openai", "gpt-6.1-sol", "2026-11-01", 2, "2", "10"),
    ("openai", "gpt-6-sol", "2026-11-01", 3, "2", "10"),
    ("google", "gemini-3.8-flash", "2026-11-01", 4, "0.75", "3.75"),
    ("google", "gemini-3.8-flash", "2027-01-01", 4, "1.5", "7.5"),
    ("google", "gemini-3.5-flash", "2026-11-01", 5, "1.5", "9"),
)
"""Language models, from which day on (UTC), their ranks, and US dollars for a million tokens in and out: of
developers.openai.com/api/docs/pricing and ai.google.dev/gemini-api/docs/pricing, as others have quoted them between 29
September and 6 November 2026. Thoughts are paid for like answers, and from 2027 on gemini-3.8-flash costs twice as
much. A provider without a key is never asked, whatever its rows say."""
TENANTS_OWN = ("post_predictions", "learners")
PREDICTION_STAYS = """
CREATE FUNCTION prediction_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'a prediction of a post is never changed';
END
$$
"""
# Numbers whose names begin with gap, as `domain/dexie/records.py` has it.
TURN_GAPS = """
UPDATE self_critiques SET performance_gap = (
    SELECT jsonb_object_agg(key, CASE
        WHEN key ILIKE 'gap%' AND jsonb_typeof(value) = 'number' AND value <> '0'::jsonb
        THEN to_jsonb(-(value #>> '{}')::numeric) ELSE value END)
    FROM jsonb_each(performance_gap)
)
WHERE jsonb_typeof(performance_gap) = 'object'
    AND EXISTS (SELECT FROM jsonb_object_keys(performance_gap) AS key WHERE key ILIKE 'gap%')
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    # What the new tables refer to, in the order of locks.
    for table in ("tenants", "social_posts"):
        op.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    op.execute("SET LOCAL app.tenant_id = '*'")
    for provider, model, day, rank, usd_in, usd_out in MODELS:
        op.execute(
            "INSERT INTO language_models (provider, model, valid_from, rank, usd_per_million_in, usd_per_million_out)"
            f" VALUES ('{provider}', '{model}', '{day}T00:00:00Z', {rank}, {usd_in}, {usd_out}) ON CONFLICT DO NOTHING"
        )
    for table, columns in COLUMNS.items():
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    op.execute("ALTER TABLE scoring_adjustments ALTER COLUMN applied_at DROP NOT NULL")
    op.execute(TURN_GAPS)
    op.create_table(
        "post_predictions",
        _tenant(),
        sa.Column("post_id", sa.UUID(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("shown", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("value", "score", "low", "high")),
        sa.Column("parts", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("features", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("prior_id", sa.BigInteger(), nullable=True),
        sa.Column("lessons", postgresql.ARRAY(sa.UUID()), nullable=True),
        _moment("made_at"),
        sa.CheckConstraint(f"platform IN ({PLATFORMS})", name=op.f("post_predictions_platform_check")),
        sa.CheckConstraint(f"horizon IN ({HORIZONS})", name=op.f("post_predictions_horizon_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("post_predictions_tenant_id_fkey")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "post_id"],
            ["social_posts.tenant_id", "social_posts.id"],
            name=op.f("post_predictions_tenant_id_post_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "post_id", "horizon", "model", name=op.f("post_predictions_pkey")),
    )
    op.create_table(
        "learners",
        _tenant(),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("state", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        _count("outcomes"),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("champion_since", sa.DateTime(timezone=True), nullable=True),
        _count("champion_since_outcomes"),
        _count("checked_at_outcomes"),
        _moment("updated_at"),
        sa.CheckConstraint(f"platform IN ({PLATFORMS})", name=op.f("learners_platform_check")),
        sa.CheckConstraint(f"horizon IN ({HORIZONS})", name=op.f("learners_horizon_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("learners_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("tenant_id", "platform", "horizon", "definition", name=op.f("learners_pkey")),
    )
    op.create_table(
        "pooled_priors",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("categories", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        _moment("made_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pooled_priors_pkey")),
    )
    op.create_index("pooled_priors_newest_idx", "pooled_priors", ["platform", "horizon", "definition", "id"])
    op.execute(PREDICTION_STAYS)
    op.execute(
        "CREATE TRIGGER post_prediction_stays AFTER UPDATE ON post_predictions "
        "FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION prediction_stays()"
    )
    for table in TENANTS_OWN:
        for statement in (*protect(table), force(table)):
            op.execute(statement)
    for statement in (*protect("pooled_priors", owner_column=None), force("pooled_priors")):
        op.execute(statement)
    # They are of many tenants together, of whom none can be read (`domain/learning/pool.py`): every tenant's posts are
    # predicted with them. Whoever has no scope is refused here too.
    op.execute("CREATE POLICY figures ON pooled_priors FOR SELECT USING ((SELECT app_scope()) IS NOT NULL)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    for provider, model, day, *_ in MODELS:
        op.execute(
            f"DELETE FROM language_models WHERE (provider, model, valid_from) = ('{provider}', '{model}', '{day}T00:00:00Z')"
        )
    for table in ("pooled_priors", *reversed(TENANTS_OWN)):
        op.drop_table(table)
    op.execute("DROP FUNCTION prediction_stays()")
    op.execute(TURN_GAPS)
    op.execute("UPDATE scoring_adjustments SET applied_at = created_at WHERE applied_at IS NULL")
    op.execute("ALTER TABLE scoring_adjustments ALTER COLUMN applied_at SET NOT NULL")
    for table, columns in COLUMNS.items():
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)

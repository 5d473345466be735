"""How posts did, and what was concluded from it for scoring."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from db.schema.base import (
    after_tables,
    boolean,
    count,
    jsonb,
    one_of,
    string,
    table,
    tenant_id,
    timestamp,
    uuid_key,
    within_tenant,
)
from db.schema.posting import PLATFORMS
from domain.learning.numbers import Horizon

performance_feedback = table(
    "performance_feedback",
    uuid_key(),
    tenant_id(),
    sa.Column("generation_id", UUID()),
    string("concept_id"),
    sa.Column("post_id", UUID()),
    string("platform", nullable=False),
    string("horizon"),
    # NULL is unknown, 0 is a number.
    sa.Column("views", sa.BigInteger),
    sa.Column("likes", sa.BigInteger),
    sa.Column("shares", sa.BigInteger),
    sa.Column("comments", sa.BigInteger),
    sa.Column("predicted_score", sa.Numeric(10, 4)),
    sa.Column("actual_score", sa.Numeric(10, 4)),
    timestamp("observed_at", now=True),
    timestamp("created_at", now=True),
    # What `views` counts, and the parts of engagement that are known (`domain/learning/outcomes.py`).
    string("definition"),
    # When it was taken into the tenant's learners; why nothing was learned from it, if so.
    timestamp("learned_at"),
    string("set_aside"),
    within_tenant("generation_id", "generations"),
    within_tenant("post_id", "social_posts"),
    one_of("platform", PLATFORMS),
    sa.Index("performance_feedback_observed_idx", "tenant_id", "observed_at"),
    sa.Index("performance_feedback_generation_idx", "tenant_id", "generation_id"),
    sa.Index(
        "performance_feedback_once_idx",
        "tenant_id",
        "post_id",
        "horizon",
        unique=True,
        postgresql_where=sa.text("post_id IS NOT NULL AND horizon IS NOT NULL"),
    ),
    sa.Index(
        "performance_feedback_unlearned_idx",
        "tenant_id",
        "observed_at",
        "id",
        postgresql_where=sa.text("learned_at IS NULL AND post_id IS NOT NULL AND horizon IN ('24h', '7d')"),
    ),
    # The order in which a learner's outcomes are folded.
    sa.Index(
        "performance_feedback_fold_idx",
        "tenant_id",
        "platform",
        "horizon",
        "observed_at",
        "id",
        postgresql_where=sa.text("post_id IS NOT NULL AND horizon IN ('24h', '7d')"),
    ),
)

analytics_snapshots = table(
    "analytics_snapshots",
    uuid_key(),
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    timestamp("captured_at", now=True),
    sa.Column("views", sa.BigInteger),
    sa.Column("likes", sa.BigInteger),
    sa.Column("shares", sa.BigInteger),
    sa.Column("comments", sa.BigInteger),
    jsonb("details", "{}"),
    # The horizon that it meets; NULL if it meets none (the last look at a post that was measured late).
    string("horizon"),
    # How old the post was.
    sa.Column("age", sa.Interval),
    # Which call answered, and what `views` counts.
    string("source"),
    string("definition"),
    sa.UniqueConstraint("tenant_id", "post_id", "captured_at"),
    within_tenant("post_id", "social_posts"),
    sa.Index(
        "analytics_snapshots_once_idx",
        "tenant_id",
        "post_id",
        "horizon",
        unique=True,
        postgresql_where=sa.text("horizon IS NOT NULL"),
    ),
    sa.Index("analytics_snapshots_captured_idx", "tenant_id", "captured_at"),
)

# Horizons of posts at which nobody could measure, and why not.
missed_horizons = table(
    "missed_horizons",
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    string("horizon", nullable=False),
    string("reason", nullable=False),
    timestamp("at", now=True),
    sa.PrimaryKeyConstraint("tenant_id", "post_id", "horizon"),
    within_tenant("post_id", "social_posts"),
    one_of("horizon", Horizon),
    sa.Index("missed_horizons_at_idx", "tenant_id", "at"),
)

# What each model said of a post before it was out, for each horizon that is learned. Never changed.
post_predictions = table(
    "post_predictions",
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    string("horizon", nullable=False),
    string("model", nullable=False),
    string("platform", nullable=False),
    string("definition", nullable=False),
    # The champion's, at the horizon that is shown.
    boolean("shown"),
    # Log engagement; the others are points.
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    jsonb("parts", "{}"),
    jsonb("features", "{}"),
    # The row of pooled_priors; NULL is the built-in prior.
    sa.Column("prior_id", sa.BigInteger),
    # The lessons that its concept was written with; NULL if nobody has asked whether there are any.
    sa.Column("lessons", sa.ARRAY(UUID())),
    timestamp("made_at", now=True),
    sa.PrimaryKeyConstraint("tenant_id", "post_id", "horizon", "model"),
    within_tenant("post_id", "social_posts"),
    one_of("platform", PLATFORMS),
    one_of("horizon", Horizon),
)

# Nobody can say afterwards what was expected. Deleting is left to those who delete the post.
after_tables(
    """
CREATE FUNCTION prediction_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'a prediction of a post is never changed';
END
$$
""",
    """
CREATE TRIGGER post_prediction_stays AFTER UPDATE ON post_predictions
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION prediction_stays()
""",
)

# What each tenant has learned: a fold over its outcomes (`domain/learning/learner.py`), and which model scores.
learners = table(
    "learners",
    tenant_id(),
    string("platform", nullable=False),
    string("horizon", nullable=False),
    string("definition", nullable=False),
    jsonb("state", "{}"),
    count("outcomes", kind=sa.BigInteger),
    string("champion", nullable=False),
    # The champion before it, in whose shadow it is judged, and since when.
    string("previous"),
    timestamp("champion_since"),
    count("champion_since_outcomes", kind=sa.BigInteger),
    # At how many outcomes the last question whether another model is better was asked.
    count("checked_at_outcomes", kind=sa.BigInteger),
    timestamp("updated_at", now=True),
    sa.PrimaryKeyConstraint("tenant_id", "platform", "horizon", "definition"),
    one_of("platform", PLATFORMS),
    one_of("horizon", Horizon),
)

# What all tenants together have seen. Never changed: predictions name the row that they were made with.
pooled_priors = table(
    "pooled_priors",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    string("platform", nullable=False),
    string("horizon", nullable=False),
    string("definition", nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    jsonb("categories", "{}"),
    timestamp("made_at", now=True),
    sa.Index("pooled_priors_newest_idx", "platform", "horizon", "definition", "id"),
)

self_critiques = table(
    "self_critiques",
    uuid_key(),
    tenant_id(),
    string("source_id"),
    string("concept_id"),
    string("category"),
    string("platform"),
    sa.Column("predicted_score", sa.Numeric(10, 4)),
    sa.Column("actual_score", sa.Numeric(10, 4)),
    jsonb("performance_gap", "{}"),
    string("critique", default=""),
    jsonb("hypothesized_reasons", "[]"),
    jsonb("scoring_issues", "[]"),
    string("adjustment_plan", default=""),
    string("confidence_level", default="low"),
    string("model"),
    timestamp("applied_at"),
    string("kept"),
    # Of a group of outcomes: the account, the outcomes, and the job that had it written.
    sa.Column("account_id", UUID()),
    jsonb("evidence", "[]"),
    sa.Column("job_id", UUID()),
    timestamp("created_at", now=True),
    sa.UniqueConstraint("tenant_id", "source_id"),
    sa.Index("self_critiques_concept_idx", "tenant_id", "concept_id"),
    sa.Index("self_critiques_created_idx", "tenant_id", "created_at", "id"),
    sa.Index("self_critiques_unapplied_idx", "tenant_id", "created_at", postgresql_where=sa.text("applied_at IS NULL")),
)

reflexion_insights = table(
    "reflexion_insights",
    uuid_key(),
    tenant_id(),
    string("source_id"),
    string("category", nullable=False),
    string("platform", nullable=False),
    string("pattern", nullable=False),
    string("impact", default="neutral"),
    string("recommendation", default=""),
    count("evidence_count", kind=sa.BigInteger),
    jsonb("evidence", "[]"),
    boolean("applied_to_scoring"),
    timestamp("discovered_at", now=True),
    timestamp("last_seen_at", now=True),
    timestamp("expires_at"),
    string("kept"),
    # A lesson is an insight of a critique of a group: the pattern is what was seen, the recommendation what to do.
    sa.Column("critique_id", UUID()),
    sa.Column("account_id", UUID()),
    # Formats of the offline grammar that it speaks for and against: {"prefer": [], "avoid": []}.
    jsonb("formats", "{}"),
    timestamp("retired_at"),
    string("retired_because"),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    sa.UniqueConstraint("tenant_id", "source_id"),
    sa.Index("reflexion_insights_seen_idx", "tenant_id", "last_seen_at", "id"),
    # The pattern is hashed: an entry of a btree holds 2,704 bytes at most, and a pattern may be longer.
    sa.Index("reflexion_insights_once_idx", "tenant_id", "category", "platform", sa.text("md5(pattern)"), unique=True),
)

scoring_adjustments = table(
    "scoring_adjustments",
    uuid_key(),
    tenant_id(),
    string("source_id"),
    string("category", nullable=False),
    string("platform"),
    string("adjustment_type", default="category-weight"),
    sa.Column("old_value", sa.Double),
    sa.Column("new_value", sa.Double),
    string("reason", default=""),
    string("critique_id"),
    count("sample_size"),
    string("model_version"),
    # The moment from which on it scores; NULL while it is only proposed, which has to be said.
    sa.Column("applied_at", sa.DateTime(timezone=True), server_default=sa.text("now()")),
    string("kept"),
    string("horizon"),
    string("definition"),
    # The evidence: of a score that moved its parts, of a promotion or a rollback the backtest.
    jsonb("report", "{}"),
    timestamp("created_at", now=True),
    sa.UniqueConstraint("tenant_id", "source_id"),
    sa.Index("scoring_adjustments_cell_idx", "tenant_id", "category", "platform", "applied_at"),
    sa.Index("scoring_adjustments_applied_idx", "tenant_id", "applied_at", "id"),
)

"""The autopilot: what a tenant lets it do, and every chain of jobs that it began.

A chain is one concept's way from the day's concepts to its posts (`domain/autopilot/`). What it may spend in a month is
reserved on its row while its video is made, so that chains that run side by side keep to one budget.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import jsonb, one_of, string, table, tenant_id, timestamp, uuid_key, within_tenant
from domain.autopilot.chains import Mode, Stage

# Without a row it is off.
autopilots = table(
    "autopilots",
    sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id"), primary_key=True),
    string("mode", default="off"),
    # No concept with a lower prediction on any of the accounts' platforms is made.
    sa.Column("least_score", sa.SmallInteger, server_default=sa.text("30"), nullable=False),
    sa.Column("videos_a_day", sa.SmallInteger, server_default=sa.text("1"), nullable=False),
    sa.Column("concepts_a_day", sa.SmallInteger, server_default=sa.text("5"), nullable=False),
    # Times of posts by the tenant's clock, as "18:30"; without any, the concept's own are taken.
    sa.Column("times", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    string("provider", default="storyboard"),
    # Dollars a month for clips.
    sa.Column("budget_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
    # The last day, by the tenant's clock, whose chains were begun.
    sa.Column("last_on", sa.Date),
    timestamp("changed_at", now=True),
    # Who changed it last, in words: a person, an API key, an operator.
    string("changed_by"),
    timestamp("created_at", now=True),
    one_of("mode", Mode),
    sa.CheckConstraint(
        "least_score BETWEEN 0 AND 100 AND videos_a_day BETWEEN 1 AND 10 AND concepts_a_day BETWEEN 1 AND 20 "
        "AND budget_usd >= 0",
        name="bounds",
    ),
)

# Accounts that it may post to: each row is its owner's consent.
autopilot_accounts = table(
    "autopilot_accounts",
    tenant_id(),
    sa.Column("account_id", UUID(), nullable=False),
    timestamp("consented_at", now=True),
    string("consented_by"),
    sa.PrimaryKeyConstraint("tenant_id", "account_id"),
    within_tenant("account_id", "social_accounts"),
)

autopilot_chains = table(
    "autopilot_chains",
    uuid_key(),
    tenant_id(),
    # The day by the tenant's clock, and which of its videos it is, from 1.
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("place", sa.SmallInteger, nullable=False),
    # What the tenant allowed when it began.
    string("mode", nullable=False),
    string("stage", default="concepts"),
    # Where it stands, or why it stopped, in words.
    string("reason"),
    # The job of its present stage.
    sa.Column("job_id", UUID()),
    sa.Column("generation_id", UUID()),
    string("concept_id"),
    sa.Column("score", sa.Numeric(10, 4)),
    sa.Column("video_id", UUID()),
    sa.Column("group_id", UUID()),
    sa.Column("reserved_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
    sa.Column("spent_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False),
    # The month whose budget pays for its video.
    sa.Column("month", sa.Date),
    # When its present stage began.
    timestamp("since", now=True),
    # When it is looked at next; NULL once it has ended.
    timestamp("look_after"),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    timestamp("ended_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "day", "place"),
    within_tenant("generation_id", "generations"),
    within_tenant("video_id", "videos"),
    one_of("stage", Stage),
    sa.CheckConstraint("reserved_usd >= 0 AND spent_usd >= 0", name="money"),
    sa.Index("autopilot_chains_look_idx", "look_after", postgresql_where=sa.text("look_after IS NOT NULL")),
    sa.Index("autopilot_chains_generation_idx", "tenant_id", "generation_id"),
    sa.Index("autopilot_chains_video_idx", "tenant_id", "video_id"),
)

# What happened to a chain, in words. `job_id` is the job that this began, or that says so.
autopilot_events = table(
    "autopilot_events",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    tenant_id(),
    sa.Column("chain_id", UUID(), nullable=False),
    string("kind", nullable=False),
    string("message", nullable=False),
    jsonb("details", "{}"),
    sa.Column("job_id", UUID()),
    timestamp("at", now=True),
    within_tenant("chain_id", "autopilot_chains"),
    sa.Index("autopilot_events_chain_idx", "tenant_id", "chain_id", "id"),
    sa.Index("autopilot_events_job_idx", "job_id", postgresql_where=sa.text("job_id IS NOT NULL")),
    sa.Index("autopilot_events_at_idx", "at"),
)

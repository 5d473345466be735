"""Events of Stripe and Clerk, as they were received, and the outcome of each."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from db.schema.base import after_tables, count, jsonb, string, table, timestamp, uuid_key
from domain.events.outcomes import MOST_DETAIL, UNCOMMON, Flag, Status, listed

FLAGS = f"^({'|'.join(Flag)})(,({'|'.join(Flag)}))*$"
"""A regular expression for one or more flags, separated by commas."""

webhook_events = table(
    "webhook_events",
    uuid_key(),
    string("source", nullable=False),
    string("external_id", nullable=False),
    string("type", nullable=False),
    string("api_version"),
    sa.Column("livemode", sa.Boolean),
    jsonb("payload", "{}"),
    sa.Column("body", sa.LargeBinary),
    timestamp("occurred_at"),
    timestamp("received_at", now=True),
    string("status", default="received"),
    timestamp("processed_at"),
    sa.Column("job_id", UUID()),
    string("subject"),
    # The particulars of this event's outcome; the outcome and the flags themselves are words of closed lists.
    string("detail"),
    string("flag"),
    count("duplicates"),
    timestamp("duplicate_at"),
    # The time from which `body` and `payload` are not kept any more.
    timestamp("dropped_at"),
    string("traceparent"),
    # It is one constraint, because every stored event pays for each.
    sa.CheckConstraint(
        f"status IN ({listed(Status)}) AND flag ~ '{FLAGS}' AND char_length(detail) <= {MOST_DETAIL}", name="outcome"
    ),
    sa.UniqueConstraint("source", "external_id"),
    sa.Index("webhook_events_received_at_idx", "received_at"),
    sa.Index("webhook_events_parked_idx", "status", "subject", postgresql_where=sa.text("status LIKE 'parked:%'")),
    # One that is received, or applied at once, costs nothing here.
    sa.Index(
        "webhook_events_uncommon_idx",
        *("status", "received_at", "id"),
        postgresql_where=sa.text(f"status IN ({listed(UNCOMMON)})"),
    ),
    sa.Index("webhook_events_flag_idx", "received_at", postgresql_where=sa.text("flag IS NOT NULL")),
    sa.Index("webhook_events_subject_idx", "subject", postgresql_where=sa.text("subject IS NOT NULL")),
    # Events whose body may be dropped; one that waits for its job costs nothing here.
    sa.Index(
        "webhook_events_kept_idx",
        *("source", "status", "received_at"),
        postgresql_where=sa.text("processed_at IS NOT NULL AND dropped_at IS NULL"),
    ),
    # What an event says lies beside its row, which is written again when its status changes: 128 is the least.
    postgresql_with={"toast_tuple_target": "128"},
)

# Compressing by Postgres's own method was nearly a third of the time that it took for a webhook.
after_tables("""
DO $$ BEGIN
    IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
        ALTER TABLE webhook_events ALTER body SET COMPRESSION lz4, ALTER payload SET COMPRESSION lz4;
    END IF;
END $$
""")

# An older release writes the sender's words into `status` and `flag`: this moves them into `detail`.
after_tables(
    f"""
CREATE FUNCTION event_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status LIKE 'ignored:%' AND NEW.status NOT IN ({listed(Status)}) THEN
        NEW.detail := left(substr(NEW.status, 9), {MOST_DETAIL});
        NEW.status := CASE WHEN NEW.status LIKE 'ignored:unhandled %' THEN 'ignored:type' ELSE 'ignored:other' END;
    END IF;
    IF NEW.flag !~ '{FLAGS}' THEN
        NEW.detail := left(concat_ws('; ', NEW.detail, NEW.flag), {MOST_DETAIL});
        NEW.flag := 'other';
    END IF;
    RETURN NEW;
END
$$
""",
    f"""
CREATE TRIGGER event_outcome_is_a_word BEFORE UPDATE OF status, flag ON webhook_events FOR EACH ROW
WHEN (NEW.status NOT IN ({listed(Status)}) OR NEW.flag !~ '{FLAGS}') EXECUTE FUNCTION event_outcome()
""",
)

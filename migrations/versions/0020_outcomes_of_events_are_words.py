"""outcomes of events are words

What becomes of an event, and why a person should look at it, are closed lists; what is particular to one event is its
detail. Bodies are dropped after a while, and the row says since when. Tenants whose only person is deleted are not called
by an address any more.

Safe under load: new rows are held to the lists first, then those of the past are moved, then looked through without
making anyone wait. Outside a transaction, so that no lock lasts; every step can be repeated after a failure. A trigger
moves into the lists what the release before still writes.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

STATUSES = (
    *("received", "applied", "stale", "duplicate"),
    *("parked:unknown_customer", "parked:unknown_tenant", "parked:other_customer", "parked:unknown_price"),
    *("parked:thin", "parked:incomplete", "parked:unfetchable", "parked:unknown_user", "parked:unknown_organization"),
    *("ignored:type", "ignored:other_mode", "ignored:connected_account", "ignored:other_instance"),
    *("ignored:checkout_mode", "ignored:no_subscription", "ignored:no_tenant_named", "ignored:price_for_sale"),
    *("ignored:other_price", "ignored:gone", "ignored:actor", "ignored:other"),
)
KNOWN = ", ".join(f"'{status}'" for status in STATUSES)
FLAG = (
    "(refund|dispute|fraud_warning|unknown_status|price_retired|other_tenant_named|several_subscriptions|unpaid_change"
    "|incomplete|contradiction|other)"
)
FLAGS = f"^{FLAG}(,{FLAG})*$"

FUNCTION = f"""
CREATE OR REPLACE FUNCTION event_outcome() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.status LIKE 'ignored:%' AND NEW.status NOT IN ({KNOWN}) THEN
        NEW.detail := left(substr(NEW.status, 9), 300);
        NEW.status := CASE WHEN NEW.status LIKE 'ignored:unhandled %' THEN 'ignored:type' ELSE 'ignored:other' END;
    END IF;
    IF NEW.flag !~ '{FLAGS}' THEN
        NEW.detail := left(concat_ws('; ', NEW.detail, NEW.flag), 300);
        NEW.flag := 'other';
    END IF;
    RETURN NEW;
END
$body$
"""
TRIGGER = f"""
CREATE OR REPLACE TRIGGER event_outcome_is_a_word BEFORE UPDATE OF status, flag ON webhook_events FOR EACH ROW
WHEN (NEW.status NOT IN ({KNOWN}) OR NEW.flag !~ '{FLAGS}') EXECUTE FUNCTION event_outcome()
"""

CHECK = "webhook_events_outcome_check"
CONDITION = f"status IN ({KNOWN}) AND flag ~ '{FLAGS}' AND char_length(detail) <= 300"

# The trigger does the work; a status that nobody knows says nothing but that.
MOVE = f"""
UPDATE webhook_events
SET status = CASE WHEN status IN ({KNOWN}) OR status LIKE 'ignored:%' THEN status ELSE 'ignored:' || status END
WHERE status NOT IN ({KNOWN}) OR flag !~ '{FLAGS}'
"""

NAMES = """
UPDATE tenants t SET name = u.clerk_id FROM users u
WHERE u.tenant_id = t.id AND u.deleted_at IS NOT NULL AND u.clerk_id IS NOT NULL AND t.name ~ '[^@[:space:]]@[^@[:space:]]'
      AND NOT EXISTS (SELECT FROM users living WHERE living.tenant_id = t.id AND living.deleted_at IS NULL)
"""

INDEX = """
CREATE INDEX CONCURRENTLY webhook_events_kept_idx ON webhook_events (source, status, received_at)
WHERE processed_at IS NOT NULL AND dropped_at IS NULL
"""

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
        _alone(
            "ALTER TABLE webhook_events ADD COLUMN IF NOT EXISTS detail text, "
            "ADD COLUMN IF NOT EXISTS dropped_at timestamptz"
        )
        _alone(FUNCTION)
        _alone(TRIGGER)
        _alone(
            f"ALTER TABLE webhook_events DROP CONSTRAINT IF EXISTS {CHECK}, "
            f"ADD CONSTRAINT {CHECK} CHECK ({CONDITION}) NOT VALID"
        )
        _alone(MOVE)
        _alone(f"ALTER TABLE webhook_events VALIDATE CONSTRAINT {CHECK}")
        _alone(NAMES)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS webhook_events_kept_idx")
        op.execute(INDEX)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP INDEX webhook_events_kept_idx")
    op.execute("DROP TRIGGER event_outcome_is_a_word ON webhook_events")
    op.execute("DROP FUNCTION event_outcome()")
    op.execute(f"ALTER TABLE webhook_events DROP CONSTRAINT {CHECK}")
    op.execute("ALTER TABLE webhook_events DROP COLUMN dropped_at, DROP COLUMN detail")


def _alone(statement: str) -> None:
    op.execute(ALONE.format(statement=statement))

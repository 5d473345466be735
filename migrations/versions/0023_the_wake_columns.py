"""the wake columns

`ring_at` becomes `wake_at` and `rings` becomes `wake_count`: when a deferred job is looked at again, and how often it was
looked at too early. The old columns stay beside the new ones for the release before, and the next release's migration
drops them; a trigger keeps both pairs equal, whichever of them a release writes. Its condition is false for the row of an
ordinary job (NULL and 0 in both), so only a write that defers a job, or wakes it, calls the function.

Safe under load: the columns need no rewrite; the trigger is there before the rows of the past are copied; indexes are
built and dropped concurrently. Once the old indexes are gone, the dispatcher of the release before scans the table, for
the minutes of a deploy. Outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION job_wake_columns() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.wake_at := coalesce(NEW.wake_at, NEW.ring_at);
        NEW.wake_count := CASE WHEN NEW.wake_count <> 0 THEN NEW.wake_count ELSE NEW.rings END;
    ELSE
        IF NEW.wake_at IS NOT DISTINCT FROM OLD.wake_at THEN NEW.wake_at := NEW.ring_at; END IF;
        IF NEW.wake_count = OLD.wake_count THEN NEW.wake_count := NEW.rings; END IF;
    END IF;
    NEW.ring_at := NEW.wake_at;
    NEW.rings := NEW.wake_count;
    RETURN NEW;
END
$body$
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER job_wake_columns_agree BEFORE INSERT OR UPDATE ON job_queue FOR EACH ROW
WHEN (NEW.wake_at IS DISTINCT FROM NEW.ring_at OR NEW.wake_count <> NEW.rings) EXECUTE FUNCTION job_wake_columns()
"""
COPY = """
UPDATE job_queue SET wake_at = ring_at, wake_count = rings WHERE wake_at IS DISTINCT FROM ring_at OR wake_count <> rings
"""

SHARE = (
    "(queue, priority, "
    "(CASE WHEN (tenant_id IS NULL) THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE tenant_id END), "
    "scheduled_for, id) WHERE status = 'pending' AND "
)
INDEXES = {
    "job_queue_ready_idx": f"{SHARE} wake_at IS NULL",
    "job_queue_deferred_idx": "(wake_at) WHERE status = 'pending' AND wake_at IS NOT NULL",
}
REPLACED = {
    "job_queue_turn_idx": f"{SHARE} ring_at IS NULL",
    "job_queue_asleep_idx": "(ring_at) WHERE status = 'pending' AND ring_at IS NOT NULL",
}

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
            "ALTER TABLE job_queue ADD COLUMN IF NOT EXISTS wake_at timestamptz, "
            "ADD COLUMN IF NOT EXISTS wake_count smallint NOT NULL DEFAULT 0"
        )
        _alone(FUNCTION)
        _alone(TRIGGER)
        _alone(COPY)
        _hold_to_rules("wake_at", "wake_count")
        _replace(drop=REPLACED, create=INDEXES)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    with op.get_context().autocommit_block():
        _replace(drop=INDEXES, create=REPLACED)
        _hold_to_rules("ring_at", "rings")
        _alone("DROP TRIGGER IF EXISTS job_wake_columns_agree ON job_queue")
        _alone("DROP FUNCTION IF EXISTS job_wake_columns()")
        _alone("ALTER TABLE job_queue DROP COLUMN IF EXISTS wake_count, DROP COLUMN IF EXISTS wake_at")


def _alone(statement: str) -> None:
    op.execute(ALONE.format(statement=statement))


def _hold_to_rules(wake_at: str, wake_count: str) -> None:
    """Put the two columns into the CHECKs of times and counts; new rows first, those of the past without a lock."""
    times = f"scheduled_for, {wake_at}, created_at, started_at, completed_at, deadline_at, cancel_requested_at"
    rules = {
        "times": f"least({times}) >= '1970-01-01Z' AND greatest({times}) <= '9999-01-01Z'",
        "counts": f"least(attempts, {wake_count}, crashes, snoozes, payload_version - 1) >= 0",
    }
    for rule, condition in rules.items():
        name = f"job_queue_{rule}_check"
        _alone(
            f"ALTER TABLE job_queue DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
        )
        _alone(f"ALTER TABLE job_queue VALIDATE CONSTRAINT {name}")


def _replace(*, drop: dict[str, str], create: dict[str, str]) -> None:
    for name, definition in create.items():
        # One that an interrupted run left behind is invalid: made anew.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON job_queue {definition}")
    for name in drop:
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

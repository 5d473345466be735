"""what can never be meant

Times that not every program can read, and counts below nothing, cost their row's neighbours: see
docs/decisions/0019-a-bad-row-costs-itself.md. Rows that have such a value already are mended, each to the nearest value
that is allowed.

Safe under load: new rows are held to the rules first, then those of the past are mended, then looked through without
making anyone wait. Outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

EARLIEST, LATEST = "'1970-01-01Z'", "'9999-01-01Z'"

TIMES = {
    "job_queue": (
        *("scheduled_for", "ring_at", "created_at", "started_at", "completed_at", "deadline_at"),
        "cancel_requested_at",
    ),
    "tenants": (
        *("quota_anchor", "quota_period_start", "quota_reset_at", "quota_paid_until", "quota_restarted_at"),
        *("created_at", "updated_at"),
    ),
    "users": ("last_login_at", "source_updated_at", "deleted_at", "created_at", "updated_at"),
    "schedule_fires": ("fire_at", "created_at"),
}
COUNTS = "least(attempts, rings, crashes, snoozes, payload_version - 1) >= 0"
DAY = "daily_last_on BETWEEN '1970-01-01' AND '9999-01-01'"

REPLACED = {
    "scheduled_for": f"scheduled_for BETWEEN {EARLIEST} AND {LATEST}",
    "ring_at": f"ring_at BETWEEN {EARLIEST} AND {LATEST}",
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
        for table, rules in _rules().items():
            for name, (condition, _) in rules.items():
                _add(table, name, condition)
        # A fire is the memory of a moment: one of no moment is no memory.
        _alone(f"DELETE FROM schedule_fires WHERE NOT fire_at BETWEEN {EARLIEST} AND {LATEST}")
        for table, rules in _rules().items():
            broken = " OR ".join(f"NOT ({condition})" for condition, _ in rules.values())
            mended = ", ".join(changes for _, changes in rules.values())
            _alone(f"UPDATE {table} SET {mended} WHERE {broken}")
            for name in rules:
                _alone(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_{name}_check")
        for name in REPLACED:
            _alone(f"ALTER TABLE job_queue DROP CONSTRAINT IF EXISTS job_queue_{name}_check")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    with op.get_context().autocommit_block():
        for name, condition in REPLACED.items():
            _add("job_queue", name, condition)
            _alone(f"ALTER TABLE job_queue VALIDATE CONSTRAINT job_queue_{name}_check")
        for table, rules in _rules().items():
            for name in rules:
                _alone(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_{name}_check")


def _alone(statement: str) -> None:
    op.execute(ALONE.format(statement=statement))


def _add(table: str, name: str, condition: str) -> None:
    constraint = f"{table}_{name}_check"
    _alone(
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}, "
        f"ADD CONSTRAINT {constraint} CHECK ({condition}) NOT VALID"
    )


def _rules() -> dict[str, dict[str, tuple[str, str]]]:
    """By table and name: the condition, and the changes that make a row keep it."""
    rules = {}
    for table, times in TIMES.items():
        listed = ", ".join(times)
        within = f"least({listed}) >= {EARLIEST} AND greatest({listed}) <= {LATEST}"
        rules[table] = {"times": (within, ", ".join(f"{each} = {_nearest(each)}" for each in times))}
    at_least = {"attempts": 0, "rings": 0, "crashes": 0, "snoozes": 0, "payload_version": 1}
    rules["job_queue"]["counts"] = (
        COUNTS,
        ", ".join(f"{name} = greatest({name}, {least})" for name, least in at_least.items()),
    )
    rules["tenants"]["daily_last_on"] = (
        DAY,
        f"daily_last_on = {_nearest('daily_last_on', '1970-01-01', '9999-01-01')}",
    )
    return rules


def _nearest(column: str, earliest: str = "1970-01-01Z", latest: str = "9999-01-01Z") -> str:
    return f"CASE WHEN {column} < '{earliest}' THEN '{earliest}' WHEN {column} > '{latest}' THEN '{latest}' ELSE {column} END"

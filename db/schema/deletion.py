"""A deleted tenant stays deleted: the triggers that refuse whatever would begin something for it.

The rule is in the database, because that is the one place that nothing goes around: not a query that was forgotten, not
the release before, not another program (docs/decisions/0060).
"""

from typing import Final

from db.postgres.errors import TENANT_DELETED
from db.schema.base import after_tables, metadata

RECORDS: Final = {
    "quota_ledger": "what is given back by jobs that end",
    "api_usage": "what was asked outside, and is to be paid",
    "stripe_customers": "what Stripe says of it still",
    "job_archive": "jobs that have ended",
    "post_events": "what became of a post that was on its way",
    "autopilot_events": "what became of a chain that was at work",
}
"""Tables that take rows of a deleted tenant, and of what: they say what has happened, and nothing begins by them."""


def guarded() -> list[str]:
    """Return the tables that take no row of a deleted tenant."""
    return [table.name for table in metadata.sorted_tables if "tenant_id" in table.c and table.name not in RECORDS]


def refusing(table: str) -> str:
    """Write the trigger that lets the table take no row of a deleted tenant. It fires after the foreign key's own, by
    its name: that one waits for whoever deletes the tenant now, and this one sees what has become of it.

    What we enqueue names its cause, and was looked at by its statement already (`db/queue/enqueue.py`).
    """
    when = "NEW.tenant_id IS NOT NULL" + (" AND NEW.cause IS NULL" if table == "job_queue" else "")
    return f"""
CREATE TRIGGER tenant_is_not_deleted AFTER INSERT OR UPDATE OF tenant_id ON {table} FOR EACH ROW
WHEN ({when}) EXECUTE FUNCTION tenant_is_not_deleted()
"""


REFUSE = f"""
    RAISE EXCEPTION USING ERRCODE = '{TENANT_DELETED}', MESSAGE = format(
        'tenant %s was deleted on %s', {{tenant}}, to_char({{moment}} AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
"""


def _refusing(name: str, column: str) -> str:
    """Write the function of a trigger that refuses a row whose tenant, of this column, is deleted."""
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := (
        SELECT deletion_began_at FROM tenants WHERE id = NEW.{column} AND deletion_began_at IS NOT NULL
    );
BEGIN
    IF moment IS NOT NULL THEN{REFUSE.format(tenant=f"NEW.{column}", moment="moment")}    END IF;
    RETURN NULL;
END
$$
"""


FUNCTIONS: Final = (
    _refusing("tenant_is_not_deleted", "tenant_id"),
    _refusing("home_is_not_deleted", "home_id"),
    f"""
CREATE FUNCTION tenant_stays_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN{REFUSE.format(tenant="OLD.id", moment="OLD.deletion_began_at")}END
$$
""",
)

# The job of a tenant that a person retries: who only drains looks at two columns of the row that it has in hand.
OTHER_TRIGGERS: Final = (
    """
CREATE TRIGGER tenant_is_not_deleted_again AFTER UPDATE OF status ON job_queue FOR EACH ROW
WHEN (NEW.tenant_id IS NOT NULL AND NEW.status = 'pending' AND OLD.status <> 'running' AND OLD.status <> 'pending')
EXECUTE FUNCTION tenant_is_not_deleted()
""",
    """
CREATE TRIGGER home_is_not_deleted AFTER INSERT OR UPDATE OF home_id ON account_tenants FOR EACH ROW
EXECUTE FUNCTION home_is_not_deleted()
""",
    """
CREATE TRIGGER tenant_stays_deleted BEFORE UPDATE ON tenants FOR EACH ROW
WHEN (OLD.deletion_began_at IS NOT NULL AND (
    NEW.deletion_began_at IS NULL OR NEW.subscription_tier <> 'FREE' OR NEW.monthly_quota > 0 OR NEW.quota_granted > 0
    OR NEW.daily_enabled OR NEW.stripe_subscription_id IS NOT NULL
    OR NEW.stripe_customer_id IS DISTINCT FROM OLD.stripe_customer_id AND NEW.stripe_customer_id IS NOT NULL
)) EXECUTE FUNCTION tenant_stays_deleted()
""",
)


def declare() -> None:
    """Have the triggers made after the tables. `db/schema/tables.py` calls it when it knows all of them."""
    after_tables(*FUNCTIONS, *map(refusing, guarded()), *OTHER_TRIGGERS)

"""uncommon outcomes of events by time: an operator lists the newest of one without a look at all that were applied

Safe under load: outside a transaction, so that no lock lasts; it can be repeated after a failure. Events that are
received or applied are not in the index, so a webhook pays nothing for it.
"""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

UNCOMMON = (
    *("stale", "duplicate", "parked:unknown_customer", "parked:unknown_tenant", "parked:other_customer"),
    *("parked:unknown_price", "parked:thin", "parked:incomplete", "parked:unfetchable"),
    *("parked:unknown_user", "parked:unknown_organization", "ignored:other_mode", "ignored:connected_account"),
    *("ignored:other_instance", "ignored:checkout_mode", "ignored:no_subscription", "ignored:no_tenant_named"),
    *("ignored:price_for_sale", "ignored:other_price", "ignored:gone", "ignored:actor", "ignored:other"),
)


def upgrade() -> None:
    listed = ", ".join(f"'{status}'" for status in UNCOMMON)
    with op.get_context().autocommit_block():
        # One that an interrupted run left behind is invalid: made anew.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS webhook_events_uncommon_idx")
        op.execute(
            "CREATE INDEX CONCURRENTLY webhook_events_uncommon_idx ON webhook_events (status, received_at, id) "
            f"WHERE status IN ({listed})"
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS webhook_events_uncommon_idx")

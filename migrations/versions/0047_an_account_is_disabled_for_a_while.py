"""an account is disabled for a while: its posts wait, and nothing is revoked

Safe under load: a column without a default, which the release before does not read. It goes on posting to such an
account until it is gone.
"""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE social_accounts ADD COLUMN disabled_at timestamptz")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE social_accounts DROP COLUMN disabled_at")

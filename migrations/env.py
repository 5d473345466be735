"""Runs migrations on the connection that `db.migrate.upgrade` hands over, else on DIRECT_URL or DATABASE_URL."""

import os
import re

from alembic import context
from sqlalchemy import Connection, event

from db.migrate.upgrade import owners_engine
from db.schema.archive import PARTITION
from db.schema.tables import metadata
from db.security import SYSTEM_SCOPE


def is_migrated(name: str | None, kind: str, parents: object) -> bool:
    """Whether migrations make this object: not the archive's weeks, which come and go by themselves."""
    return kind != "table" or name is None or re.fullmatch(PARTITION, name) is None


def see_all_tenants(connection: Connection) -> None:
    """Row-level security binds the owner too, and a migration works on everybody's rows."""
    connection.exec_driver_sql(f"SET LOCAL app.tenant_id = '{SYSTEM_SCOPE}'")


def run(connection: Connection) -> None:
    event.listen(connection, "begin", see_all_tenants)
    context.configure(
        connection=connection, target_metadata=metadata, include_name=is_migrated, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


connection_of_upgrade = context.config.attributes.get("connection")
if connection_of_upgrade is not None:
    run(connection_of_upgrade)
else:
    with owners_engine(os.environ.get("DIRECT_URL") or os.environ["DATABASE_URL"]).connect() as connection:
        run(connection)
        connection.commit()

"""Whoever has read a table goes on reading it after a migration."""

from collections.abc import Callable

import psycopg
import pytest

from db.transaction import SYSTEM, DatabaseUnavailable, Tx
from tests.builders import new_id
from workers.app import App
from workers.jobs.quota import reset_due

READS: dict[str, Callable[[Tx], object]] = {
    "job_queue": lambda tx: (tx.jobs.list_recent(limit=1).rows, tx.jobs.get(new_id())),
    "job_attempts": lambda tx: tx.jobs.attempts(new_id()),
    "job_archive": lambda tx: tx.archive.get(new_id()),
    "workers": lambda tx: tx.workers.all(),
    "queue_policies": lambda tx: tx.queues.policies(),
    "webhook_events": lambda tx: (tx.events.find(str(new_id())), tx.events.find("evt_1"), tx.events.recent(limit=1)),
    "generations": lambda tx: (tx.generating.recent(1), tx.generating.get(new_id())),
    "tenants": lambda tx: tx.tenants.recent(limit=1),
}


@pytest.mark.parametrize("table", READS)
def test_who_has_read_a_table_often_reads_it_after_a_migration_too(app: App, owner_url: str, table: str) -> None:
    """`viral jobs enqueue --wait` looks again and again while a release step adds a column."""
    for n in range(3):
        for _ in range(8):
            with app.db.transaction(SYSTEM) as tx:
                READS[table](tx)
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute(f"ALTER TABLE {table} ADD COLUMN new_{n} text".encode())


def test_a_statement_whose_columns_a_migration_changed_is_refused_once_and_prepared_anew(
    app: App, owner_url: str
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    for _ in range(8):
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("SELECT priority FROM job_queue", prepare=True)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE job_queue ALTER COLUMN priority TYPE integer")
    with pytest.raises(DatabaseUnavailable, match="migration"), app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SELECT priority FROM job_queue", prepare=True)
    for _ in range(3):
        with app.db.transaction(SYSTEM) as tx:
            assert tx.driver.execute("SELECT priority FROM job_queue", prepare=True).fetchall() == [(5,)]

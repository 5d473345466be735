"""What requests are recorded as: one that cannot be kept costs its neighbours nothing."""

from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from db.ops.requests import Request
from db.schema.ops import api_usage
from db.transaction import SYSTEM, Database
from tests.builders import a_tenant, new_id
from tests.wait import until
from web.api.usage import UsageLog
from workers.app import App


def recorded(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return int(tx.sql.execute(select(func.count()).select_from(api_usage)).scalar_one())


@pytest.mark.parametrize("bad", [{0}, {7}, {49}, {3, 4, 5, 30}, set(range(50))])
def test_requests_of_tenants_that_are_gone_cost_the_others_nothing(app: App, bad: set[int]) -> None:
    tenant = a_tenant(app)
    usage = UsageLog(app.db)
    usage.start()
    for n in range(50):
        usage.record(Request(uuid4() if n in bad else tenant, f"GET /{n}", 200, 1))
    usage.stop(30)
    assert recorded(app) == 50 - len(bad)


def test_a_tenant_that_is_being_deleted_holds_up_nobody_and_loses_nothing_if_it_stays(app: App) -> None:
    tenant, going, staying = a_tenant(app), a_tenant(app), a_tenant(app)
    usage = UsageLog(app.db)
    with psycopg.connect(app.settings.owner_url) as other, psycopg.connect(app.settings.owner_url) as third:
        other.execute("DELETE FROM tenants WHERE id = %s", (going,))
        third.execute("DELETE FROM tenants WHERE id = %s", (staying,))
        usage.start()
        for n in range(30):
            usage.record(Request((tenant, going, staying)[n % 3], f"GET /{n}", 200, 1))
        until(lambda: recorded(app) == 10, "the others' requests")
        third.rollback()
        until(lambda: recorded(app) == 20, "those of the tenant that stays")
        other.commit()
    usage.record(Request(going, "GET /late", 200, 1))
    usage.stop(30)
    assert recorded(app) == 20


def test_at_the_stop_a_database_that_is_away_is_asked_once_and_all_that_is_lost_is_counted() -> None:
    nowhere = Database("postgresql://viral:sekret@127.0.0.1:1/viral", pool_size=1, new_id=new_id)
    log = UsageLog(nowhere)
    with capture_logs() as lines:
        log.start()
        for _ in range(5_000):
            log.record(Request(new_id(), "GET /usage", 200, 1))
        before = len(lines)
        log.stop()
    tries = [line for line in lines[before:] if line["event"] == "usage.waits"]
    assert len(tries) <= 2, "the one under way, and one for all that wait"
    assert sum(line["requests"] for line in lines if line["event"] == "usage.dropped") == 5_000
    nowhere.close()

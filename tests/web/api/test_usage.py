"""What requests are recorded as: one that cannot be kept costs its neighbours nothing."""

from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, select

from db.ops.requests import Request
from db.schema.ops import api_usage
from db.transaction import SYSTEM
from tests.builders import a_tenant
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

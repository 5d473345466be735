"""What requests are recorded as: one that cannot be kept costs its neighbours nothing."""

from uuid import uuid4

import pytest
from sqlalchemy import func, select

from db.requests import Request
from db.tables import api_usage
from db.transaction import SYSTEM
from tests.builders import a_tenant
from web.usage import UsageLog
from workers.app import App


def recorded(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return int(tx.sql.execute(select(func.count()).select_from(api_usage)).scalar_one())


@pytest.mark.parametrize("bad", [{0}, {7}, {49}, {3, 4, 5, 30}, set(range(50))])
def test_requests_of_tenants_that_are_gone_cost_the_others_nothing(app: App, bad: set[int]) -> None:
    known = a_tenant(app)
    usage = UsageLog(app.db)
    for n in range(50):
        usage.record(Request(uuid4() if n in bad else known, f"GET /{n}", 200, 1))
    usage.start()
    usage.stop(30)
    assert recorded(app) == 50 - len(bad)

"""Pages while Postgres neither answers nor ends the connection."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from web.ops.access import OpsAccess
from web.ops.app import ops_routes
from workers.app import App


@pytest.mark.parametrize("table", ["workers", "operator_tokens"])
def test_a_page_does_not_wait_for_ever(app: App, table: str) -> None:
    """Neither for what it shows, nor for who asks; and it is there again once Postgres is."""
    routes = ops_routes(app, access=OpsAccess(app, patience=0.3), patience=0.3)
    asked = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 50000)}
    with TestClient(Starlette(routes=routes), **asked) as client:  # type: ignore[arg-type]
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            refused = client.get("/ops/workers")
        assert refused.status_code == 503
        assert "Postgres has not answered for 0.3 s" in refused.text
        assert client.get("/ops/workers").status_code == 200


def test_a_page_leads_to_itself_whatever_its_path_has(ops: TestClient) -> None:
    page = ops.get("/ops/queues/a%3Fb%23c%25d%15?x=1")
    assert 'href="/ops/queues/a%3Fb%23c%25d%15?x=1&amp;theme=dark"' in page.text

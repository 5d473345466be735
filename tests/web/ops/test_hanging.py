"""Pages while Postgres neither answers nor ends the connection."""

import time
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from tests.wait import until
from web.ops.access import THREADS, OpsAccess
from web.ops.app import ops_routes
from workers.app import App
from workers.ops.operators import create_token


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
        until(lambda: client.get("/ops/workers").status_code == 200, "the page")


def test_nobody_waits_for_look_ups_that_hang(app: App, owner_url: str) -> None:
    """Whoever was admitted still is; all others are told at once when every thread hangs, `/metrics` too; and when
    Postgres answers again, so do we."""
    access = OpsAccess(app, patience=0.3)

    async def metrics(request: Request) -> Response:
        return await access.may_look(request) or PlainTextResponse("viral_up 1")

    routes = [*ops_routes(app, access=access), Route("/metrics", metrics)]
    token, wrong = create_token(app, "ada", "act").text, {"Authorization": "Bearer wrong"}
    with TestClient(Starlette(routes=routes), base_url="https://ops.example", client=("203.0.113.5", 4711)) as client:
        # What is not looked up within 0.3 s is refused, also where the machine is to blame: then it is asked again.
        form: dict[str, Any] = {"data": {"token": token}, "headers": {"Origin": "https://ops.example"}}
        until(lambda: client.post("/ops/login", **form).status_code == 200, "the sign-in")
        cookie = f"__Host-viral_ops={client.cookies['__Host-viral_ops']}"
        client.cookies.clear()
        with psycopg.connect(owner_url) as owner:
            owner.execute("LOCK TABLE operator_tokens IN ACCESS EXCLUSIVE MODE")
            hung = [client.get("/metrics", headers=wrong) for _ in range(THREADS)]
            assert {each.status_code for each in hung} == {503}
            took = []
            for _ in range(20):
                began = time.monotonic()
                assert client.get("/metrics", headers=wrong).status_code == 503
                took.append(time.monotonic() - began)
            assert sorted(took)[10] < 0.3
            pages: list[httpx.Response] = []

            def shown() -> bool:
                pages.append(client.get("/ops/workers", headers={"Cookie": cookie}))
                return pages[-1].status_code == 200

            until(shown, "the page")
            assert "you are remembered" in pages[-1].text
            assert "ada (look)" in pages[-1].text
        right = {"Authorization": f"Bearer {token}"}
        until(lambda: client.get("/metrics", headers=right).status_code == 200, "the threads to come back")
        until(lambda: "ada (act)" in client.get("/ops/workers", headers={"Cookie": cookie}).text, "her to be looked up")


def test_a_page_leads_to_itself_whatever_its_path_has(ops: TestClient) -> None:
    page = ops.get("/ops/queues/a%3Fb%23c%25d%15?x=1")
    assert 'href="/ops/queues/a%3Fb%23c%25d%15?x=1&amp;theme=dark"' in page.text

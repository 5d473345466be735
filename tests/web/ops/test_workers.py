from datetime import timedelta
from uuid import uuid4

from starlette.testclient import TestClient

from db.transaction import SYSTEM
from workers.app import App

EVIL = '"><script>alert(1)</script>'


def test_a_worker_is_shown_with_its_queues_and_its_release(ops: TestClient, app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        names = {"hostname": EVIL, "pid": 42, "queues": ("llm", EVIL), "version": "v7"}
        tx.workers.beat(uuid4(), **names, lease=timedelta(minutes=1))  # type: ignore[arg-type]
    text = ops.get("/ops/workers").text
    assert "v7" in text
    assert 'href="/ops/queues/llm"' in text
    assert "<script>alert" not in text

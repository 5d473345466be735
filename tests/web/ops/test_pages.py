from starlette.testclient import TestClient


def test_the_workers_page_says_that_there_is_none(ops: TestClient) -> None:
    response = ops.get("/ops/workers")
    assert response.status_code == 200
    assert "No worker process has signed on" in response.text
    assert "unsafe" not in response.headers["content-security-policy"]

"""Requests to services outside are counted by how a real server answered them."""

from contextlib import suppress
from pathlib import Path

from domain.errors import ViralError
from domain.ops.metrics import answer
from integrations.http.client import Http, Request
from simulators.loopback import Loopback, Reply
from simulators.loopback import Request as Received
from workers.adapters.requests import observing
from workers.runtime.metrics import Metrics

NAME = "viral_provider_request_seconds"


def test_requests_are_counted_by_their_answers(tmp_path: Path) -> None:
    def reply(received: Received) -> Reply:
        return Reply(b"hello", status=int(received.path.rpartition("/")[2]))

    metrics = Metrics()
    http = Http("tests", observe=observing(metrics, "tiktok"))
    with Loopback(reply) as server:
        for status, method in ((200, "GET"), (200, "POST"), (404, "GET"), (429, "POST"), (500, "GET")):
            http.exchange(Request("TikTok", f"{server.url}/{status}", method=method))
        http.download(
            Request("TikTok", f"{server.url}/200"),
            tmp_path / "clip",
            most_bytes=100,
            within=5,
            watch=lambda fraction: None,
            home=server.url,
        )
        with suppress(ViralError):
            http.send(Request("TikTok", f"{server.url}/403"))
        closed = server.url
    with suppress(ViralError):
        http.exchange(Request("TikTok", f"{closed}/200"))
    http.close()
    found = {
        (each.labels["operation"], each.labels["outcome"]): sum(each.buckets or ())
        for each in metrics.counted()
        if each.name == NAME
    }
    assert {each.labels["provider"] for each in metrics.counted()} == {"tiktok"}
    assert found == {
        ("read", "ok"): 1,
        ("write", "ok"): 1,
        ("read", "refused"): 2,
        ("write", "not_now"): 1,
        ("read", "server_error"): 1,
        ("download", "ok"): 1,
        ("read", "no_answer"): 1,
    }


def test_an_unknown_name_is_other_and_every_status_has_a_word() -> None:
    metrics = Metrics()
    observing(metrics)("the server of somebody", "read", 200, 0.1)
    observing(metrics)("Stripe", "read", 200, 0.1)
    assert sorted(each.labels["provider"] for each in metrics.counted()) == ["other", "stripe"]
    assert [answer(status) for status in (None, 200, 304, 404, 429, 503, 500)] == [
        *("no_answer", "ok", "ok", "refused", "not_now", "not_now", "server_error")
    ]

"""Bodies: the caller is known before they are read, and no more is read, held or made of them than is allowed."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attack.wire import Wire, head
from tests.builders import a_tenant
from tests.soak import walk
from tests.web.api.test_api import Api, a_key, api, refused
from tests.web.test_webhooks import Web, deps, notified, web
from web.api.admission import AdmittedRoute
from web.server.body import (
    LARGE,
    MAX_DEPTH,
    MAX_VALUES,
    InvalidJson,
    LargeBodies,
    TooManyBodies,
    check_json,
)
from workers.app import App

__all__ = ["api", "deps", "notified", "web"]

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def key(app: App) -> str:
    return a_key(app, a_tenant(app), "generations:write", "account:read")


@pytest.fixture
def wire(web: Web) -> Iterator[Wire]:
    with Wire("127.0.0.1", web.port, 60) as wire:
        yield wire


# --- the credential, then the body --------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [(), ("Authorization: Bearer viral_nobody",), ("Authorization: Basic eDp5",)])
@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_who_is_not_known_is_told_so_before_the_body_comes(wire: Wire, lines: tuple[str, ...], length: str) -> None:
    wire.send(head("POST", "/api/generate", length, *lines))
    assert wire.answer() == "401"


def test_no_operation_reads_the_body_of_somebody_who_is_not_known(web: Web) -> None:
    described = web.client.get("/api/openapi.json").json()
    asked = [(method, path.replace("{", "").replace("}", "")) for _, method, path, _ in walk(described)]
    assert len(asked) >= 13
    for method, path in asked:
        with Wire("127.0.0.1", web.port, 60) as wire:
            wire.send(head(method, path, "Content-Length: 1000000"))
            assert (method, path, wire.answer()) == (method, path, "401")


def test_what_is_announced_as_too_large_is_refused_before_it_comes(wire: Wire, key: str) -> None:
    bearer = f"Authorization: Bearer {key}"
    wire.send(head("POST", "/api/generate", f"Content-Length: {AdmittedRoute.max_body + 1}", bearer))
    assert wire.answer() == "413"


def test_what_turns_out_too_large_is_refused_while_it_comes(wire: Wire, key: str) -> None:
    bearer = f"Authorization: Bearer {key}"
    wire.send(head("POST", "/api/generate", "Transfer-Encoding: chunked", bearer))
    for _ in range(AdmittedRoute.max_body // 1000 + 1):
        wire.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
    assert wire.answer() == "413"


def test_a_body_of_just_the_limit_is_taken(api: Api, key: str) -> None:
    body = b'{"count":1}'
    body += b" " * (AdmittedRoute.max_body - len(body))
    assert api("POST", "/generate", key, content=body, headers=JSON).status_code == 202
    assert refused(api("POST", "/generate", key, content=body + b" ", headers=JSON)) == (413, "BODY_TOO_LARGE")


def test_what_is_sent_to_a_route_that_takes_nothing_is_not_read(web: Web, key: str, wire: Wire) -> None:
    wire.send(head("GET", "/api/user", "Content-Length: 1000000", f"Authorization: Bearer {key}"))
    assert wire.answer() == "200"


def test_a_compressed_body_is_not_unpacked(api: Api, key: str) -> None:
    for encoding in ("gzip", "br", "identity, gzip"):
        headers = JSON | {"Content-Encoding": encoding}
        assert refused(api("POST", "/generate", key, content=b"{}", headers=headers)) == (415, "ENCODING_UNSUPPORTED")
    assert api("POST", "/generate", key, content=b"{}", headers=JSON | {"Content-Encoding": "Identity"}).is_success


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 10_000, "nested deeper"),
        (b'{"generator":' * 100 + b"1" + b"}" * 100, "nested deeper"),
        (b'{"generator":[' + b"{}," * 5000 + b"{}]}", "more than 500 values"),
        (b"[" + b"1," * 5000 + b"1]", "more than 500 values"),
    ],
)
def test_what_would_become_too_many_objects_is_refused_before_it_does(
    api: Api, key: str, body: bytes, reason: str
) -> None:
    answer = api("POST", "/generate", key, content=body, headers=JSON)
    assert refused(answer) == (422, "INVALID")
    assert reason in answer.json()["error"]


json_values = st.recursive(
    st.none() | st.text() | st.integers() | st.sampled_from(['"[{', '\\"]', "\\"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


def measured(value: Any) -> tuple[int, int]:
    """Its depth; and its lists, objects and commas, of which there are as many as values, or up to twice as many."""
    if not isinstance(value, dict | list):
        return 0, 0
    parts = [measured(each) for each in (value.values() if isinstance(value, dict) else value)]
    commas = max(0, len(parts) - 1)
    return 1 + max((depth for depth, _ in parts), default=0), 1 + commas + sum(count for _, count in parts)


@given(json_values, st.integers(1, 4), st.integers(1, 20))
def test_what_is_too_deep_or_too_many_is_refused_and_nothing_else(value: Any, depth: int, values: int) -> None:
    found_depth, found_values = measured(value)
    allowed = found_depth <= depth and found_values <= values
    with contextlib.nullcontext() if allowed else pytest.raises(InvalidJson):
        check_json(json.dumps(value).encode(), depth=depth, values=values)


def test_the_limits_leave_room_for_what_is_sent() -> None:
    check_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    check_json(json.dumps(list(range(MAX_VALUES - 1))).encode())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32", "latin-1"])
@pytest.mark.parametrize(
    "text", ['{"\u0122":' + "[" * 40 + "]" * 40 + "}", '{"count":1}', '{"\u0122":[' + "{}," * 900 + "{}]}"]
)
def test_json_comes_in_utf_8(text: str, encoding: str) -> None:
    """In other encodings bytes are no tokens: 0x22 is the lower half of \u0122."""
    body = text.replace("\u0122", "\u0122" if encoding.startswith("utf") else "\xe9").encode(encoding)
    in_utf_8 = body == text.encode()
    with contextlib.nullcontext() if in_utf_8 else pytest.raises(InvalidJson, match="UTF-8"):
        check_json(body)


@pytest.mark.parametrize(
    "text",
    ['{"count":1,"count":2}', '{"a":[{"b":null,"c":1,"b":null}]}', '{"a":1,"\\u0061":2}', '[{"a":{}, "a":{}}]'],
)
def test_a_field_is_sent_once(text: str) -> None:
    with pytest.raises(InvalidJson, match="this field is sent 2 times"):
        check_json(text.encode())
    check_json(b'{"a":{"a":[{"a":1},{"a":1}]}}')


def test_a_key_does_not_live_for_ever_because_its_end_is_sent_twice(api: Api, app: App) -> None:
    maker = a_key(app, a_tenant(app), "keys:write")
    ends = b'"expires_at":"2099-12-01T00:00:00Z","expires_at":null'
    body = b'{"name":"n","scopes":["account:read"],' + ends + b"}"
    answer = api("POST", "/keys", maker, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]) == (422, "expires_at: this field is sent 2 times")


def test_what_is_refused_is_not_repeated(api: Api, app: App) -> None:
    maker = a_key(app, a_tenant(app), "keys:write", "generations:write")
    for path, body in (
        ("/generate", {"generator": "secret" * 2000}),
        ("/keys", {"name": "n", "scopes": ["secret"]}),
        ("/keys", {"name": "n\u202esecret", "scopes": ["account:read"]}),
    ):
        answer = api("POST", path, maker, json=body)
        assert answer.status_code == 422
        assert "secret" not in answer.text


# --- large bodies -------------------------------------------------------------------------------------------


class Sender:
    """A body that comes when the test says so."""

    def __init__(self, bodies: LargeBodies) -> None:
        self.chunks: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(bodies))

    async def _read(self, bodies: LargeBodies) -> int:
        with bodies.body() as body:
            return len(await body.read({"headers": []}, self._receive, 2**20))

    async def _receive(self) -> dict[str, Any]:
        chunk, more = await self.chunks.get()
        return {"type": "http.request", "body": chunk, "more_body": more}


def test_large_bodies_that_stop_give_way_to_those_that_come() -> None:
    async def scenario() -> None:
        bodies = LargeBodies(most=10 * LARGE)
        stopped = [Sender(bodies) for _ in range(8)]
        for each in stopped:
            each.chunks.put_nowait((b"x" * 2 * LARGE, True))
        for _ in range(50):
            whole = Sender(bodies)
            for more in (True, True, False):
                whole.chunks.put_nowait((b"x" * LARGE, more))
            assert await asyncio.wait_for(whole.task, 30) == 3 * LARGE
        for each in stopped:
            each.chunks.put_nowait((b"x", False))
        found = await asyncio.gather(*(each.task for each in stopped), return_exceptions=True)
        assert sum(isinstance(each, TooManyBodies) for each in found) >= 4
        assert bodies.free == 10 * LARGE

    asyncio.run(scenario())


def test_small_bodies_are_read_whatever_the_large_ones_hold() -> None:
    async def scenario() -> None:
        bodies = LargeBodies(most=LARGE)
        large, small = Sender(bodies), Sender(bodies)
        large.chunks.put_nowait((b"x" * 2 * LARGE, True))
        with pytest.raises(TooManyBodies):
            await asyncio.wait_for(large.task, 30)
        small.chunks.put_nowait((b"x" * LARGE, False))
        assert await asyncio.wait_for(small.task, 30) == LARGE

    asyncio.run(scenario())

"""The body of a request, counted while it streams in, so that no more than `MAX_BODY` of it is held in memory."""

from starlette.types import Receive, Scope

MAX_BODY = 1024 * 1024
"""Bytes. Stripe and Clerk stay far below (Standard Webhooks suggests 20 kB), and so does what the API takes."""


class BodyTooLarge(Exception):
    """The body is, or says that it is, larger than `MAX_BODY`."""

    def __init__(self) -> None:
        super().__init__(f"the body is larger than {MAX_BODY} bytes")


class Disconnected(Exception):
    """The sender hung up in the middle of the body."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Raises:
    BodyTooLarge, Disconnected: it cannot be had.
    """
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if announced.isdigit() and int(announced) > MAX_BODY:
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)

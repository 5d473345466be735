"""Bodies of requests: the bytes that are read of one, and the bytes of all of them that are held in memory."""

import json
import re
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from starlette.types import Receive, Scope

MAX_BODY = 1024 * 1024
"""Bytes of a webhook. Stripe and Clerk stay far below (Standard Webhooks suggests 20 kB)."""

LARGE = 64 * 1024
MOST_HELD = 48 * 1024 * 1024
"""Bytes that all bodies larger than `LARGE` may hold together."""

MAX_DEPTH = 32
MAX_VALUES = 500
"""Values in a JSON body, counted as its lists, objects and commas. Two bytes become an object of a hundred."""

NOT_UTF_8: Final = "the body is not JSON in UTF-8"
LONGEST_NAME = 100
"""Characters of a field's name that an error response repeats."""

TOKENS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)


class BodyTooLarge(Exception):
    """The body, or its Content-Length, is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class TooManyBodies(Exception):
    """There is no memory for a body of this size now."""

    def __init__(self) -> None:
        super().__init__("too many large bodies are sent at once; send it again later")


class InvalidJson(Exception):
    """The JSON has more values than any body of ours, or may be read in two ways."""


class Disconnected(Exception):
    """The sender hung up before the end of the body, or took too long."""


class LargeBodies:
    """The memory that large bodies share, from their first bytes until their requests are answered.

    When it is used up, the oldest body that is still being received is dropped: a sender that sends all at once gets
    through between any number of senders that do not.
    """

    def __init__(self, most: int = MOST_HELD) -> None:
        self.free = most
        self._held: dict[Body, None] = {}

    def body(self) -> "Body":
        return Body(self)

    def allocate(self, body: "Body", size: int) -> None:
        """Account for `size` more bytes of the body.

        Raises:
            TooManyBodies: there is no memory left for this one.
        """
        self._held[body] = None
        self.free -= size
        while self.free < 0:
            oldest = next((each for each in self._held if each.receiving), None)
            if oldest is None or oldest is body:
                raise TooManyBodies
            oldest.drop()

    def release(self, body: "Body", size: int) -> None:
        if self._held.pop(body, body) is None:
            self.free += size


class Body:
    """One body, whose bytes are accounted for while it is read and, as a context manager, while the block runs."""

    def __init__(self, memory: LargeBodies | None = None) -> None:
        self.receiving = True
        self._memory = memory
        self._chunks: list[bytes] = []
        self._size = 0
        self._accounted = 0
        self._dropped = False

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    def drop(self) -> None:
        """Free its memory; it is refused as soon as more of it comes."""
        self._dropped = True
        self._release()

    async def read(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            BodyTooLarge, TooManyBodies, Disconnected: there is no whole body.
        """
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > limit:
            raise BodyTooLarge(limit)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self._add(message.get("body", b""), limit)
            more = message.get("more_body", False)
        self.receiving = False
        return b"".join(self._chunks)

    def _add(self, chunk: bytes, limit: int) -> None:
        if self._dropped:
            raise TooManyBodies
        self._size += len(chunk)
        if self._size > limit:
            raise BodyTooLarge(limit)
        if self._memory is not None and self._size > LARGE:
            more, self._accounted = self._size - self._accounted, self._size
            self._memory.allocate(self, more)
        self._chunks.append(chunk)

    def _release(self) -> None:
        self.receiving = False
        self._chunks.clear()
        if self._memory is not None and self._accounted:
            self._memory.release(self, self._accounted)
        self._accounted = 0


def check_json(body: bytes, *, depth: int = MAX_DEPTH, values: int = MAX_VALUES) -> None:
    """Check the depth and the number of values of JSON before any object is made of it, and then that its fields have
    one meaning. A body that is not JSON at all passes.

    Raises:
        InvalidJson: it is too deep, has too many values, is not in UTF-8, or names a field twice.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise InvalidJson(NOT_UTF_8) from None
    if b"\0" in body:  # UTF-16 and UTF-32, which Python would read too; and in them the tokens are others
        raise InvalidJson(NOT_UTF_8)
    level = found = 0
    for token in TOKENS.finditer(body):
        match body[token.start()]:
            case 0x5B | 0x7B:  # [ {
                level += 1
                found += 1
            case 0x5D | 0x7D:  # ] }
                level -= 1
            case 0x2C:  # ,
                found += 1
        if level > depth:
            raise InvalidJson(f"the body is nested deeper than {depth} levels")
        if found > values:
            raise InvalidJson(f"the body has more than {values} values")
    with suppress(ValueError):
        json.loads(body, object_pairs_hook=_reject_duplicates)


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """A reader would take the last of two values of one field, and the sender may have meant the first."""
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise InvalidJson(f"{name[:LONGEST_NAME]}: this field is sent {times} times")

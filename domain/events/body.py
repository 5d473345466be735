"""Reading a webhook's body without trusting it: every value knows where it stands, so an error can name the field."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from domain.errors import MalformedEvent
from domain.text.storable import storable_text

T = TypeVar("T")

VISIBLE = re.compile(r"[\x21-\x7e]{1,255}").fullmatch
OBJECT = (dict, Mapping)
"""Nearly all are dicts; to ask whether a value is a `Mapping` takes four times as long."""


class Field:
    """A value inside a body that knows its path. What is absent or null reads as None; what has the wrong form
    raises MalformedEvent."""

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        self.value = value
        self.path = path

    def __getitem__(self, key: str) -> "Field":
        path = f"{self.path}.{key}" if self.path else key
        if self.value is None:
            return Field(None, path)
        if not isinstance(self.value, OBJECT):
            raise self.malformed("an object")
        return Field(self.value.get(key), path)

    def __iter__(self) -> Iterator["Field"]:
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.malformed("a list")
        for index, value in enumerate(self.value):
            yield Field(value, f"{self.path}[{index}]")

    def required(self, form: Callable[["Field"], T | None]) -> T:
        value = form(self)
        if value is None:
            raise MalformedEvent(f"{self.path}: missing")
        return value

    def malformed(self, expected: str) -> MalformedEvent:
        return MalformedEvent(f"{self.path or 'body'}: expected {expected}, found {type(self.value).__name__}")

    def word(self) -> str | None:
        """An id or a name of the sender's: visible ASCII, which every database column can hold."""
        if self.value is None:
            return None
        if not isinstance(self.value, str) or not VISIBLE(self.value):
            raise self.malformed("a word of visible ASCII")
        return self.value

    def id(self) -> str | None:
        """An id, or the id of the object that Stripe expanded in its place."""
        return self["id"].required(Field.word) if isinstance(self.value, OBJECT) else self.word()

    def text(self) -> str | None:
        """Anything a person may have typed, as PostgreSQL can store it; None if nothing is left."""
        if self.value is None:
            return None
        if not isinstance(self.value, str):
            raise self.malformed("a text")
        return storable_text(self.value).strip() or None

    def flag(self) -> bool:
        if self.value is not None and not isinstance(self.value, bool):
            raise self.malformed("true or false")
        return bool(self.value)

    def whole(self) -> int | None:
        if self.value is not None and (not isinstance(self.value, int) or isinstance(self.value, bool)):
            raise self.malformed("a whole number")
        return self.value

    def seconds(self) -> datetime | None:
        return self._since_epoch(1)

    def milliseconds(self) -> datetime | None:
        return self._since_epoch(1000)

    def _since_epoch(self, per_second: int) -> datetime | None:
        value = self.whole()
        if value is None:
            return None
        seconds, rest = divmod(value, per_second)
        # The year 3000: far enough for any period, near enough that adding months to it stays a date.
        if not 0 <= seconds < 32_503_680_000:
            raise self.malformed("a time between 1970 and 3000")
        moment = datetime.fromtimestamp(seconds, UTC)
        return moment.replace(microsecond=rest * (1_000_000 // per_second)) if rest else moment

"""The envelope of a webhook event, whoever sent it, and the text of its body in a form that Postgres keeps."""

import hmac
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import orjson

from domain.errors import MalformedEvent, SignatureInvalid
from domain.text.storable import Unstorable, storable

DEEPEST = 900
"""How deep a body is nested at most. Few decoders read more."""

MAX_NAME = 255
"""How many characters an id or a type has at most. Stripe documents 255; an entry of an index holds 2,704 bytes."""

TOLERANCE = 300
"""Seconds that a signature's time may differ from ours, to either side. Each retry is signed anew."""

T = TypeVar("T")


class Envelope(NamedTuple):
    """One event. `payload` is JSON text that `jsonb` accepts; `body` is what was signed, byte for byte.

    `subject` names whom it is about (a Stripe customer, a Clerk user or organization): events of one subject belong
    in order. `body` is None for an event whose content must not be kept. (A named tuple: they are made by the thousand
    a second, and `db.events.writer.NewEvent` has the same fields in this order.)
    """

    external_id: str
    type: str
    api_version: str | None
    livemode: bool | None
    occurred_at: datetime | None
    subject: str | None
    payload: str
    body: bytes | None


def check_signature(expected: Sequence[bytes], signatures: Sequence[bytes], age: float) -> None:
    """Return only if one of the signatures is expected, and its `age` in seconds is within `TOLERANCE`.

    Raises:
        SignatureInvalid: the text says which check failed.
    """
    if not expected:
        raise SignatureInvalid("no signing secret is set, and an empty one verifies nothing")
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in signatures):
        raise SignatureInvalid("no v1 signature fits this body and the signing secrets")
    if abs(age) > TOLERANCE:
        side = "in the past" if age > 0 else "in the future"
        raise SignatureInvalid(f"the signature's time is {math.ceil(abs(age))} s {side}; {TOLERANCE} are allowed")


def is_unix_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def read_object(body: bytes) -> tuple[dict[str, Any], str]:
    """Return the JSON object of a signed body, and its text for `jsonb`.

    Values that JSON or its dialects have and Postgres cannot keep are replaced, not refused, because refusing makes the
    sender try again for days: U+0000 and lone surrogates become U+FFFD; NaN, infinities and numbers too large for
    a double become null. Of a key given twice the last counts.

    Raises:
        MalformedEvent: the body is not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        value: Any = orjson.loads(body)
        text = orjson.dumps(value).decode()
    except (orjson.JSONDecodeError, TypeError):
        value, text = _read_leniently(body)
    if "\\u0000" in text:
        value, text = _read_leniently(body)
    if not isinstance(value, dict):
        raise MalformedEvent("the body is not a JSON object")
    return value, text


def _read_leniently(body: bytes) -> tuple[Any, str]:
    try:
        value = json.loads(
            body.decode(),
            parse_int=lambda digits: int(digits) if len(digits) <= 20 else _finite(digits),
            parse_float=_finite,
            parse_constant=lambda name: None,
        )
        value, _ = storable(value, deepest=DEEPEST)
        return value, json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except UnicodeDecodeError as error:
        raise MalformedEvent("the body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedEvent(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except (RecursionError, Unstorable) as error:
        raise MalformedEvent("the body is nested too deeply") from error


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def name(event: dict[str, Any], key: str) -> str:
    """Return the non-empty string at `key`.

    Raises:
        MalformedEvent: it is missing, of another kind, or too long.
    """
    value = event.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise MalformedEvent(f"the event's {key!r} is not a string of 1 to {MAX_NAME} characters")
    return value


def optional(event: dict[str, Any], key: str, kind: type[T]) -> T | None:
    """Return the value at `key`, None if there is none.

    Raises:
        MalformedEvent: it is of another kind.
    """
    value = event.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise MalformedEvent(f"the event's {key!r} is not of type {kind.__name__}")


def moment(event: dict[str, Any], key: str, *, per_second: int = 1) -> datetime | None:
    """Return the time at `key`: a Unix time in seconds (or in `per_second`-ths) or RFC 3339; None if there is none.

    Raises:
        MalformedEvent: it is neither, or outside the years 1 to 9999.
    """
    value = event.get(key)
    try:
        match value:
            case None:
                return None
            case int() | float() if not isinstance(value, bool):
                return datetime.fromtimestamp(value / per_second, UTC)
            case str() if (parsed := datetime.fromisoformat(value)).tzinfo:
                return parsed.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MalformedEvent(f"the event's {key!r} is not a time") from error
    raise MalformedEvent(f"the event's {key!r} is not a time")


def subject(*candidates: Any) -> str | None:
    """Return the first candidate that can be an id."""
    return next((each for each in candidates if isinstance(each, str) and 0 < len(each) <= MAX_NAME), None)

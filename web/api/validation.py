"""Validation of requests: an unknown field is an error, since whoever sent it thinks that it does something; and each
value must be what JSON says it is. Left to itself, pydantic reads `true` and `"1"` as 1, and a number as a time."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from starlette.responses import Response

from domain.text.numbers import unreadable, written
from web.error_responses import error_response
from web.server.body import LONGEST_NAME

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""The range of times that other programs can read, too."""

Platform = Literal["tiktok", "youtube-shorts", "instagram-reels", "bluesky", "mastodon"]
"""The names of `domain/videos/profiles.py`, as type checkers and the description of the API need them."""

MOST_FAULTS = 20
"""Places that are named of a body that is wrong everywhere."""


class RequestBody(BaseModel):
    """The fields of a request: those that it declares, each of exactly its type, and no others.

    JSON has no ids, times or enumerations: their fields have types of this module, or say `strict=False`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _can_be_read(cls, value: Any) -> Any:
        """What is kept as it is sent must be what others can read back."""
        place = unreadable(value) if isinstance(value, dict | list) else None
        if place is not None:
            raise ValueError(f"{place[:LONGEST_NAME]}: should be a number that is finite, as JSON's are")
        return value


def _is_text(value: object) -> object:
    if not isinstance(value, str | datetime):
        raise ValueError("should be a text like 2026-12-01T09:00:00Z")
    if isinstance(value, str) and value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("should be a text like 2026-12-01T09:00:00Z, not a number")
    return value


def _is_in_range(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError(f"should be a time between {EARLIEST.year} and {LATEST.year}")
    return value


Id = Annotated[UUID, Field(strict=False)]
Kept = AfterValidator(written)
"""Of a value in a response that is JSON as somebody sent it."""
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_is_text), AfterValidator(_is_in_range)]
"""A time with its offset from UTC."""


async def invalid_request(request: Request, error: Exception) -> Response:
    """Name each place and what is wrong there. The values are not repeated: they may be secret."""
    if not isinstance(error, RequestValidationError):
        raise error
    if any(isinstance(fault.get("input"), bytes) for fault in error.errors()):  # FastAPI did not try to read the body
        return error_response(415, "send the body as JSON, with `Content-Type: application/json`", "NOT_JSON")
    faults = [
        {"where": ".".join(str(part)[:LONGEST_NAME] for part in fault["loc"]), "what": _what(request, fault)}
        for fault in error.errors()[:MOST_FAULTS]
    ]
    return error_response(422, f"{faults[0]['where']}: {faults[0]['what']}", "INVALID", faults)


def _what(request: Request, fault: Mapping[str, Any]) -> str:
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"]).removeprefix("Value error, ")
    place, *_, name = fault["loc"]
    return unknown_field(str(name), _fields_of(request.scope["route"], str(place)))


def _fields_of(route: APIRoute, place: str) -> list[str]:
    """Return the fields that the route's body or query (`place`) has."""
    params = route.dependant.body_params if place == "body" else route.dependant.query_params
    annotations = [each.field_info.annotation for each in params]
    models = [each for annotation in annotations for each in get_args(annotation) or (annotation,)]  # `Body | None`
    bodies = [model for model in models if isinstance(model, type) and issubclass(model, RequestBody)]
    return [name for body in bodies for name in body.model_fields]


def unknown_field(name: str, fields: Sequence[str]) -> str:
    """Say that there is no such field, and which was probably meant: of `expiresAt`, `expires_at`."""
    plain = {_plain(each): each for each in fields}
    if close := get_close_matches(_plain(name), plain, n=1):
        return f"there is no such field; did you mean {plain[close[0]]}?"
    return f"there is no such field; there {'is' if len(fields) == 1 else 'are'} {', '.join(fields)}"


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())

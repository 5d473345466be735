"""Bodies of requests: a field that we do not know is refused, since whoever sent it thinks that it does something; and
each value is what JSON says it is. Left to itself, pydantic reads `true` and `"1"` as 1, and a number as a time."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any
from uuid import UUID

from fastapi.routing import APIRoute
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Between these is every time that other programs can read, too."""


class RequestBody(BaseModel):
    """The fields of a request: those that it declares, each of exactly its type, and no others.

    JSON has no ids, times or enumerations: their fields have types of this module, or say `strict=False`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


def _is_text(value: object) -> object:
    if not isinstance(value, str | datetime):
        raise ValueError("should be a text like 2026-12-01T09:00:00Z")
    if isinstance(value, str) and value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("should be a text like 2026-12-01T09:00:00Z, not a number")
    return value


def _is_meant(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError(f"should be a time between {EARLIEST.year} and {LATEST.year}")
    return value


Id = Annotated[UUID, Field(strict=False)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_is_text), AfterValidator(_is_meant)]
"""A time with its offset from UTC."""


def fields_of(route: APIRoute, place: str) -> list[str]:
    """Return the fields that the route's body or query (`place`) has."""
    params = route.dependant.body_params if place == "body" else route.dependant.query_params
    models: list[Any] = [each.field_info.annotation for each in params]
    return [name for model in models if issubclass(model, RequestBody) for name in model.model_fields]


def unknown_field(name: str, known: Sequence[str]) -> str:
    """Say that there is no such field, and which was probably meant: of `expiresAt`, `expires_at`."""
    plain = {_plain(each): each for each in known}
    if close := get_close_matches(_plain(name), plain, n=1):
        return f"there is no such field; did you mean {plain[close[0]]}?"
    return f"there is no such field; there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())

"""Bodies of requests: a field that we do not know is refused, since whoever sent it thinks that it does something."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict


class RequestBody(BaseModel):
    """The fields of a request: those that it declares, and no others."""

    model_config = ConfigDict(extra="forbid")


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

"""A resource as JSON or, for spreadsheets, as CSV: whichever the request's `Accept` prefers.

Quality values and wildcards mean what RFC 9110 (12.4.2, 12.5.1) says: the most specific range that fits a type has its
quality. JSON is what whoever says nothing gets, and whoever wants something that there is not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from domain.text.spreadsheet import to_csv

CSV, JSON = "text/csv", "application/json"
MEDIA_TYPE = f"{CSV}; charset=utf-8; header=present"
VARY = {"Vary": "Accept"}
QUALITY = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)")


def _wants_csv(request: Request) -> bool:
    return prefers_csv(", ".join(request.headers.getlist("accept")))


WantsCsv = Annotated[bool, Depends(_wants_csv)]


def prefers_csv(accept: str) -> bool:
    """Whether a request with this `Accept` header gets CSV: it names it before JSON, or by name and JSON by `*/*`."""
    csv, json = _preference(accept, CSV), _preference(accept, JSON)
    return csv[0] > 0 and csv > json


def _preference(accept: str, media_type: str) -> tuple[float, int]:
    """Return the quality that the header gives this type, and how specific the range is that says so (0: none does).
    A range whose quality cannot be read is ignored."""
    ranges = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}
    found = (0, 0.0)
    for part in accept.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:].strip() for each in parameters if each.startswith("q=")), "1")
        if name in ranges and QUALITY.fullmatch(quality):
            found = max(found, (ranges[name], float(quality)))
    specificity, quality_found = found
    return quality_found, specificity


def csv_response(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """Return the rows as a file that a browser offers to save under this name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', **VARY}
    return Response(to_csv(columns, rows), media_type=MEDIA_TYPE, headers=headers)


def or_csv(description: str, example: str) -> dict[int | str, dict[str, Any]]:
    """Return the 200 of a route's description that has both forms."""
    content = {CSV: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": f"{description}; as CSV with `Accept: {CSV}`", "content": content}}

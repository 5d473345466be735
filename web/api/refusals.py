"""What a refusal is: to its callers, in the API's description, and in code."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response


class Refusal(BaseModel):
    """What every refusal says: why, in a sentence and in a word, and what else there is to know."""

    error: str
    code: str
    details: Any = None


class Refused(Exception):
    """A refusal that only the API knows, with its status."""

    def __init__(
        self, status: int, text: str, code: str, details: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.details = details
        self.headers = headers

    def response(self) -> Response:
        return refusal(self.status, str(self), self.code, self.details, self.headers)


def refusal(
    status: int, text: str, code: str, details: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """What every refusal looks like, of the API and of the doors beside it."""
    return JSONResponse({"error": text, "code": code, "details": details}, status, headers)


RETRY_AFTER = 5
"""Seconds."""


def overloaded(text: str) -> Refused:
    return Refused(503, text, "OVERLOADED", {"retry_after": RETRY_AFTER}, {"Retry-After": str(RETRY_AFTER)})


def not_found(what: str) -> Refused:
    """Also for what is another tenant's: whether it exists is theirs to know."""
    return Refused(404, f"you have no {what}", "NOT_FOUND")


def documented(**cases: str) -> dict[int | str, dict[str, Any]]:
    """Refusals for a route's description, by status: `documented(_404="no such job")`."""
    return {int(status[1:]): {"model": Refusal, "description": text} for status, text in cases.items()}

"""The one form of an error response, for the API and the endpoints beside it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}

INTERNAL_ERROR = "an error of our own; it has been logged"

RETRY_AFTER = 5
"""Seconds."""


class ErrorResponse(BaseModel):
    """The body of every error response: the reason in a sentence and as a code, and details if there are any."""

    error: str
    code: str
    details: Any = None


class ApiError(Exception):
    """An error that only the API knows, with the response that it becomes."""

    def __init__(
        self, status: int, text: str, code: str, details: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.details = details
        self.headers = headers

    def response(self) -> Response:
        return error_response(self.status, str(self), self.code, self.details, self.headers)


def error_response(
    status: int, text: str, code: str, details: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse({"error": text, "code": code, "details": details}, status, headers)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer an error of the framework: an unknown path, another method."""
    if not isinstance(error, HTTPException):
        raise error
    code = CODES.get(error.status_code, "HTTP_ERROR")
    return error_response(error.status_code, error.detail, code, headers=error.headers)


async def internal_error(request: Request, error: Exception) -> Response:
    """Answer an error that nobody foresaw, without its text."""
    return error_response(500, INTERNAL_ERROR, "INTERNAL")


def retry_later(text: str, code: str, seconds: int = RETRY_AFTER, *, status: int = 503) -> ApiError:
    """Return an error that names the seconds after which a request may be sent again."""
    return ApiError(status, text, code, {"retry_after": seconds}, {"Retry-After": str(seconds)})


def overloaded(text: str) -> ApiError:
    return retry_later(text, "OVERLOADED")


def not_found(what: str) -> ApiError:
    """Return the 404 for a row that is absent or another tenant's: whether it exists is theirs to know."""
    return ApiError(404, f"you have no {what}", "NOT_FOUND")


def documented(**cases: str) -> dict[int | str, dict[str, Any]]:
    """Return error responses for a route's description, by status: `documented(_404="no such job")`."""
    return {int(status[1:]): {"model": ErrorResponse, "description": text} for status, text in cases.items()}

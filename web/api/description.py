"""The API's own description: what OpenAPI says of it beyond what the handlers' types do."""

from typing import Any

from fastapi import FastAPI

TEXT = {"type": "string"}
SECONDS = {"type": "integer", "minimum": 0}

LOCATION = {"Location": {"description": "Where the job is.", "schema": TEXT}}
RATE_LIMIT = {
    "RateLimit-Policy": {"description": 'What is allowed: `"key";q=120;w=60`, 120 in 60 s.', "schema": TEXT},
    "RateLimit": {"description": 'What is left: `"key";r=119;t=1`, all of it again in 1 s.', "schema": TEXT},
    "RateLimit-Status": {"description": "`uncounted`: it passed, as nobody can count at the moment.", "schema": TEXT},
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds after which it is worth trying again.", "schema": SECONDS}}
CHALLENGE = {"WWW-Authenticate": {"description": "How to come in, as in RFC 6750.", "schema": TEXT}}

BEFORE_THE_CALLER_IS_KNOWN = {"401", "413"}
OF_STATUS = {"202": LOCATION, "401": CHALLENGE, "403": RETRY_AFTER, "429": RETRY_AFTER, "503": RETRY_AFTER}


class Described(FastAPI):
    """FastAPI, with the headers of its answers described too."""

    def openapi(self) -> dict[str, Any]:
        made = self.openapi_schema is not None
        described = super().openapi()
        if not made:
            for path in described["paths"].values():
                for operation in path.values():
                    for status, answer in operation["responses"].items():
                        answer.setdefault("headers", {}).update(_headers(status))
        return described


def _headers(status: str) -> dict[str, Any]:
    counted = {} if status in BEFORE_THE_CALLER_IS_KNOWN else RATE_LIMIT
    return counted | OF_STATUS.get(status, {})

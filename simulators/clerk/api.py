"""A Clerk instance on this machine, whose books our own client reads over HTTP.

It answers as the Backend API does: users as a plain list, all else as `{"data": […], "total_count": n}`; ten objects a
page unless asked for up to 500; `errors` with a code for what is refused.
"""

import json
from collections.abc import Callable
from typing import Any

from simulators.loopback import Asked, Loopback, Reply
from simulators.personas import Body

USUAL, MOST = 10, 500


class ClerkApiSimulator:
    """`users`, `organizations` and `memberships` are its books, in any order. With `organizations_enabled` False, it
    refuses all that is about them, as instances do that have never turned them on. `meanwhile` is called after each
    list has been answered: what happens at Clerk while we read."""

    def __init__(self, key: str = "sk_test_fake", instance_id: str = "ins_2fakeInstanceForDevelopment") -> None:
        self.key = key
        self.instance_id = instance_id
        self.users: list[Body] = []
        self.organizations: list[Body] = []
        self.memberships: list[Body] = []
        self.organizations_enabled = True
        self.meanwhile: Callable[[Asked], object] = lambda asked: None

    def serving(self) -> Loopback:
        """A server of it; its `url` is the address for CLERK_API_BASE."""
        return Loopback(self.answer)

    def answer(self, asked: Asked) -> Reply:
        reply = self._answer(asked)
        if "offset" in asked.params:
            self.meanwhile(asked)
        return reply

    def _answer(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            return _refused(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")
        parts = asked.path.removeprefix("/v1/").split("/")
        if "organization" in asked.path and not self.organizations_enabled:
            return _refused(403, "organization_not_enabled_in_instance", "access denied")
        match parts:
            case ["instance"]:
                return _said({"object": "instance", "id": self.instance_id, "environment_type": "development"})
            case ["users"]:
                return _said(_page(self.users, asked)[0])
            case ["users", name]:
                return _one(self.users, name)
            case ["users", name, "organization_memberships"]:
                if not any(each["id"] == name for each in self.users):
                    return _missing()
                theirs = [each for each in self.memberships if each["public_user_data"]["user_id"] == name]
                return _listed(theirs, asked)
            case ["organizations"]:
                return _listed(self.organizations, asked)
            case ["organizations", name]:
                return _one(self.organizations, name)
            case ["organization_memberships"]:
                return _listed(self.memberships, asked)
        return _missing()


def _page(rows: list[Body], asked: Asked) -> tuple[list[Body], int]:
    """Newest first unless asked otherwise."""
    oldest_first = asked.params.get("order_by") in ("created_at", "+created_at")
    ordered = sorted(rows, key=lambda each: (each["created_at"], each["id"]), reverse=not oldest_first)
    offset, limit = int(asked.params.get("offset", 0)), min(MOST, int(asked.params.get("limit", USUAL)))
    return ordered[offset : offset + limit], len(rows)


def _listed(rows: list[Body], asked: Asked) -> Reply:
    data, total = _page(rows, asked)
    return _said({"data": data, "total_count": total})


def _one(rows: list[Body], name: str) -> Reply:
    found = next((each for each in rows if each["id"] == name), None)
    return _said(found) if found else _missing()


def _said(body: Any) -> Reply:
    return Reply(json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def _missing() -> Reply:
    return _refused(404, "resource_not_found", "not found")


def _refused(status: int, code: str, message: str) -> Reply:
    body = {"errors": [{"message": message, "long_message": message, "code": code}], "clerk_trace_id": "trace"}
    return Reply(json.dumps(body).encode(), status)

"""A Clerk instance on this machine, whose books our own client reads over HTTP.

It answers as the Backend API does: users as a plain list, all else as `{"data": […], "total_count": n}`; ten objects a
page unless request for up to 500; `errors` with a code for what is refused.
"""

from collections.abc import Callable

from simulators.loopback import Loopback, Reply, Request, json_reply
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
        self.meanwhile: Callable[[Request], object] = lambda request: None

    def serving(self) -> Loopback:
        """A server of it; its `url` is the address for CLERK_API_BASE."""
        return Loopback(self.answer)

    def answer(self, request: Request) -> Reply:
        reply = self._answer(request)
        if "offset" in request.params:
            self.meanwhile(request)
        return reply

    def _answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")
        parts = request.path.removeprefix("/v1/").split("/")
        if "organization" in request.path and not self.organizations_enabled:
            return _error(403, "organization_not_enabled_in_instance", "access denied")
        match parts:
            case ["instance"]:
                return json_reply({"object": "instance", "id": self.instance_id, "environment_type": "development"})
            case ["users"]:
                return json_reply(_page(self.users, request)[0])
            case ["users", name]:
                return _one(self.users, name)
            case ["users", name, "organization_memberships"]:
                if not any(each["id"] == name for each in self.users):
                    return _not_found()
                theirs = [each for each in self.memberships if each["public_user_data"]["user_id"] == name]
                return _listed(theirs, request)
            case ["organizations"]:
                return _listed(self.organizations, request)
            case ["organizations", name]:
                return _one(self.organizations, name)
            case ["organization_memberships"]:
                return _listed(self.memberships, request)
        return _not_found()


def _page(rows: list[Body], request: Request) -> tuple[list[Body], int]:
    """Newest first unless request otherwise."""
    oldest_first = request.params.get("order_by") in ("created_at", "+created_at")
    ordered = sorted(rows, key=lambda each: (each["created_at"], each["id"]), reverse=not oldest_first)
    offset, limit = int(request.params.get("offset", 0)), min(MOST, int(request.params.get("limit", USUAL)))
    return ordered[offset : offset + limit], len(rows)


def _listed(rows: list[Body], request: Request) -> Reply:
    data, total = _page(rows, request)
    return json_reply({"data": data, "total_count": total})


def _one(rows: list[Body], name: str) -> Reply:
    found = next((each for each in rows if each["id"] == name), None)
    return json_reply(found) if found else _not_found()


def _not_found() -> Reply:
    return _error(404, "resource_not_found", "not found")


def _error(status: int, code: str, message: str) -> Reply:
    body = {"errors": [{"message": message, "long_message": message, "code": code}], "clerk_trace_id": "trace"}
    return json_reply(body, status)

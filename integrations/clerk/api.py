"""Clerk's Backend API lists what our mirror is compared with: people, organizations, and who is a member of what.

Clerk's own library is not used: it is 9 MB for six GETs. Lists are paged by offset, oldest first, so that what is added
meanwhile comes at the end; what is deleted meanwhile may move others past us, which is why nobody counts as gone
before Clerk was asked for them alone.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import orjson

from domain.errors import ProviderRefused, ProviderUnavailable, Unavailable
from domain.identity.people import Membership, Organization, Person
from domain.ports import Page
from domain.queue.rate import Rate
from integrations.http.client import Http, Request
from integrations.http.errors import RequestRejected
from integrations.http.pace import Pace

BASE = "https://api.clerk.com"
PAGE = 100
"""Objects a page. Clerk gives up to 500, and a user may have several kB."""

LIVE_READS, TEST_READS = Rate(timedelta(seconds=1 / 50), burst=5), Rate(timedelta(seconds=1 / 5), burst=5)
"""Half of what Clerk allows an instance (1,000 requests in 10 s in production, 100 in development)."""

OLDEST_FIRST = "+created_at"

Account = Person | Organization | Membership
PATHS: dict[type[Account], str] = {
    Person: "/v1/users",
    Organization: "/v1/organizations",
    Membership: "/v1/organization_memberships",
}

Json = dict[str, Any]


class ClerkApi:
    """The instance that `key` opens. Any thread may use it. `clock` is Unix seconds."""

    def __init__(
        self,
        key: str,
        http: Http,
        *,
        base: str = BASE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._key = key
        self._http = http
        self._base = base
        self._clock = clock
        self._pace = Pace(LIVE_READS if "_live_" in key else TEST_READS, clock=clock, sleep=sleep)

    def instance(self) -> str:
        return str(self._get("/v1/instance").get("id"))

    def listed(self, kind: type[Account]) -> Iterator[Page]:
        """Return all objects of a kind. Where organizations are not enabled, Clerk answers 403
        (`organization_not_enabled_in_instance`); a wrong key is a 401."""
        try:
            yield from self._pages(PATHS[kind], order_by=OLDEST_FIRST)
        except ProviderRefused as error:
            if kind is Person or error.code != "403":
                raise

    def has(self, row: Account) -> bool:
        """Return False only if Clerk says that there is no such object."""
        try:
            if isinstance(row, Membership):
                return self._has_membership(row)
            self._get(f"{PATHS[type(row)]}/{quote(row.clerk_id, safe='')}")
        except ProviderRefused as error:
            if error.code not in ("403", "404") and not isinstance(row, Membership):
                raise
            return error.code != "404"
        return True

    def _has_membership(self, row: Membership) -> bool:
        """There is no asking for one membership; there is for all of one person."""
        pages = self._pages(f"{PATHS[Person]}/{quote(row.user_id, safe='')}/organization_memberships")
        return any(each.get("id") == row.clerk_id for page in pages for each in page.items)

    def _pages(self, path: str, **params: str) -> Iterator[Page]:
        offset = 0
        while True:
            as_of = datetime.fromtimestamp(self._clock(), UTC)
            found = self._get(path, limit=str(PAGE), offset=str(offset), **params)
            # Users come as a plain list, all others as {"data": […], "total_count": n}.
            items = found.get("data")
            if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
                raise ProviderUnavailable(f"Clerk's answer to {path} is no list of objects")
            if items:
                yield Page(as_of, tuple(items))
            if len(items) < PAGE:
                return
            offset += len(items)

    def _get(self, path: str, **params: str) -> Json:
        """Return the JSON object at `path`; a plain list reads as `{"data": […]}`."""
        request = Request("Clerk", f"{self._base}{path}", params, {"Authorization": f"Bearer {self._key}"})
        try:
            answer = self._pace.patiently(lambda: self._http.send(request))
        except Unavailable as error:
            raise ProviderUnavailable(str(error), retry_after=error.retry_after) from error
        except RequestRejected as error:
            if error.status == 401:
                raise ProviderRefused("401", "Clerk does not accept CLERK_SECRET_KEY") from error
            raise ProviderRefused(str(error.status), f"Clerk refuses {path}: {error}") from error
        try:
            body = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise ProviderUnavailable(f"Clerk's answer to {path} cannot be read") from error
        return body if isinstance(body, dict) else {"data": body}

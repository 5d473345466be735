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

    def people(self) -> Iterator[Page]:
        return self._pages("/v1/users", order_by=OLDEST_FIRST)

    def organizations(self) -> Iterator[Page]:
        return self._of_organizations("/v1/organizations")

    def memberships(self) -> Iterator[Page]:
        return self._of_organizations("/v1/organization_memberships")

    def has_person(self, clerk_id: str) -> bool:
        return self._has(f"/v1/users/{quote(clerk_id, safe='')}")

    def has_organization(self, clerk_id: str) -> bool:
        return self._has(f"/v1/organizations/{quote(clerk_id, safe='')}")

    def has_membership(self, clerk_id: str, user_id: str) -> bool:
        """There is no asking for one membership; there is for all of one person."""
        try:
            pages = self._pages(f"/v1/users/{quote(user_id, safe='')}/organization_memberships")
            return any(each.get("id") == clerk_id for page in pages for each in page.items)
        except ProviderRefused as error:
            return error.code != "404"

    def _has(self, path: str) -> bool:
        try:
            self._get(path)
        except ProviderRefused as error:
            if error.code == "404":
                return False
            if error.code != "403":
                raise
        return True

    def _of_organizations(self, path: str) -> Iterator[Page]:
        """Where organizations are not enabled, Clerk answers 403 (`organization_not_enabled_in_instance`); a wrong key
        is a 401."""
        try:
            yield from self._pages(path, order_by=OLDEST_FIRST)
        except ProviderRefused as error:
            if error.code != "403":
                raise

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

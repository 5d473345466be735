"""Stripe's API, through the official SDK: sell, open the portal, list objects, look up what a thin event is about.

Importing this module imports the SDK, which costs a quarter of a second and 30 MB: `workers.adapters.ports` does so at
the first call. What is read stays plain JSON, because our readers go by the presence of fields and the SDK's objects
know one API version only.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

import stripe

from domain.billing.reconcile import as_event
from domain.errors import (
    Conflict,
    MalformedEvent,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
    Unavailable,
)
from domain.ports import Order, Page
from domain.queue.rate import Rate
from integrations.envelope import moment, read_object
from integrations.http.client import Http, Observe, Request, unobserved
from integrations.http.pace import Pace

TIMEOUT = (3.0, 9.0)
RETRIES = 2
"""The seconds to connect and to answer, and the further tries: a call ends before the router in front of us gives up
(30 s)."""

MOST_BYTES = 20_000_000
"""The limit of a response: a page of a hundred invoices with ten lines each has a tenth of that."""

PAGE = 100
LIVE_READS, TEST_READS = Rate(timedelta(seconds=1 / 50), burst=5), Rate(timedelta(seconds=1 / 12), burst=5)
"""Half of what Stripe allows an account (100 reads a second live, 25 in test mode): others want to read too."""

APPLIED_TYPES = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.voided",
)
"""The types of events that are worth recovering; Stripe lets a listing name 20 types."""

Json = Mapping[str, Any]


class StripeApi:
    """The account that `key` opens. Safe to use from many threads.

    `base` is where Stripe is, if not at its own address; `private_hosts` are names that may lead to private addresses.
    `clock` is Unix seconds.
    """

    def __init__(
        self,
        key: str,
        *,
        base: str = "",
        timeout: tuple[float, float] = TIMEOUT,
        private_hosts: Collection[str] = (),
        observe: Observe = unobserved,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        connect, answer = timeout
        seconds = (connect, answer, answer)
        http = Http("viral", most_bytes=MOST_BYTES, seconds=seconds, private_hosts=private_hosts, observe=observe)
        # Else the SDK writes an id into the home folder, and tells Stripe about this machine with each request.
        stripe.enable_telemetry = False
        self._sdk = stripe.StripeClient(
            key,
            max_network_retries=RETRIES,
            http_client=HouseClient(http),
            base_addresses={"api": base} if base else {},
        )
        self._clock = clock
        self._pace = Pace(LIVE_READS if "_live_" in key else TEST_READS, clock=clock, sleep=sleep)

    def add_customer(self, tenant_id: UUID, *, key: str) -> str:
        """Add a customer, or return the one of a repeated `key`. Stripe demands that a repeated request is the same to
        the letter, so it has nothing that may change, such as a name. The checkout page asks for an address."""
        with self._asking():
            customer = self._sdk.v1.customers.create(
                {"metadata": {"tenantId": str(tenant_id)}}, {"idempotency_key": key}
            )
        return customer.id

    def checkout(self, order: Order, *, key: str) -> str:
        tenant = str(order.tenant_id)
        with self._asking():
            session = self._sdk.v1.checkout.sessions.create(
                {
                    "mode": "subscription",
                    "customer": order.customer_id,
                    "line_items": [{"price": order.price_id, "quantity": 1}],
                    "client_reference_id": tenant,
                    "metadata": {"tenantId": tenant},
                    "subscription_data": {"metadata": {"tenantId": tenant}},
                    "success_url": order.success_url,
                    "cancel_url": order.cancel_url,
                },
                {"idempotency_key": key},
            )
        if session.url is None:
            raise ProviderRefused("no_url", "Stripe made a checkout without a page of its own")
        return session.url

    def portal(self, customer_id: str, return_url: str, *, key: str) -> str:
        with self._asking():
            session = self._sdk.v1.billing_portal.sessions.create(
                {"customer": customer_id, "return_url": return_url}, {"idempotency_key": key}
            )
        return session.url

    def statuses(self, customer_id: str) -> list[str]:
        page, _ = self._get("/v1/subscriptions", customer=customer_id, status="all", limit=PAGE)
        return [str(each.get("status")) for each in page.get("data", [])]

    def subscriptions(self, customer_id: str | None = None) -> Iterator[Page]:
        return map(self._whole_page, self._pages("/v1/subscriptions", status="all", customer=customer_id))

    def paid_invoices(self, customer_id: str | None = None, since: datetime | None = None) -> Iterator[Page]:
        paid = self._pages("/v1/invoices", status="paid", customer=customer_id, created=_from(since))
        return map(self._whole_page, paid)

    def undelivered_events(self, since: datetime) -> Iterator[Page]:
        return self._pages("/v1/events", delivery_success=False, types=list(APPLIED_TYPES), created=_from(since))

    def fetch_event(self, event: Json) -> Json | None:
        """Return the whole event of a thin one, or of a snapshot that does not carry everything; None if Stripe has
        none any more.

        A thin event that has a twin becomes the twin, which tells what was true then. Otherwise the event is made of
        the object as it is now, and has the time of now: an older one that comes later must not undo it. An issued
        invoice does not change, so its event keeps its time.
        """
        if "data" in event:
            return self._fetch_snapshot(event)
        found = self._fetch_thin(event)
        return found and self._whole_event(found)

    def _fetch_snapshot(self, event: Json) -> Json | None:
        """Return the event with its whole object.

        Raises:
            ProviderRefused: Stripe cannot be asked for the object of the event.
        """
        match event.get("data"):
            case {"object": {"object": "invoice", "id": str(name)}}:
                found = self._find(f"/v1/invoices/{name}")
                whole = found and self._whole(found[0])
                return whole and {**event, "data": {**event["data"], "object": whole}}
            case {"object": {"object": "subscription", "id": str(name)}}:
                found = self._find(f"/v1/subscriptions/{name}")
                if found is None:
                    return None
                about, as_of = found
                # An object that was read after an event is not older than it.
                at = max(as_of, datetime.fromtimestamp(event["created"], UTC))
                return as_event("customer.subscription.updated", self._whole(about), at=at)
        raise ProviderRefused("not_askable", "the event is about something that cannot be asked for")

    def _whole_event(self, event: Json) -> Json:
        return {**event, "data": {**event["data"], "object": self._whole(event["data"]["object"])}}

    def _whole_page(self, page: Page) -> Page:
        return replace(page, items=tuple(map(self._whole, page.items)))

    def _whole(self, about: Json) -> Json:
        """Return the object with all its lines or items: Stripe puts only the first ten into it."""
        match about:
            case {"object": "invoice", "id": str(name), "lines": {"has_more": True}}:
                return {**about, "lines": self._all(f"/v1/invoices/{name}/lines")}
            case {"object": "subscription", "id": str(name), "items": {"has_more": True}}:
                return {**about, "items": self._all("/v1/subscription_items", subscription=name)}
        return about

    def _all(self, path: str, **params: Any) -> Json:
        data = [each for page in self._pages(path, **params) for each in page.items]
        return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": path}

    def _fetch_thin(self, thin: Json) -> Json | None:
        if isinstance(twin := thin.get("snapshot_event"), str):
            found = self._find(f"/v1/events/{twin}")
            if found is not None:
                return found[0]
        match thin.get("related_object"):
            case {"url": str(url)} if url.startswith("/v1/"):
                found = self._find(url)
            case _:
                return None
        if found is None:
            return None
        about, as_of = found
        return as_event(_snapshot_type(thin, about), about, at=_deletion(thin, about) or as_of, event_id=thin["id"])

    def _find(self, path: str) -> tuple[dict[str, Any], datetime] | None:
        try:
            return self._get(path)
        except ProviderRefused as error:
            if error.code == "resource_missing":
                return None
            raise

    def _pages(self, path: str, **params: Any) -> Iterator[Page]:
        """Yield the pages of a listing, which is in no hurry: it keeps to its share and waits when Stripe says so."""
        query = {"limit": PAGE, **{name: value for name, value in params.items() if value is not None}}
        while True:
            page, as_of = self._pace.patiently(partial(self._get, path, **query))
            items = tuple(page.get("data", ()))
            if items:
                yield Page(as_of, items)
            if not items or not page.get("has_more"):
                return
            query["starting_after"] = items[-1]["id"]

    def _get(self, path: str, **params: Any) -> tuple[dict[str, Any], datetime]:
        """Return the object at `path`, and a moment, by Stripe's clock, that is not later than when it was read."""
        began = time.monotonic()
        with self._asking():
            response: Any = self._sdk.raw_request("get", path, **params)
        took = ceil(time.monotonic() - began)
        try:
            body, _ = read_object(response.body.encode())
        except MalformedEvent as error:
            raise ProviderUnavailable(f"Stripe's answer cannot be read: {error}") from error
        return body, self._stripes_time(response.headers) - timedelta(seconds=took)

    def _stripes_time(self, headers: Mapping[str, str]) -> datetime:
        try:
            return parsedate_to_datetime(headers["date"]).astimezone(UTC)
        except (KeyError, ValueError):
            return datetime.fromtimestamp(int(self._clock()), UTC)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise Stripe's errors as ours, sorted by whether trying again can help. By then the SDK has tried again what
        it tries again (no answer, 409, 5xx), with the same key. Stripe's texts are for developers, and name no secret.
        """
        try:
            yield
        except stripe.RateLimitError as error:
            raise RateLimited(f"Stripe is asked too often: {_text(error)}", retry_after=_retry_after(error)) from error
        except stripe.APIConnectionError as error:
            raise ProviderUnavailable(f"Stripe does not answer: {_text(error)}") from error
        except stripe.AuthenticationError as error:
            raise ProviderRefused("key_invalid", "Stripe does not accept STRIPE_SECRET_KEY") from error
        except stripe.PermissionError as error:
            raise ProviderRefused("key_restricted", f"STRIPE_SECRET_KEY may not do this: {_text(error)}") from error
        except stripe.IdempotencyError as error:
            text = "this Idempotency-Key was used for another request: send a new one"
            raise Conflict("IDEMPOTENCY_KEY_REUSED", text) from error
        except stripe.StripeError as error:
            raise _by_status(error) from error


class HouseClient(stripe.HTTPClient):
    """The SDK's requests go out by the client of the house, with its limits."""

    name = "viral"

    def __init__(self, http: Http) -> None:
        super().__init__()
        self._http = http

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        content = post_data.encode() if isinstance(post_data, str) else post_data
        request = Request("Stripe", url, headers=headers or {}, method=method.upper(), content=content)
        try:
            response = self._http.exchange(request)
        except Unavailable as error:
            raise stripe.APIConnectionError(str(error), should_retry=True) from error  # type: ignore[no-untyped-call]
        return response.body.decode(errors="replace"), response.status, response.headers

    def close(self) -> None:
        self._http.close()


def _by_status(error: Any) -> Unavailable | ProviderRefused:
    status = error.http_status or 0
    if status == 409 or status >= 500 or status < 400:
        return ProviderUnavailable(f"Stripe cannot answer (status {status}): {_text(error)}")
    return ProviderRefused(error.code or str(status), f"Stripe refuses: {_text(error)}")


def _text(error: Any) -> str:
    """Return the error in one line, with Stripe's id of the request, by which its logs are searched."""
    return " ".join(str(error).split())[:500]


def _retry_after(error: Any) -> timedelta | None:
    value = str(error.headers.get("retry-after", ""))
    return timedelta(seconds=int(value)) if value.isascii() and value.isdigit() and len(value) <= 5 else None


def _from(since: datetime | None) -> dict[str, int] | None:
    return None if since is None else {"gte": int(since.timestamp())}


def _snapshot_type(thin: Json, about: Json) -> str:
    """Return the snapshot type of a thin event. Subscriptions have more thin types (`….active`, `….past_due`) than
    snapshot types, and the object says the rest."""
    kind = str(thin.get("type")).removeprefix("v1.")
    if about.get("object") != "subscription" or kind == "customer.subscription.deleted":
        return kind
    return "customer.subscription.updated"


def _deletion(thin: Json, about: Json) -> datetime | None:
    """Return when the object was deleted, if it was: Stripe does not tell, but the event was made then."""
    return moment(dict(thin), "created") if about.get("deleted") is True else None

"""A Stripe account on this machine: the official SDK talks to it over HTTP.

It knows what we ask of Stripe, keeps what it made, honours idempotency keys as Stripe documents them (the same answer
again; 409 while the first request is under way; 400 for another request), pages its lists, and fails on demand.
"""

import itertools
import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

from simulators.loopback import Loopback, Reply, Request, json_reply
from simulators.personas import Body, seconds

PART = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class StripeRequest:
    """One request that arrived; its parameters are nested as Stripe's brackets say."""

    method: str
    path: str
    params: Body
    key: str | None


@dataclass(frozen=True)
class Fault:
    """The next request for a path that begins with `path` gets this instead of an answer. `status` None: the request is
    carried out and its answer lost; `headers` are Stripe's advice."""

    status: int | None
    path: str = "/v1/"
    error: Body = field(default_factory=lambda: {"type": "api_error", "message": "made to fail"})
    headers: dict[str, str] = field(default_factory=dict)


class StripeSimulator:
    """`books` are the objects by list (`subscriptions`, `invoices`, `events`, `customers`, …), newest first as Stripe
    lists them, each with all its lines or items; answers carry the first ten. `now` is its clock; `page` how many
    objects a page has at most."""

    def __init__(self, now: datetime, key: str = "sk_test_fake") -> None:
        self.now = now
        self.key = key
        self.page = 100
        self.books: dict[str, list[Body]] = {
            "customers": [], "subscriptions": [], "invoices": [], "events": [], "sessions": []
        }  # fmt: skip
        self.requests: list[StripeRequest] = []
        self.faults: deque[Fault] = deque()
        self.gate = threading.Event()
        """While it is cleared, requests that make a customer wait, under way."""
        self.gate.set()
        self._answers: dict[str, tuple[str, tuple[int, Body] | None]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def _answer(self, request: StripeRequest) -> tuple[int, Body]:
        if request.method == "POST" and request.key is not None:
            return self._once(request, request.key)
        return self._do(request)

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            found = next((each for each in self.faults if path.startswith(each.path)), None)
            if found is not None:
                self.faults.remove(found)
            return found

    def _once(self, request: StripeRequest, key: str) -> tuple[int, Body]:
        wanted = sha256(json.dumps([request.path, request.params], sort_keys=True).encode()).hexdigest()
        with self._lock:
            before = self._answers.get(key)
            if before is None:
                self._answers[key] = (wanted, None)
        if before is not None:
            if before[0] != wanted:
                return 400, error("idempotency_error", "Keys can only be used with the same parameters.")
            if before[1] is None:
                return 409, error("idempotency_error", "There is another request with this key under way.")
            return before[1]
        if request.path == "/v1/customers":
            self.gate.wait(10)
        done = self._do(request)
        with self._lock:
            self._answers[key] = (wanted, done)
        return done

    def _do(self, request: StripeRequest) -> tuple[int, Body]:
        parts = request.path.removeprefix("/v1/").split("/")
        match request.method, parts:
            case "POST", ["customers"]:
                return 200, self._keep("customers", {"id": self._id("cus"), "object": "customer", **request.params})
            case "POST", ["checkout", "sessions"]:
                return self._session(request, "cs_test", "checkout.session", "https://checkout.stripe.com/c/pay")
            case "POST", ["billing_portal", "sessions"]:
                return self._session(request, "bps", "billing_portal.session", "https://billing.stripe.com/p/session")
            case "GET", [book] if book in self.books:
                return 200, self._list(book, request.params)
            case "GET", ["invoices", name, "lines"]:
                return self._parts("invoices", name, "lines", request)
            case "GET", ["subscription_items"]:
                return self._parts("subscriptions", str(request.params.get("subscription")), "items", request)
            case "GET", [book, name] if book in self.books:
                found = [each for each in self.books[book] if each["id"] == name]
                return (200, embedded(found[0])) if found else not_found(name)
        return 404, error("invalid_request_error", f"Unrecognized request URL ({request.method}: {request.path}).")

    def _session(self, request: StripeRequest, prefix: str, kind: str, page: str) -> tuple[int, Body]:
        customer = request.params.get("customer")
        if not any(each["id"] == customer for each in self.books["customers"]):
            return not_found(str(customer))
        session_id = self._id(prefix)
        return 200, self._keep(
            "sessions", {"id": session_id, "object": kind, **request.params, "url": f"{page}/{session_id}"}
        )

    def _list(self, book: str, params: Body) -> Body:
        rows = [embedded(each) for each in self.books[book] if matches(each, params)]
        return self._page(rows, params, f"/v1/{book}")

    def _parts(self, book: str, name: str, part: str, request: StripeRequest) -> tuple[int, Body]:
        """The lines of an invoice, the items of a subscription."""
        found = [each for each in self.books[book] if each["id"] == name]
        return (200, self._page(found[0][part]["data"], request.params, request.path)) if found else not_found(name)

    def _page(self, rows: Sequence[Body], params: Body, url: str) -> Body:
        if (after := params.get("starting_after")) is not None:
            rows = rows[1 + [each["id"] for each in rows].index(after) :]
        size = min(self.page, int(params.get("limit", 10)))
        return {"object": "list", "data": list(rows[:size]), "has_more": len(rows) > size, "url": url}

    def _keep(self, book: str, about: Body) -> Body:
        with self._lock:
            self.books[book].insert(0, {"created": seconds(self.now), "livemode": False, **about})
            return self.books[book][0]

    def _id(self, prefix: str) -> str:
        number = next(self._numbers)
        return f"{prefix}_{number}{sha256(f'{prefix}{number}'.encode()).hexdigest()[:16]}"

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Answer on a loopback port; yields the address for STRIPE_API_BASE."""
        with self.server() as server:
            yield server.url

    def server(self) -> Loopback:
        """A server of it; its `url` is the address for STRIPE_API_BASE."""
        return Loopback(self._reply, protocol="HTTP/1.1")

    def _reply(self, received: Request) -> Reply:
        form = received.body.decode() if received.method == "POST" else received.query
        key = received.headers.get("idempotency-key")
        request = StripeRequest(received.method, received.path, nested(parse_qsl(form)), key)
        self.requests.append(request)
        fault = self._fault(request.path)
        if fault is not None and fault.status is not None:
            status, body = fault.status, {"error": fault.error}
        elif received.headers.get("authorization") != f"Bearer {self.key}":
            status, body = 401, error("invalid_request_error", "Invalid API Key provided: sk_test_****")
        else:
            status, body = self._answer(request)
            if fault is not None:
                return Reply(hang_up=True)
        reply = json_reply(body, status, Request_Id=f"req_{len(self.requests)}")
        sent = {**reply.headers, "Date": format_datetime(self.now, usegmt=True), **(fault.headers if fault else {})}
        return replace(reply, headers=sent)


EMBEDDED = 10
"""An object carries so many lines or items; the others are on pages of their own."""


def embedded(about: Body) -> Body:
    """Cut the object to what Stripe puts into an answer or an event."""
    shown = dict(about)
    for part in ("lines", "items"):
        listed = about.get(part)
        if isinstance(listed, dict) and len(listed.get("data") or ()) > EMBEDDED:
            shown[part] = {**listed, "data": listed["data"][:EMBEDDED], "has_more": True}
    return shown


def matches(about: Body, params: Body) -> bool:
    """Filter as Stripe's lists do; subscriptions that have ended are listed only for `status=all`."""
    status = params.get("status", "running" if about["object"] == "subscription" else None)
    ended = about.get("status") in ("canceled", "incomplete_expired")
    return (
        params.get("customer") in (None, about.get("customer"))
        and about["created"] >= int(params.get("created", {}).get("gte", 0))
        and (status in (None, "all", about.get("status")) or (status == "running" and not ended))
        and ("types" not in params or about.get("type") in params["types"].values())
        and (params.get("delivery_success") != "false" or about.get("pending_webhooks", 0) > 0)
    )


def nested(pairs: Sequence[tuple[str, str]]) -> Body:
    """Read `a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`; a list becomes an object with its places for keys."""
    found: Body = {}
    for name, value in pairs:
        first, _, rest = name.partition("[")
        place = found
        path = [first, *PART.findall(f"[{rest}")] if rest else [first]
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return found


def error(kind: str, message: str, **more: Any) -> Body:
    return {"error": {"type": kind, "message": message, **more}}


def not_found(name: str) -> tuple[int, Body]:
    return 404, error("invalid_request_error", f"No such object: '{name}'", code="resource_missing", param="id")

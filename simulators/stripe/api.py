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
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from simulators.loopback import serving
from simulators.personas import Body, seconds

PART = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Asked:
    """One request that arrived. `given` are its parameters, nested as Stripe's brackets say."""

    method: str
    path: str
    given: Body
    key: str | None


@dataclass(frozen=True)
class Fault:
    """What the next request that asks for a path beginning with `path` gets instead of an answer. `status` None: the
    request is carried out and its answer lost; `headers` are Stripe's advice."""

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
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.hold = threading.Event()
        """Cleared: requests to make a customer wait, under way, until it is set."""
        self.hold.set()
        self._answers: dict[str, tuple[str, tuple[int, Body] | None]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def answer(self, asked: Asked) -> tuple[int, Body]:
        if asked.method == "POST" and asked.key is not None:
            return self._once(asked, asked.key)
        return self._do(asked)

    def fault(self, path: str) -> Fault | None:
        with self._lock:
            found = next((each for each in self.faults if path.startswith(each.path)), None)
            if found is not None:
                self.faults.remove(found)
            return found

    def _once(self, asked: Asked, key: str) -> tuple[int, Body]:
        request = sha256(json.dumps([asked.path, asked.given], sort_keys=True).encode()).hexdigest()
        with self._lock:
            before = self._answers.get(key)
            if before is None:
                self._answers[key] = (request, None)
        if before is not None:
            if before[0] != request:
                return 400, refused("idempotency_error", "Keys can only be used with the same parameters.")
            if before[1] is None:
                return 409, refused("idempotency_error", "There is another request with this key under way.")
            return before[1]
        if asked.path == "/v1/customers":
            self.hold.wait(10)
        done = self._do(asked)
        with self._lock:
            self._answers[key] = (request, done)
        return done

    def _do(self, asked: Asked) -> tuple[int, Body]:
        parts = asked.path.removeprefix("/v1/").split("/")
        match asked.method, parts:
            case "POST", ["customers"]:
                return 200, self._keep("customers", {"id": self._id("cus"), "object": "customer", **asked.given})
            case "POST", ["checkout", "sessions"]:
                return self._session(asked, "cs_test", "checkout.session", "https://checkout.stripe.com/c/pay")
            case "POST", ["billing_portal", "sessions"]:
                return self._session(asked, "bps", "billing_portal.session", "https://billing.stripe.com/p/session")
            case "GET", [book] if book in self.books:
                return 200, self._list(book, asked.given)
            case "GET", ["invoices", name, "lines"]:
                return self._parts("invoices", name, "lines", asked)
            case "GET", ["subscription_items"]:
                return self._parts("subscriptions", str(asked.given.get("subscription")), "items", asked)
            case "GET", [book, name] if book in self.books:
                found = [each for each in self.books[book] if each["id"] == name]
                return (200, embedded(found[0])) if found else missing(name)
        return 404, refused("invalid_request_error", f"Unrecognized request URL ({asked.method}: {asked.path}).")

    def _session(self, asked: Asked, prefix: str, kind: str, page: str) -> tuple[int, Body]:
        customer = asked.given.get("customer")
        if not any(each["id"] == customer for each in self.books["customers"]):
            return missing(str(customer))
        session_id = self._id(prefix)
        return 200, self._keep(
            "sessions", {"id": session_id, "object": kind, **asked.given, "url": f"{page}/{session_id}"}
        )

    def _list(self, book: str, given: Body) -> Body:
        rows = [embedded(each) for each in self.books[book] if wanted(each, given)]
        return self._page(rows, given, f"/v1/{book}")

    def _parts(self, book: str, name: str, part: str, asked: Asked) -> tuple[int, Body]:
        """The lines of an invoice, the items of a subscription."""
        found = [each for each in self.books[book] if each["id"] == name]
        return (200, self._page(found[0][part]["data"], asked.given, asked.path)) if found else missing(name)

    def _page(self, rows: Sequence[Body], given: Body, url: str) -> Body:
        if (after := given.get("starting_after")) is not None:
            rows = rows[1 + [each["id"] for each in rows].index(after) :]
        size = min(self.page, int(given.get("limit", 10)))
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
        stripe = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._answer(urlsplit(self.path).query)

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

            def _answer(self, form: str) -> None:
                path = urlsplit(self.path).path
                asked = Asked(str(self.command), path, nested(parse_qsl(form)), self.headers.get("Idempotency-Key"))
                stripe.asked.append(asked)
                fault = stripe.fault(path)
                if fault is not None and fault.status is not None:
                    self._say(fault.status, {"error": fault.error}, fault.headers)
                    return
                if self.headers.get("Authorization") != f"Bearer {stripe.key}":
                    self._say(401, refused("invalid_request_error", "Invalid API Key provided: sk_test_****"))
                    return
                status, body = stripe.answer(asked)
                if fault is not None:
                    self.close_connection = True
                    return
                self._say(status, body)

            def _say(self, status: int, body: Body, headers: dict[str, str] | None = None) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Request-Id", f"req_{len(stripe.asked)}")
                self.send_header("Content-Length", str(len(content)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return format_datetime(stripe.now, usegmt=True)

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        with serving(Handler) as base:
            yield base


EMBEDDED = 10
"""How many lines or items an object carries; the others are on pages of their own."""


def embedded(about: Body) -> Body:
    """The object as Stripe puts it into an answer or an event."""
    shown = dict(about)
    for part in ("lines", "items"):
        listed = about.get(part)
        if isinstance(listed, dict) and len(listed.get("data") or ()) > EMBEDDED:
            shown[part] = {**listed, "data": listed["data"][:EMBEDDED], "has_more": True}
    return shown


def wanted(about: Body, given: Body) -> bool:
    """As Stripe's lists filter; subscriptions that have ended are listed only for `status=all`."""
    status = given.get("status", "running" if about["object"] == "subscription" else None)
    ended = about.get("status") in ("canceled", "incomplete_expired")
    return (
        given.get("customer") in (None, about.get("customer"))
        and about["created"] >= int(given.get("created", {}).get("gte", 0))
        and (status in (None, "all", about.get("status")) or (status == "running" and not ended))
        and ("types" not in given or about.get("type") in given["types"].values())
        and (given.get("delivery_success") != "false" or about.get("pending_webhooks", 0) > 0)
    )


def nested(pairs: Sequence[tuple[str, str]]) -> Body:
    """`a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`; a list becomes an object with its places for keys."""
    found: Body = {}
    for name, value in pairs:
        first, _, rest = name.partition("[")
        place = found
        path = [first, *PART.findall(f"[{rest}")] if rest else [first]
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return found


def refused(kind: str, message: str, **more: Any) -> Body:
    return {"error": {"type": kind, "message": message, **more}}


def missing(name: str) -> tuple[int, Body]:
    return 404, refused("invalid_request_error", f"No such object: '{name}'", code="resource_missing", param="id")

"""The webhook endpoints of Stripe and Clerk: verify, parse, store; then, and only then, 200.

Plain ASGI, in front of the framework: the body is counted while it streams in, and an event does not pay for
middlewares and routing that it has no use for, which would cost as much as everything else that is done for it here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from db.events.writer import NewEvent
from domain.errors import MalformedEvent, SignatureInvalid, Unavailable
from domain.events.outcomes import Ignored
from domain.events.triage import TRIAGE
from integrations.clerk import webhooks as clerk
from integrations.envelope import Envelope
from integrations.stripe import webhooks as stripe
from web.error_responses import RETRY_AFTER, error_response, internal_error
from web.server.body import MAX_BODY, BodyTooLarge, Disconnected, LargeBodies, TooManyBodies
from web.server.headers import secured
from web.server.requests import Requests
from web.webhook_writer import WebhookWriter
from workers.engine.job import JobType
from workers.runtime import work
from workers.runtime.metrics import Metrics
from workers.runtime.tracing import Tracing

RECEIVED: Final = JSONResponse({"received": True})

EventReader = Callable[[bytes, Mapping[str, str], Sequence[str], float], Envelope]

log = structlog.get_logger()


def read_stripe(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> Envelope:
    stripe.verify(body, headers, secrets, now)
    return stripe.parse_event(body)


def read_clerk(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> Envelope:
    return clerk.parse_event(body, clerk.verify(body, headers, secrets, now))


EVENT_READERS: Final[Mapping[str, EventReader]] = {"stripe": read_stripe, "clerk": read_clerk}


def usable_secrets(source: str, secrets: Sequence[str]) -> list[str]:
    """Return the secrets that can verify anything."""
    return [secret for secret in secrets if (clerk.key(secret) if source == "clerk" else secret.strip())]


def new_event(source: str, envelope: Envelope, job: JobType[Any], make_id: Callable[[], UUID]) -> NewEvent:
    """Return the event as it is stored, for `job` to apply. An event of an ignored type is kept, and gets no job."""
    triage = TRIAGE[source](envelope.type)
    job_id, priority = (None, job.priority) if isinstance(triage, Ignored) else (make_id(), triage)
    return NewEvent(make_id(), source, *envelope, job_id, job.name, job.queue, job.max_attempts, priority)


@dataclass
class WebhookEndpoint:
    """The ASGI endpoint of one source. `secrets` are usable ones; without any, it stores nothing and says so."""

    source: str
    read: EventReader
    secrets: Sequence[str]
    job: JobType[Any]
    writer: WebhookWriter
    clock: Callable[[], float]
    make_id: Callable[[], UUID]
    bodies: LargeBodies
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=Tracing)
    reported_unset: bool = field(default=False, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except Disconnected:
            return
        except Exception as error:
            log.exception("webhook.failed", source=self.source)
            self._count("error")
            response = await internal_error(Request(scope), error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            return error_response(405, "Method Not Allowed", "METHOD_NOT_ALLOWED", headers={"Allow": "POST"})
        if not self.secrets:
            return self._unset()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self.bodies.body() as reader:
            try:
                body = await reader.read(scope, receive, MAX_BODY)
                envelope = self.read(body, headers, self.secrets, self.clock())
            except BodyTooLarge as error:
                return self._reject(413, str(error), "BODY_TOO_LARGE")
            except TooManyBodies as error:
                self._count("overloaded")
                return _unavailable(str(error), "OVERLOADED")
            except SignatureInvalid as error:
                return self._reject(400, str(error), "SIGNATURE_INVALID")
            except MalformedEvent as error:
                return self._reject(400, str(error), "MALFORMED_EVENT")
            return await self._store(envelope)

    async def _store(self, envelope: Envelope) -> Response:
        event = new_event(self.source, envelope, self.job, self.make_id)
        now = work.current.get()
        if now.traceparent is not None:
            event = event._replace(traceparent=self.tracing.sent(event.queue, now.traceparent))
        work.current.set(now._replace(event_id=event.id))  # for what is left of the request
        try:
            await self.writer.store(event)
        except Unavailable as error:
            fields = {"source": self.source, "external_id": envelope.external_id, "type": envelope.type}
            log.error("webhook.not_stored", **fields, reason=str(error), seldom=True)
            self._count("not_stored")
            return _unavailable("the event could not be stored now; send it again later", "NOT_STORED")
        return RECEIVED

    def _reject(self, status: int, text: str, code: str) -> Response:
        log.warning("webhook.refused", source=self.source, code=code, reason=text)
        self._count({400: "malformed", 413: "too_large"}[status] if code != "SIGNATURE_INVALID" else code.lower())
        return error_response(status, text, code)

    def _count(self, outcome: str) -> None:
        """Count a delivery that was not stored; those that were are counted by the writer."""
        self.metrics.count("viral_webhooks_total", self.source, outcome)

    def _unset(self) -> Response:
        if not self.reported_unset:
            log.error("webhook.secret_not_set", source=self.source)
            self.reported_unset = True
        self._count("secret_not_set")
        return _unavailable(f"no usable signing secret is set for {self.source}", "SECRET_NOT_SET")


def _unavailable(text: str, code: str) -> Response:
    return error_response(503, text, code, headers={"Retry-After": str(RETRY_AFTER)})


class WebhooksFirst:
    """The whole application: a request to `/webhooks/<source>` goes to its endpoint, any other to `rest`.

    Every response gets the security headers here, and the id of its request.
    """

    def __init__(self, endpoints: Sequence[WebhookEndpoint], rest: Starlette, requests: Requests | None = None) -> None:
        self._endpoints: dict[str, ASGIApp] = {f"/webhooks/{endpoint.source}": endpoint for endpoint in endpoints}
        self.rest = rest
        self._requests = requests or Requests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.rest(scope, receive, send)
        app = self._endpoints.get(scope["path"], self.rest)
        return await self._requests.answer(app, scope, receive, secured(scope, send))

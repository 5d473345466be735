"""The two doors for events: verify, parse, store; then, and only then, 200.

Plain ASGI, in front of the framework: the body is counted while it streams in, and an event does not pay for
middlewares and routing that it has no use for, which would cost as much as everything else that is done for it here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from db.events.writer import NewEvent
from domain.billing import events as billing_events
from domain.errors import MalformedEvent, SignatureInvalid, Unavailable
from domain.events.outcomes import Ignored, Priority
from domain.identity import events as identity_events
from integrations.clerk import webhooks as clerk
from integrations.envelope import Envelope
from integrations.stripe import webhooks as stripe
from web.api.refusals import refusal
from web.server.body import MAX_BODY, BodyTooLarge, Disconnected, LargeBodies, TooManyBodies
from web.server.headers import secured
from web.webhook_writer import Ingest
from workers.engine.job import JobType

RETRY_AFTER = 5

Opened = Callable[[bytes, Mapping[str, str], Sequence[str], float], Envelope]

log = structlog.get_logger()


def open_stripe(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> Envelope:
    stripe.verify(body, headers, secrets, now)
    return stripe.parse_event(body)


def open_clerk(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> Envelope:
    return clerk.parse_event(body, clerk.verify(body, headers, secrets, now))


OPENERS: Final[Mapping[str, Opened]] = {"stripe": open_stripe, "clerk": open_clerk}


TRIAGE: Final[Mapping[str, Callable[[str], Priority | Ignored]]] = {
    "stripe": billing_events.triage,
    "clerk": identity_events.triage,
}


def usable(source: str, secrets: Sequence[str]) -> list[str]:
    """Those that can verify anything."""
    return [secret for secret in secrets if (clerk.key(secret) if source == "clerk" else secret.strip())]


def new_event(source: str, envelope: Envelope, job: JobType[Any], make_id: Callable[[], UUID]) -> NewEvent:
    """The event as it is stored, for `job` to apply. What is ignored by its type is kept, and gets no job."""
    found = TRIAGE[source](envelope.type)
    job_id, priority = (None, job.priority) if isinstance(found, Ignored) else (make_id(), found)
    return NewEvent(
        id=make_id(),
        source=source,
        external_id=envelope.external_id,
        type=envelope.type,
        api_version=envelope.api_version,
        livemode=envelope.livemode,
        occurred_at=envelope.occurred_at,
        subject=envelope.subject,
        payload=envelope.payload,
        body=envelope.body,
        job_id=job_id,
        job_type=job.name,
        queue=job.queue,
        max_attempts=job.max_attempts,
        priority=priority,
    )


@dataclass
class Door:
    """The ASGI endpoint of one source. `secrets` are usable ones; without any, it stores nothing and says so."""

    source: str
    open: Opened
    secrets: Sequence[str]
    job: JobType[Any]
    ingest: Ingest
    clock: Callable[[], float]
    make_id: Callable[[], UUID]
    bodies: LargeBodies
    told_unset: bool = field(default=False, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except Disconnected:
            return
        except Exception:
            log.exception("webhook.failed", source=self.source)
            response = own_error()
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            return refusal(405, "Method Not Allowed", "METHOD_NOT_ALLOWED", headers={"Allow": "POST"})
        if not self.secrets:
            return self._unset()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self.bodies.body() as held:
            try:
                body = await held.read(scope, receive, MAX_BODY)
                envelope = self.open(body, headers, self.secrets, self.clock())
            except BodyTooLarge as error:
                return self._refused(413, str(error), "BODY_TOO_LARGE")
            except TooManyBodies as error:
                return _unavailable(str(error), "OVERLOADED")
            except SignatureInvalid as error:
                return self._refused(400, str(error), "SIGNATURE_INVALID")
            except MalformedEvent as error:
                return self._refused(400, str(error), "MALFORMED_EVENT")
            return await self._store(envelope)

    async def _store(self, envelope: Envelope) -> Response:
        facts = {"source": self.source, "external_id": envelope.external_id, "type": envelope.type}
        try:
            stored = await self.ingest.accept(new_event(self.source, envelope, self.job, self.make_id))
        except Unavailable as error:
            log.error("webhook.not_stored", **facts, reason=str(error), seldom=True)
            return _unavailable("the event could not be stored now; send it again later", "NOT_STORED")
        log.info("webhook.accepted", **facts, duplicate=stored.duplicate)
        return RECEIVED

    def _refused(self, status: int, text: str, code: str) -> Response:
        log.warning("webhook.refused", source=self.source, code=code, reason=text)
        return refusal(status, text, code)

    def _unset(self) -> Response:
        if not self.told_unset:
            log.error("webhook.secret_not_set", source=self.source)
            self.told_unset = True
        return _unavailable(f"no usable signing secret is set for {self.source}", "SECRET_NOT_SET")


RECEIVED: Final = JSONResponse({"received": True})


def _unavailable(text: str, code: str) -> Response:
    return refusal(503, text, code, headers={"Retry-After": str(RETRY_AFTER)})


def own_error() -> Response:
    return refusal(500, "an error of our own; it has been logged", "INTERNAL")


class DoorsFirst:
    """The whole application: what is sent to `/webhooks/<source>` goes to its door, everything else to `rest`.

    Whichever answers, the security headers are added here.
    """

    def __init__(self, doors: Sequence[Door], rest: Starlette) -> None:
        self._doors: dict[str, ASGIApp] = {f"/webhooks/{door.source}": door for door in doors}
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.rest(scope, receive, send)
        answering = self._doors.get(scope["path"], self.rest)
        return await answering(scope, receive, secured(scope, send))

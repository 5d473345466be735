"""OpenTelemetry: spans from a webhook, a request, a run or the shell, through the rows of jobs, to what the jobs do.

    POST /webhooks/stripe ── send events ── (the row's traceparent) ── process events ── send default ── process default

Off unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set; then nothing is imported, and rows
hand on the trace that they have. The names of spans and attributes are all in this module: the conventions for
messaging are still in development. A span never holds a text of an error, a payload or a person: ids, names of ours
and the class of an error.

Spans are sent by a thread of the library's. What it cannot send, or what there is no room for, is lost; nobody waits
for it, and `Tracing.close` only for `CLOSES_WITHIN`.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from db.transaction import Origin
from workers.runtime import work
from workers.runtime.setting_types import read_headers
from workers.runtime.version import VERSION
from workers.runtime.work import Work, WorkedJob

SERVER, PRODUCER, CONSUMER, INTERNAL = "SERVER", "PRODUCER", "CONSUMER", "INTERNAL"

CLOSES_WITHIN = 2.0
"""Seconds that a process that stops waits for its last spans to be sent."""

EXPORT_TIMEOUT = 5.0
"""Seconds that one request of the exporter may take."""

MOST_WAITING = 4096
"""Spans that wait to be sent; more are dropped."""

SYSTEM = "viral"
"""`messaging.system`: the queue is a table of ours."""

TRACES_PATH = "v1/traces"


class TracedJob(WorkedJob, Protocol):
    """A claimed job, as far as its span names it."""

    @property
    def queue(self) -> str: ...
    @property
    def snoozes(self) -> int: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def traceparent(self) -> str | None: ...


class Span:
    """A span that has begun; `traceparent` names it to others. The one of a process that does not trace does nothing
    but hand on the traceparent that it was given."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, traceparent: str | None, span: Any = None) -> None:
        self.traceparent = traceparent
        self._span = span

    def rename(self, name: str) -> None:
        if self._span is not None:
            self._span.update_name(name)

    def note(self, **attributes: str | int | bool) -> None:
        """Add attributes of ours; `viral.` is put before their names."""
        if self._span is not None:
            self._span.set_attributes({f"viral.{name}": value for name, value in attributes.items()})

    def answered(self, status: int) -> None:
        """Note the status of a response; from 500 on, the request has failed."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self.fail(str(status))

    def fail(self, error_class: str) -> None:
        """Mark it as failed, by the class of the error and nothing that it says."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - imported when tracing is on

            self._span.set_attribute("error.type", error_class)
            self._span.set_status(Status(StatusCode.ERROR, error_class))

    def end(self) -> None:
        if self._span is not None:
            self._span.end()

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()


class Tracing:
    """The spans of one process. Without a `provider` it traces nothing."""

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("viral", VERSION)

    @property
    def on(self) -> bool:
        return self._tracer is not None

    def close(self) -> None:
        """Send what is left, and wait for that no longer than `CLOSES_WITHIN` seconds."""
        if self._provider is not None:
            # The library's own stop has a bound for some of what it does, and not for a request that is under way.
            closing = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
            closing.start()
            closing.join(CLOSES_WITHIN)

    def origin(self, queue: str) -> Origin:
        """Return the cause and the trace of jobs that the current thread puts on this queue now, with a span for
        that."""
        now = work.current.get()
        if self._tracer is None or now.traceparent is None:
            return Origin(now.cause, now.traceparent)
        return Origin(now.cause, self.sent(queue, now.traceparent))

    def sent(self, queue: str, traceparent: str | None) -> str | None:
        """Return the traceparent of a job that is put on this queue now, within a span with the given one."""
        if self._tracer is None:
            return traceparent
        span = self._start(f"send {queue}", PRODUCER, traceparent, _messaging("send", queue))
        span.end()
        return span.traceparent

    def request(self, method: str, route: str, request_id: str) -> Span:
        """Begin the span of a request: a trace of its own, since whoever calls is not believed."""
        if self._tracer is None:
            return Span(None)
        attributes = {"http.request.method": method, "http.route": route, "viral.request_id": request_id}
        return self._start(f"{method} {route}", SERVER, None, attributes)

    def run(self, schedule: str) -> Span:
        """Begin the span of a run of a schedule."""
        return self._start(f"schedule {schedule}", INTERNAL, None, {"viral.schedule": schedule})

    def shell(self, command: str) -> Span:
        """Begin the span of a command of the shell."""
        return self._start(f"shell {command}", INTERNAL, None, {})

    def process(self, job: TracedJob, beside: Span | None = None) -> Span:
        """Begin the span of an attempt at a job, in the trace that the row has.

        An attempt that is not the first is linked to the span that sent the job, as all others are; of a batch, each
        job's is linked to `beside`, that of the first.
        """
        if self._tracer is None:
            return Span(job.traceparent)
        attributes = _messaging("process", job.queue) | {
            "messaging.message.id": str(job.id),
            "viral.job_type": job.job_type,
            "viral.attempt": job.attempt,
        }
        if job.tenant_id is not None:
            attributes["viral.tenant_id"] = str(job.tenant_id)
        if job.cause is not None:
            attributes["viral.cause"] = job.cause
        again = job.attempt > 1 or job.snoozes > 0
        links = [job.traceparent if again else None, None if beside is None else beside.traceparent]
        return self._start(f"process {job.queue}", CONSUMER, job.traceparent, attributes, links)

    def _start(
        self,
        name: str,
        kind: str,
        parent: str | None,
        attributes: Mapping[str, Any],
        links: Sequence[str | None] = (),
    ) -> Span:
        if self._tracer is None:
            return Span(parent)
        from opentelemetry import trace  # noqa: PLC0415 - imported when tracing is on
        from opentelemetry.context import Context  # noqa: PLC0415

        above = _context_of(parent)
        span = self._tracer.start_span(
            name,
            # An empty context, and not the library's current one: nothing is taken from elsewhere.
            context=Context() if above is None else trace.set_span_in_context(trace.NonRecordingSpan(above), Context()),
            kind=trace.SpanKind[kind],
            attributes=attributes,
            links=[trace.Link(each) for each in map(_context_of, links) if each is not None],
            record_exception=False,
            set_status_on_exception=False,
        )
        made = span.get_span_context()
        return Span(f"00-{made.trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags):02x}", span)


def of_attempt(job: TracedJob, span: Span) -> Work:
    """Return the work of an attempt at a job within its span."""
    return work.of_job(job, job.cause, span.traceparent)


def open_tracing(endpoint: str, traces_endpoint: str, headers: str, *, service: str) -> Tracing:
    """Trace to the collector of these settings (OTLP over HTTP); without an endpoint, trace nothing.

    `headers` are `name=value,…`, as OTEL_EXPORTER_OTLP_HEADERS has them: its values are escaped as in an URL.
    """
    url = traces_endpoint or (endpoint and f"{endpoint.rstrip('/')}/{TRACES_PATH}")
    if not url:
        return Tracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - imported when tracing is on
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": VERSION}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=url, headers=read_headers(headers), timeout=EXPORT_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=1000))
    return Tracing(provider)


def _messaging(operation: str, queue: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


LENGTHS: Final = (2, 32, 16, 2)


def _parts(traceparent: str) -> list[str] | None:
    parts = traceparent.split("-") if len(traceparent) == work.TRACEPARENT else []
    if parts and parts[0] == "00" and tuple(map(len, parts)) == LENGTHS and all(map(_is_hex, parts)):
        return parts
    return None


def _is_hex(part: str) -> bool:
    return not set(part) - set("0123456789abcdef")


def _context_of(traceparent: str | None) -> Any:
    """Return what the traceparent names; None if it names nothing: another program may have written it."""
    parts = _parts(traceparent) if traceparent is not None else None
    if parts is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - imported when tracing is on

    _, of_trace, of_span, flags = (int(part, 16) for part in parts)
    context = SpanContext(of_trace, of_span, is_remote=True, trace_flags=TraceFlags(flags & 1))
    return context if context.is_valid else None

"""One log line per fact: `console` for people, `json` for machines, on standard error."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TextIO

import structlog
from structlog.dev import ConsoleRenderer

from domain.text.redaction import without_secrets
from domain.text.visible import visible, visible_json
from workers.runtime import work
from workers.runtime.error_text import text_of, traceback_of
from workers.runtime.lines import WholeLines
from workers.runtime.terminal import coloured

SHORTEST_SECRET = 12
"""A text of fewer characters holds none."""


def add_work(logger: Any, method: str, fields: Any) -> Any:
    """Add the ids of what the thread works for: of its job always, of the rest what the line does not name itself."""
    now = work.current.get()
    if now is work.NO_WORK:
        return fields
    if (job := now.job) is not None:
        fields |= {"job_id": str(job.id), "job_type": job.job_type, "attempt": job.attempt}
    for name in ("tenant_id", "event_id", "request_id", "client_request_id"):
        if (value := getattr(now, name)) is not None:
            fields.setdefault(name, str(value))
    if now.traceparent is not None and (trace_id := work.trace_id(now.traceparent)) is not None:
        fields["trace_id"] = trace_id
    return fields


def mask_secrets(logger: Any, method: str, fields: Any) -> Any:
    """Mask what looks like a secret in what a line says: a reason quotes what others wrote. (What `add_work` and the
    like add is ours, and is not searched: most lines have nothing else.)"""
    for name, value in fields.items():
        if isinstance(value, str) and name != "event" and len(value) >= SHORTEST_SECRET:
            fields[name] = without_secrets(value)
    return fields


def mask_secrets_of_libraries(logger: Any, method: str, fields: Any) -> Any:
    """Do the same with a line of a library, which says it all in one text."""
    fields["event"] = without_secrets(str(fields["event"]))
    return fields


def add_traceback(logger: Any, method: str, fields: Any) -> Any:
    """Add the error in words that repeat no values or variables: nothing can be taken out of a log afterwards."""
    error = _error(fields.pop("exc_info", None))
    if error is not None:
        fields["exception"] = traceback_of(error)
    return fields


class Seldom:
    """Keeps trouble that comes with every request, every job or every tick from filling the log.

    A line with `seldom=True` is written at once, and again after a second, two, four, up to a minute, with the number
    of those left out (`suppressed`). A line whose error carries a traceback is always written; the traceback itself
    is, of each kind, once a second.
    """

    SHORTEST, LONGEST = 1.0, 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[Hashable, tuple[float, float, int]] = {}

    def __call__(self, logger: Any, method: str, fields: Any) -> Any:
        if fields.pop("seldom", False):
            suppressed = self._suppressed(fields["event"], longest=self.LONGEST)
            if suppressed is None:
                raise structlog.DropEvent
            if suppressed:
                fields["suppressed"] = suppressed
        if fields.get("exc_info"):
            error = _error(fields["exc_info"])
            if error is not None and self._suppressed((fields["event"], type(error)), longest=self.SHORTEST) is None:
                del fields["exc_info"]
                fields.setdefault("error", f"{type(error).__name__}: {' '.join(text_of(error).split())}")
        return fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Do the same with the tracebacks of libraries."""
        error = _error(record.exc_info)
        if error is not None and self._suppressed((record.name, type(error)), longest=self.SHORTEST) is None:
            record.exc_info = None
        return True

    def _suppressed(self, kind: Hashable, *, longest: float) -> int | None:
        """Count those of the kind that were left out since the last one written; None: this one is left out too."""
        now = self._clock()
        with self._lock:
            written_at, rest, suppressed = self._written.get(kind, (float("-inf"), 0.0, 0))
            if now < written_at + rest:
                self._written[kind] = written_at, rest, suppressed + 1
                return None
            goes_on = now < written_at + 2 * rest
            self._written[kind] = now, min(2 * rest, longest) if goes_on else self.SHORTEST, 0
            return suppressed


def _error(exc_info: Any) -> BaseException | None:
    found: object = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(found, BaseException):
        return found
    return sys.exc_info()[1] if found else None


def _visible_line(logger: Any, method: str, line: str) -> str:
    """Escape a line of JSON, so that no terminal obeys what is in it."""
    return visible_json(line)


def _visible_fields(logger: Any, method: str, fields: Any) -> Any:
    """Escape a line for people before it is coloured, names too; only a traceback has several lines."""
    return {visible(str(name)): _visible_value(name, value) for name, value in fields.items()}


def _visible_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name in ("exception", "stack"):
        return visible(str(value), keep="\n\t")
    return visible(value if isinstance(value, str) else repr(value))


def configure(
    log_format: str,
    level: str,
    stream: TextIO | None = None,
    *,
    report: Callable[[BaseException, str], object] | None = None,
) -> None:
    """Send everything, the libraries' own logging included, through one renderer to `stream` (standard error).
    `report` is given each error whose traceback is logged, and the name of the line."""

    def reported(logger: Any, method: str, fields: Any) -> Any:
        if report is not None and (error := _error(fields.get("exc_info"))) is not None:
            report(error, str(fields.get("event")))
        return fields

    seldom = Seldom()
    whole: Any = WholeLines(lambda: coloured(stream or sys.stderr))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_work,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    last: list[Any] = [add_traceback, renderer, _visible_line]
    if log_format == "console":
        last = [add_traceback, _visible_fields, ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22)]
    # Our own lines go straight to the stream: by way of the standard library each would cost four times as much, which
    # is a third of what accepting a webhook costs.
    structlog.configure(
        processors=[seldom, reported, mask_secrets, *shared, *last],
        logger_factory=lambda *_: structlog.WriteLogger(whole),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(whole)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[mask_secrets_of_libraries, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(seldom.filter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A tick that takes longer than its interval is skipped on purpose.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # What traces each response traces what stands in its headers: an upload's address opens somebody's account.
    for chatty in ("uvicorn", "httpx", "httpx2", "httpcore", "httpcore2", "dramatiq", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))

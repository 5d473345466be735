"""One log line per fact: `console` for people, `json` for machines, on standard error."""

import logging
import sys
from contextvars import ContextVar
from typing import Any, TextIO

import structlog

from db.claims import ClaimedJob

current_job: ContextVar[ClaimedJob | None] = ContextVar("current_job", default=None)
"""The job that this thread is running; every line it logs says which."""


def add_job(logger: Any, method: str, fields: Any) -> Any:
    job = current_job.get()
    if job is not None:
        fields |= {"job_id": str(job.id), "job_type": job.job_type, "attempt": job.attempt}
    return fields


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Send everything, the libraries' own logging included, through one renderer to `stream` (standard error)."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_job,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    last: list[Any] = [structlog.processors.format_exc_info, renderer]
    if log_format == "console":
        # By default a traceback shows the variables too: secrets among them.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22, exception_formatter=plain)]
    # Our own lines go straight to the stream: by way of the standard library each would cost four times as much, which
    # is a third of what accepting a webhook costs.
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A tick that takes longer than its interval is skipped on purpose.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    for chatty in ("uvicorn", "httpx", "httpcore", "dramatiq", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))

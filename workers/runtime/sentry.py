"""Sentry, if SENTRY_DSN is set and the extra is installed: errors that nobody foresaw, by class, place and masked text.

What is sent is an allow-list (`scrubbed`): no local variables, no lines of code, no requests, no headers, no user. The
library's integrations and its global state are not used. (`send_default_pii` is off unless it is given, and to give it
is deprecated.)
"""

from collections.abc import Callable, Mapping
from typing import Any

from domain.errors import ViralError
from domain.text.redaction import without_values
from workers.runtime import work
from workers.runtime.version import VERSION

KEPT = ("event_id", "timestamp", "platform", "level", "exception", "release", "environment", "tags", "sdk")
KEPT_OF_AN_ERROR = ("type", "value", "module", "stacktrace", "mechanism")
KEPT_OF_A_FRAME = ("filename", "abs_path", "function", "module", "lineno", "in_app")

CLOSES_WITHIN = 2.0

Report = Callable[[BaseException, str], None]
"""Reports an error and the name of the line that logged it; neither waits nor raises."""


class NotInstalled(ViralError):
    """SENTRY_DSN is set, and the extra is missing."""


class Errors:
    """Where errors are reported to."""

    def __init__(self, client: Any, event_from_exception: Callable[..., Any], role: str) -> None:
        self._client = client
        self._event_of = event_from_exception
        self._role = role

    def report(self, error: BaseException, event: str) -> None:
        """Report an error; a fault of the library's is nobody's."""
        try:
            found, hint = self._event_of(error, client_options=self._client.options)
            now = work.current.get()
            tags = {"event": event, "role": self._role, "job_type": now.job.job_type if now.job else None}
            found["tags"] = {name: value for name, value in tags.items() if value is not None}
            found["level"] = "error"
            self._client.capture_event(found, hint=hint)
        except Exception:  # noqa: S110 - what reports errors has nobody to report its own to
            pass

    def close(self) -> None:
        """Send what is left, for `CLOSES_WITHIN` seconds at most."""
        self._client.close(timeout=CLOSES_WITHIN)


def open_errors(dsn: str, role: str) -> Errors | None:
    """Return where errors are reported to; None without a DSN.

    Raises:
        NotInstalled: the library is missing.
    """
    if not dsn:
        return None
    try:
        from sentry_sdk import Client  # noqa: PLC0415 - an extra
        from sentry_sdk.utils import event_from_exception  # noqa: PLC0415
    except ImportError:
        raise NotInstalled("SENTRY_DSN is set, and sentry-sdk is not installed: install the extra `sentry`") from None
    client = Client(
        dsn=dsn,
        release=VERSION,
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=scrubbed,
    )
    return Errors(client, event_from_exception, role)


def scrubbed(event: Any, hint: Mapping[str, Any]) -> Any:
    """Return the event with what may be sent, and nothing else."""
    kept = {name: event[name] for name in KEPT if name in event}
    errors = (event.get("exception") or {}).get("values") or ()
    kept["exception"] = {"values": [_error(each) for each in errors]}
    return kept


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: error[name] for name in KEPT_OF_AN_ERROR if error.get(name) is not None}
    kept["value"] = without_values(str(error.get("value") or ""))
    frames = (error.get("stacktrace") or {}).get("frames") or ()
    kept["stacktrace"] = {"frames": [{name: each[name] for name in KEPT_OF_A_FRAME if name in each} for each in frames]}
    return kept

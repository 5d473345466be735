"""How values are written on the pages of `/ops`: the filters of its templates."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from domain.ops.actions import Kind, Target
from domain.text.readable import ago as far
from domain.text.readable import lines, quoted, readable, span
from domain.text.shell import word

KINDS: Final[Mapping[str, Sequence[str]]] = {
    "good": (
        "ok",
        "alive",
        "active",
        "completed",
        "confirmed",
        "published",
        "applied",
        "settled",
        "paid",
        "on time",
        "done",
    ),
    "runs": ("running", "rendering", "claimed", "submitting", "submitted", "processing", "checking", "cancelling"),
    "waits": (
        "pending",
        "ready",
        "deferred",
        "scheduled",
        "draft",
        "received",
        "needs_approval",
        "intended",
        "held",
        "previewed",
    ),
    "bad": ("failed", "fail", "dead", "needs_reconnect", "missed", "overdue", "late", "banned", "expired", "past_due"),
    "doubt": (
        "unconfirmed",
        "unknown",
        "parked",
        "warn",
        "quarantine",
        "draining",
        "unpaid",
        "in_inbox",
        "begun",
        "refused",
    ),
}
"""What a word of a state means for who looks at it; of a word like `parked:thin` the part before the colon counts.
Other words (`cancelled`, `paused`, `ignored:type`) mean that nothing happens: `off`."""

KIND_OF: Final = {word: kind for kind, words in KINDS.items() for word in words}


def filters() -> Mapping[str, Callable[..., Any]]:
    return {
        "readable": readable,
        "lines": lines,
        "word": word,
        "span": span,
        "iso": iso,
        "ago": ago,
        "exact": exact,
        "quoted": quoted,
        "state_kind": state_kind,
        "with_query": with_query,
        "polyline": polyline,
        "short": short,
        "place": place,
        "one_of": one_of,
    }


def iso(moment: datetime) -> str:
    return moment.isoformat()


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return `3m 2s ago` or `in 3m 2s`, by this process's clock: the exact time stands beside it."""
    return far(moment, now or datetime.now(UTC))


def exact(number: Any) -> str:
    """Return all digits of a number, in groups of three; text as it is."""
    if isinstance(number, int | Decimal) and not isinstance(number, bool):
        return f"{number:,}"
    return readable(number)


def state_kind(word: object) -> str:
    return KIND_OF.get(str(word).partition(":")[0], "off")


def with_query(url: str, **changed: object) -> str:
    """Return a URL of this site with some of its filters changed; those that are None are taken out."""
    path, query = urlsplit(url)[2:4]
    parts = dict(parse_qsl(query, keep_blank_values=True)) | changed
    kept = urlencode([(name, value) for name, value in parts.items() if value is not None])
    return f"{path}?{kept}" if kept else path or "/"


def polyline(values: Sequence[float | None], width: int, height: int) -> str:
    """Return the points of an SVG polyline from zero at the bottom to the greatest value at the top; gaps are left
    out."""
    top = max((float(value) for value in values if value is not None), default=0) or 1
    step = width / max(1, len(values) - 1)
    return " ".join(
        f"{step * at:.1f},{height - (height - 2) * float(value) / top - 1:.1f}"
        for at, value in enumerate(values)
        if value is not None
    )


def short(value: float | None) -> str:
    """Return a number of a chart in three digits: charts are for looking at, and the table has the rest."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


PLACES: Final[Mapping[str, str]] = {
    Kind.JOB: "/ops/jobs/",
    Kind.EVENT: "/ops/events/",
    Kind.POST: "/ops/posts/",
    Kind.VIDEO: "/ops/videos/",
    Kind.ACCOUNT: "/ops/accounts/",
    Kind.TENANT: "/ops/tenants/",
    Kind.QUEUE: "/ops/queues/",
    "bulk": "/ops/bulk/",
}


def place(target: Target | str) -> str:
    """Return the page about a target; of one that cannot be, the list of what was done."""
    kind, _, name = str(target).partition(":")
    if kind == Kind.PROVIDER:
        return "/ops/providers"
    if kind not in PLACES or not name:
        return "/ops/actions"
    return PLACES[kind] + quoted(name.partition("/")[0] if kind == Kind.QUEUE else name)


def one_of(target: Target | str) -> str:
    """Return a target in words: `job 0190…`, `queue social of tenant 0190…`."""
    kind, _, name = str(target).partition(":")
    queue, slash, tenant = name.partition("/")
    if kind == Kind.QUEUE and slash:
        return f"queue {queue} of tenant {tenant}"
    return f"{kind} {name}"

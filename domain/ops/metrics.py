"""The metrics: what is counted, by which labels, in which buckets. Names, units and labels are a contract: dashboards,
alerts and the operator's page are made from this list, and so is docs/reference/metrics.md.

No label has a tenant, an id or a text from outside: every one is of a closed list, here or (job types, queues,
schedules) declared by the code that runs; whatever else comes is `other`. Units are seconds, US dollars and counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from domain.events.outcomes import Status
from domain.ops.action_list import ACTIONS

OTHER: Final = "other"
"""Stands for every value that a label's list does not have."""


class Kind(StrEnum):
    """A counter only rises; a gauge is what it is now; a histogram counts cases by how large they were."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


OF_CODE: Final[Sequence[str]] = ()
"""In the place of a label's list: the code that runs declares it."""

SAMPLED: Final = "sampled"
"""The name of the row that says that somebody looked in a minute; its value: for how many seconds that holds."""

SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Upper bounds of buckets. A metric whose bounds have to change gets another name: the counts of old ones are kept."""

ATTEMPT_OUTCOMES: Final = ("completed", "snoozed", "cancelled", "failed", "retried", "returned", "lease_lost")
RESCUES: Final = ("worker_lost", "overran", "abandoned")
WEBHOOK_OUTCOMES: Final = (
    *("accepted", "duplicate", "signature_invalid", "malformed", "too_large", "overloaded", "not_stored"),
    *("secret_not_set", "error"),
)
ANSWERS: Final = ("ok", "refused", "not_now", "server_error", "no_answer")
OPERATIONS: Final = ("read", "write", "download")
PROVIDERS: Final = (
    *("stripe", "clerk", "anthropic", "openai", "google", "runway", "luma", "tiktok", "youtube", "instagram"),
    *("bluesky", "mastodon", "google-trends", "wikimedia", "hacker-news", "reddit", "gnews"),
)
QUOTA_ENTRIES: Final = ("grant", "hold", "settle", "release", "reset", "adjust")
PARKED: Final = tuple(status.partition(":")[2] for status in Status if status.kind == "parked")


@dataclass(frozen=True)
class Metric:
    """One metric. `values` has the closed lists of its labels, `buckets` the upper bounds of a histogram. `worst`: of
    a gauge whose values are shown together the largest counts, and not their sum. `sampled`: kept by the minute."""

    name: str
    kind: Kind
    help: str
    unit: str
    labels: tuple[str, ...] = ()
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    worst: bool = False
    sampled: bool = False


def _counter(name: str, text: str, unit: str = "", **values: Sequence[str]) -> Metric:
    return Metric(name, Kind.COUNTER, text, unit, tuple(values), {key: each for key, each in values.items() if each})


def _histogram(name: str, text: str, unit: str, buckets: tuple[float, ...], **values: Sequence[str]) -> Metric:
    closed = {key: each for key, each in values.items() if each}
    return Metric(name, Kind.HISTOGRAM, text, unit, tuple(values), closed, buckets)


def _gauge(
    name: str, text: str, unit: str = "", *, worst: bool = False, sampled: bool = False, **values: Sequence[str]
) -> Metric:
    closed = {key: each for key, each in values.items() if each}
    return Metric(name, Kind.GAUGE, text, unit, tuple(values), closed, worst=worst, sampled=sampled)


QUEUE_STATES: Final = ("waiting", "scheduled", "running")
WORKER_STATES: Final = ("alive", "draining", "dead")
SOURCES: Final = ("stripe", "clerk")

ALL: Final[Sequence[Metric]] = (
    _gauge(
        "viral_queue_oldest_due_age_seconds",
        "How long the job has been due that is due for longest and does not run; 0 if none is.",
        "seconds",
        worst=True,
        sampled=True,
        queue=OF_CODE,
    ),
    _gauge(
        "viral_queue_jobs",
        "Jobs that are due (waiting), due later (scheduled) or run (running), as on `/ops`. It stops at 10,001 each.",
        "jobs",
        sampled=True,
        queue=OF_CODE,
        state=QUEUE_STATES,
    ),
    _gauge("viral_queue_paused", "1 if somebody has paused the queue.", worst=True, queue=OF_CODE),
    _gauge(
        "viral_jobs_failed",
        "Failed jobs that wait for a person, among the 10,000 that failed last.",
        "jobs",
        sampled=True,
        job_type=OF_CODE,
    ),
    _gauge(
        "viral_events_parked",
        "Events of Stripe and Clerk that wait for something to appear. It stops at 10,001 each.",
        "events",
        sampled=True,
        source=SOURCES,
        reason=PARKED,
    ),
    _gauge(
        "viral_effects_unconfirmed",
        "Effects outside of which nobody can tell whether they happened: paid clips, posts that may be live.",
        "effects",
        sampled=True,
        kind=("clip", "post"),
    ),
    _gauge("viral_workers", "Worker processes; a dead one is shown for an hour.", sampled=True, state=WORKER_STATES),
    _gauge(
        "viral_scheduler_overdue_seconds",
        "How long a run of the schedule has been due that no scheduler has enqueued; 0 if none is.",
        "seconds",
        worst=True,
        schedule=OF_CODE,
    ),
    _gauge("viral_redis_writable", "1 if Redis has just taken a write."),
    _gauge("viral_postgres_writable", "1 if Postgres has just stored an event and its job, which were rolled back."),
    _gauge("viral_metrics_age_seconds", "The time since all other figures here were read from Postgres.", "seconds"),
    _gauge("viral_build_info", "Always 1; the release that answers.", version=OF_CODE),
    _histogram("viral_job_wait_seconds", "From the moment a job is due to its claim.", "seconds", LONG, queue=OF_CODE),
    _histogram(
        "viral_job_duration_seconds",
        "From the start of a handler to the commit of its outcome. Of jobs handled together, each has its share.",
        "seconds",
        LONG,
        job_type=OF_CODE,
        outcome=ATTEMPT_OUTCOMES,
    ),
    _histogram("viral_claim_duration_seconds", "The transaction that claims jobs.", "seconds", SHORT),
    _histogram("viral_ingest_commit_seconds", "The transaction that stores webhooks.", "seconds", SHORT),
    _histogram("viral_ingest_batch_events", "Webhooks that are stored in one transaction.", "events", SIZES),
    _histogram(
        "viral_provider_request_seconds",
        "One request to a service outside, each try by itself.",
        "seconds",
        LONG,
        provider=PROVIDERS,
        operation=OPERATIONS,
        outcome=ANSWERS,
    ),
    _counter("viral_jobs_enqueued_total", "Jobs enqueued by web, workers and schedulers.", "jobs", job_type=OF_CODE),
    _counter("viral_attempts_total", "Attempts that ended.", "attempts", job_type=OF_CODE, outcome=ATTEMPT_OUTCOMES),
    _counter("viral_jobs_rescued_total", "Jobs taken back from processes that lost them.", "jobs", reason=RESCUES),
    _counter("viral_fence_refusals_total", "Finishes refused because another process owned the job.", "attempts"),
    _counter(
        "viral_notifications_lost_total",
        "Notifications that Redis did not take, or had no more when they were looked for.",
        "notifications",
        reason=("refused", "missing"),
    ),
    _counter("viral_webhooks_total", "Deliveries of webhooks.", "deliveries", source=SOURCES, outcome=WEBHOOK_OUTCOMES),
    _counter("viral_rate_limit_bypassed_total", "Requests that passed while no limit could be counted.", "requests"),
    _counter("viral_provider_cost_usd_total", "What services outside charged us.", "US dollars", provider=PROVIDERS),
    _counter("viral_quota_entries_total", "Entries of the quota ledger.", "entries", kind=QUOTA_ENTRIES),
    _counter(
        "viral_operator_actions_total",
        "What operators did, on the page and in the shell.",
        "actions",
        action=tuple(ACTIONS),
    ),
)

METRICS: Final[Mapping[str, Metric]] = {each.name: each for each in ALL}


def metric(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        KeyError: there is none; the text says which there are.
    """
    found = METRICS.get(name)
    if found is None:
        raise KeyError(f"there is no metric {name}: there are {', '.join(METRICS)}")
    return found


def answer(status: int | None) -> str:
    """Return how a service answered, in a word, by the status of its response; None: there was none."""
    match status:
        case None:
            return "no_answer"
        case 429 | 503:
            return "not_now"
        case _ if status >= 500:
            return "server_error"
    return "refused" if status >= 400 else "ok"


def percentile(buckets: Sequence[int], bounds: Sequence[float], fraction: float) -> float | None:
    """Estimate the value below which this fraction of the cases lies, as Prometheus' `histogram_quantile` does: evenly
    within a bucket. None without cases. Cases above all bounds count as the largest bound."""
    total = sum(buckets)
    if not total:
        return None
    wanted, below = fraction * total, 0
    for position, count in enumerate(buckets):
        if below + count >= wanted and count:
            if position >= len(bounds):
                return bounds[-1]
            start = bounds[position - 1] if position else 0.0
            return start + (bounds[position] - start) * (wanted - below) / count
        below += count
    return bounds[-1]

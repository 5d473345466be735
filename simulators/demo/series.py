"""What the demo's processes have counted before it began: how much a minute when it is busiest, and how distributed."""

from collections.abc import Iterator, Mapping
from typing import Any

from domain.ops.metrics import LONG, SHORT, SIZES

Row = dict[str, Any]

MINUTES, HOURS = 200, 40 * 24
"""So far back series reach; a chart of three hours shows minutes, all others hours."""

QUEUES: Mapping[str, float] = {"events": 5, "default": 4, "llm": 2, "media": 1, "render": 1, "social": 3}
JOBS: Mapping[str, float] = {
    "billing.apply_stripe_event": 3,
    "identity.apply_clerk_event": 2,
    "generation.generate_concepts": 2,
    "videos.render": 1,
    "videos.draw": 1,
    "posting.publish": 1.5,
    "analytics.collect": 1.5,
    "reflexion.learn": 1,
}
FAILS: Mapping[str, float] = {"generation.generate_concepts": 0.06, "posting.publish": 0.04, "analytics.collect": 0.03}
SLOW = frozenset({"videos.render", "videos.draw"})
PROVIDERS: Mapping[str, float] = {"anthropic": 2, "tiktok": 3, "youtube": 2, "instagram": 2, "wikimedia": 0.5}


def series() -> list[Row]:
    """Return what is counted, for `db.ops.past.write_series`."""
    return list(_series())


def _series() -> Iterator[Row]:
    for queue, often in QUEUES.items():
        yield _histogram("viral_job_wait_seconds", {"queue": queue}, often, LONG, 0.05)
    for job_type, often in JOBS.items():
        labels, typical = {"job_type": job_type}, 30.0 if job_type in SLOW else 0.4
        yield _counter("viral_jobs_enqueued_total", labels, often)
        yield _counter("viral_attempts_total", labels | {"outcome": "completed"}, often)
        yield _histogram("viral_job_duration_seconds", labels | {"outcome": "completed"}, often, LONG, typical)
        if job_type in FAILS:
            yield _counter("viral_attempts_total", labels | {"outcome": "retried"}, often * FAILS[job_type] * 6)
            yield _counter("viral_attempts_total", labels | {"outcome": "failed"}, often * FAILS[job_type])
    for source, often in (("stripe", 3), ("clerk", 2)):
        yield _counter("viral_webhooks_total", {"source": source, "outcome": "accepted"}, often)
        yield _counter("viral_webhooks_total", {"source": source, "outcome": "duplicate"}, often * 0.1)
    for provider, often in PROVIDERS.items():
        labels = {"provider": provider, "operation": "write"}
        yield _histogram("viral_provider_request_seconds", labels | {"outcome": "ok"}, often, LONG, 0.4)
        yield _histogram("viral_provider_request_seconds", labels | {"outcome": "server_error"}, often * 0.05, LONG, 1)
    yield _histogram("viral_claim_duration_seconds", {}, 14, SHORT, 0.004)
    yield _histogram("viral_ingest_commit_seconds", {}, 5, SHORT, 0.004)
    yield _histogram("viral_ingest_batch_events", {}, 5, SIZES, 1)
    yield _counter("viral_quota_entries_total", {"kind": "hold"}, 2)
    yield _counter("viral_quota_entries_total", {"kind": "settle"}, 2)


def gauges() -> list[Row]:
    """Return what was between a least and a most."""
    rows: list[Row] = []
    for queue, often in QUEUES.items():
        rows.append(_gauge("viral_queue_oldest_due_age_seconds", {"queue": queue}, 0, 12 * often))
        rows.append(_gauge("viral_queue_jobs", {"queue": queue, "state": "waiting"}, 0, 3 * often))
    rows.append(_gauge("viral_workers", {"state": "alive"}, 1, 1))
    rows.append(_gauge("viral_effects_unconfirmed", {"kind": "post"}, 1, 1))
    return rows


def _counter(name: str, labels: Mapping[str, str], a_minute: float) -> Row:
    return {"name": name, "labels": dict(labels), "a_minute": a_minute, "mean": 1, "shapes": None}


def _histogram(name: str, labels: Mapping[str, str], a_minute: float, bounds: tuple[float, ...], typical: float) -> Row:
    """Most cases are in the bucket of what is typical, fewer around it, and few in a long tail."""
    at = next(place for place, bound in enumerate(bounds) if bound >= typical)
    weights = [
        0.5 ** (3 * (at - place)) if place < at else 0.5 ** (1.5 * (place - at)) for place in range(len(bounds) + 1)
    ]
    shares = [round(weight / sum(weights), 4) for weight in weights]
    return {"name": name, "labels": dict(labels), "a_minute": a_minute, "mean": typical, "shapes": shares}


def _gauge(name: str, labels: Mapping[str, str], least: float, most: float) -> Row:
    return {"name": name, "labels": dict(labels), "least": least, "most": most}

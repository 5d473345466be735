"""What is now: read for `/metrics`, and kept by the minute for charts of last night."""

from collections.abc import Iterator
from datetime import timedelta

from db.ops.gauges import Gauge
from db.queue.queue_views import Counts
from db.transaction import SYSTEM, Database, Tx
from domain.ops.metrics import METRICS, QUEUE_STATES, Kind
from workers.engine.queues import QUEUES
from workers.runtime.metrics import Metrics

SAMPLE_EVERY = timedelta(minutes=1)

Values = dict[tuple[str, tuple[str, ...]], float]
"""Values by metric and labels, in the order of their declaration."""


def read(tx: Tx, metrics: Metrics) -> Values:
    """Return the gauges, with labels of closed lists only; system scope."""
    found: Values = {}
    # The queues last: to count them tells the planner of this transaction to keep to indexes.
    for name, labels, value in [*tx.gauges.read(), *_of_queues(tx)]:
        measured = METRICS[name]
        key = name, tuple(metrics.listed(label, labels[label]) for label in measured.labels)
        if measured.worst:
            found[key] = max(found.get(key, 0.0), float(value))
        else:
            found[key] = found.get(key, 0.0) + float(value)
    return found


def _of_queues(tx: Tx) -> Iterator[Gauge]:
    """What the page of queues shows, too: of a declared queue in any case."""
    now, counts = tx.now(), tx.queue_views.counts()
    for queue in dict.fromkeys([*QUEUES, *counts]):
        count = counts.get(queue, Counts())
        age = 0.0 if count.oldest is None else (now - count.oldest).total_seconds()
        yield Gauge("viral_queue_oldest_due_age_seconds", {"queue": queue}, age)
        if queue in QUEUES:
            yield Gauge("viral_queue_paused", {"queue": queue}, 0.0)
        for state in QUEUE_STATES:
            # Of more than are counted, one more.
            jobs = getattr(count, state) + (state in count.cut)
            yield Gauge("viral_queue_jobs", {"queue": queue, "state": state}, jobs)


def sample(db: Database, metrics: Metrics, *, holds: timedelta = SAMPLE_EVERY) -> int:
    """Keep the gauges of this minute, if no other process has. Returns how many were kept.

    `holds`: how long it is to the next sample at most, while nothing changes.
    """
    with db.transaction(SYSTEM, durable=False) as tx:
        if not tx.series.begin_sample():
            return 0
        kept = [
            (name, dict(zip(METRICS[name].labels, labels, strict=True)), value)
            for (name, labels), value in read(tx, metrics).items()
            if METRICS[name].sampled
        ]
        tx.series.keep_sample(kept, holds=holds)
    return len(kept)


COUNTED = [name for name, each in METRICS.items() if each.kind is not Kind.GAUGE]
SAMPLED = [name for name, each in METRICS.items() if each.sampled]
"""The metrics that are kept by the minute: as counted, and as sampled."""

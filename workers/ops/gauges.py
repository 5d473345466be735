"""What is now: read for `/metrics`, and kept by the minute for charts of last night."""

from datetime import timedelta

from db.transaction import SYSTEM, Database, Tx
from domain.ops.metrics import METRICS, Kind
from workers.engine.queues import QUEUES
from workers.runtime.metrics import Metrics

SAMPLE_EVERY = timedelta(minutes=1)

Values = dict[tuple[str, tuple[str, ...]], float]
"""Values by metric and labels, in the order of their declaration."""


def read(tx: Tx, metrics: Metrics) -> Values:
    """Return the gauges, with labels of closed lists only; system scope."""
    found: Values = {}
    for name, labels, value in tx.gauges.read(tuple(QUEUES)):
        measured = METRICS[name]
        key = name, tuple(metrics.listed(label, labels[label]) for label in measured.labels)
        if measured.worst:
            found[key] = max(found.get(key, 0.0), float(value))
        else:
            found[key] = found.get(key, 0.0) + float(value)
    return found


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

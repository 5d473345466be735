"""Counts what happens in this process, and reports it to Postgres, where all processes' counts are summed.

    metrics.count("viral_fence_refusals_total")
    metrics.observe("viral_job_wait_seconds", 0.3, "default")        # labels in the order of their declaration
    with metrics.timed("viral_claim_duration_seconds"): ...

Counting takes less than a microsecond and never waits for anything: see docs/decisions/0054.
"""

import os
import socket
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from time import perf_counter
from uuid import uuid4

import structlog

from db.ops.series import Reported, Reporter, ReporterForgotten
from db.transaction import NO_ANSWER, SYSTEM, Contended, Database
from domain.ops.metrics import METRICS, OTHER, Kind

REPORT_EVERY = 10.0
"""Seconds between two reports of a process, if it has anything new to report."""

Key = tuple[str, tuple[str, ...]]

log = structlog.get_logger()


class Metrics:
    """What one process has counted since it started. Any thread may count.

    `declared` has the values of labels that the code declares (`job_type`, `queue`): others are reported as `other`.
    """

    def __init__(self, declared: Mapping[str, Collection[str]] | None = None) -> None:
        self._declared = dict(declared or {})
        self._lock = threading.Lock()
        self._counts: dict[Key, int | float | Decimal] = {}
        self._cases: dict[Key, list[int]] = {}
        """Of a histogram the cases by bucket; their sum is in `_counts`."""
        self._bounds = {name: metric.buckets for name, metric in METRICS.items() if metric.kind is Kind.HISTOGRAM}

    def count(self, name: str, *labels: str, by: int | Decimal = 1) -> None:
        """Add to a counter."""
        key = name, labels
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + by  # type: ignore[operator]

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a case of this size to a histogram."""
        key, place = (name, labels), bisect_left(self._bounds[name], value)
        with self._lock:
            buckets = self._cases.get(key) or self._begin(key)
            buckets[place] += 1
            self._counts[key] += value  # type: ignore[operator]

    def observe_all(self, name: str, values: Sequence[float], *labels: str) -> None:
        """`observe` for many cases."""
        if not values:
            return
        key, bounds = (name, labels), self._bounds[name]
        places = [bisect_left(bounds, value) for value in values]
        with self._lock:
            buckets = self._cases.get(key) or self._begin(key)
            for place in places:
                buckets[place] += 1
            self._counts[key] += sum(values)  # type: ignore[operator]

    @contextmanager
    def timed(self, name: str, *labels: str) -> Iterator[None]:
        """Observe the seconds that the block takes, also if it raises."""
        began = perf_counter()
        try:
            yield
        finally:
            self.observe(name, perf_counter() - began, *labels)

    def counted(self) -> list[Reported]:
        """Return all that was counted until now, by metric and labels."""
        with self._lock:
            counts = dict(self._counts)
            cases = {key: list(buckets) for key, buckets in self._cases.items()}
        summed: dict[Key, tuple[Decimal, list[int] | None]] = {}
        for (name, labels), value in counts.items():
            key = name, tuple(map(self.listed, METRICS[name].labels, labels))
            number = value if isinstance(value, Decimal) else Decimal(repr(value))
            buckets = cases.get((name, labels))
            if key in summed:
                before, others = summed[key]
                number += before
                buckets = buckets and [a + b for a, b in zip(buckets, others or (), strict=True)]
            summed[key] = number, buckets
        return [
            Reported(name, dict(zip(METRICS[name].labels, labels, strict=True)), value, buckets)
            for (name, labels), (value, buckets) in summed.items()
        ]

    def _begin(self, key: Key) -> list[int]:
        self._counts[key] = 0.0
        return self._cases.setdefault(key, [0] * (len(self._bounds[key[0]]) + 1))

    def listed(self, label: str, value: str) -> str:
        """Return the value if a list has it, else `other`."""
        return value if value in self._declared.get(label, ()) or value in _CLOSED.get(label, ()) else OTHER


_CLOSED: Mapping[str, frozenset[str]] = {
    label: frozenset(value for metric in METRICS.values() for value in metric.values.get(label, ()))
    for label in {label for metric in METRICS.values() for label in metric.labels}
}
"""The values of each label that a list has."""


class MetricsReport:
    """Reports what a process has counted; what could not be reported is reported with the next."""

    def __init__(self, db: Database, metrics: Metrics, *, role: str, release: str) -> None:
        self._db = db
        self._metrics = metrics
        self._lock = threading.Lock()
        self._reporter = Reporter(uuid4(), role, socket.gethostname(), os.getpid(), release)
        self._number = 0
        self._kept: dict[str, Reported] = {}
        """By metric and labels, what reports that were surely kept said last."""
        self._base: dict[str, Reported] = {}
        """What was counted before this process got another id (`ReporterForgotten`): it is not reported again."""
        self._has_reported = False

    def send(self) -> bool:
        """Report what has changed since the last report; False if nothing has.

        Raises:
            DatabaseUnavailable, CommitUnknown, Contended: it may not have been kept.
        """
        with self._lock:
            counted = {_name(each): each for each in self._metrics.counted()}
            changed = {name: each for name, each in counted.items() if each != self._kept.get(name)}
            if not changed:
                return False
            try:
                self._send(changed)
            except ReporterForgotten:
                self._base, self._has_reported = dict(self._kept), False
                fresh = {**vars(self._reporter), "id": uuid4()}
                self._reporter = Reporter(**fresh)
                self._send(changed)
            self._kept |= changed
            self._has_reported = True
            return True

    def try_to_send(self) -> int:
        """`send`, for whoever has other things to do; 1 if something was reported. Never raises."""
        try:
            return int(self.send())
        except (*NO_ANSWER, Contended) as error:
            log.warning("metrics.not_reported", reason=str(error), seldom=True)
        except Exception:
            log.exception("metrics.report_failed")
        return 0

    def _send(self, changed: Mapping[str, Reported]) -> None:
        self._number += 1
        report = [_less(each, self._base.get(name)) for name, each in changed.items()]
        # Not durable: a crash of the server may forget the last report, and the process sends no value twice.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            tx.series.report(self._reporter, self._number, report, reported_before=self._has_reported)


class MetricsThread:
    """Reports in the background, for a process that has no other thread for it."""

    def __init__(self, report: MetricsReport, *, every: float = REPORT_EVERY) -> None:
        self._report = report
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Report what is left, and end."""
        self._stop.set()
        self._thread.join(timeout=5)
        self._report.try_to_send()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._report.try_to_send()


def _name(each: Reported) -> str:
    return f"{each.name} {sorted(each.labels.items())}"


def _less(each: Reported, base: Reported | None) -> Reported:
    if base is None:
        return each
    buckets = each.buckets and [a - b for a, b in zip(each.buckets, base.buckets or (), strict=True)]
    return each._replace(value=each.value - base.value, buckets=buckets)

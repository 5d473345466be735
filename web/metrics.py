"""`GET /metrics`: what all processes have counted, and what is now, as Prometheus reads it.

All of it is read from Postgres, so each web process reports the same: one scrape target is enough, and what a killed
process had reported is still there. Answers are five seconds old at most; without Postgres the last figures are
repeated, and `viral_metrics_age_seconds` says how old they are.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate, product
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from db.events.probe import OK
from db.ops.series import Measured
from db.transaction import SYSTEM
from domain.ops.metrics import METRICS, Kind, Metric
from web.error_responses import error_response
from workers.app import App
from workers.ops import gauges
from workers.ops.schedules import Timetable
from workers.runtime.error_text import text_of

FRESH_FOR: Final = 5.0
"""Seconds for which what was read is reported again."""
PATIENCE: Final = 4.0
"""Seconds that an answer waits for what is being read; then it has what was read before."""
MOST_ZEROS: Final = 64
"""Counters of no more combinations of labels are reported before anything is counted, so that the first is seen."""
SILENT: Final = ("no answer", "unreachable")
"""How it begins what is said of a Postgres that is not there."""

Totals = Mapping[str, Sequence[Measured]]

log = structlog.get_logger()


class MetricsEndpoint:
    """The ASGI endpoint; `write_postgres` returns "ok" if Postgres stores, `write_redis` raises if Redis does not.
    `may_look` returns the response to who may not see it (`web/ops/access.py`)."""

    def __init__(
        self,
        app: App,
        write_postgres: Callable[[], str],
        write_redis: Callable[[], object],
        *,
        may_look: Callable[[Request], Awaitable[Response | None]],
        calendar: Sequence[Timetable] = (),
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._write_postgres = write_postgres
        self._write_redis = write_redis
        self._may_look = may_look
        self._calendar = calendar
        self._stopwatch = stopwatch
        self._task: asyncio.Task[None] | None = None
        self._looked_at = self._read_at = float("-inf")
        self._started = stopwatch()
        self._totals: Totals = {}
        self._gauges: gauges.Values = {}
        self._text = b""
        self._lock = threading.Lock()
        self.reads = 0
        """How often Postgres was read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(Request(scope)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return error_response(405, "Method Not Allowed", "METHOD_NOT_ALLOWED", headers={"Allow": "GET"})
        if (refused := await self._may_look(request)) is not None:
            return refused
        if self._stopwatch() - self._looked_at > FRESH_FOR:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(asyncio.to_thread(self.look))
            await asyncio.wait({self._task}, timeout=PATIENCE)
        return Response(self.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def text(self) -> bytes:
        """Return what was read last, and how old it is."""
        since = max(self._read_at, self._started)
        age: gauges.Values = {("viral_metrics_age_seconds", ()): self._stopwatch() - since}
        return self._text + exposed({}, age)

    def look(self) -> None:
        """Read everything anew, as far as somebody answers. Never raises."""
        with self._lock:
            postgres = self._write_postgres()
            # One that refuses writes may be read by connections that are open.
            if not postgres.startswith(SILENT):
                self._read()
            now: gauges.Values = {
                ("viral_postgres_writable", ()): float(postgres == OK),
                ("viral_redis_writable", ()): float(self._redis_writes()),
                ("viral_build_info", (self._app.version,)): 1.0,
            }
            self._text = exposed(self._totals, self._gauges | now)
            self._looked_at = self._stopwatch()

    def _read(self) -> None:
        try:
            with self._app.db.transaction(SYSTEM) as tx:
                moment = tx.now()
                last = tx.schedule_runs.last(moment)
                found = gauges.read(tx, self._app.metrics)
                totals = tx.series.totals()
        except Exception as error:
            log.warning("metrics.not_read", reason=text_of(error), seldom=True)
            return
        for each in self._calendar:
            # The first run that was left out: of those that are caught up, only the latest counts as overdue.
            since = each.next_fire(last[each.name]) if each.overdue_since(last, moment) else None
            overdue = 0.0 if since is None else (moment - since).total_seconds()
            found["viral_scheduler_overdue_seconds", (each.name,)] = max(0.0, overdue)
        self._gauges, self._totals, self._read_at = found, totals, self._stopwatch()
        self.reads += 1

    def _redis_writes(self) -> bool:
        try:
            self._write_redis()
        except Exception:  # the client has logged it
            return False
        return True


def exposed(totals: Totals, now: gauges.Values) -> bytes:
    """Write the totals of counters and histograms, and the values of gauges, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(partial(_families, totals, now)))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families()

    def describe(self) -> Iterable[Family]:
        return ()


def _families(totals: Totals, now: gauges.Values) -> Iterable[Family]:
    values: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for (name, labels), value in now.items():
        values.setdefault(name, []).append((labels, value))
    for name, measured in METRICS.items():
        match measured.kind:
            case Kind.GAUGE:
                if name in values:
                    gauge = GaugeMetricFamily(name, measured.help, labels=measured.labels)
                    for labels, value in sorted(values[name]):
                        gauge.add_metric(labels, value)
                    yield gauge
            case Kind.COUNTER:
                if totals or not now.keys() <= {("viral_metrics_age_seconds", ())}:
                    yield _counter(measured, totals.get(name, ()))
            case Kind.HISTOGRAM:
                if name in totals:
                    yield _histogram(measured, totals[name])


def _counter(measured: Metric, rows: Sequence[Measured]) -> Family:
    lists = [measured.values.get(label, ()) for label in measured.labels]
    found: dict[tuple[str, ...], float] = {}
    combinations = list(product(*lists))
    if len(combinations) <= MOST_ZEROS:
        found = dict.fromkeys(combinations, 0.0)
    for row in rows:
        found[_labels(measured, row)] = float(row.value)
    counter = CounterMetricFamily(measured.name, measured.help, labels=measured.labels)
    for labels, value in sorted(found.items()):
        counter.add_metric(labels, value)
    return counter


def _histogram(measured: Metric, rows: Sequence[Measured]) -> Family:
    histogram = HistogramMetricFamily(measured.name, measured.help, labels=measured.labels)
    bounds = [*map(floatToGoString, measured.buckets), "+Inf"]
    for row in rows:
        counts = list(accumulate(row.buckets or ()))
        if len(counts) == len(bounds):
            buckets = list(zip(bounds, map(float, counts), strict=True))
            histogram.add_metric(_labels(measured, row), buckets, float(row.value))
    return histogram


def _labels(measured: Metric, row: Measured) -> tuple[str, ...]:
    return tuple(row.labels.get(label, "") for label in measured.labels)

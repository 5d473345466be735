"""Grafana's dashboard, Prometheus' alert rules and docs/reference/metrics.md, made from the list of metrics.

`viral metrics export DIR` writes them. A rule says what is wrong for whom; what to do is in docs/runbooks.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.ops.metrics import ALL, Kind, Metric

RUNBOOKS: Final = "docs/runbooks.md"


@dataclass(frozen=True)
class Rule:
    """An alert. `holds` is how long the expression must hold (`5m`); `anchor` is its section of the runbooks."""

    name: str
    expression: str
    holds: str
    severity: str
    summary: str
    anchor: str


RULES: Final[Sequence[Rule]] = (
    Rule(
        "ViralQueueIsLate",
        "max by (queue) (viral_queue_oldest_due_age_seconds) > 300 unless on (queue) viral_queue_paused == 1",
        "5m",
        "page",
        "A job of queue {{ $labels.queue }} has been due for {{ $value | humanizeDuration }} and does not run.",
        "a-queue-is-late",
    ),
    Rule(
        "ViralJobsFailed",
        "sum by (job_type) (viral_jobs_failed) > 0",
        "5m",
        "ticket",
        "{{ $value }} jobs of type {{ $labels.job_type }} have failed and wait for a person.",
        "jobs-have-failed",
    ),
    Rule(
        "ViralMoneyIsParked",
        'sum by (reason) (viral_events_parked{source="stripe"}) > 0',
        "15m",
        "ticket",
        "{{ $value }} events of Stripe are parked ({{ $labels.reason }}): somebody may have paid and not got it.",
        "money-is-parked",
    ),
    Rule(
        "ViralEffectsUnconfirmed",
        "sum by (kind) (viral_effects_unconfirmed) > 0",
        "30m",
        "ticket",
        "Of {{ $value }} effects ({{ $labels.kind }}) nobody can tell whether they happened.",
        "effects-are-unconfirmed",
    ),
    Rule(
        "ViralNoScheduler",
        "max(viral_scheduler_overdue_seconds) > 120",
        "1m",
        "page",
        "A schedule has been due for {{ $value | humanizeDuration }}: no scheduler works.",
        "no-scheduler-works",
    ),
    Rule(
        "ViralCannotWrite",
        "viral_redis_writable == 0 or viral_postgres_writable == 0",
        "1m",
        "page",
        "{{ $labels.__name__ }} is 0: Redis or Postgres refuses what we write.",
        "redis-or-postgres-refuses-writes",
    ),
)

GROUPS: Final[Mapping[str, str]] = {
    "viral_queue": "Queues",
    "viral_job": "Jobs",
    "viral_attempts": "Jobs",
    "viral_claim": "Jobs",
    "viral_fence": "Jobs",
    "viral_notifications": "Jobs",
    "viral_events": "Events and webhooks",
    "viral_ingest": "Events and webhooks",
    "viral_webhooks": "Events and webhooks",
    "viral_rate": "Events and webhooks",
    "viral_provider": "Outside",
    "viral_effects": "Outside",
    "viral_quota": "Outside",
}
"""The row of the dashboard, by how a metric's name begins."""
HEALTH: Final = "Health"

UNITS: Final = {"seconds": "s", "US dollars": "currencyUSD"}
WIDTH, HEIGHT, COLUMNS = 8, 7, 3


def files() -> dict[str, str]:
    """Return the text of each file, by name."""
    return {"grafana.json": dashboard(), "alerts.yaml": alerts(), "metrics.md": document()}


def alerts() -> str:
    """Write the rules as Prometheus reads them."""
    lines = ["# Made by `viral metrics export`.", "groups:", "  - name: viral", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expression)}",
            f"        for: {rule.holds}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          runbook: {RUNBOOKS}#{rule.anchor}",
        ]
    return "\n".join(lines) + "\n"


def queries(metric: Metric) -> dict[str, str]:
    """Return what a panel of the metric shows: its queries, by their legends."""
    by = ", ".join(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name
    grouped = f" by ({by})" if by else ""
    match metric.kind:
        case Kind.GAUGE:
            return {legend: f"{'max' if metric.worst or not by else 'sum'}{grouped} ({metric.name})"}
        case Kind.COUNTER:
            return {legend: f"sum{grouped} (rate({metric.name}[5m]))"}
        case Kind.HISTOGRAM:
            first = f", {metric.labels[0]}" if metric.labels else ""
            rate = f"sum by (le{first}) (rate({metric.name}_bucket[5m]))"
            shown = f" {{{{{metric.labels[0]}}}}}" if metric.labels else ""
            return {
                f"p{round(100 * fraction)}{shown}": f"histogram_quantile({fraction}, {rate})"
                for fraction in (0.5, 0.95, 0.99)
            }


def dashboard() -> str:
    """Write Grafana's dashboard: a panel for each metric, in rows."""
    rows: dict[str, list[Metric]] = {}
    for metric in ALL:
        group = next((row for start, row in GROUPS.items() if metric.name.startswith(start)), HEALTH)
        rows.setdefault(group, []).append(metric)
    panels: list[dict[str, Any]] = []
    top = 0
    for group, metrics in rows.items():
        panels.append(_placed(len(panels), 0, top, 24, 1) | {"type": "row", "title": group, "collapsed": False})
        top += 1
        for place, metric in enumerate(metrics):
            left, below = place % COLUMNS * WIDTH, top + place // COLUMNS * HEIGHT
            panels.append(_placed(len(panels), left, below, WIDTH, HEIGHT) | _panel(metric))
        top += -(-len(metrics) // COLUMNS) * HEIGHT
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    written = {
        "title": "Viral Dashboard workers",
        "uid": "viral-workers",
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(written, indent=2) + "\n"


def _placed(number: int, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(metric: Metric) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    per_second = metric.kind is Kind.COUNTER
    unit = UNITS.get(metric.unit, "short") if not per_second else "cps"
    return {
        "type": "timeseries",
        "title": metric.name,
        "description": metric.help,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": expression, "legendFormat": legend}
            for place, (legend, expression) in enumerate(queries(metric).items())
        ],
    }


HEAD: Final = """# Metrics

How they are kept: docs/decisions/0054-cumulative-reports.md. `viral metrics export DIR` writes this list too.

`GET /metrics` of any web process has all of them, of all processes: **scrape one**. An answer is five seconds old at
most. It is open to programs on the same machine, and to whoever may look at `/ops`.

* Workers, web and schedulers report what they have counted every ten seconds, if it has changed. A process that is
  killed takes with it what it counted since.
* Totals never fall, whatever is restarted or killed. Commands of the shell are not counted.
* Labels are of closed lists; whatever is on none of them is `other`. No label has a tenant, an id or anybody's text.
* Minutes are kept for 48 hours and hours for thirteen months (`system_metrics`), also of the gauges that say *kept*.
* Prometheus: `- job_name: viral` with `static_configs: [{targets: ["127.0.0.1:8000"]}]` and `rule_files:
  [alerts.yaml]`; that file and Grafana's are in docs/monitoring. docs/runbooks.md says what to do when a rule fires.

| name | kind | labels | unit | what it is |
| --- | --- | --- | --- | --- |
"""


def document() -> str:
    """Write docs/reference/metrics.md."""
    lines = []
    for metric in ALL:
        kind = f"{metric.kind}, kept" if metric.sampled else str(metric.kind)
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        lines.append(f"| `{metric.name}` | {kind} | {labels} | {metric.unit or '-'} | {metric.help} |")
    lists = [
        f"* `{label}` of `{metric.name}`: {', '.join(f'`{value}`' for value in values)}"
        for metric in ALL
        for label, values in metric.values.items()
    ]
    bounds = [
        f"* `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}" for metric in ALL if metric.buckets
    ]
    above = "Upper bounds; a case above all of them is in `+Inf`."
    return HEAD + "\n".join([*lines, "", "## Labels", "", *lists, "", "## Buckets", "", above, "", *bounds]) + "\n"

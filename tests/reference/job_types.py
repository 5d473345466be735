"""docs/reference/job-types.md: each job type as it is declared, and the schedules that enqueue it."""

import inspect
from datetime import timedelta
from typing import Any, get_type_hints
from uuid import UUID

import workers.jobs
from cli.commands.schedules import calendar
from tests.reference.markdown import code, one_line, table
from workers.engine.discovery import discover
from workers.engine.job import JobType
from workers.engine.queues import QUEUES

HEAD = f"""# Job types

What `@job` declares in `workers/jobs/` (how to add one: [../extending.md](../extending.md)). Enqueue any by hand:
[`viral jobs enqueue TYPE name=value`](cli.md#viral-jobs-enqueue). The queues are {", ".join(code(q) for q in QUEUES)}.

A job *sees* its tenant's rows, or, of a system type, everybody's. *Once*: while a job with the same values of these
arguments is pending or running, enqueueing another returns that one. *In order*: jobs with the same value run one after
another. *Attempts*, with the time that one may take; between them a backoff ([../guarantees.md](../guarantees.md)).
"""


def page() -> str:
    found = sorted(discover([workers.jobs]).items())
    runs = {each.name: each.timetable for each in calendar()}
    rows = [
        (
            f"[{code(name)}](#{name.replace('.', '')})",
            code(declared.queue),
            "all" if declared.system else "its tenant's",
            ", ".join(code(each) for each in declared.unique),
            code(declared.ordering) if declared.ordering else "",
            f"{declared.max_attempts} of {_span(declared.timeout)}",
        )
        for name, declared in found
    ]
    lines = [HEAD, *table(("type", "queue", "sees", "once", "in order", "attempts"), rows)]
    for name, declared in found:
        lines += _section(name, declared, runs)
    return "\n".join(lines)


def _section(name: str, declared: JobType[Any], runs: dict[str, str]) -> list[str]:
    handler = declared.handler
    lines = [f"## {name}", "", f"In `{handler.__module__.replace('.', '/')}.py`, `{handler.__name__}`."]
    if text := one_line(inspect.getdoc(handler)):
        lines[-1] += f" {text}"
    facts = [
        *([f"Priority {declared.priority}."] if declared.priority != 5 else []),
        *([f"Weighs {declared.cost}."] if declared.cost != 1 else []),
        *(["Many are handled in one transaction."] if declared.many else []),
        *(["When it fails or is cancelled, its own rule runs in that commit."] if declared.on_failure else []),
        *([f"Payloads are of version {declared.payload_version}."] if declared.upgrades else []),
        *(
            [f"Scheduled: {code(runs[name])} ([`viral schedules list`](cli.md#viral-schedules-list))."]
            if name in runs
            else []
        ),
    ]
    if facts:
        lines += ["", " ".join(facts)]
    hints = get_type_hints(handler)
    rows = [
        (code(each.name), _kind(hints[each.name]), "" if each.default is each.empty else code(each.default))
        for each in list(inspect.signature(handler).parameters.values())[1:]
    ]
    lines += ["", *(table(("argument", "type", "default"), rows) if rows else ["It takes no argument.", ""])]
    return lines


def _kind(hint: object) -> str:
    if hint is UUID:
        return "id"
    return str(getattr(hint, "__name__", hint)) if isinstance(hint, type) else str(hint).replace("typing.", "")


def _span(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"

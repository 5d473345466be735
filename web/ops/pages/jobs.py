"""Jobs by filter, and one job."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from domain.errors import UnknownJob
from domain.ops.actions import Kind
from domain.queue.job_filters import QUERY, STATES, JobFilter, job_filter
from domain.text.filters import SenselessFilter, uuid_of
from domain.text.shell import word
from web.ops.histories import bulk_actions_for
from web.ops.page import Look, NothingThere, Page, WrongFilter
from workers.engine.queues import QUEUES
from workers.ops.job_lists import job_list
from workers.ops.job_reports import cause_link, job_report
from workers.ops.lineage import UnknownNode


def view(look: Look) -> Mapping[str, Any]:
    try:
        wanted = job_filter(look.query)
    except SenselessFilter as error:
        raise WrongFilter(str(error)) from error
    found = job_list(look.app, wanted)
    acts = [] if wanted.archived else bulk_actions_for(Kind.JOB)
    archive = None if wanted.archived or not _may_be_archived(wanted) else _url(wanted, archived=True)
    return {
        "list": found,
        "causes": [cause_link(row["cause"]) for row in found.rows],
        "query": dict.fromkeys(QUERY, "") | wanted.query(),
        "chosen": wanted.query(),
        "acts": acts,
        "acts_on_all": [each for each in acts if not each.states or wanted.state in each.states],
        "states": STATES,
        "queues": list(QUEUES),
        "older": None if found.further is None else _url(wanted, after=found.further.after),
        "newest": None if wanted.after is None else _url(wanted),
        "archive": archive,
        "live": _url(wanted, archived=False) if wanted.archived else None,
        "shell": _shell(wanted),
    }


def _may_be_archived(wanted: JobFilter) -> bool:
    return wanted.state in (None, "completed", "failed", "cancelled")


def _url(wanted: JobFilter, **changes: Any) -> str:
    query = urlencode(wanted.query(**changes))
    return f"/ops/jobs?{query}" if query else "/ops/jobs"


def _shell(wanted: JobFilter) -> str:
    """The command that lists the same."""
    words = ["viral jobs list"]
    for name, value in wanted.query(after=wanted.after).items():
        words.append("--archive" if name == "archive" else f"--{name} {word(value)}")
    return " ".join(words)


def view_one(look: Look) -> Mapping[str, Any]:
    job_id = uuid_of(look.path["id"])
    if job_id is None:
        raise NothingThere("a job's id looks like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    try:
        report = job_report(look.app, job_id)
    except (UnknownJob, UnknownNode) as error:
        raise NothingThere(str(error)) from error
    return {"report": report, "job": report.job}


JOBS = Page("/jobs", "Jobs", "jobs.html", view)
JOB = Page(
    "/jobs/{id}",
    "Job",
    "job.html",
    view_one,
    in_menu=False,
    about=lambda shown: f"job:{shown['job']['id']}",
    states=lambda shown: () if shown["report"].archived else (shown["job"]["status"],),
)

"""Events of Stripe and Clerk: the list, and one with what became of it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from domain.errors import UnknownEvent
from domain.ops.event_filters import (
    FLAGS,
    NAMES,
    SOURCES,
    STATUSES,
    EventFilter,
    event_filter,
    query_of,
)
from domain.ops.masking import written
from domain.text.filters import SenselessFilter
from domain.text.shell import command
from web.ops.page import Look, NothingThere, Page, WrongFilter
from workers.ops.event_views import event_list, event_report


def view_list(look: Look) -> Mapping[str, Any]:
    try:
        found = event_list(look.app, event_filter(look.query))
    except SenselessFilter as error:
        raise WrongFilter(str(error)) from None
    older = None if found.further is None else f"/ops/events?{urlencode(query_of(found.further))}"
    choices = {"sources": SOURCES, "statuses": STATUSES, "flags": FLAGS}
    filled = {name: look.query.get(name, "") for name in NAMES}
    return {"found": found, "older": older, "shell": _shell(found.wanted), "filled": filled, **choices}


def view_one(look: Look) -> Mapping[str, Any]:
    try:
        report = event_report(look.app, look.path["id"])
    except UnknownEvent as error:
        raise NothingThere(str(error)) from None
    payload = None if report.payload is None else written(report.payload)
    return {"report": report, "event": report.event, "payload": payload}


def _shell(wanted: EventFilter) -> str:
    options = query_of(wanted)
    if options.get("flag") == "any":
        del options["flag"]
        return command(["viral", "events", "list", *_options(options), "--flagged"])
    return command(["viral", "events", "list", *_options(options)])


def _options(filled: Mapping[str, str]) -> list[str]:
    return [word for name, value in filled.items() for word in (f"--{name}", value)]


EVENTS = Page("/events", "Events", "events.html", view_list)
EVENT = Page("/events/{id}", "Event", "event.html", view_one, in_menu=False)

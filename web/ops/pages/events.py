"""Events of Stripe and Clerk: the list, and one with what became of it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from domain.errors import UnknownEvent
from domain.ops.actions import Kind
from domain.ops.event_filters import (
    FLAGS,
    NAMES,
    SOURCES,
    STATUSES,
    EventFilter,
    event_filter,
)
from domain.ops.masking import written
from domain.text.filters import SenselessFilter
from domain.text.shell import command, options_of
from web.ops.histories import bulk_actions_for
from web.ops.page import Look, NothingThere, Page, WrongFilter
from workers.ops.event_views import event_list, event_report

REVEAL = "event.reveal"


def view_list(look: Look) -> Mapping[str, Any]:
    try:
        found = event_list(look.app, event_filter(look.query))
    except SenselessFilter as error:
        raise WrongFilter(str(error)) from None
    further = found.further
    older = None if further is None else f"/ops/events?{urlencode(further.query(after=further.after))}"
    filled = {name: look.query.get(name, "") for name in NAMES}
    chosen = {name: value for name, value in filled.items() if name != "after"}
    choices: dict[str, Any] = {"chosen": chosen, "acts": bulk_actions_for(Kind.EVENT)}
    choices |= {"sources": SOURCES, "statuses": STATUSES, "flags": FLAGS}
    return {"found": found, "older": older, "shell": _shell(found.wanted), "filled": filled, **choices}


def view_one(look: Look) -> Mapping[str, Any]:
    try:
        report = event_report(look.app, look.path["id"])
        if _was_revealed(look, report.event["id"]):
            report = event_report(look.app, look.path["id"], unmasked=True)
    except UnknownEvent as error:
        raise NothingThere(str(error)) from None
    payload = None if report.payload is None else written(report.payload)
    revealed = _was_revealed(look, report.event["id"])
    return {"report": report, "event": report.event, "payload": payload, "revealed": revealed}


def _was_revealed(look: Look, event_id: UUID) -> bool:
    """Return whether whoever asks has just said that they look at it unmasked: that is kept before it is shown."""
    done = look.done
    return done is not None and (done.action, done.outcome, done.target) == (REVEAL, "done", f"event:{event_id}")


def _shell(wanted: EventFilter) -> str:
    options = wanted.query(after=wanted.after)
    if options.get("flag") == "any":
        del options["flag"]
        return command(["viral", "events", "list", *options_of(options), "--flagged"])
    return command(["viral", "events", "list", *options_of(options)])


EVENTS = Page("/events", "Events", "events.html", view_list)
EVENT = Page(
    "/events/{id}", "Event", "event.html", view_one, in_menu=False, about=lambda shown: f"event:{shown['event']['id']}"
)

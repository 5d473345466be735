"""Queues: what waits and since when, against how long it may."""

from collections.abc import Mapping
from typing import Any

from db.transaction import SYSTEM
from domain.errors import UnknownQueue
from web.ops.page import Look, NothingThere, Page
from workers.ops import queues


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        return {"queues": queues.overview(tx), "at": tx.now()}


def view_one(look: Look) -> Mapping[str, Any]:
    try:
        report = queues.report(look.app, look.path["name"])
    except UnknownQueue as error:
        raise NothingThere(str(error)) from error
    return {"report": report, "queue": report.overview}


QUEUES = Page("/queues", "Queues", "queues.html", view)
QUEUE = Page(
    "/queues/{name:path}",
    "Queue",
    "queue.html",
    view_one,
    in_menu=False,
    about=lambda shown: f"queue:{shown['queue'].queue}",
)

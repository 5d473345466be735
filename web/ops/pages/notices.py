"""The notices that people get, and by which channels."""

from collections.abc import Mapping
from typing import Any

from web.ops.page import Look, Page, WrongFilter
from workers.ops.notices import report

SHOWN = 100
ENDED = {"": False, "yes": True}


def view(look: Look) -> Mapping[str, Any]:
    ended = look.query.get("ended", "")
    if ended not in ENDED:
        raise WrongFilter("ended is yes, or not there")
    return {"report": report(look.app, ended=ENDED[ended], limit=SHOWN), "ended": ended}


NOTICES = Page("/notices", "Notices", "notices.html", view)

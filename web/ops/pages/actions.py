"""What operators did: who, when, what before and after, and why."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from db.transaction import SYSTEM
from domain.errors import Rejected
from domain.ops.action_list import ACTIONS
from domain.ops.actions import target
from domain.text.shell import command
from domain.text.storable import is_storable
from web.ops.page import Look, Page, WrongFilter
from workers.ops.actions import history

A_PAGE = 50
NAMES = ("who", "action", "target")
LONGEST = 300


def view(look: Look) -> Mapping[str, Any]:
    """Raises:
    WrongFilter: a filter cannot be.
    """
    filled = {name: look.query.get(name, "").strip() for name in NAMES}
    for name, value in filled.items():
        if len(value) > LONGEST or not is_storable(value):
            raise WrongFilter(f"{name}: it is too long, or has characters that nothing has")
    try:
        about = target(filled["target"]) if filled["target"] else None
    except Rejected as error:
        raise WrongFilter(f"target: {error}") from error
    before = _moment(look.query.get("before"))
    with look.app.db.transaction(SYSTEM) as tx:
        rows = history(
            tx,
            target=about,
            who=filled["who"] or None,
            action=filled["action"] or None,
            before=before,
            limit=A_PAGE + 1,
        )
        at = tx.now()
    shown = rows[:A_PAGE]
    chosen = {name: value for name, value in filled.items() if value}
    older = None
    if len(rows) > A_PAGE:
        older = f"/ops/actions?{urlencode({**chosen, 'before': shown[-1]['at'].isoformat()})}"
    options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    return {
        **{"rows": shown, "at": at, "filled": filled, "older": older, "names": list(ACTIONS)},
        "shell": command(["viral", "actions", "list", *options]),
    }


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or not 1970 <= found.year < 9000:
        raise WrongFilter("before: it is no place in this list; begin at the first page")
    return found


ACTIONS_PAGE = Page("/actions", "Actions", "actions.html", view)

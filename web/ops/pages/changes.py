"""What was changed in the system."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from db.transaction import SYSTEM
from domain.errors import Rejected
from web.ops.page import Look, Page, WrongFilter
from workers.ops.changes import KINDS, listed

A_PAGE = 100


def view(look: Look) -> Mapping[str, Any]:
    """Raises:
    WrongFilter: there is no such kind, or what should be a time or a number is none.
    """
    kind, since, before = (look.query.get(name) or None for name in ("kind", "since", "before"))
    try:
        with look.app.db.transaction(SYSTEM) as tx:
            found = listed(tx, since=_time(since), kind=kind, before=_number(before), limit=A_PAGE + 1)
    except Rejected as error:
        raise WrongFilter(str(error)) from error
    shown = found[:A_PAGE]
    line = " ".join(filter(None, ["viral changes list", f"--kind {kind}" if kind else ""]))
    older = shown[-1].id if len(found) > A_PAGE else None
    return {"changes": shown, "kinds": KINDS, "older": older, "line": line}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongFilter("since is no time; write 2026-12-01T09:00") from None


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise WrongFilter("before is the number of a change")
    return int(text)


CHANGES = Page("/changes", "Changes", "changes.html", view)

"""One bulk action: what it is about, how far it is, and what became of each thing that it was refused for."""

from collections.abc import Mapping
from typing import Any

from domain.errors import Rejected
from domain.ops.actions import LONGEST_REASON
from domain.text.filters import uuid_of
from web.ops.page import Look, NothingThere, Page
from workers.ops.bulk import bulk


def view(look: Look) -> Mapping[str, Any]:
    """Raises:
    NothingThere: there is no such bulk action.
    """
    bulk_id = uuid_of(look.path["id"])
    if bulk_id is None:
        raise NothingThere("a bulk action's id looks like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    try:
        found = bulk(look.app, bulk_id)
    except Rejected as error:
        raise NothingThere(str(error)) from error
    return {
        "bulk": found,
        "action": found.action,
        "ended": found.items - found.left,
        "longest_reason": LONGEST_REASON,
        "still": found.state == "previewed",
    }


BULK = Page("/bulk/{id}", "Bulk action", "bulk.html", view, in_menu=False)

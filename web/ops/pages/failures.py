"""What failed, and which release made failures rise."""

from collections.abc import Mapping
from typing import Any

from db.transaction import SYSTEM
from domain.ops.actions import Kind
from web.ops.histories import bulk_actions_for
from web.ops.page import Look, NothingThere, Page
from workers.ops.failures import UnknownGroup, group, overview


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        return {"found": overview(tx)}


def view_group(look: Look) -> Mapping[str, Any]:
    """Raises:
    NothingThere: no failure that is looked at belongs to the group.
    """
    try:
        with look.app.db.transaction(SYSTEM) as tx:
            return {"found": group(tx, look.path["group"]), "acts": bulk_actions_for(Kind.JOB)}
    except UnknownGroup as error:
        raise NothingThere(str(error)) from error


FAILURES = Page("/failures", "Failures", "failures.html", view)
FAILURE_GROUP = Page("/failures/{group}", "Failures of one cause", "failure_group.html", view_group, in_menu=False)

"""Schedules: when each runs, what its last run became, and whether one is overdue."""

from collections.abc import Mapping
from typing import Any

from db.transaction import SYSTEM
from web.ops.page import Look, Page
from workers.ops.schedules import overview


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        return {"schedules": overview(tx, look.calendar), "at": tx.now()}


SCHEDULES = Page("/schedules", "Schedules", "schedules.html", view)

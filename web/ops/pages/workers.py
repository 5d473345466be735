"""Worker processes, alive and dead."""

from collections.abc import Mapping
from typing import Any

from db.transaction import SYSTEM
from web.ops.page import Look, Page
from workers.ops.processes import state


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        rows = tx.workers.all()
    return {"workers": [{**row, "state": state(row)} for row in rows]}


WORKERS = Page("/workers", "Workers", "workers.html", view)

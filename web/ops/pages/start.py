"""The first page: what hurts, what cannot be known, how much waits where, and how it came to be so."""

from collections.abc import Mapping
from typing import Any

from web.ops.charts import drawn
from web.ops.page import Look, Page, WrongFilter
from workers.ops import overview

USUAL = "3h"


def view(look: Look) -> Mapping[str, Any]:
    name = look.query.get("window") or USUAL
    window = overview.WINDOWS.get(name)
    if window is None:
        raise WrongFilter(f"the window is one of {', '.join(overview.WINDOWS)}")
    found, charts = overview.status(look.app), overview.charts(look.app, window)
    changed = [each.at for each in charts.changes]
    groups = [(group, [harm for harm in found.harms if harm.group == group]) for group in overview.Group]
    return {
        "status": found,
        "groups": [(group, harms) for group, harms in groups if harms],
        "window": name,
        "windows": [*overview.WINDOWS],
        "charts": [drawn(each, charts.since, charts.until, changed) for each in charts.charts],
        "changes": charts.changes[::-1],
    }


START = Page("", "Start", "start.html", view)

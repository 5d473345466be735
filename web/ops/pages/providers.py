"""Who makes videos, for how much, and why some cannot now."""

from collections.abc import Mapping
from typing import Any

from domain.ops.actions import Kind
from web.ops.histories import actions_for
from web.ops.page import Look, Page
from workers.ops import videos


def view(look: Look) -> Mapping[str, Any]:
    rows = [row | {"actions": _actions(row)} for row in videos.providers(look.app)]
    return {"providers": rows}


def _actions(row: Mapping[str, Any]) -> list[Any]:
    """The storyboard is no other's service: it cannot be disabled."""
    return [] if row["model"] == "local" else actions_for(Kind.PROVIDER, ["enabled" if row["enabled"] else "disabled"])


PROVIDERS = Page("/providers", "Providers", "providers.html", view)

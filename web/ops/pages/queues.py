"""Queues: what waits and since when, against how long it may."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import UnknownQueue
from domain.ops.actions import Action, Kind
from web.ops.histories import actions_for
from web.ops.page import Look, NothingThere, Page
from workers.ops import queues
from workers.ops.queues import QueueOverview, TenantPolicy


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        return {"queues": queues.overview(tx), "at": tx.now()}


def view_one(look: Look) -> Mapping[str, Any]:
    try:
        report = queues.report(look.app, look.path["name"])
    except UnknownQueue as error:
        raise NothingThere(str(error)) from error
    policies = {each.tenant_id: each for each in report.overview.tenants}
    return {"report": report, "queue": report.overview, "acts_on": lambda tenant: _actions(policies.get(tenant))}


def _actions(policy: TenantPolicy | QueueOverview | None) -> list[Action]:
    return actions_for(Kind.QUEUE, _states(policy))


def _tenants(shown: Mapping[str, Any]) -> list[UUID]:
    """Return those that wait, or of which something was decided."""
    found = [*shown["report"].shares, *({"tenant_id": each.tenant_id} for each in shown["queue"].tenants)]
    return [*dict.fromkeys(each["tenant_id"] for each in found if each["tenant_id"] is not None)]


def _states(policy: TenantPolicy | QueueOverview | None) -> Sequence[str]:
    return ("goes on",) if policy is None or policy.paused_at is None else ("paused",)


QUEUES = Page("/queues", "Queues", "queues.html", view)
QUEUE = Page(
    "/queues/{name:path}",
    "Queue",
    "queue.html",
    view_one,
    in_menu=False,
    about=lambda shown: f"queue:{shown['queue'].queue}",
    states=lambda shown: _states(shown["queue"]),
    parts=lambda shown: [f"queue:{shown['queue'].queue}/{each}" for each in _tenants(shown)],
)

"""Tenants: the list, and one with its plan, its quota and why."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from domain.billing.tiers import Tier
from domain.errors import UnknownTenant
from domain.ops.action_list import OPEN
from domain.ops.event_filters import event_filter
from domain.ops.tenant_filters import DELETED, HARMS, NAMES, TenantFilter, query_of, tenant_filter
from domain.text.filters import SenselessFilter
from domain.text.shell import command, options_of
from web.ops.page import Look, NothingThere, Page, WrongFilter
from workers.ops.tenants import tenant_list, tenant_report

STATUSES = (
    "active",
    "trialing",
    "past_due",
    "unpaid",
    "canceled",
    "incomplete",
    "incomplete_expired",
    "paused",
    "none",
    DELETED,
)


def view_list(look: Look) -> Mapping[str, Any]:
    try:
        wanted = tenant_filter(look.query)
    except SenselessFilter as error:
        raise WrongFilter(str(error)) from None
    found = tenant_list(look.app, wanted)
    older = None if found.further is None else f"/ops/tenants?{urlencode(query_of(found.further))}"
    filled = {name: look.query.get(name, "") for name in NAMES}
    choices = {"plans": list(Tier), "statuses": STATUSES, "harms": HARMS}
    return {"found": found, "older": older, "filled": filled, "shell": _shell(wanted), **choices}


def view_one(look: Look) -> Mapping[str, Any]:
    at = _moment(look.query.get("at", ""))
    try:
        report = tenant_report(look.app, UUID(look.path["id"]), at=at)
    except (ValueError, UnknownTenant):
        raise NothingThere("no tenant has this id; the list has all there are") from None
    return {"report": report, "tenant": report.tenant, "causes": _links, "asked": look.query.get("at", "")}


def _moment(text: str) -> datetime | None:
    """Read the moment of the past that is asked for; a span of time is so long ago."""
    try:
        since = event_filter({"since": text}).since
    except SenselessFilter as error:
        raise WrongFilter(str(error).replace("since:", "at:", 1)) from None
    return since if since is None or isinstance(since, datetime) else datetime.now(UTC) - since


def _links(cause: str) -> tuple[str, str] | None:
    """Return the kind of page and the id of what an entry was caused by, if it has a page."""
    kind, _, name = cause.partition(":")
    return (kind, name) if kind in ("job", "event") and name else None


def _shell(wanted: TenantFilter) -> str:
    return command(["viral", "tenants", "list", *options_of(query_of(wanted))])


TENANTS = Page("/tenants", "Tenants", "tenants.html", view_list)
TENANT = Page(
    "/tenants/{id}",
    "Tenant",
    "tenant.html",
    view_one,
    in_menu=False,
    about=lambda shown: f"tenant:{shown['tenant']['id']}",
    states=lambda shown: OPEN if shown["tenant"]["deletion_began_at"] is None else ("deleted",),
)

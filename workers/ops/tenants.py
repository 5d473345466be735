"""Shows one tenant: its plan, its quota, who works in it, and why the numbers are what they are."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from db.ops.tenants import MOST_COUNTED, MOST_USES
from db.transaction import SYSTEM
from domain.billing.explain import explain_plan
from domain.concepts.timing import is_zone
from domain.events.outcomes import Status
from domain.ops.event_filters import EventFilter
from domain.ops.masking import masked_email, masked_text
from domain.ops.tenant_filters import DELETED, TenantFilter
from domain.quota.explain import backing, explain, explain_as_of
from workers.app import App
from workers.ops.event_views import event_list

PAGE = 50
NEWEST = 10
"""Jobs, posts, videos and events on the page of a tenant."""

Row = dict[str, Any]


@dataclass(frozen=True)
class QuotaExplanation:
    """The name of a tenant, what it has used and has left, the sentences that say how it came about, and those on why
    it has its `plan`."""

    name: str
    used: int
    remaining: int
    sentences: list[str]
    plan: list[str]


@dataclass(frozen=True)
class TenantList:
    """A page of tenants at one moment, newest first. Each has its quota as a job would find it, `harms` and its `cost`
    of this month in words; `count` is a number, or "more than 10,000"; `further` the filter of the next page."""

    at: datetime
    rows: list[Row]
    further: TenantFilter | None
    count: str


@dataclass(frozen=True)
class TenantReport:
    """One tenant. `plan` and `sentences` say why it has its plan, and why it has so much left; `then` what it had at
    the moment that was asked for. `people` have masked addresses and no names; `costs` are this month's, in USD;
    `jobs`, `posts`, `videos` and `events` the newest."""

    at: datetime
    tenant: Row
    plan: list[str]
    used: int
    limit: int
    remaining: int
    resets_at: datetime
    sentences: list[str]
    then: list[str] | None
    ledger: list[Row]
    held: list[Row]
    costs: list[Row]
    people: list[Row]
    accounts: list[Row]
    jobs: list[Row]
    posts: list[Row]
    videos: list[Row]
    events: list[Row]


def find_with_people(app: App, tenant_id: UUID) -> Row:
    """Return a tenant with its quota as a job would find it, its `users`, who answers for it, and what of its
    subscriptions is paused or unpaid.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        row = tx.quota.with_current(tx.tenants.seen(tenant_id), tx.now())
        people = tx.identity.of_tenant(tenant_id)
        tx.work_as(SYSTEM)
        answering = tx.identity.answering(tenant_id)
        deserted = row["deletion_began_at"] is None and tx.tenants.is_deserted(tenant_id)
        behind = backing(*tx.billing.of_tenant(tenant_id, row["stripe_customer_id"]), app.ports.prices)
    return row | {
        "only_banned_people_answer": bool(answering) and all(person["banned"] for person in answering),
        "collection_paused_since": behind.paused_since,
        "not_paid": " ".join(behind.unpaid) or None,
        "deserted": deserted,
        "timezone_known": is_zone(row["timezone"]),
        "users": people,
    }


def find_quota(app: App, tenant_id: UUID) -> Row:
    """Return what a tenant has left, when more comes, and its `ledger`.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        now = tx.now()
        quota, ledger = tx.quota.current(tenant_id, now), tx.quota.ledger(tenant_id)
    return {
        "tenant_id": tenant_id,
        "quota": quota.allowance,
        "granted": quota.granted,
        "used": quota.used,
        "remaining": quota.available(now),
        "period_start": quota.period_start,
        "restarted_at": quota.restarted_at,
        "resets_at": quota.resets_at,
        "paid_until": quota.paid_until,
        "drawn_until": quota.drawn_until,
        "ledger": ledger,
    }


def tenant_list(app: App, wanted: TenantFilter, *, limit: int = PAGE) -> TenantList:
    """Return the newest tenants that match, from the place `wanted.after` on."""
    with app.db.transaction(SYSTEM) as tx:
        found, now = tx.tenant_views.page(wanted, limit=limit), tx.now()
        current = [tx.quota.with_current(row, now) for row in found.rows]
    rows = [_of_the_list(row) | {"cost": _cost(row)} for row in current]
    count = f"{found.count:,}" if found.count <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
    return TenantList(now, rows, None if found.further is None else replace(wanted, after=found.further), count)


def tenant_report(app: App, tenant_id: UUID, *, at: datetime | None = None) -> TenantReport:
    """Return one tenant with all that explains it; with `at`, what was used of its quota then.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    explained = explain_quota(app, tenant_id)
    then = None if at is None else explain_quota_as_of(app, tenant_id, at)
    tenant = find_with_people(app, tenant_id)
    people = [
        {name: person[name] for name in ("id", "role", "banned", "last_login_at", "deleted_at")}
        | {"email": masked_email(person["email"])}
        for person in tenant.pop("users")
    ]
    with app.db.transaction(tenant_id) as tx:
        now = tx.now()
        quota, ledger, held = tx.quota.current(tenant_id, now), tx.quota.ledger(tenant_id), tx.quota.held(tenant_id)
        costs, accounts = tx.tenant_views.costs(tenant_id), tx.tenant_views.accounts(tenant_id)
        newest = tx.tenant_views.newest(tenant_id, NEWEST)
    received = event_list(app, EventFilter(tenant=tenant_id), limit=NEWEST)
    return TenantReport(
        at=now,
        tenant=tenant,
        plan=explained.plan,
        used=quota.used,
        limit=quota.allowance,
        remaining=quota.available(now),
        resets_at=quota.resets_at,
        sentences=explained.sentences,
        then=then,
        ledger=ledger,
        held=held,
        costs=costs,
        people=people,
        accounts=[each | {"reason": masked_text(each["reason"])} for each in accounts],
        jobs=[each | {"error_message": masked_text(each["error_message"])} for each in newest["jobs"]],
        posts=newest["posts"],
        videos=newest["videos"],
        events=received.rows,
    )


def explain_quota_as_of(app: App, tenant_id: UUID, at: datetime) -> list[str]:
    """Say in sentences what a tenant had used at a moment of the past, by its ledger.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.seen(tenant_id)
        return explain_as_of(*tx.tenant_views.quota_as_of(tenant_id, at), at)


def explain_quota(app: App, tenant_id: UUID) -> QuotaExplanation:
    """Say in sentences why a tenant has its plan, and how its quota came about.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.explain.use_one_snapshot()
        tenant = tx.tenants.seen(tenant_id)
        now = tx.now()
        stored = tx.quota.stored(tenant_id)
        quota = tx.quota.reset_if_due(tenant_id, stored, now)
        entries = tx.quota.ledger(tenant_id, limit=10_000, since=quota.period_start)
        held = tx.quota.held(tenant_id)
        status = tenant["subscription_status"]
        plan = tenant["subscription_tier"] + (f" ({status})" if status != "none" else "")
        tx.work_as(SYSTEM)
        customer = tenant["stripe_customer_id"]
        subscriptions, invoices = tx.billing.of_tenant(tenant_id, customer)
        behind = backing(subscriptions, invoices, app.ports.prices)
        about = [customer] if customer else []
        parked = [
            tx.events.waiting("stripe", why, about) for why in (Status.PARKED_INCOMPLETE, Status.PARKED_UNFETCHABLE)
        ]
    behind = replace(behind, waiting=sum(map(len, parked)))
    unwritten = quota.period_start != stored.period_start
    sentences = explain(plan, quota, entries, held, now, behind=behind, unwritten=unwritten)
    linked = tenant["stripe_subscription_id"]
    why = explain_plan(tenant["subscription_tier"], linked, subscriptions, invoices, app.ports.prices)
    return QuotaExplanation(tenant["name"], quota.used, quota.available(now), sentences, why)


def _of_the_list(row: Row) -> Row:
    """Return a row with its harms. A deleted tenant has none, and no other status."""
    if row["deletion_began_at"] is not None:
        return row | {"harms": [], "deserted": False, "subscription_status": DELETED}
    return row | {"harms": _harms(row)}


def _harms(row: Row) -> list[str]:
    """Return what a person should look at, in words."""
    return [
        *(["nobody can sign in for it"] if row["deserted"] else []),
        *([f"{row['to_reconnect']} to reconnect"] if row["to_reconnect"] else []),
        *([f"{row['failed_posts']} failed posts in 30 days"] if row["failed_posts"] else []),
    ]


def _cost(row: Row) -> str:
    return f"{'at least ' if row['uses'] > MOST_USES else ''}${row['usd']:,.2f}"

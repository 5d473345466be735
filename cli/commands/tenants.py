"""`viral tenants`"""

from typing import Annotated
from uuid import UUID

import typer

from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group

app = Group()

COLUMNS = (
    "id",
    "name",
    "subscription_tier",
    "subscription_status",
    "used_quota",
    "monthly_quota",
    "quota_reset_at",
    "deserted",
)
PEOPLE = ("id", "email", "name", "role", "clerk_id", "banned", "last_login_at")


@app.command("list")
def list_tenants(
    tier: Annotated[str | None, typer.Option(help="FREE, STARTER, PRO or AGENCY.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    deserted: Annotated[
        bool, typer.Option("--deserted", help="Only those that nobody can sign in for: all people are gone or banned.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The newest tenants first."""
    from db.transaction import SYSTEM
    from domain.billing.tiers import Tier

    if tier is not None and tier.upper() not in list(Tier):
        raise typer.BadParameter(f"no such tier; there are {', '.join(Tier)}", param_hint="--tier")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.tenants.recent(tier=tier and tier.upper(), search=search, deserted=deserted, limit=limit)
    show(rows, COLUMNS, as_json=as_json, nothing="No tenants.")


@app.command("show")
def show_tenant(
    tenant_id: Annotated[UUID, typer.Argument(metavar="ID", help="The tenant's id.")], as_json: AsJson = False
) -> None:
    """One tenant: plan, quota and people."""
    from db.transaction import SYSTEM
    from domain.concepts.timing import is_zone
    from domain.quota.explain import backing

    with session() as current, current.db.transaction(tenant_id) as tx:
        row = tx.tenants.get(tenant_id)
        people = tx.identity.of_tenant(tenant_id)
        tx.work_as(SYSTEM)
        answering = tx.identity.answering(tenant_id)
        deserted = tx.tenants.is_deserted(tenant_id)
        behind = backing(*tx.billing.of_tenant(tenant_id, row["stripe_customer_id"]), current.ports.prices)
    only_banned = bool(answering) and all(person["banned"] for person in answering)
    row |= {"only_banned_people_answer": only_banned}
    row |= {"collection_paused_since": behind.paused_since, "not_paid": " ".join(behind.unpaid) or None}
    row["deserted"] = deserted
    if as_json:
        print_json(row | {"timezone_known": is_zone(row["timezone"]), "users": people})
        return
    if not is_zone(row["timezone"]):
        row["timezone"] = f"{row['timezone']!r}, which is no zone that this system knows: UTC is used"
    show_one(row, as_json=False)
    if only_banned:
        console().print(
            "\nWhoever answers for this tenant is banned in Clerk: its keys are refused, daily concepts rest."
        )
    console().print()
    paying = row["subscription_tier"] != "FREE"
    nobody = "Nobody can sign in for this tenant" + (", and it pays: a person should look." if paying else ".")
    show(people, PEOPLE, as_json=False, nothing="No users.")
    if deserted:
        console().print(nobody)
